"""Usage: from the moment when nodes were told until they confirmed the end, whatever happens in between."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from aggregator import usage
from aggregator.ledger import claims, cleaning, restoring
from aggregator.ledger.asks import Ask, Pick
from aggregator.ledger.entries import Forgotten, NodeReached
from aggregator.ledger.facts import Sighting, observe
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.words import Epoch
from aggregator.usage import Usage
from schemas.claims import CheckpointClaim, ClaimDevice
from schemas.device import DeviceKind
from tests.aggregator.ledger.rig import opened, settle
from tests.aggregator.ledger.worlds import document

SECOND = 10**9


class Clock:
    """The ledger's wall clock, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1000

    def __call__(self) -> int:
        return self.seconds * SECOND


async def used(ledger: Ledger, **question: Any) -> list[Usage]:
    """Read the records."""
    return await ledger.database.read(partial(usage.read, **question))


async def granted(ledger: Ledger, name: str, *devices: str, tenant: str = "t") -> Epoch:
    """Grant a claim; give its epoch."""
    for device in devices:
        await ledger.decide(lambda state, one=device: cleaning.attest(state, one, "op", "new"))  # type: ignore[misc]
    await ledger.decide(lambda state: claims.grant(state, Ask(tenant, "job", [Pick(one) for one in devices]), name))
    return ledger.peek().claims[name].epoch


async def did(
    ledger: Ledger, clock: Clock, at: int, decision: Callable[..., Any], *arguments: Any, **more: Any
) -> None:
    """Let something be decided at a second."""
    clock.seconds = at
    await ledger.decide(lambda state: decision(state, *arguments, **more))


async def test_it_counts_from_provision_to_the_last_nodes_word_over_restarts(tmp_path: Path) -> None:
    """Reserved time is nobody's, a release is not the end, and a restart in the middle of each changes nothing."""
    path, clock = tmp_path / "ledger.db", Clock()
    async with opened(path, note=usage.note, clock=clock) as ledger:
        one, two, *_ = await settle(ledger)
        epoch = await granted(ledger, "c1", one, two)
        assert [] == await used(ledger)
        await did(ledger, clock, 1100, claims.provision, "c1")
    async with opened(path, note=usage.note, clock=clock) as ledger:
        ((began, until),) = [(record.from_ns, record.until_ns) for record in await used(ledger)]
        assert (1100 * SECOND, None) == (began, until)
        await did(ledger, clock, 1200, claims.confirm, "c1", epoch, [one, two])
        await did(ledger, clock, 1300, claims.release, "c1", who="t")
        await did(ledger, clock, 1400, claims.undone, "c1", epoch, [one])
        assert [None] == [record.until_ns for record in await used(ledger)]
    async with opened(path, note=usage.note, clock=clock) as ledger:
        await did(ledger, clock, 1500, claims.undone, "c1", epoch, [two])
        await did(ledger, clock, 1600, claims.undone, "c1", epoch, [one, two])  # told again
        await did(ledger, clock, 1700, lambda _: ([Forgotten(["c1"])], None))
        (record,) = await used(ledger)
        assert (1100 * SECOND, 1500 * SECOND) == (record.from_ns, record.until_ns)
        assert {one, two} == {device.device for device in record.use.devices}


async def test_a_device_that_is_taken_away_is_not_charged_to_the_end_of_its_claim(tmp_path: Path) -> None:
    """By a fence at the moment of the fence, by its node's word at that; a restart and a checkpoint change neither."""
    path, clock = tmp_path / "ledger.db", Clock()
    async with opened(path, note=usage.note, clock=clock) as ledger:
        one, two, _, three, *_ = await settle(ledger)
        epoch = await granted(ledger, "c1", one, two, three)
        await did(ledger, clock, 1100, claims.provision, "c1")
        await did(ledger, clock, 1150, claims.confirm, "c1", epoch, [one, two, three])
        await did(ledger, clock, 1200, lambda _: ([NodeReached("n1", live=False)], None))
        dead = {"now_ns": 0, "statement": "the plug is in my hand"}
        await did(ledger, clock, 1300, cleaning.fence, "n1", "op", **dead)
    async with opened(path, note=usage.note, clock=clock) as ledger:
        await did(ledger, clock, 1400, claims.release, "c1")
        await did(ledger, clock, 1500, claims.undone, "c1", epoch, [one])
        await did(ledger, clock, 1600, claims.undone, "c1", epoch, [one, two])
        (record,) = await used(ledger)
        assert {one: 1500 * SECOND, two: None, three: 1300 * SECOND} == {
            device.device: device.until_ns for device in record.use.devices
        }
        assert 1600 * SECOND == record.until_ns


async def test_a_claim_that_comes_back_lost_what_was_taken_from_it_when_it_was(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path / "ledger.db", note=usage.note, clock=clock) as ledger:
        one, two, _, three, *_ = await settle(ledger)
        epoch = await granted(ledger, "c1", one, three)
        await did(ledger, clock, 1100, claims.provision, "c1")
        await did(ledger, clock, 1150, claims.confirm, "c1", epoch, [one, three])
        await did(ledger, clock, 1200, lambda _: ([NodeReached("n1", live=False)], None))
        await did(ledger, clock, 1300, cleaning.fence, "n1", "op", now_ns=0, statement="the plug is in my hand")
        part = ledger.peek().devices[two].part_key
        kept = ClaimDevice(two, "gpu", part, "", "", "passthrough", -1)
        piece = CheckpointClaim("c1", "t", "job", epoch.generation, epoch.sequence, 60.0, [kept])
        await did(ledger, clock, 1400, restoring.restore, "n0", piece)
        (record,) = await used(ledger)
        assert {one: None, two: None, three: 1300 * SECOND} == {
            device.device: device.until_ns for device in record.use.devices
        }


async def test_what_was_never_told_to_a_node_was_never_used(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path / "ledger.db", note=usage.note, clock=clock) as ledger:
        one, two, three, *_ = await settle(ledger)
        for name, device in (("c1", one), ("c2", two), ("c3", three)):
            await granted(ledger, name, device)
        await did(ledger, clock, 1100, claims.release, "c1")
        await did(ledger, clock, 1100, claims.expire, "c2")
        await did(ledger, clock, 1100, lambda _: ([NodeReached("n0", live=False)], None))
        await did(ledger, clock, 1200, claims.provision, "c3")  # refused: its node is silent
        assert [] == await used(ledger)


async def test_a_part_that_is_replaced_under_a_claim_is_charged_as_what_was_granted(tmp_path: Path) -> None:
    """The card that came is another device, and nobody's: one record, with the part that the claim had."""
    clock = Clock()
    async with opened(tmp_path / "ledger.db", note=usage.note, clock=clock) as ledger:
        one, *_ = await settle(ledger, nodes=1)
        epoch = await granted(ledger, "c1", one)
        part = ledger.peek().devices[one].part_key
        await did(ledger, clock, 1100, claims.provision, "c1")
        await did(ledger, clock, 1150, claims.confirm, "c1", epoch, [one])
        card = document(DeviceKind.GPU, "0000:01:00.0", serial="another", group=1)
        await did(ledger, clock, 1200, lambda state: (observe(state, Sighting("n0", "n0", "pci", card, "b1")), None))
        assert 4 == len(ledger.peek().devices)
        await did(ledger, clock, 1300, claims.release, "c1")
        await did(ledger, clock, 1400, claims.undone, "c1", epoch, [one])
        (record,) = await used(ledger)
        assert ([(one, part)], 1100 * SECOND, 1400 * SECOND) == (
            [(device.device, device.part) for device in record.use.devices],
            record.from_ns,
            record.until_ns,
        )


async def test_one_device_in_turn_is_never_charged_twice_for_one_moment(tmp_path: Path) -> None:
    """Claim after claim, each undone before the next: the records do not overlap, and add up to what was used."""
    clock = Clock()
    async with opened(tmp_path / "ledger.db", note=usage.note, clock=clock) as ledger:
        one, *_ = await settle(ledger, nodes=1)
        for turn in range(5):
            name, began = f"c{turn}", 2000 + 100 * turn
            epoch = await granted(ledger, name, one, tenant=f"t{turn % 2}")
            await did(ledger, clock, began, claims.provision, name)
            await did(
                ledger, clock, began + 10, claims.begin_undo if turn % 2 else claims.release, name, *["no"] * (turn % 2)
            )
            await did(ledger, clock, began + 50, claims.undone, name, epoch, [one])
        records = await used(ledger)
        assert [2000 * SECOND + turn * 100 * SECOND for turn in range(5)] == [record.from_ns for record in records]
        assert 5 * 50 * SECOND == sum((record.until_ns or 0) - record.from_ns for record in records)
        assert ["c1", "c3"] == [record.claim for record in await used(ledger, tenants=["t1"])]
        middle = await used(ledger, since_ns=2150 * SECOND, until_ns=2300 * SECOND)
        assert ["c2"] == [record.claim for record in middle]


async def test_a_claim_that_comes_back_from_a_checkpoint_has_one_record(tmp_path: Path) -> None:
    """Piece by piece, as its nodes show themselves: it goes on from its first piece, with all that it has."""
    clock = Clock()
    async with opened(tmp_path / "ledger.db", note=usage.note, clock=clock) as ledger:
        devices = await settle(ledger, nodes=2)
        here, there = devices[0], devices[3]
        for at, (node, name) in enumerate((("n0", here), ("n1", there))):
            part = ledger.peek().devices[name].part_key
            kept = ClaimDevice(name, "gpu", part, "", "", "passthrough", -1)
            piece = CheckpointClaim("c1", "t", "job", 9, 5, 60.0, [kept])
            await did(ledger, clock, 1100 + 100 * at, restoring.restore, node, piece)
        (record,) = await used(ledger)
        assert (1100 * SECOND, None) == (record.from_ns, record.until_ns)
        assert [here, there] == [device.device for device in record.use.devices]
        await did(ledger, clock, 1300, claims.release, "c1")
        await did(ledger, clock, 1400, claims.undone, "c1", Epoch(9, 5), [here, there])
        (record,) = await used(ledger)
        assert (1100 * SECOND, 1400 * SECOND) == (record.from_ns, record.until_ns)


async def test_amounts_of_a_node_that_is_fenced_are_not_charged_to_the_end_of_the_claim(tmp_path: Path) -> None:
    path, clock = tmp_path / "ledger.db", Clock()
    dead = {"now_ns": 0, "statement": "the plug is in my hand"}
    async with opened(path, note=usage.note, clock=clock) as ledger:
        await settle(ledger)
        amounts = {node: {"vcpus": 4} for node in ("n0", "n1")}
        await ledger.decide(lambda state: claims.grant(state, Ask("t", "job", [], amounts), "c1"))
        epoch = ledger.peek().claims["c1"].epoch
        await did(ledger, clock, 1100, claims.provision, "c1")
        await did(ledger, clock, 1150, claims.confirm, "c1", epoch, [], nodes=["n0", "n1"])
        await did(ledger, clock, 1200, lambda _: ([NodeReached(node, live=False) for node in ("n0", "n1")], None))
        await did(ledger, clock, 1300, cleaning.fence, "n1", "op", **dead)
    async with opened(path, note=usage.note, clock=clock) as ledger:
        (record,) = await used(ledger)
        assert (None, {"n1": 1300 * SECOND}) == (record.until_ns, record.use.amounts_until_ns)
        await did(ledger, clock, 1400, cleaning.fence, "n0", "op", **dead)
        (record,) = await used(ledger)
        assert (1400 * SECOND, {"n1": 1300 * SECOND}) == (record.until_ns, record.use.amounts_until_ns)
        assert amounts == record.use.amounts
