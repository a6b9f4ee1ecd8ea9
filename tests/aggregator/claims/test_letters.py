"""What a node was to be told and never heard: nothing of it may reach it once it is over."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from aggregator.claim_carrier import Policy
from aggregator.control_channel import ControlHub
from aggregator.grants import GrantBook
from aggregator.ledger import cleaning
from aggregator.ledger.entries import NodeRun
from aggregator.ledger.words import ClaimState
from schemas.claims import ClaimStep, Step
from schemas.control import Ack, ControlRequest, SetWork
from tests.aggregator.claims.rig import World, gpus

NEVER = Policy(provision_seconds=1e9, clean_seconds=1e9)


class Post(World):
    """A world in which work waits for nodes to ask, as the control channel has it wait."""

    async def open(self) -> None:
        """Open the ledger, and what agents ask."""
        self.put: list[tuple[str, list[ClaimStep] | None]] = []
        self.acks: dict[str, list[Ack]] = {}
        await super().open()
        self.hub = ControlHub(GrantBook(self.database), hold_s=0.0)

    def tell(self, publisher: str, steps: list[ClaimStep] | None) -> bool:
        """Put a node's work where it asks for it."""
        self.put.append((publisher, steps))
        return self.hub.set_work(publisher, steps)

    async def ask(self, name: str, epoch: str, *, begins: bool = False) -> list[tuple[Step, str]] | None:
        """Ask as a node does; give steps and claims of the work it is told, None when it is told nothing."""
        if begins:
            self.carrier.checkpoint(name, self.nodes[name].worker.checkpoint())
            self.acks.pop(name, None)
        request = ControlRequest(1, name, epoch, "b1", [], self.acks.pop(name, []), 0.0)
        messages = await self.hub.poll(request)
        self.acks[name] = [Ack(message.id) for message in messages]
        work = [message.steps for message in messages if isinstance(message, SetWork)]
        return [(step.step, step.claim) for step in work[-1]] if work else None

    async def told(self, name: str, epoch: str) -> list[tuple[Step, str]]:
        """Ask until there is work to hear of, and be it none."""
        found: list[list[tuple[Step, str]]] = []

        async def ask() -> None:
            if (work := await self.ask(name, epoch)) is not None:
                found.append(work)

        await self.until(lambda: found, each=ask)
        return found[0]


@asynccontextmanager
async def post(folder: Path) -> AsyncIterator[Post]:
    """Give an open world, and close it."""
    made = Post(folder, NEVER)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


def preparing(it: Post, node: str, claim: str) -> Callable[[], bool]:
    """Tell whether a node is to prepare for a claim, whenever it asks."""
    return lambda: any(
        publisher == node and step.claim == claim and step.step is Step.PREPARE
        for publisher, steps in it.put
        for step in steps or ()
    )


async def waits(it: Post, node: str) -> str:
    """Give a claim on a node's GPU for which it is to prepare, whenever it asks."""
    (gpu,) = await it.add(node, *gpus(1))
    await it.ask(node, "e1", begins=True)
    claim = await it.claim(gpu)
    await it.claiming.provision(claim.id)
    await it.until(preparing(it, node, claim.id))
    return claim.id


async def test_a_fenced_claim_is_prepared_by_no_later_run(tmp_path: Path) -> None:
    """The node was silent when it was to prepare, was fenced, and began a run before anybody had looked again."""
    async with post(tmp_path) as it:
        claim = await waits(it, "n1")
        await it.silence("n1")
        word = partial(cleaning.fence, node="n1", who="op", now_ns=1, statement="the cord is pulled")
        await it.ledger.decide(word)
        assert it.claim_of(claim).state is ClaimState.RELEASED
        assert await it.ask("n1", "e2", begins=True) is None
        await it.ledger.decide(lambda _: ([NodeRun("n1", "n1", "e2", "b2")], None))
        assert (Step.PREPARE, claim) not in await it.told("n1", "e2")


async def test_a_run_is_told_that_there_is_nothing_to_do(tmp_path: Path) -> None:
    """It may have heard otherwise: of who spoke with it before it began to show what it keeps."""
    async with post(tmp_path) as it:
        await it.add("n1", *gpus(1))
        assert await it.ask("n1", "e1", begins=True) is None
        assert await it.told("n1", "e1") == []


async def test_what_another_publisher_was_told_is_taken_back(tmp_path: Path) -> None:
    """A node that another publisher speaks for: the one before prepares nothing more for it."""
    async with post(tmp_path) as it:
        await waits(it, "n1")
        await it.ledger.decide(lambda _: ([NodeRun("n1", "other", "e1", "b1")], None))
        it.put.clear()
        it.carrier.wake()
        await it.until(lambda: ("n1", []) in it.put)
        assert await it.told("n1", "e1") == []
