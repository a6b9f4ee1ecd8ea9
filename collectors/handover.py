"""From a helper to the intake: one delivery at a time, when the intake is ready, and no faster than is fair."""

import logging
from collections.abc import Callable
from functools import partial

import msgspec

from collectors.counters import Counters
from collectors.delivery import Delivery, IntakeLike, Told
from collectors.received import open_delivery
from schemas.device import documents_hash
from schemas.verbosity import RowClass

_log = logging.getLogger("muster.scheduler")
_NO_DOCUMENTS = documents_hash([])


class Held(msgspec.Struct):
    """Something that waits for the intake, or for a watch's turn."""

    call: int
    delivery: Delivery | None
    answer: bool
    """Whether the helper waits to be told that it was taken."""
    not_before: float
    watched: bool
    durable: bool = False
    """Whether the answer waits until all of it is on disk."""
    committing: bool = False
    """Whether it is waited for now."""


class Handover:
    """The deliveries of one collector on their way.

    `answer(call)` is called when the helper may send the next, `device_changed()` when a watch told of a device.
    `soon` has something called on the scheduler's thread, whoever asks.
    """

    def __init__(
        self,
        name: str,
        intake: IntakeLike,
        counters: Counters,
        rate: float,
        *,
        wall_ns: Callable[[], int],
        answer: Callable[[int], None],
        device_changed: Callable[[], None],
        soon: Callable[[Callable[[], None]], None],
    ) -> None:
        self._name = name
        self._intake = intake
        self._counters = counters
        self._rate = rate
        self._wall_ns = wall_ns
        self._answer = answer
        self._device_changed = device_changed
        self._soon = soon
        self.held: list[Held] = []
        """What waits for the intake or for its turn."""
        self._documents = _NO_DOCUMENTS
        self._told: set[str] = set()
        self._allowance = rate
        self._allowed_at = 0.0

    @property
    def waiting(self) -> bool:
        """Whether the intake has not taken everything yet."""
        return any(held.delivery is not None for held in self.held)

    @property
    def watch_waiting(self) -> bool:
        """Whether the watch was not answered yet."""
        return any(held.watched for held in self.held)

    def next_due(self, now: float) -> float:
        """When to `release` again; the intake is asked every 50 ms."""
        times = (
            now + 0.05 if held.delivery is not None else held.not_before for held in self.held if not held.committing
        )
        return min(times, default=float("inf"))

    def offer(self, call: int, data: bytes, now: float, *, answer: bool) -> None:
        """Take what a call yielded, and answer if the call goes on."""
        self.held.append(Held(call, self._open(data), answer, 0.0, watched=False))
        self.release(now)

    def offer_watched(self, call: int, data: bytes, rows: int, now: float, *, durable: bool) -> None:
        """Take what a watch emitted, and answer when it is its turn: `rate` rows a second, a second's worth at once."""
        self._allowance = min(self._rate, self._allowance + (now - self._allowed_at) * self._rate) - rows
        self._allowed_at = now
        turn = now + max(0.0, -self._allowance / self._rate)
        self.held.append(Held(call, self._open(data), answer=True, not_before=turn, watched=True, durable=durable))
        self.release(now)

    def release(self, now: float) -> None:
        """Give the intake what it is ready for, and answer those whose turn it is."""
        for held in self.held:
            if held.delivery is not None:
                if not self._intake.ready():
                    break
                self._take(held.delivery, watched=held.watched)
                held.delivery = None
            if held.durable:
                held.durable, held.committing = False, True
                self._intake.when_committed(partial(self._soon, partial(_committed, held)))
        due, waiting = list[Held](), list[Held]()
        for held in self.held:
            ready = held.delivery is None and not held.committing and held.not_before <= now
            (due if ready else waiting).append(held)
        self.held = waiting
        for held in due:
            if held.answer:
                self._answer(held.call)

    def forsake(self) -> None:
        """The helper is gone: nobody waits for an answer.

        What was to be committed with a position will be read again; the rest came whole and is kept.
        """
        self.held = [
            Held(held.call, held.delivery, answer=False, not_before=0.0, watched=held.watched)
            for held in self.held
            if held.delivery is not None and not held.delivery.positions
        ]

    def nothing_there(self) -> None:
        """Say that there are no devices any more, if there were."""
        if self._documents != _NO_DOCUMENTS or self._told:
            self._take(Delivery([], [], [], told=[Told(subject, []) for subject in sorted(self._told)]), watched=False)

    def _open(self, data: bytes) -> Delivery | None:
        if not data:
            return None
        delivery, bad, note = open_delivery(data)
        if bad:
            self._counters.count("garbage", bad)
            self._counters.note(f"garbage: {note}", self._wall_ns())
        return delivery

    def _take(self, delivery: Delivery, *, watched: bool) -> None:
        if delivery.documents is not None:
            digest = documents_hash(delivery.documents)
            if digest == self._documents:
                delivery.documents = None
            self._documents = digest
        if watched and _names_device(delivery):
            self._device_changed()
        for one in delivery.told:
            (self._told.add if one.documents or not one.whole else self._told.discard)(one.subject)
        something = delivery.parcels or delivery.positions or delivery.tallies or delivery.told
        if not (something or delivery.documents is not None):
            return
        try:
            self._intake.take(self._name, delivery)
        except Exception:  # noqa: BLE001  # whatever the intake has, the collectors go on
            self._counters.count("intake")
            _log.exception("delivery_not_taken collector=%s", self._name)


def _committed(held: Held) -> None:
    """Let an answer go that waited for the disk: the scheduler looks at it in the same turn."""
    held.committing = False


def _names_device(delivery: Delivery) -> bool:
    """Whether an event tells of a device."""
    return any(
        parcel.row_class is RowClass.EVENT and any(key[0] for key in parcel.block.keys) for parcel in delivery.parcels
    )
