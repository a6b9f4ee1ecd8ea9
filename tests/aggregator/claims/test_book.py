"""Nodes that keep a book of their own of who uses which card, over work that reaches them late or never.

Nothing of the ledger's can change the book: a card that is to be prepared for one claim while another uses it, or is to
be cleaned under its user, is a mistake, whatever the ledger says. Nodes fall silent, are fenced, and begin runs before
anybody looked again.
"""

import asyncio
import contextlib
import random
from functools import partial
from pathlib import Path

import pytest

from aggregator.claim_carrier import Policy
from aggregator.ledger import cleaning
from aggregator.ledger.entries import NodeReached, NodeRun
from aggregator.ledger.facts import withdraw
from collectors.claims.order import Order
from schemas.claims import ClaimStep, DeviceReport, Step
from schemas.device import Document, part_key
from schemas.errors import MusterError
from tests.aggregator.claims.rig import World, bad, good, gpus
from tests.hammer.reader import Reader

NODES, CARDS, USERS, ROUNDS = 2, 3, 4, 400


class Book:
    """Which card is in which slot of a node, and who uses it."""

    def __init__(self, chance: random.Random) -> None:
        self.slots: dict[str, str] = {}
        self.users: dict[str, str] = {}
        self.problems: list[str] = []
        self.prepared = 0
        self._chance = chance

    def put(self, address: str, part: str) -> None:
        """Put a card into a slot, or "" for none: nobody uses what is not there."""
        before = self.slots.get(address, "")
        if before != part:
            self.users.pop(before, None)
            self.users.pop(part, None)
        self.slots[address] = part

    def perform(self, order: Order) -> DeviceReport:
        """Do a step, and note what must not be."""
        part, user = order.device.part, self.users.get(order.device.part, "")
        there = self.slots.get(order.device.address) == part
        if order.step in (Step.PREPARE, Step.CLEAN):
            if user and (user != order.claim or order.step is Step.CLEAN):
                self.problems.append(f"{part} is to be used by {order.claim} ({order.step}) while {user} uses it")
            if not there or self._chance.random() < 0.05:
                return bad(order, "a bad day")
            if order.step is Step.PREPARE:
                self.users[part] = order.claim
                self.prepared += 1
        elif user == order.claim:
            del self.users[part]
        return good(order)


class Late(World):
    """A world in which work waits for nodes until they ask, and the newest takes the place of what waited."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        super().__init__(folder, Policy(provision_seconds=3.0, clean_seconds=3.0))
        self.letters: dict[str, list[ClaimStep]] = {}
        self.books: dict[str, Book] = {}
        self.chance = chance

    def tell(self, publisher: str, steps: list[ClaimStep] | None) -> bool:
        """Put work where its node asks for it, or take it back."""
        if steps is None:
            self.letters.pop(publisher, None)
        else:
            self.letters[publisher] = steps
        return True

    async def pump(self) -> int:
        """Let some nodes ask for their work, and all do what they heard of."""
        for name in [name for name in self.letters if not self.nodes[name].dead and self.chance.random() < 0.5]:
            super().tell(name, self.letters.pop(name))
        return await super().pump()

    async def furnish(self, name: str) -> None:
        """Let a node speak, with cards that are free."""
        self.books[name] = book = Book(self.chance)
        await self.add(name, *gpus(CARDS, name))
        for card in gpus(CARDS, name):
            book.put(*_where(name, card))
        self.nodes[name].perform = book.perform

    async def pull(self, name: str, address: str) -> None:
        """Take the card out of a slot."""
        self.books[name].put(address, "")
        there = [one for one in self.ledger.peek().devices_of(name) if one.slot.address == address]
        for source in [source for one in there for source in one.views]:
            await self.ledger.decide(lambda state, source=source: (withdraw(state, name, source, "pulled"), None))  # type: ignore[misc]

    async def fence(self, name: str) -> None:
        """Fence a silent node, as its operator does who has pulled the cord; it begins a run, and asks, at once."""
        node, book = self.nodes[name], self.books[name]
        node.dead = True
        await self.silence(name)
        for _ in range(self.chance.randrange(3)):
            await asyncio.sleep(0.01)  # something may yet be put where nobody asks for it
        word = partial(cleaning.fence, node=name, who="op", now_ns=1, statement="the cord is pulled")
        fenced = {claim.id for claim in await self.ledger.decide(word)}
        book.users = {part: user for part, user in book.users.items() if user not in fenced}
        node.start()
        node.dead = False
        self.carrier.checkpoint(name, node.worker.checkpoint())
        if name in self.letters:
            super().tell(name, self.letters.pop(name))
        await self.ledger.decide(lambda _: ([NodeRun(name, name, f"e{self.now}", "b1"), NodeReached(name, True)], None))


def _where(node: str, card: Document) -> tuple[str, str]:
    return card.slot.address, part_key(card.part, node, card.slot)


async def _use(it: Late, number: int) -> None:
    """Claim and provision, wait a while, and let go, for ever."""
    while True:
        try:
            claim = await it.claim(it.chance.choice(list(it.ledger.peek().devices)), tenant=f"t{number}")
            await it.claiming.provision(claim.id)
            await asyncio.sleep(it.chance.uniform(0.0, 0.1))
            await it.claiming.release(claim.id, f"t{number}")
        except MusterError:
            await asyncio.sleep(0.005)


async def _fate(it: Late) -> None:
    for _ in range(ROUNDS):
        name = f"n{it.chance.randrange(NODES)}"
        book = it.books[name]
        it.now += it.chance.uniform(0.0, 0.3)
        what = it.chance.random()
        card = list(gpus(CARDS, it.chance.choice([name, name, f"{name}-new"])))[it.chance.randrange(CARDS)]
        if what < 0.03:
            await it.pull(name, card.slot.address)
        elif what < 0.1:
            book.put(*_where(name, card))
            await it.see(name, card)
        elif what < 0.15:
            await it.fence(name)
        elif what < 0.25:
            for device in list(it.ledger.peek().devices):
                with contextlib.suppress(MusterError):
                    await it.claiming.clean(device, "op")
        await it.pump()
        await asyncio.sleep(0.002)


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_no_card_is_prepared_for_one_while_another_uses_it(tmp_path: Path, number: int) -> None:
    """By the nodes' own books; and an independent reader of the entries finds no device given twice."""
    it = Late(tmp_path, random.Random(number))
    await it.open()
    try:
        for place in range(NODES):
            await it.furnish(f"n{place}")
        users = [asyncio.create_task(_use(it, at)) for at in range(USERS)]
        await _fate(it)
        for user in users:
            user.cancel()
        await asyncio.gather(*users, return_exceptions=True)
    finally:
        await it.close()
    assert [] == [problem for book in it.books.values() for problem in book.problems]
    assert all(book.prepared > 3 for book in it.books.values())
    assert [] == Reader().read(it.path).problems
