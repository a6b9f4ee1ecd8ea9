"""A machine as its agent shows it: facts over the ingest route, steps of claims over the control channel.

Its cards are swapped, go away and come back; it falls silent, is fenced by its BMC's word or an operator's, boots, and
goes on under another id when its board is swapped. It keeps a book of its own of who uses which card, which nothing of
the aggregator's can change: a card that it is told to prepare for one claim while another uses it, or before it was
cleaned after another, is a problem, whatever the ledger says.
"""

import random
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle
from typing import Final

import msgspec

from collectors.own_rows import document_block
from schemas import control
from schemas.batch import WIRE_VERSION, Envelope
from schemas.claims import Checkpoint, CheckpointClaim, ClaimDevice, ClaimReport, ClaimStep, DeviceReport, Step
from schemas.codec import encode_batch, encode_body
from schemas.control import Ack, ControlRequest, SetWork
from schemas.control import Machine as Told
from schemas.device import DeviceKind, Document, Part, Slot, documents_hash, encode_document, part_key
from schemas.evidence import GpuReadback, encode_readback
from schemas.publish import CONTENT_TYPE, Status, decode_answer, encode_request
from schemas.verbosity import Level, RowClass
from tests.hammer.client import Client

GROUPS: Final = (1, 2, 3, 3)
"""IOMMU group of each slot: the last two go only together."""
SPARES: Final = 2
WAIT_SECONDS: Final = 0.1
FENCE_SECONDS: Final = 30.0
"""How long a fence is tried: silence is noticed after `takeover_seconds`, and nothing is fenced before."""
TAKE_OVER_SECONDS: Final = 30.0
"""How long a new run may be refused, after the one before was called silent: the two are not counted alike."""
POST: Final = {"publish": f"Content-Type: {CONTENT_TYPE}\r\n", "control": f"Content-Type: {control.CONTENT_TYPE}\r\n"}


class Card(msgspec.Struct):
    """A card, in a slot or beside the machine."""

    serial: str
    user: str = ""
    """The claim that uses it now."""
    last: str = ""
    """The claim that used it last, until it is clean."""
    epoch: tuple[int, int] = (0, 0)
    """The highest that it was told of."""
    memory_bytes: int = 1 << 36
    story: deque[str] = msgspec.field(default_factory=lambda: deque(maxlen=24))
    """What happened to it of late, told with a problem."""

    def note(self, what: str) -> None:
        """Remember what happened."""
        self.story.append(f"  {time.time():.3f} {what}; user {self.user or '-'}, last {self.last or '-'}")


class Machine:
    """One machine and its operator. For one thread."""

    def __init__(self, path: str, name: str, number: int) -> None:
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []
        self.fails = 0.1
        """How often a hook of its fails."""
        self._client = Client(path)
        self._chance = random.Random(number)
        self._host, self._boards = name, 0
        self._id = name
        cards = [Card(f"{name}-{at}") for at in range(len(GROUPS) + SPARES)]
        self._slots: list[Card | None] = [*cards[: len(GROUPS)]]
        self._beside = cards[len(GROUPS) :]
        self._kept: dict[str, CheckpointClaim] = {}
        self._seen = (0, 0)
        self._boots, self._epoch, self._new = 0, "", True
        self._boot()

    def close(self) -> None:
        """Close its connection."""
        self._client.close()

    def live(self, over: Callable[[], bool]) -> None:
        """Go on until it is over; at last it is fenced, with what claims have on it then."""
        ends = cycle(self._chance.sample(["board", "fence", "boot"], 3))
        while not over():
            what = self._chance.random()
            if what < 0.02:
                self._die(next(ends), over)
            elif what < 0.1:
                self._swap(self._chance.randrange(len(GROUPS)))
            elif what < 0.4:
                self._describe([self._chance.randrange(len(GROUPS))])
            elif what < 0.45:
                self._beat()
            elif what < 0.5:
                self._clean_up()
            self._work_on()
        if self._new:
            self._boot()  # nobody has heard of its new board yet
        self._fall_silent(lambda: False, fence=True)

    # --- facts --------------------------------------------------------------------------------------------------------

    def _boot(self) -> None:
        """Begin a run in a new boot, and show everything."""
        before = [] if self._new else [self._epoch]
        self._boots += 1
        self._epoch, self._boot_id = f"{self._id}-{self._boots}", f"boot-{self._boots}"
        self._new, self._rows, self._order = False, 0, 0
        self._before = before
        self._texts: dict[int, str] = {}
        self._work: list[ClaimStep] = []
        self._acks: list[Ack] = []
        deadline = time.monotonic() + TAKE_OVER_SECONDS
        while not self._poll(Checkpoint(*self._seen, list(self._kept.values()))):
            if time.monotonic() >= deadline:
                raise TimeoutError(f"{self._id} may not take over from its run before, which is silent")
            time.sleep(0.2)
        self._describe(range(len(GROUPS)))

    def _document(self, at: int) -> Document | None:
        card = self._slots[at]
        if card is None:
            return None
        address = f"0000:{at + 1:02x}:00.0"
        told = {"pci_vendor_id": "10de", "pci_device_id": "2330", "pci_class": "030200", "iommu_group": GROUPS[at]}
        return Document(
            f"pci:{address}",
            DeviceKind.GPU,
            [f"serial:{card.serial}", f"pci:{address}"],
            slot=Slot(path=f"path/{at}", address=address),
            part=Part(vendor="Acme", model="H100", serial=card.serial),
            capabilities={**told, "memory_bytes": card.memory_bytes},
        )

    def _describe(self, slots: Iterable[int]) -> None:
        """Say what is in some slots, each time with something new; of an empty one that its device is gone."""
        batches = []
        for at in slots:
            card = self._slots[at]
            if card is not None:
                card.memory_bytes = self._chance.randrange(1 << 36, 1 << 37)
            found = self._document(at)
            if found is None and at not in self._texts:
                continue
            text = "" if found is None else encode_document(found)
            self._texts[at] = text
            block = document_block(self._id, f"pci:0000:{at + 1:02x}:00.0", text, time.time_ns(), "pci")
            batches.append(self._batch(RowClass.CAPABILITY, 1, encode_body([block])))
            self.counts["facts"] += 1
        self._publish(batches)

    def _beat(self) -> None:
        known = documents_hash([text for text in self._texts.values() if text])
        self._publish([self._batch(RowClass.EVENT, 0, b"", known)])

    def _batch(self, row_class: RowClass, rows: int, body: bytes, documents: str = "") -> bytes:
        first = self._rows if rows else 0
        envelope = Envelope(
            self._id, self._epoch, row_class, Level.ESSENTIAL, first, rows, self._order, documents=documents
        )
        self._rows, self._order = self._rows + rows, self._order + 1
        return encode_batch(envelope, body)

    def _publish(self, batches: list[bytes]) -> None:
        if not batches:
            return
        data = encode_request(self._id, self._epoch, self._boot_id, self._before, self._host, batches)
        status, answer = self._client.send("POST", "/v1/publish", data, POST["publish"])
        if status != 200 or any(one.status is not Status.ACCEPTED for one in decode_answer(answer).results):
            self.problems.append(f"what {self._id} said was answered {status}: {answer!r}")

    def _swap(self, at: int) -> None:
        """Put another card into a slot, or take the one out that is there."""
        out, self._slots[at] = self._slots[at], None
        if self._chance.random() < 0.7:
            self._slots[at] = self._beside.pop(self._chance.randrange(len(self._beside)))
        if out is not None:
            out.note(f"{self._epoch}: out of slot {at}")
            out.user = ""  # nobody uses what is not there
            self._beside.append(out)
        if not self._beside:
            raise AssertionError("there are more cards than slots")
        self._describe([at])
        self.counts["swapped"] += 1

    # --- what claims ask of it ----------------------------------------------------------------------------------------

    def _work_on(self) -> None:
        reports = [self._done(step) for step in self._work if step.devices]
        reports += [
            ClaimReport(step.claim, step.step, step.generation, step.sequence, [], list(step.amounts))
            for step in self._work
            if step.confirm
        ]
        self._poll(None, reports)

    def _poll(self, kept: Checkpoint | None, reports: list[ClaimReport] | None = None) -> bool:
        """Ask for news, and tell; False when a run that begins (`kept`) is asked to come again."""
        told = None if kept is None else Told(self._host, "0", {})
        request = ControlRequest(
            WIRE_VERSION,
            self._id,
            self._epoch,
            self._boot_id,
            self._before,
            self._acks,
            WAIT_SECONDS,
            told,
            claims=reports or None,
            checkpoint=kept,
        )
        data = control.encode_request(request)
        status, answer = self._client.send("POST", "/v1/control", data, POST["control"])
        if status != 200:
            self._expect(kept is not None and status == 409, f"control answered {self._id} {status}: {answer!r}")
            return False
        messages = control.decode_answer(answer).messages
        self._acks = [Ack(message.id) for message in messages]
        for message in messages:
            if isinstance(message, SetWork):
                self._work = message.steps
            elif isinstance(message, control.ResendDocuments):
                self._describe(range(len(GROUPS)))
        return True

    def _done(self, step: ClaimStep) -> ClaimReport:
        return ClaimReport(
            step.claim, step.step, step.generation, step.sequence, [self._step(step, one) for one in step.devices]
        )

    def _step(self, step: ClaimStep, device: ClaimDevice) -> DeviceReport:
        epoch = (step.generation, step.sequence)
        self._seen = max(self._seen, epoch)
        at, card = self._find(device.part)
        if card is not None:
            card.note(f"{self._epoch}: {step.step.value} for {step.claim} at {epoch}, clean {device.clean}")
        if step.step is Step.CLEAN:
            return self._clean(device, card)
        if step.step is Step.PREPARE:
            return self._prepare(step, device, at, card)
        used = card is not None and card.user == step.claim
        if step.step is Step.CHECK and used and self._chance.random() < 0.5:
            return _failed(device, "a guest has it open")
        if card is not None and used:
            card.user = ""
        self._kept.pop(step.claim, None)
        self.counts[step.step.value] += 1
        return DeviceReport(device.device, done=True, part=device.part, group=device.group)

    def _prepare(self, step: ClaimStep, device: ClaimDevice, at: int, card: Card | None) -> DeviceReport:
        if card is None:
            return _failed(device, f"there is no {device.part}")
        if (step.generation, step.sequence) < card.epoch:
            return _failed(device, f"{device.part} was told of a later epoch")
        if card.user not in ("", step.claim):
            self._contradicts(card, f"is to be prepared for {step.claim} while {card.user} uses it")
        elif card.last not in ("", step.claim):
            self._contradicts(card, f"is to be prepared for {step.claim}, not clean after {card.last}")
        if card.user != step.claim and self._chance.random() < self.fails:
            return _failed(device, "its hook failed")
        self.counts["prepared"] += card.user != step.claim
        card.user = card.last = step.claim
        card.epoch = (step.generation, step.sequence)
        kept = self._kept.get(step.claim)
        devices = [one for one in kept.devices if one.device != device.device] if kept else []
        self._kept[step.claim] = CheckpointClaim(
            step.claim, step.tenant, step.consumer, *card.epoch, step.lease_seconds, [*devices, device], step.amounts
        )
        return DeviceReport(device.device, done=True, part=device.part, group=GROUPS[at], driver="vfio-pci")

    def _clean(self, device: ClaimDevice, card: Card | None) -> DeviceReport:
        if card is None:
            return msgspec.structs.replace(_failed(device, f"there is no {device.part}"), clean=device.clean)
        if card.user:
            self._contradicts(card, f"is to be cleaned while {card.user} uses it")
        if self._chance.random() < self.fails:
            return msgspec.structs.replace(_failed(device, "its reset failed"), clean=device.clean)
        card.last = ""
        self.counts["cleaned"] += 1
        told = GpuReadback(
            device=device.device,
            part=device.part,
            clean=device.clean,
            read_ns=time.time_ns(),
            in_use=False,
            reset_seen=True,
            processes=0,
            memory_check="passed",
        )
        return DeviceReport(
            device.device, done=True, part=device.part, evidence=encode_readback(told), clean=device.clean
        )

    def _find(self, part: str) -> tuple[int, Card | None]:
        for at, card in enumerate(self._slots):
            found = self._document(at)
            if found is not None and part_key(found.part, self._id, found.slot) == part:
                return at, card
        return -1, None

    # --- its operator -------------------------------------------------------------------------------------------------

    def _clean_up(self) -> None:
        """Have what could not be cleaned cleaned again."""
        for device in self._devices():
            if device["lifecycle"] == "quarantined":
                status, answer = self._client.ask("POST", f"/v1/devices/{device['id']}/clean")
                self._expect(status in (202, 409), f"a clean was answered {status}: {answer}")

    def _devices(self) -> Iterator[dict[str, str]]:
        status, answer = self._client.ask("GET", f"/v1/devices?node={self._id}")
        self._expect(status in (200, 404), f"a list was answered {status}: {answer}")
        yield from answer.get("devices", ())

    def _die(self, what: str, over: Callable[[], bool]) -> None:
        """Fall silent; be fenced, or have another board, or just boot. What was fenced nobody uses any more."""
        self._fall_silent(over, fence=what == "fence")
        if what == "board":
            self._boards += 1
            new = f"{self._host}-board{self._boards}"
            status, answer = self._client.ask("POST", f"/v1/nodes/{self._id}/replace/{new}")
            self._expect(status == 200, f"a replacement was answered {status}: {answer}")
            self._id, self._new = new, True
            self.counts["replaced"] += 1
        if not over():
            self._boot()

    def _fall_silent(self, over: Callable[[], bool], *, fence: bool) -> None:
        """Say nothing until it is called silent: before that nobody may take over, and nothing is fenced."""
        end = time.monotonic() + FENCE_SECONDS
        while not over() and time.monotonic() < end:
            time.sleep(0.25)
            if not fence:
                listed = self._client.ask("GET", "/v1/nodes")[1]
                if any(one["node"]["id"] == self._id and one["state"] == "silent" for one in listed):
                    return
                continue
            status, answer = self._client.ask("POST", f"/v1/nodes/{self._id}/fence", self._proof())
            self._expect(status in (200, 400, 409, 422), f"a fence was answered {status}: {answer}")
            if status == 200:
                self._fenced({one["id"] for one in answer})
                return

    def _proof(self) -> dict[str, object]:
        """Say how it is known that nothing runs there: by the BMC, or by an operator."""
        if self._chance.random() < 0.5:
            return {"statement": "power cord pulled"}
        return {"power": {"kind": "bmc", "node": self._id, "power_state": "Off", "read_ns": time.time_ns()}}

    def _fenced(self, claims: set[str]) -> None:
        for card in self._slots:
            if card is not None and card.user in claims:
                card.note(f"{self._epoch}: fenced")
                card.user = ""
        self.counts["fenced"] += 1
        self.counts["claims_fenced"] += len(claims)

    def _contradicts(self, card: Card, problem: str) -> None:
        self.problems.append("\n".join((f"{card.serial} {problem}", *card.story)))

    def _expect(self, condition: bool, problem: str) -> None:
        if not condition:
            self.problems.append(problem)


def _failed(device: ClaimDevice, problem: str) -> DeviceReport:
    return DeviceReport(device.device, done=False, problem=problem)
