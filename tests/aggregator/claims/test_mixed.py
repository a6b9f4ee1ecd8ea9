"""Everything at once over one ledger: claims, facts, replacements, expiry, undo, checks, restarts of nodes."""

import asyncio
import contextlib
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from aggregator import usage
from aggregator.claim_carrier import Policy
from aggregator.ledger.entries import Entry
from aggregator.ledger.facts import withdraw
from aggregator.ledger.state import State
from aggregator.ledger.words import LIVE_CLAIMS, Lifecycle
from collectors.claims.order import Order
from schemas.claims import DeviceReport, Step
from schemas.errors import MusterError
from tests.aggregator.claims.rig import World, bad, good, gpus, world
from tests.hammer.reader import Reader

TASKS, TURNS, NODES = 12, 150, 3


async def _user(it: World, chance: random.Random, ids: list[str], number: int) -> None:
    """Claim, provision, renew and release, and look at no answer."""
    mine: list[str] = []
    for turn in range(TURNS):
        try:
            if not mine or chance.random() < 0.4:
                picked = chance.sample(ids, chance.choice([1, 1, 2]))
                claim = await it.claim(*picked, tenant=f"t{number % 3}", lease_seconds=chance.choice([2.0, 500.0]))
                mine.append(claim.id)
            elif chance.random() < 0.5:
                await it.claiming.provision(chance.choice(mine))
            elif chance.random() < 0.3:
                await it.claiming.renew(chance.choice(mine))
            else:
                await it.claiming.release(mine.pop(chance.randrange(len(mine))), f"t{number}")
        except MusterError:
            pass
        if turn % 5 == 0:
            await asyncio.sleep(0.002)


async def _fate(it: World, chance: random.Random, done: asyncio.Event) -> None:
    """Let cards be pulled and others be put in, nodes die and come back, leases run out, and hooks fail."""
    while not done.is_set():
        name = f"n{chance.randrange(NODES)}"
        node = it.nodes[name]
        it.now += chance.uniform(0.0, 0.7)
        what = chance.random()
        if what < 0.1:
            await it.ledger.decide(partial(_pull, name=name, at=chance.randrange(4)))
        elif what < 0.4:
            card = list(gpus(4, chance.choice([name, name, f"{name}-new"])))[chance.randrange(4)]
            await it.see(name, card)
        elif what < 0.6:
            device = chance.choice(list(it.ledger.peek().devices))
            with contextlib.suppress(MusterError):
                if chance.random() < 0.5:
                    await it.claiming.clean(device, "op")
                else:
                    await it.claiming.attest(device, "op", "by hand")
        elif what < 0.7:
            node.start()  # its agent starts again
            it.carrier.checkpoint(name, node.worker.checkpoint())
        elif what < 0.8:
            await it.silence(name, live=chance.random() < 0.8)
        await it.pump()
        await asyncio.sleep(0.002)


def _pull(state: State, name: str, at: int) -> tuple[list[Entry], None]:
    devices = list(state.devices_of(name))
    source = next(iter(devices[at % len(devices)].views))
    return withdraw(state, name, source, "pulled"), None


def _moody(chance: random.Random) -> Callable[[Order], DeviceReport]:
    def perform(order: Order) -> DeviceReport:
        if chance.random() < (0.1 if order.step is Step.PREPARE else 0.03):
            return bad(order, "a bad day")
        return good(order)

    return perform


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_nothing_is_ever_twos_and_everything_ends(tmp_path: Path, number: int) -> None:
    """An independent reader of the entries finds no device given twice; then all is let go, and no claim is left."""
    chance = random.Random(number)
    async with world(tmp_path, Policy(provision_seconds=20.0)) as it:
        ids: list[str] = []
        for place in range(NODES):
            ids += await it.add(f"n{place}", *gpus(4, f"n{place}"))
            it.nodes[f"n{place}"].perform = _moody(chance)
        done = asyncio.Event()
        fate = asyncio.create_task(_fate(it, chance, done))
        await asyncio.gather(*(_user(it, random.Random(number * 100 + at), ids, at) for at in range(TASKS)))
        done.set()
        await fate
        for node in it.nodes.values():
            node.perform = good
            await it.silence(node.name, live=True)
        for claim in list(it.ledger.peek().claims.values()):
            if claim.state in LIVE_CLAIMS:
                try:
                    await it.claiming.release(claim.id, "end")
                except MusterError:
                    continue  # it is being undone

        def over() -> bool:
            it.now += 0.2
            return all(claim.state not in LIVE_CLAIMS for claim in it.ledger.peek().claims.values())

        await it.until(over, 40.0)
        used = await it.database.read(partial(usage.read, limit=10_000))
        began = [claim.id for claim in it.ledger.peek().claims.values() if claim.began_ns is not None]
        assert sorted(began) == sorted(one.claim for one in used)
        assert all(one.until_ns is not None and one.until_ns >= one.from_ns for one in used)
        held = [one.id for one in it.ledger.peek().devices.values() if one.lifecycle is Lifecycle.ASSIGNED]
        assert [] == held
    reader = Reader().read(it.path)
    assert [] == reader.problems
    assert reader.grants > 20
