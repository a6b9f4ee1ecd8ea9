"""What `muster top` and the view of `muster up` draw of recorded answers."""

import time
from pathlib import Path

import msgspec
import pytest
from rich.text import Text

from aggregator.cli.client import Client
from aggregator.cli.drawing import ASCII, UNICODE, bar, count, glyphs_for, percent, short
from aggregator.cli.frame_fleet import fleet_frame, ordered
from aggregator.cli.frame_node import balance_line, node_body, node_head
from aggregator.cli.live_view import LiveView
from aggregator.cli.screen import paint
from aggregator.cli.watching import FleetLook, FleetRow, FleetWatch, Follower, NodeLook, NodeWatch, Sums
from aggregator.up import ChildStatus
from tests.aggregator.cli.conftest import Run
from tests.aggregator.cli.stub import NODE, Stub

SIZES = [(80, 24), (60, 10), (140, 40), (200, 60), (40, 8)]


@pytest.fixture
def look(stub: Stub) -> NodeLook:
    return NodeWatch(Client(stub.address), NODE).look()


def _plain(lines: list[Text]) -> str:
    return "\n".join(line.plain for line in lines)


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_node_fits_every_screen(look: NodeLook, width: int, height: int) -> None:
    lines = [node_head(look, width, "12:00:00"), *node_body(look, width, height - 1, UNICODE)]
    assert len(lines) <= height
    assert max(line.cell_len for line in lines) <= width


def test_a_node_shows_every_part_at_80_by_24(look: NodeLook) -> None:
    text = _plain([node_head(look, 80, "12:00:00"), balance_line(look.sums, 80), *node_body(look, 80, 22, UNICODE)])
    for word in ("rack1-gpu3", "live", "load", "cpu ", "memory ", "vda", "eth0", "file system", "unaccounted 0"):
        assert word in text
    assert "eth0: Link is Down" in text


def test_rates_are_there_at_the_first_look(look: NodeLook) -> None:
    (disk,) = look.series["disk"]
    assert disk["write_bytes_total:rate"] > 0


def test_each_core_has_a_bar_and_many_cores_a_step_each(look: NodeLook) -> None:
    assert _plain(node_body(look, 80, 22, UNICODE)).splitlines()[1].split()[0] == "0"
    many = [{"cpu": str(core), "usage_ratio": core / 256} for core in range(256)]
    lines = node_body(msgspec.structs.replace(look, series={**look.series, "cpu_core": many}), 80, 22, UNICODE)
    assert "".join(line.plain.strip() for line in lines[1:5]).startswith("▁▁▁▁")


def test_log_line_cannot_steer_the_terminal(look: NodeLook) -> None:
    text = _plain(node_body(look, 140, 40, UNICODE))
    assert "\x1b" not in text
    assert "\\x1b[31mred" in text


def test_node_that_sent_nothing_says_so(look: NodeLook) -> None:
    empty = msgspec.structs.replace(look, series={}, said=[])
    assert "nothing has arrived" in _plain(node_body(empty, 80, 20, UNICODE))


def test_silent_node_says_since_when(look: NodeLook) -> None:
    silent = msgspec.structs.replace(look, state="silent", silent_s=95.0)
    assert "silent, heard 95 s ago" in node_head(silent, 80, "").plain


def test_unaccounted_rows_are_loud() -> None:
    line = balance_line(Sums(numbered=10, done=8, moving=1, unaccounted=1), 80)
    assert "stored 8/10   on the way 1   unaccounted 1" in line.plain
    assert any("red" in str(span.style) for span in line.spans)


def test_absent_is_a_dash_never_zero() -> None:
    assert ("-", "-", "-") == (short(None), percent(None), count(None))
    assert ("0", "0%", "0") == (short(0.0), percent(0.0), count(0.0))
    assert bar(None, 5, UNICODE).plain == "░░░░░      -"


@pytest.mark.parametrize(
    ("value", "text"),
    [(999.0, "999"), (1000.0, "1.0K"), (1536.0, "1.5K"), (10 * 2**20, "10M"), (999.9 * 2**20, "1.0G"), (2.0**50, "1P")],
)
def test_short_bytes_have_at_most_five_cells(value: float, text: str) -> None:
    assert text == short(value)


def test_terminals_without_unicode_get_ascii(look: NodeLook) -> None:
    assert (ASCII, ASCII, UNICODE) == (glyphs_for("ANSI_X3.4-1968"), glyphs_for(None), glyphs_for("utf-8"))
    assert "█" not in _plain(node_body(look, 80, 22, ASCII))


def test_painting_without_colour_has_no_escape_codes(look: NodeLook) -> None:
    lines = node_body(look, 80, 22, UNICODE)
    assert not any("\x1b" in line for line in paint(lines, 80, colour=False))
    assert any("\x1b[" in line for line in paint(lines, 80, colour=True))


def _fleet(nodes: int) -> FleetLook:
    values = {"memory": 0.2, "load": 1.0, "read": 1e6, "write": 2e6, "receive": 3e3, "transmit": 4e3, "rows": 12.0}
    rows = [FleetRow(f"id{at}", f"node{at:04}", "live", 1.0, {**values, "cpu": at / nodes}) for at in range(nodes)]
    rows.append(FleetRow("x", "quiet", "silent", 400.0, {}))
    return FleetLook(rows, Sums(numbered=5, done=5))


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_fleet_fits_every_screen(width: int, height: int) -> None:
    lines = fleet_frame(_fleet(1000), width, height, "12:00:00")
    assert len(lines) <= height
    assert max(line.cell_len for line in lines) <= width


def test_a_fleet_says_how_many_do_not_fit_and_scrolls() -> None:
    first = _plain(fleet_frame(_fleet(100), 80, 24, ""))
    later = _plain(fleet_frame(_fleet(100), 80, 24, "", top=50))
    assert "node0000" in first
    assert "more" in first
    assert "node0000" not in later
    assert "node0050" in later


def test_sorting_puts_the_highest_first_and_the_absent_last() -> None:
    names = [node.name for node in ordered(_fleet(3).nodes, "cpu")]
    assert names == ["node0002", "node0001", "node0000", "quiet"]
    assert ordered(_fleet(3).nodes, "state")[0].name == "quiet"


def test_column_that_no_node_fills_is_left_out() -> None:
    head = next(line.plain for line in fleet_frame(_fleet(2), 140, 20, "") if line.plain.startswith("node "))
    assert "cpu" in head
    assert "gpu" not in head


def test_top_once_prints_plain_frames_without_a_terminal(run: Run) -> None:
    for words in (("top", "--once"), ("top", "rack1-gpu3", "--once")):
        status, out, _ = run(*words)
        assert status == 0
        assert "rack1-gpu3" in out
        assert "\x1b" not in out


def test_top_of_an_unknown_column_names_the_columns(run: Run) -> None:
    status, _, err = run("top", "--sort", "cpuu", "--once")
    assert status == 1
    assert "Did you mean 'cpu'" in err


def test_fleet_rows_come_from_every_measurement(stub: Stub) -> None:
    (node,) = FleetWatch(Client(stub.address)).look().nodes
    assert {"cpu", "memory", "load", "read", "write", "receive", "transmit"} <= set(node.values)


def test_follower_keeps_the_last_look_when_the_aggregator_goes(stub: Stub) -> None:
    follower = Follower(NodeWatch(Client(stub.address), NODE), 0.02)
    follower.start()
    _until(lambda: follower.look is not None)
    stub.close()
    _until(lambda: bool(follower.trouble))
    follower.stop()
    assert follower.look is not None
    assert "no aggregator answers" in follower.trouble


def test_live_view_says_what_it_waits_for(tmp_path: Path) -> None:
    view = LiveView(tmp_path, "127.0.0.1:8420")
    ended = ChildStatus("agent", pid=None, starts=3, last_exit="signal SIGKILL")
    view.update([ChildStatus("aggregator", pid=12, starts=1), ended])
    text = _plain(view.frame(80, 24))
    assert "waiting for" in text
    assert "aggregator 12" in text
    assert "agent ended by signal SIGKILL" in text
    assert "http://127.0.0.1:8420" in _plain(view.frame(120, 24))


def test_live_view_summary_names_restarts(tmp_path: Path) -> None:
    view = LiveView(tmp_path, "127.0.0.1:8420")
    view.update([ChildStatus("agent", pid=5, starts=2, last_exit="signal SIGKILL")])
    assert "the agent was started 2 times; it last ended by signal SIGKILL" in view.summary()


def test_live_view_shows_the_node_of_this_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the socket and the node's id in the data folder it finds both, draws, and leaves the summary."""
    monkeypatch.setattr("aggregator.cli.live_view.hold_fresh", lambda *_: None)
    (tmp_path / "agent").mkdir()
    (tmp_path / "agent" / "node.json").write_text(f'{{"id": "{NODE}", "machine_id": "", "decided_by": "machine_id"}}')
    stub = Stub(tmp_path / "muster.sock")
    try:
        with LiveView(tmp_path, "127.0.0.1:8420") as view:
            view.update([ChildStatus("agent", pid=5, starts=1)])
            _until(lambda: "rack1-gpu3" in _plain(view.frame(80, 24)))
            frame = _plain(view.frame(80, 24))
    finally:
        stub.close()
    assert "unaccounted 0" in frame
    out = capsys.readouterr().out
    assert out.startswith("\x1b[?1049h")
    assert "\x1b[?1049l" in out
    assert "rows stored, 0 unaccounted" in out.rpartition("\x1b[?1049l")[2]


def _until(true: object, seconds: float = 10.0) -> None:
    assert callable(true)
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def test_what_is_old_is_told_to_be_old() -> None:
    """An aggregator that hangs gives no error: it gives nothing, and the screen must not look alive."""
    follower = Follower(NodeWatch(Client("unix:///nowhere"), "n1"))
    assert follower.trouble == ""

    follower._looked -= 20

    assert "no answer from the aggregator for 20 s" in follower.trouble
