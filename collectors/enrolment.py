"""The node's token: kept in a 0600 file, got once for a one-time enrolment token; and whom it is shown to."""

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from collectors._durable import replace_file
from collectors.authority import Authority, split_pin
from collectors.config import PublishSection
from collectors.transport import Backoff, Transport, TransportError
from schemas.digest import blake2b
from schemas.errors import AccessError, ConfigError

_log: Final = logging.getLogger("muster.enrolment")


def authority_of(publish: PublishSection, folder: Path) -> Authority:
    """Give whom a node believes that keeps its state in `folder`. Raises ConfigError when what is kept is damaged."""
    return Authority(
        ca_file=Path(publish.ca_file) if publish.ca_file else None,
        kept=folder / "authority.pem",
        pin=split_pin(publish.enrolment_token)[1],
    )


class NodeToken:
    """The token that this node shows. Safe for several threads: the control channel may bring a new one."""

    def __init__(self, path: Path, configured: str = "") -> None:
        self._path = path
        self._lock = threading.Lock()
        self._configured = _fingerprint(configured)
        kept, _, follows = _read(path).partition("\n")
        self._discarded = ""
        # a token that was rotated goes on in its successor, until another one is written into the configuration
        self._token = kept if kept and (not configured or follows == self._configured) else configured

    def __call__(self) -> str:
        """Give the token; "" where none is needed (the local socket) or none was got yet."""
        return self._token

    def keep(self, token: str) -> None:
        """Take a new token and keep it, on disk before it is used."""
        with self._lock:
            replace_file(self._path, f"{token}\n{self._configured}\n".encode("ascii"))
            self._token = token

    def discard(self) -> None:
        """Show it no more: the aggregator knows it no longer. On disk it stays until another takes its place."""
        with self._lock:
            self._token, self._discarded = "", self._token

    def enrol(self, transport: Transport, enrolment_token: str, node: str) -> None:
        """Exchange an enrolment token for the node's own, unless there is one.

        Asked again after an answer that got lost, the aggregator knows the request by its nonce. `transport` checks by
        the fingerprint in the enrolment token whom it speaks to, before the token is sent.
        Raises TransportError without an answer, and AccessError when the aggregator refuses: then a token that was
        discarded is shown again. It may be good, where an aggregator refused it that knew nobody (an empty data folder,
        the wrong backup) and has been mended since.
        """
        if self._token:
            return
        nonce = self._nonce()
        body = msgspec.json.encode({"token": split_pin(enrolment_token)[0], "node": node, "nonce": nonce})
        answer = transport.request("POST", "/v1/enrol", body, {"Content-Type": "application/json"})
        if answer.status >= 500 or answer.status == 429:
            raise TransportError(f"{transport.address}: {answer.problem().get('detail')}")
        if answer.status != 200:
            self._resume()
            raise AccessError(f"enrolment refused: {answer.problem().get('detail')}")
        try:
            issued = msgspec.json.decode(answer.body, type=_Issued)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise TransportError(f"{transport.address}: not an answer to an enrolment: {error}") from None
        self.keep(issued.token)
        self._path.with_name("enrolment-nonce").unlink(missing_ok=True)

    def _resume(self) -> None:
        """Show again what was discarded, unless the control channel has brought another token meanwhile."""
        with self._lock:
            self._token = self._token or self._discarded

    def _nonce(self) -> str:
        path = self._path.with_name("enrolment-nonce")
        nonce = _read(path)
        if not nonce:
            nonce = os.urandom(16).hex()
            replace_file(path, nonce.encode("ascii"))
        return nonce


class Enrolment:
    """Gets a node its token, on a thread of its own; rows are spooled meanwhile, and nobody is asked in vain."""

    def __init__(
        self,
        token: NodeToken,
        enrolment_token: str,
        node: str,
        transport: Callable[[], Transport],
        *,
        ended: Callable[[], None] = lambda: None,
        waits: Callable[[str], None] = lambda _: None,
        backoff: Backoff | None = None,
        log: logging.Logger = _log,
    ) -> None:
        """Begin nothing yet. `ended` is called when it may be spoken again, `waits` with the reason when it may not."""
        self._token = token
        self._enrolment_token = enrolment_token
        self._node = node
        self._transport = transport
        self._ended = ended
        self._waits = waits
        self._backoff = backoff or Backoff()
        self._log = log
        self._again = False
        self._told = False
        self.over = threading.Event()
        """Set but while a token is being got: to speak without one would only be refused."""
        self.over.set()

    def begin(self) -> None:
        """Get a token in the background, if there is none and one can be got."""
        if not self._enrolment_token or self._token():
            return
        self.over.clear()
        threading.Thread(target=self._work, name="enrolment", daemon=True).start()

    def refused(self) -> None:
        """Heed that what was shown is not, or no longer, good: get another, once, or say once what is missing."""
        if not self._token():
            if not self._enrolment_token and not self._told:
                self._told = True
                self._log.error(
                    "token_missing: the aggregator takes no rows without one: set publish.enrolment_token ('muster"
                    " token enrol' on the aggregator makes one) or publish.token, and restart"
                )
            return
        if self._again:
            return
        self._again = True
        if not self._enrolment_token:
            self._log.error(
                "token_refused: make an enrolment token ('muster token enrol') and set publish.enrolment_token"
            )
            return
        self._log.warning("token_refused: enrolling again with the configured enrolment token")
        self._token.discard()
        self.begin()

    def _work(self) -> None:
        transport, standing = self._transport(), ""
        while True:
            try:
                self._token.enrol(transport, self._enrolment_token, self._node)
            except TransportError as error:
                reason, wait = str(error), self._backoff.next()
                self._waits(reason)
                if reason != standing:  # once for a standing condition
                    self._log.warning("enrolment_waits retry_seconds=%.1f error=%s", wait, reason)
                standing = reason
                threading.Event().wait(wait)
            except AccessError as error:
                self._log.error("enrolment_refused error=%s (give another enrolment token and restart)", error)
                break
            else:
                self._log.info("enrolled node=%s", self._node)
                break
        transport.close()
        self.over.set()
        self._ended()


class _Issued(msgspec.Struct):
    token: str


def _fingerprint(token: str) -> str:
    return blake2b(token.encode(), digest_size=16).hexdigest() if token else ""


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}. Make it readable, or remove it and enrol again") from None
