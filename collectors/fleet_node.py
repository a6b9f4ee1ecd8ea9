"""One simulated node as a publisher of its own, with its part of the fleet's spool and its own grants."""

import logging
import time
from collections.abc import Callable
from typing import Final

import msgspec

from collectors.claims.checkpoint import CheckpointFile
from collectors.claims.order import Order
from collectors.claims.worker import Job, Worker
from collectors.control_client import CONTROL_PATH, ControlSession, say
from collectors.enrolment import NodeToken
from collectors.fleet_piles import Piles
from collectors.fleet_senders import PooledSender
from collectors.own_rows import document_block
from collectors.publisher import Publisher
from collectors.simulated.claims import SimulatedClaims
from collectors.simulated.documents import describe
from collectors.simulated.effects import Effects
from collectors.simulated.node import SimulatedNode
from collectors.spool import Filling, Key, NewBatch, Spool
from collectors.status import CollectorStatus, State
from collectors.transport import Backoff, TransportError
from collectors.verbosity import LevelPolicy
from schemas.codec import encode_body
from schemas.device import documents_hash, encode_document
from schemas.errors import AccessError, WireError
from schemas.rows import Parcel
from schemas.verbosity import Level, RowClass

SOURCE: Final = "simulated"
"""The collector that all rows come from."""
SILENT_SECONDS: Final = 1.0
"""How often a node that a fault keeps silent looks whether it may speak."""
REFUSED_SECONDS: Final = 60.0
_quiet = logging.getLogger("muster.fleet.node")
_quiet.propagate = False  # the fleet says it once for all nodes
_quiet.addHandler(logging.NullHandler())  # without any, logging would write warnings to standard error by itself


class NodeSetup(msgspec.Struct, frozen=True):
    """What all nodes of a process share."""

    level: Level
    interval: float
    sender: PooledSender
    hurry: Callable[[str], None]
    """Called, from any thread, with a node's id: step it now."""
    enrolment_token: str = ""
    work: Callable[[str], None] = lambda _name: None
    """Called, from any thread, with a node's id: there may be something to do for claims."""
    claim_speed: float = 1.0
    """So many times faster than real ones are the steps of claims."""


class FleetNode:
    """A node: `step`, `flush` and `describe` are for the fleet's own thread, `attempt` for one sender at a time."""

    def __init__(
        self, node: SimulatedNode, spool: Spool, token: NodeToken, setup: NodeSetup, checkpoint: CheckpointFile
    ) -> None:
        self.node = node
        self.spool = spool
        self.due = 0.0
        """When it is to be stepped next, on the monotonic clock."""
        self.queued = True
        """Whether the whole set of its documents waits for its turn."""
        self.rows = 0
        """Rows that it yielded."""
        self.runs = 0
        self.policy = LevelPolicy(setup.level)
        self.publisher = Publisher(
            spool,
            setup.sender,
            token=token,
            host_name=node.name,
            documents=lambda: self._documents,
            log=_quiet,
        )
        self.worker = Worker(checkpoint, node.boot_id, changed=lambda: setup.work(node.id))
        self._claims = SimulatedClaims(node)
        self._claims.restore(checkpoint.message())
        self._doing: list[tuple[float, Job, Order]] = []
        self.session = ControlSession(
            token=token,
            keep_token=token.keep,
            publisher=node.id,
            epoch=spool.epoch,
            boot=node.boot_id,
            host_name=node.name,
            predecessors=self._predecessors,
            policy=self.policy,
            status=self._status,
            resend_documents=self._resend,
            levels_changed=self._hurry,
            watched=self._hurry,
            facts={"simulated": True, "type": node.hardware.type_name, "profile": node.profile},
            claims=self.worker,
            log=_quiet,
        )
        self.problem = ""
        """Why the last request failed; "" while requests succeed."""
        self._setup = setup
        self._token = token
        self._enrolling = Backoff()
        self._piles = Piles(self.policy, SOURCE)
        self._begun: set[Key] = set()
        self._documents = ""
        self._described: Effects | None = None
        self._described_revision = -1
        self._resending = False
        self._stepped_ns: int | None = None

    # --- on the fleet's thread ---------------------------------------------------------------------------------------

    def step(self, wall_ns: int) -> list[Parcel]:
        """Move the node on; give what it says."""
        self.runs += 1
        self._stepped_ns = wall_ns
        return self.node.step(wall_ns, self.policy.in_force(SOURCE))

    def work(self, now: float) -> bool:
        """Do what claims ask for and is due; tell whether there is more to come."""
        if self.node.silent:
            return True
        while (taken := self.worker.take()) is not None:
            job, order = taken
            self._doing.append((now + self._claims.seconds(order) / self._setup.claim_speed, job, order))
        for one in [one for one in self._doing if one[0] <= now]:
            self._doing.remove(one)
            self.worker.finish(one[1], self._claims.perform(one[2]))
        return bool(self._doing) or self.worker.wait_seconds() is not None

    def gather(self, parcels: list[Parcel], now: float) -> None:
        """Keep what it said until there is enough of it for a batch."""
        for parcel in parcels:
            self.rows += len(parcel.block.rows)
            self._piles.add(parcel, now)

    def flush(self, now: float, *, everything: bool = False) -> Filling | None:
        """Give what is to be committed now; None when nothing is."""
        batches, counts = self._piles.take(now, self._setup.interval, None if everything else self._begun)
        self._begun.update((batch.row_class, batch.level) for batch in batches)
        return Filling(self.spool, batches, counts) if batches or counts else None

    @property
    def documents_due(self) -> bool:
        """Whether the capability documents that were sent are not the ones that there are."""
        return self.all_documents_due or self._described_revision != self.node.documents_revision

    @property
    def all_documents_due(self) -> bool:
        """Whether every document is to be sent, and not just what changed."""
        return self._described is None or self._resending

    def describe(self) -> list[NewBatch]:
        """Give a batch for every capability document that is new, changed or gone."""
        node = self.node
        described = None if self._resending else self._described
        self._resending = False
        self._described, self._described_revision = node.effects, node.documents_revision
        after = {document.device: encode_document(document) for document in node.documents()}
        before: dict[str, str] = {}
        if described is not None:
            before = {one.device: encode_document(one) for one in describe(node.hardware, described)}
        self._documents = documents_hash(list(after.values()))
        texts = {device: text for device, text in after.items() if before.get(device) != text}
        texts |= dict.fromkeys(before.keys() - after.keys(), "")
        now_ns = time.time_ns()
        return [self._document(device, text, now_ns + at) for at, (device, text) in enumerate(texts.items())]

    def _document(self, device: str, text: str, time_ns: int) -> NewBatch:
        body = encode_body([document_block(self.node.id, device, text, time_ns, SOURCE)])
        name = f"{self.node.id}/{device}/{SOURCE}"
        return NewBatch(RowClass.CAPABILITY, Level.ESSENTIAL, 1, body, "", name)

    # --- on a sender's thread ----------------------------------------------------------------------------------------

    @property
    def backing_off(self) -> bool:
        """Whether something new to send is no reason to try sooner."""
        return self.publisher.backing_off or (self._wants_token and self._enrolling.failures > 0)

    def attempt(self) -> float:
        """Send one request if there is something to say; give the seconds to wait."""
        if self.node.silent:
            return SILENT_SECONDS
        if self._wants_token and (wait := self._enrol()):
            return wait
        if self.worker.has_news:
            self._say()
        wait = self.publisher.attempt()
        self.problem = self.publisher.status.last_error
        return wait

    def say_goodbye(self) -> bool:
        """Tell, once everything was sent, that nothing more comes of this run; give whether somebody heard it.

        The next run need not wait then until this one is silent, even after a boot.
        """
        if self.node.silent or len(self.spool) or self._wants_token:
            return True  # this one says nothing, or is not done: the next may
        body, headers = self.session.farewell()
        try:
            self._setup.sender.request("POST", CONTROL_PATH, body, headers)
        except TransportError as error:
            _quiet.debug("goodbye error=%s", error)
            return False
        return True

    def _say(self) -> None:
        """Report what became of steps, beside the channel that is kept waiting."""
        try:
            say(self.session, self._setup.sender)
        except (TransportError, WireError) as error:
            self.session.failed(error)

    @property
    def _wants_token(self) -> bool:
        return bool(self._setup.enrolment_token) and not self._token()

    def _enrol(self) -> float:
        """Get a token of the node's own; give the seconds to wait, 0 when it has one."""
        try:
            self._token.enrol(self._setup.sender.transport, self._setup.enrolment_token, self.node.id)
        except TransportError as error:
            self.problem = str(error)
            return self._enrolling.next()
        except AccessError as error:
            self.problem = str(error)
            return self._enrolling.next(REFUSED_SECONDS)
        self.problem = ""
        return 0.0

    # --- on the control channel's thread -----------------------------------------------------------------------------

    def _hurry(self) -> None:
        self._setup.hurry(self.node.id)

    def _resend(self) -> None:
        self._resending = True
        self._hurry()

    def _predecessors(self) -> list[str]:
        return self.spool.predecessors()[:64]

    def _status(self) -> list[CollectorStatus]:
        return [
            CollectorStatus(
                name=SOURCE,
                factory="",
                state=State.RUNNING,
                group="",
                helper_pid=None,
                watching=False,
                interval=self._setup.interval,
                runs=self.runs,
                rows=self.rows,
                errors={},
                timeouts=0,
                crashes=0,
                skipped=0,
                left_helpers=0,
                last_seconds=None,
                last_success_ns=self._stepped_ns,
                last_error="",
                last_error_ns=None,
                next_try_seconds=max(0.0, self.due - time.monotonic()),
                slip_p99_seconds=None,
            )
        ]
