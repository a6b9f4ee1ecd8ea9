"""Every simulated node is a publisher of its own: numbers, words, documents, grants, and what is spooled meanwhile."""

import json
import socket
import time
from statistics import median
from typing import Any

from collectors.simulated.fleet import default_fleet
from schemas.batch import Block
from schemas.control import Grant, ResendDocuments, SetGrants, Watch
from schemas.device import documents_hash
from schemas.verbosity import Level, RowClass
from tests.collectors.fleet.conftest import Rig


def documents(blocks: list[Block]) -> dict[str, str]:
    """Give the latest text of each device."""
    return {block.keys[0][0]: str(block.strings["document"][0]) for block in blocks}


def ask(rig: Rig, words: dict[str, Any]) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5.0)
        connection.connect(str(rig.folder / "fleet" / "control.sock"))
        connection.sendall(json.dumps(words).encode() + b"\n")
        answer: dict[str, Any] = json.loads(connection.makefile("rb").readline())
        return answer


def test_every_node_has_its_own_id_epoch_and_numbers(rig: Rig) -> None:
    run = rig.start(5)
    ids = {one.node.id for one in run.nodes}
    rig.aggregator.until(lambda: len(rig.aggregator.publishes) > 25)
    rig.stop()

    telemetry = {stream[0]: rows for stream, rows in rig.aggregator.rows.items() if stream[2] is RowClass.TELEMETRY}
    assert telemetry.keys() == ids
    assert all(rows.missing(0, rows.end) == [] and rows.end >= 20 for rows in telemetry.values())
    assert len({stream[1] for stream in rig.aggregator.rows}) == 5
    assert set(rig.aggregator.hosts.values()) == {f"sim-{number:04d}" for number in range(1, 6)}
    assert rig.aggregator.repeated == 0


def test_at_the_end_every_row_that_was_numbered_has_come(rig: Rig) -> None:
    run = rig.start(4)
    rig.aggregator.until(lambda: len(rig.aggregator.publishes) > 30)
    rig.stop()

    report = run.report()
    assert report.rows == sum(rows.count for rows in rig.aggregator.rows.values())
    assert (report.backlog_batches, report.failing, report.quarantined_batches) == (0, 0, 0)
    assert rig.aggregator.unaccounted() == {}


def test_rows_speak_about_the_node_and_nobody_else(rig: Rig) -> None:
    run = rig.start(2)
    rig.aggregator.until(lambda: len(rig.aggregator.blocks(run.nodes[1].node.id, RowClass.CAPABILITY)) == 118)

    for one in run.nodes:
        blocks = [block for row_class in RowClass for block in rig.aggregator.blocks(one.node.id, row_class)]
        assert {block.subject for block in blocks} == {one.node.id}


def test_eighty_rows_travel_in_one_batch(rig: Rig) -> None:
    """A stream's first batch goes at once; from then on twenty rows a step make a batch every four steps."""
    run = rig.start(1)
    name = run.nodes[0].node.id
    rig.aggregator.until(lambda: rig.aggregator.rows[name, run.nodes[0].spool.epoch, *STANDARD].end >= 180)

    with rig.aggregator.lock:
        sizes = [one.batch.envelope.rows for one in rig.aggregator.taken if one.batch.envelope.row_class == 0]
    assert sizes[:3] == [20, 80, 80]


STANDARD = (RowClass.TELEMETRY, Level.STANDARD)


def test_the_machine_says_that_it_is_simulated(rig: Rig) -> None:
    rig.start(2)
    rig.aggregator.until(lambda: len(rig.aggregator.controls) >= 2)

    machines = [request.machine for request in rig.aggregator.controls[:2]]
    assert [machine.facts["simulated"] for machine in machines if machine is not None] == [True, True]
    reports = [one for request in rig.aggregator.controls for one in request.collectors or []]
    assert {(one.name, one.state) for one in reports} == {("simulated", "running")}


def test_documents_are_sent_once_and_heartbeats_carry_their_hash(rig: Rig) -> None:
    run = rig.start(1)
    node = run.nodes[0].node
    rig.aggregator.until(lambda: len(rig.aggregator.blocks(node.id, RowClass.CAPABILITY)) >= 118)
    time.sleep(1.2)  # the next word is due
    rig.stop()

    blocks = rig.aggregator.blocks(node.id, RowClass.CAPABILITY)
    texts = documents(blocks)
    assert len(blocks) == len(texts) == len(node.documents())
    assert all(json.loads(text)["capabilities"]["simulated"] is True for text in texts.values())
    assert rig.aggregator.documents[node.id] == documents_hash(list(texts.values()))


def test_documents_are_sent_again_when_the_aggregator_asks(rig: Rig) -> None:
    run = rig.start(1)
    name = run.nodes[0].node.id
    rig.aggregator.until(lambda: len(rig.aggregator.blocks(name, RowClass.CAPABILITY)) == 118)

    rig.aggregator.tell(name, ResendDocuments("again"))

    rig.aggregator.until(lambda: len(rig.aggregator.blocks(name, RowClass.CAPABILITY)) == 236)
    assert "again" in rig.aggregator.acks


def test_a_fault_is_an_event_and_changes_the_documents_that_it_concerns(rig: Rig) -> None:
    """A GPU that falls off the bus is told at once, and its document is taken back."""
    run = rig.start(2)
    node = run.nodes[1].node
    rig.aggregator.until(lambda: len(rig.aggregator.blocks(node.id, RowClass.CAPABILITY)) == 118)

    answer = ask(rig, {"do": "fault", "fault": "xid_79", "node": "sim-0002", "target": 3})

    assert answer == {"node": "sim-0002", "id": node.id, "fault": "xid_79"}
    took = rig.aggregator.until(lambda: bool(rig.aggregator.blocks(node.id, RowClass.EVENT)))
    assert took < 4.0  # a batch that waited for its time would take 5 s
    [event] = rig.aggregator.blocks(node.id, RowClass.EVENT)
    assert "nvml.gpu.lost" in event.strings["type"]
    rig.aggregator.until(lambda: len(rig.aggregator.blocks(node.id, RowClass.CAPABILITY)) > 118)
    gone = rig.aggregator.blocks(node.id, RowClass.CAPABILITY)[118:]
    assert documents(gone) == {node.hardware.gpus[3]: ""}


def test_the_fault_socket_says_what_is_wrong_with_a_request(rig: Rig) -> None:
    rig.start(1)
    rig.aggregator.until((rig.folder / "fleet" / "control.sock").exists)

    assert "xid_79" in ask(rig, {"do": "fault", "fault": "xid_7", "node": "sim-0001"})["error"]
    assert "sim-0001" in ask(rig, {"do": "fault", "fault": "xid_79", "node": "sim-0002"})["error"]
    assert "fault, clear, list" in ask(rig, {"do": "reboot"})["error"]
    assert ask(rig, {"do": "list"})["nodes"] == ["sim-0001"]
    assert ask(rig, {"do": "clear", "fault": "xid_79", "node": "sim-0001"})["cleared"] == 0


def test_a_grant_lets_more_through_within_a_second_and_names_itself(rig: Rig) -> None:
    """Rows admitted only by a grant travel in batches that name it; other nodes are not concerned (R003-6)."""
    run = rig.start(2, fleet=default_fleet(2, profile="full"), interval=5.0)
    name = run.nodes[0].node.id
    rig.aggregator.until(lambda: len(rig.aggregator.controls) >= 2 and all(one.runs for one in run.nodes))
    rig.aggregator.tell(name, SetGrants("m1", 1, [Grant("g1", Level.DETAILED, "", None, 60.0)]))

    def granted() -> set[tuple[str, Level]]:
        with rig.aggregator.lock:
            envelopes = [one.batch.envelope for one in rig.aggregator.taken]
        return {(one.publisher, one.level) for one in envelopes if one.grant == "g1"}

    assert rig.aggregator.until(lambda: bool(granted())) < 2.0
    assert granted() == {(name, Level.DETAILED)}
    rig.aggregator.until(lambda: "m1" in rig.aggregator.acks)


def test_a_watched_node_is_flushed_every_second(rig: Rig) -> None:
    run = rig.start(1, interval=0.5)
    name = run.nodes[0].node.id
    rig.aggregator.until(lambda: bool(rig.aggregator.controls))
    rig.aggregator.tell(name, Watch("w", 60.0))
    rig.aggregator.until(lambda: run.nodes[0].policy.watched)
    with rig.aggregator.lock:
        before = len(rig.aggregator.taken)

    def sizes() -> list[int]:
        envelopes = [one.batch.envelope for one in rig.aggregator.taken[before:]]
        return [one.rows for one in envelopes if one.row_class is RowClass.TELEMETRY]

    rig.aggregator.until(lambda: len(sizes()) >= 6)
    assert median(sizes()[1:6]) <= 40  # two steps of twenty rows; unwatched it would be eighty


def test_what_the_aggregator_does_not_take_waits_and_comes_later(rig: Rig) -> None:
    rig.aggregator.away = True
    run = rig.start(3, interval=0.1)
    rig.aggregator.until(lambda: run.report().rows > 1000 and run.report().failing == 3)
    assert rig.aggregator.rows == {}

    rig.aggregator.away = False
    rig.aggregator.until(lambda: run.report().backlog_batches < 3, 20.0)
    rig.stop()

    assert rig.aggregator.unaccounted() == {}
    assert sum(rows.count for rows in rig.aggregator.rows.values()) == run.report().rows


def test_a_silent_node_sends_nothing_at_all(rig: Rig) -> None:
    run = rig.start(2)
    name = run.nodes[0].node.id
    rig.aggregator.until(lambda: len(rig.aggregator.publishes) > 10)
    ask(rig, {"do": "fault", "fault": "node_silent", "node": "sim-0001"})
    rig.aggregator.until(lambda: run.nodes[0].node.silent)
    time.sleep(0.5)
    with rig.aggregator.lock:
        rig.aggregator.publishes.clear()
    time.sleep(1.5)

    assert {publisher for _, publisher in rig.aggregator.publishes} == {run.nodes[1].node.id}
    assert name not in {publisher for _, publisher in rig.aggregator.publishes}


def test_while_the_disk_takes_nothing_the_nodes_stand_still(rig: Rig) -> None:
    """Rows that cannot be kept do not begin to exist; nothing that was numbered is missing afterwards."""
    run = rig.start(2)
    rig.aggregator.until(lambda: run.report().rows > 300)
    with run.nodes[0].spool.lock:
        run.file.db.execute("CREATE TRIGGER full BEFORE INSERT ON batch BEGIN SELECT RAISE(FAIL, 'disk full'); END")
    rig.aggregator.until(lambda: run.standing_still)
    steps = run.report().steps
    time.sleep(1.5)
    assert run.report().steps == steps

    with run.nodes[0].spool.lock:
        run.file.db.execute("DROP TRIGGER full")
    rig.aggregator.until(lambda: run.report().steps > steps + 10)
    rig.stop()

    assert rig.aggregator.unaccounted() == {}
    assert sum(rows.count for rows in rig.aggregator.rows.values()) == run.report().rows


def test_each_node_enrols_for_a_token_of_its_own(rig: Rig) -> None:
    run = rig.start(2, env={"MUSTER_PUBLISH__ENROLMENT_TOKEN": "mse_x"})
    rig.aggregator.until(lambda: len(rig.aggregator.tokens) == 2)

    assert rig.aggregator.tokens == {f"Bearer token-of-{one.node.id}" for one in run.nodes}
    kept = rig.folder / "fleet" / "nodes" / "sim-0001" / "token"
    assert kept.read_text().strip() == f"token-of-{run.nodes[0].node.id}"
    assert kept.stat().st_mode & 0o777 == 0o600
