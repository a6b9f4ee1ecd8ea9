"""Shows each core while somebody looks: a verbosity grant of the host collector, renewed, and ended with the look."""

import contextlib
import time
from typing import Final

from aggregator.cli.client import Client, ServerError

_SECONDS: Final = 300.0
"""A grant outlives whoever is killed while looking by so long at most."""


class Cores:
    """Keeps one grant for one node. Whatever prevents it, there is then only the whole machine to see."""

    def __init__(self, client: Client, node: str, reason: str = "muster top --cores") -> None:
        self._client = client
        self._node = node
        self._reason = reason
        self._grant = ""
        self._renew_at = 0.0

    def keep(self) -> None:
        """Set the grant, or renew it when it is about to end. Called often."""
        now = time.monotonic()
        if now < self._renew_at:
            return
        body = {"nodes": self._node, "level": "detailed", "seconds": _SECONDS, "collector": "host",
                "row_class": "telemetry", "reason": self._reason}  # fmt: skip
        before = self._grant
        try:
            self._grant = self._client.post("/v1/verbosity", body)["id"]
            self._renew_at = now + _SECONDS - 20.0
        except ServerError:
            self._renew_at = now + 15.0
            return
        if before:
            self._clear(before)

    def end(self) -> None:
        """End the grant before its time. Safe twice."""
        self._clear(self._grant)
        self._grant = ""

    def _clear(self, grant: str) -> None:
        if grant:
            with contextlib.suppress(ServerError):  # it ends by itself
                self._client.delete(f"/v1/verbosity/{grant}")
