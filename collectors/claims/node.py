"""The agent's part in claims, put together: what it keeps, what it does, and who may speak to it on the node."""

import logging
from collections.abc import Callable
from pathlib import Path

from collectors.claims.checkpoint import CheckpointFile
from collectors.claims.crew import Crew, Perform, by_hand, in_a_process
from collectors.claims.desk import Desk, desk_path
from collectors.claims.options import ClaimsSection
from collectors.claims.worker import Worker
from schemas.claims import ClaimDevice

_log = logging.getLogger("muster.claims")


class NodeClaims:
    """Does the work of claims on this machine. Safe from any thread."""

    def __init__(
        self,
        data_dir: Path,
        boot: str,
        options: ClaimsSection,
        *,
        perform: Perform = in_a_process,
        root: str = "/",
        library: str = "",
    ) -> None:
        """Read the checkpoint. Raises CheckpointError when there is one that cannot be read.

        `library`: path of NVIDIA's management library, "" for the system's.
        """
        self.say: Callable[[], None] = lambda: None
        """Called, on a thread of the crew's, when there is something to report."""
        self.touched: Callable[[ClaimDevice], None] = lambda _device: None
        """Called, likewise, when a step may have changed a device: what collectors told of it may be so no more."""
        file = CheckpointFile(data_dir / "agent" / "claims.json")
        self.worker = Worker(file, boot, by_hand=by_hand(options), changed=self._changed)
        lender = str(data_dir / "agent" / "collectors" / "nvml")  # its `Context.state_dir`
        self._crew = Crew(
            self.worker,
            options,
            perform,
            root=root,
            lender=lender,
            library=library,
            say=self._say,
            touched=self._touched,
        )
        self._desk = Desk(desk_path(data_dir), self.worker)

    def start(self) -> None:
        """Open the socket for who is on the node."""
        try:
            self._desk.start()
        except OSError as error:  # a path that is too long; claims with hooks work without it
            _log.error("claims_socket_failed error=%s", error)

    def stop(self) -> None:
        """Begin nothing more."""
        self._desk.stop()
        self._crew.stop()

    def _changed(self) -> None:
        self._crew.wake()

    def _touched(self, device: ClaimDevice) -> None:
        self.touched(device)

    def _say(self) -> None:
        self.say()
