"""The registry of nodes: what they say, when they were heard, and what operators decide about them."""

import pytest
from sqlalchemy import event

from aggregator.access import LOCAL
from aggregator.control_sqlite import SqliteControl
from aggregator.nodes import NodeError, Nodes, find_node, list_nodes, written_off
from aggregator.succession import SILENCE_S, Hello, Succession
from aggregator.token_service import Tokens
from schemas.errors import AccessError
from tests.aggregator.control.conftest import Time


class House:
    def __init__(self, control: SqliteControl, time: Time, silence_s: float = SILENCE_S) -> None:
        self.control = control
        self.time = time
        self.succession = Succession(control, silence_s=silence_s, clock=time.clock, wall_ns=time.wall_ns)
        self.tokens = Tokens(control, clock=time.clock, wall_ns=time.wall_ns)
        self.nodes = Nodes(control, self.succession, self.tokens, wall_ns=time.wall_ns)

    async def speak(self, node: str, epoch: str = "e1", *predecessors: str) -> bool:
        return (await self.succession.decide(Hello(node, epoch, "b1", predecessors, f"{node}.example"))).accepted

    async def states(self) -> dict[str, str]:
        return {view.node.id: view.state for view in await self.nodes.views()}


@pytest.fixture
async def house(control: SqliteControl, time: Time) -> House:
    return House(control, time)


async def test_a_node_is_live_then_silent_and_expected_after_a_restart(house: House) -> None:
    await house.speak("n1")
    house.time.pass_(SILENCE_S - 1)
    assert {"n1": "live"} == await house.states()
    house.time.pass_(1)
    (view,) = await house.nodes.views()
    assert ("silent", SILENCE_S) == (view.state, view.silent_s)
    (view,) = await House(house.control, house.time).nodes.views()
    assert ("expected", None) == (view.state, view.silent_s)


async def test_a_node_is_silent_when_another_run_could_take_its_place(control: SqliteControl, time: Time) -> None:
    house = House(control, time, silence_s=3.0)
    await house.speak("n1")
    time.pass_(2.9)
    assert {"n1": "live"} == await house.states()
    time.pass_(0.1)
    assert {"n1": "silent"} == await house.states()


async def test_an_enrolled_node_is_welcome_and_nothing_is_read_again(house: House) -> None:
    await house.speak("n1")
    await house.nodes.decommission("n1")
    enrolling = await house.tokens.issue_enrolment("again", ["n1"], LOCAL)
    await house.tokens.enrol(enrolling.secret.reveal(), "n1", b"n" * 16)
    read: list[str] = []
    event.listen(house.control._reading, "before_cursor_execute", lambda *call: read.append(call[2]))
    house.succession.welcome("n1")
    assert await house.speak("n1")
    assert [] == read


async def test_what_a_node_says_is_kept_and_written_only_when_it_is_new(house: House) -> None:
    await house.speak("n1")
    written: list[str] = []
    event.listen(house.control._writing, "before_cursor_execute", lambda *call: written.append(call[2]))
    for _ in range(3):
        await house.nodes.describe("n1", agent_version="0.1.0", facts={"model": "R750", "cpus": 64}, host_name="")
    assert 1 == sum(statement.startswith("UPDATE node") for statement in written)
    node = await house.control.read(lambda connection: find_node(connection, "n1"))
    expected = ("n1.example", "b1", "0.1.0", {"model": "R750", "cpus": 64}, "e1")
    assert expected == (node.host_name, node.boot, node.agent_version, node.facts, node.epoch)


async def test_facts_have_a_limit(house: House) -> None:
    with pytest.raises(NodeError, match="65536 bytes"):
        await house.nodes.describe("n1", facts={"x": "y" * 70_000})
    assert [] == await house.control.read(list_nodes)


async def test_when_a_node_was_heard_is_kept_by_flush(house: House) -> None:
    await house.speak("n1")
    first = house.time.wall_ns()
    house.time.pass_(100)
    await house.speak("n1")
    last = house.time.wall_ns()
    house.time.pass_(7)
    await house.nodes.flush()
    node = await house.control.read(lambda connection: find_node(connection, "n1"))
    assert (first, last) == (node.first_heard_ns, node.last_heard_ns)


async def test_a_decommissioned_node_may_not_speak_and_its_stranded_rows_are_written_off(house: House) -> None:
    enrolling = await house.tokens.issue_enrolment("rack", ["n*"], LOCAL)
    issued = await house.tokens.enrol(enrolling.secret.reveal(), "n1", b"n" * 16)
    await house.tokens.authenticate(issued.secret.reveal())
    await house.speak("n1", "e1")
    await house.speak("n1", "e2", "e1")
    await house.speak("n2")
    await house.nodes.decommission("n1")
    again = await house.nodes.decommission("n1")
    assert again.decommissioned_ns is not None
    decision = await house.succession.decide(Hello("n1", "e2", "b1"))
    assert (False, "node.decommissioned") == (decision.accepted, decision.code)
    assert not await house.speak("n1", "e3", "e2")
    assert {("n1", "e1"), ("n1", "e2")} == await house.control.read(written_off)
    assert {"n1": "decommissioned", "n2": "live"} == await house.states()
    with pytest.raises(AccessError):
        await house.tokens.authenticate(issued.secret.reveal())


async def test_a_reinstated_node_speaks_again_and_nothing_is_written_off(house: House) -> None:
    await house.speak("n1")
    await house.nodes.decommission("n1")
    await house.nodes.reinstate("n1")
    assert await house.speak("n1")
    assert set() == await house.control.read(written_off)
    assert {"n1": "live"} == await house.states()


async def test_a_node_that_was_decommissioned_can_be_enrolled_again(house: House) -> None:
    await house.speak("n1")
    await house.nodes.decommission("n1")
    enrolling = await house.tokens.issue_enrolment("rack", ["n*"], LOCAL)
    await house.tokens.enrol(enrolling.secret.reveal(), "n1", b"n" * 16)
    assert set() == await house.control.read(written_off)  # its spool may come with it
    house.time.pass_(SILENCE_S)
    assert await house.speak("n1", "e5")


async def test_a_replaced_node_is_not_expected_any_more_and_stays_stranded(house: House) -> None:
    await house.speak("old")
    await house.speak("new")
    node = await house.nodes.replace("old", "new")
    assert "new" == node.replaced_by
    assert not await house.speak("old")
    assert set() == await house.control.read(written_off)
    assert {"new": "live", "old": "replaced"} == await house.states()
    await house.nodes.decommission("old")
    assert {("old", "e1")} == await house.control.read(written_off)


async def test_a_node_may_be_replaced_by_one_that_was_never_heard(house: House) -> None:
    await house.speak("old")
    await house.nodes.replace("old", "new")
    assert {"new": "expected", "old": "replaced"} == await house.states()


async def test_replacing_in_a_circle_or_twice_is_refused(house: House) -> None:
    for node in ("a", "b", "c"):
        await house.speak(node)
    await house.nodes.replace("a", "b")
    for old, new, why in (
        ("b", "a", "itself replaced by b"),
        ("c", "c", "itself"),
        ("a", "c", "already replaced by b"),
    ):
        with pytest.raises(NodeError, match=why):
            await house.nodes.replace(old, new)


async def test_an_unknown_node_is_an_error_with_near_names(house: House) -> None:
    await house.speak("gpu-101")
    for call in (
        house.nodes.decommission("gpu-10"),
        house.nodes.reinstate("gpu-10"),
        house.nodes.replace("gpu-10", "x"),
    ):
        with pytest.raises(NodeError, match=r"no node 'gpu-10'. Did you mean 'gpu-101'"):
            await call
