"""With whom a collector shares its helper process."""

from typing import Final

OWN: Final = "own"
"""The isolation word for a helper of one's own."""
MACHINE: Final = "machine"
"""The group of the node's own collectors that read nothing but small files of the kernel. Each further helper costs the
node 5 MB; one that hangs takes the others along once or twice, and then gets a helper of its own."""
RECEIVERS: Final = "receivers"
"""The group of those that parse what others send them, in Python alone: they cannot hang or crash outside of it."""
_OWN_AFTER: Final = 2
"""A collector that has cost its group so many helpers gets one of its own."""


class Isolation:
    """The group of one collector: what its configuration says, else its class; its own when it costs others too much.

    Collectors of one group share a helper.
    """

    def __init__(self, name: str, configured: str) -> None:
        """Begin for the collector `name`; `configured` is a group's name, or "" when nothing was written."""
        self._name = name
        self._configured = configured
        self._cost = 0
        self.group = self._named(configured)
        """The group it belongs to now."""

    def declared(self, isolation: str) -> bool:
        """Take what the class says; whether the collector belongs to another group now."""
        wanted = self._named(self._configured or isolation)
        if self._cost >= _OWN_AFTER or wanted == self.group:
            return False
        self.group = wanted
        return True

    def charge(self) -> None:
        """Take note that a helper that it shared was lost on its account."""
        self._cost += 1
        if self._cost >= _OWN_AFTER and not self._configured:
            self.group = self._named(OWN)

    def _named(self, isolation: str) -> str:
        return f"own:{self._name}" if isolation in ("", OWN) else isolation
