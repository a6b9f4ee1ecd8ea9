"""The rule catalogue: every rule has a line that it takes, and all that is told is declared (R001-16)."""

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.log_rules.catalogue import _ANYWHERE, _HINTS, EVENTS, RULES, Matcher
from collectors.log_rules.repeats import MOST, Repeats
from collectors.log_rules.teller import INTERVAL, REMEMBERED, Teller
from collectors.syslog_config import SyslogConfig
from collectors.syslog_kmsg import Devices
from collectors.syslog_rows import Rows
from schemas.events import check_events
from schemas.rows import Event, Item, Position, Severity, Tally
from tests.collectors.syslog.harness import Running, flat
from tests.collectors.syslog.test_kmsg import BOOT, machine, record
from tests.needs import recorded_data

CASES = Path(__file__).parents[2] / "cases" / "syslog"
SECOND = 1_000_000_000
NOW = 1_700_000_000 * SECOND
DECLARED = check_events(EVENTS)
ORDINARY = (
    "usb 1-1: new high-speed USB device number 4 using xhci_hcd",
    "nvme nvme0: 16/0/0 default/read/poll queues",
    'audit: type=1400 audit(1700000000.123:456): apparmor="STATUS" operation="profile_load" name="/usr/bin/man"',
    "docker0: port 1(veth0a1b2c3) entered blocking state",
    "systemd[1]: Detected virtualization kvm.",
    "EXT4-fs (nvme0n1p2): mounted filesystem with ordered data mode. Quota mode: none.",
    "IPv6: ADDRCONF(NETDEV_CHANGE): eth0: link becomes ready",
    "workqueue: blk_mq_run_work_fn hogged CPU for >10000us 4 times, consider switching to WQ_UNBOUND",
)


def lines(case: str) -> list[str]:
    """The kernel's lines of a case, without those that programs wrote."""
    rows = [json.loads(line) for line in (CASES / case / "expected.jsonl").read_text().splitlines()]
    return [row["message"] for row in rows if row.get("app") == "kernel"]


ALL = [line for case in ("gpu", "pci", "storage", "network", "machine") for line in lines(f"kernel-{case}")]


def look(*texts: str, device: str = "") -> list[Event]:
    matcher = Matcher(lambda kind, name: "")
    told = [matcher.look(text, device, NOW + at) for at, text in enumerate(texts)]
    return [one.event for one in told if one is not None]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.type or rule.group} {rule.begins or rule.holds}")
def test_every_rule_takes_a_line_of_the_cases(rule: Any) -> None:
    compiled = re.compile(rule.pattern, re.ASCII | re.DOTALL)
    begun = [line for line in ALL if rule.holds in line and (not rule.begins or line.startswith(rule.begins))]
    assert any(compiled.match(line) for line in begun), "a line that this rule takes belongs into tests/cases/syslog"


def test_what_is_looked_for_first_is_in_every_word_that_is_looked_for() -> None:
    assert all(any(hint in word for hint in _HINTS) for word in _ANYWHERE)


@pytest.mark.parametrize("begin", [begin for rule in RULES for begin in rule.begins])
def test_every_beginning_is_long_enough_to_be_found(begin: str) -> None:
    assert 3 <= len(begin)


def test_what_is_told_is_declared_with_its_severity_and_facts() -> None:
    for event in look(*ALL):
        spec = DECLARED[event.type]
        assert event.severity in spec.severities, event
        assert set(event.detail) <= set(spec.detail), event
        assert None not in event.detail.values(), event
        assert "?" not in event.message, event


def test_every_type_that_is_declared_is_told() -> None:
    assert set(DECLARED) == {event.type for event in look(*ALL)}


@pytest.mark.parametrize("line", ORDINARY)
def test_line_of_no_interest_tells_nothing(line: str) -> None:
    assert [] == look(line)


@pytest.mark.parametrize(
    "broken", ["3f:20.0", "9" * 5000, "", "\N{FULLWIDTH DIGIT ONE}"], ids=["slot 32", "long", "none", "wide"]
)
def test_line_with_an_address_or_a_number_that_cannot_be_is_no_error(broken: str) -> None:
    for pattern in (r"[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", r"\d+"):
        for line in ALL:
            for event in look(re.sub(pattern, broken, line)):
                assert event.type in DECLARED


def test_what_a_line_says_in_a_form_that_cannot_be_is_unknown_and_the_rest_is_told() -> None:
    (event,) = look("mlx5_core 0000:3b:20.0 eth2: Link down")
    assert ("kernel.link.down", "The link of eth2 is down") == (event.type, event.message)
    assert "address" not in event.detail
    (event,) = look("mlx5_core 0000:3b:20.0: Port module event: module 1, Cable error, Power budget exceeded")
    assert "of ?: Cable error" in event.message


def test_device_of_the_record_comes_before_the_one_in_the_text() -> None:
    (event,) = look("igb 0000:01:00.0 eth0: igb: eth0 NIC Link is Down", device="pci:0000:02:00.0")
    assert "pci:0000:02:00.0" == event.device


def test_drive_is_named_by_the_function_that_it_sits_on(tmp_path: Path) -> None:
    home = tmp_path / "sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0/nvme/nvme0/nvme0n1"
    home.mkdir(parents=True)
    (tmp_path / "sys/class/block").mkdir(parents=True)
    (tmp_path / "sys/class/block/nvme0n1").symlink_to(home)
    matcher = Matcher(Devices(tmp_path).of_name)
    text = "I/O error, dev nvme0n1, sector 8 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 2"
    told = matcher.look(text, "", None)
    assert told is not None
    assert "pci:0000:01:00.0" == told.event.device


def test_one_kill_of_35_lines_is_one_event() -> None:
    start = ALL.index(next(line for line in ALL if "invoked oom-killer" in line))
    end = ALL.index(next(line for line in ALL if line.startswith("oom_reaper")))
    between = [f"[ {pid}]  1000 {pid}   2048   512  53248   0   0 python3" for pid in range(30)]
    (event,) = look(ALL[start], *between, *ALL[start + 1 : end + 1])
    facts = event.detail
    assert ("kernel.oom_kill", "stress", "CONSTRAINT_MEMCG", "stress", "/user.slice/a.scope") == (
        event.type, facts["invoked_by"], facts["constraint"], facts["process"], facts["cgroup"])  # fmt: skip
    assert 121248 * 1024 == facts["anonymous_bytes"]


def test_lines_of_another_time_or_device_are_not_put_together() -> None:
    first = "pcieport 0000:07:00.0: PCIe Bus Error: severity=Correctable, type=Data Link Layer, (Receiver ID)"
    other = "pcieport 0000:08:00.0:   device [8086:15ea] error status/mask=00000080/00002000"
    (event,) = look(first, other)
    assert "unknown" == event.detail["kind"]
    matcher = Matcher()
    matcher.look(first, "", NOW)
    told = matcher.look(other.replace("08", "07"), "", NOW + 60 * SECOND)
    assert told is not None
    assert "unknown" == told.event.detail["kind"]


def test_recorded_gsp_hang_tells_each_xid_and_that_a_reset_is_needed() -> None:
    text = (recorded_data() / "kmsg/xid-119.dmesg.log").read_text()
    told = look(*(line.partition("] ")[2] for line in text.splitlines()))
    xids = [event for event in told if event.type == "nvml.xid"]
    assert {119} == {event.detail["xid"] for event in xids}
    assert {"pci:0000:9b:00.0"} == {event.device for event in told}
    assert "nvidia-smi" == xids[0].detail["process"]
    assert len(xids) + 1 == len(told) == 1 + text.count("Xid (PCI:")
    assert 1 == sum(event.type == "nvml.gpu.reset_required" for event in told)


def test_recorded_kills_are_told() -> None:
    text = (recorded_data() / "kmsg/oom.dmesg.log").read_text()
    told = look(*(line.partition("+00:00 ")[2] for line in text.splitlines()))
    killed = [event.detail["process_id"] for event in told if event.type == "kernel.oom_kill"]
    assert text.count("Killed process") == len(killed)
    assert {123} <= set(killed)
    assert text.count("Xid (PCI:") == sum(event.type == "nvml.xid" for event in told)


@given(st.one_of(st.text(max_size=300), st.builds(lambda line, at, end: line[:at] + end, st.sampled_from(ALL),
                                                  st.integers(0, 200), st.text(max_size=40))))  # fmt: skip
def test_no_line_makes_it_fail(text: str) -> None:
    for event in look(text, text):
        assert event.type in DECLARED
        assert set(event.detail) <= set(DECLARED[event.type].detail)


def test_time_taken_is_linear_in_length() -> None:
    matcher = Matcher()
    for rule in RULES:
        start = rule.begins[0] if rule.begins else "x y: " + rule.holds
        for filling in ("a", "0", " ", "a ", "0:", "(", ",", ": "):
            text = start + filling * (8192 // len(filling))
            began = time.process_time()
            matcher.look(text, "", None)
            assert time.process_time() - began < 1.0, (rule, filling)


# --- repetitions -----------------------------------------------------------------------------------------------------


class Tape:
    """A teller with a clock to turn."""

    def __init__(self, remembered: str = "") -> None:
        self.seconds = 0.0
        self._remembered = remembered
        clock, wall = lambda: self.seconds, lambda: NOW + int(self.seconds * SECOND)
        self.teller = Teller(lambda kind, name: "", remembered, clock, wall)
        self.rows = Rows("node-1", wall)
        self.items: list[Item] = []

    def feed(self, *texts: str) -> None:
        for text in texts:
            self.teller.look(text, "", NOW + int(self.seconds * SECOND))
        self.turn()

    def turn(self, seconds: float = 0.0) -> None:
        self.seconds += seconds
        self.teller.tell(self.rows)
        self.items += self.rows.take()

    def finish(self) -> None:
        self.teller.finish(self.rows)
        self.items += self.rows.take()

    @property
    def events(self) -> list[Event]:
        return [item for item in self.items if isinstance(item, Event)]

    @property
    def total(self) -> Any:
        return sum(int(event.detail.get("times") or 1) for event in self.events)

    @property
    def folded(self) -> int:
        return sum(item.folded for item in self.items if isinstance(item, Tally))

    @property
    def remembered(self) -> str:
        told = [item.value for item in self.items if isinstance(item, Position) and item.source == REMEMBERED]
        return told[-1] if told else self._remembered


DOWN, UP = ("igb 0000:01:00.0 eth0: igb: eth0 NIC Link is " + word for word in ("Down", "Up 1000 Mbps"))


def test_link_that_flaps_is_told_at_once_and_then_in_sum_with_its_last_state_last() -> None:
    tape = Tape()
    for _ in range(30):
        tape.feed(DOWN)
        tape.turn(0.1)
        tape.feed(UP)
        tape.turn(0.1)
    assert ["kernel.link.down", "kernel.link.up"] == [event.type for event in tape.events]
    tape.turn(INTERVAL)
    assert [("kernel.link.down", 29), ("kernel.link.up", 29)] == [
        (event.type, event.detail["times"]) for event in tape.events[2:]
    ]
    last = tape.events[-1].detail
    assert (NOW + int(0.3 * SECOND), NOW + int(5.9 * SECOND)) == pytest.approx(
        (last["first_time_ns"], last["last_time_ns"]), abs=SECOND // 100
    )
    assert 60 == tape.total
    assert 56 == tape.folded
    tape.turn(INTERVAL)
    tape.feed(DOWN)
    assert "times" not in tape.events[-1].detail


def test_xids_of_other_gpus_and_numbers_are_not_the_same() -> None:
    tape = Tape()
    tape.feed(*(f"NVRM: Xid (PCI:0000:{gpu:02x}:00): {code}, x" for gpu in range(8) for code in (31, 48, 79)))
    assert 24 == len(tape.events)


def test_what_is_held_back_survives_a_crash() -> None:
    tape = Tape()
    tape.feed(*[DOWN] * 7)
    again = Tape(tape.remembered)
    again.turn()
    assert [6] == [event.detail["times"] for event in again.events]
    assert Severity.ERROR is again.events[0].severity
    assert "" == again.remembered


def test_what_another_version_held_back_is_no_reason_to_fail() -> None:
    tape = Tape("[[1]]")
    tape.turn()
    assert [] == tape.events


def test_more_events_than_are_followed_are_told() -> None:
    tape = Tape()
    tape.feed(*(f"NVRM: Xid (PCI:{at:04x}:01:00): 31, x" for at in range(MOST + 100) for _ in range(3)))
    tape.finish()
    assert 3 * (MOST + 100) == tape.total == len(tape.events) + tape.folded


@given(st.lists(st.one_of(st.sampled_from([DOWN, UP, *ALL[:6]]), st.floats(0.1, 15.0), st.just("crash")), max_size=60))
def test_sum_of_all_events_is_what_was_seen(steps: list[Any]) -> None:
    tape, seen, earlier = Tape(), 0, 0
    for step in steps:
        if isinstance(step, float):
            tape.turn(step)
        elif step == "crash":
            earlier += tape.total
            tape = Tape(tape.remembered)
        else:
            seen += len(look(step))
            tape.feed(step)
    tape.finish()
    assert seen == earlier + tape.total


# --- through the collector -------------------------------------------------------------------------------------------


def test_event_goes_with_the_row_and_both_name_the_device(tmp_path: Path) -> None:
    root = machine(tmp_path, record(1, "NVRM: Xid (PCI:0000:38:00): 79, pid=1, GPU has fallen off the bus.", 3))
    with Running(SyslogConfig(), root) as running:
        running.wait_for_rows(1)
        (event,) = running.events()
        assert ("nvml.xid", "pci:0000:38:00.0") == (event.type, event.device)
        assert "pci:0000:38:00.0" == running.rows()[0]["device"]


def test_no_program_can_forge_an_event(tmp_path: Path) -> None:
    root = machine(tmp_path, b"".join(record(at, line, 11) for at, line in enumerate(ALL)))
    with Running(SyslogConfig(), root) as running:
        running.wait_for_rows(len(ALL))
        assert [] == running.events()


def test_operator_may_do_without_events(tmp_path: Path) -> None:
    root = machine(tmp_path, record(1, DOWN))
    with Running(SyslogConfig(kernel_events=False), root) as running:
        running.wait_for_rows(1)
        assert [] == running.events()


def test_storm_in_the_kernel_log_is_folded_and_its_end_is_told_when_the_collector_stops(tmp_path: Path) -> None:
    count = 5000
    text = "NVRM: Xid (PCI:0000:38:00): 95, Uncontained: LTC TAG ({:#x})"
    now = time.monotonic_ns() // 1000
    records = "".join(f"3,{at},{now},-;{text.format(at)}\n" for at in range(count))
    root = machine(tmp_path, records.encode())
    with Running(SyslogConfig(), root, storms=True) as running:
        running.wait_for(lambda: any("," in value for value in running.positions().values()) or running.count() > 0,
                         "the first rows")  # fmt: skip
        running.wait_for(lambda: running.counts("kmsg")["messages_total"] == count, "all records")
        running.end_watch()
        rows = running.rows()
        assert count == sum(row.get("copies", 1) for row in rows)
        assert len(rows) < 200
        times = sum(int(event.detail.get("times") or 1) for event in running.events())
        assert (count, 2) == (times, len(running.events()))
        assert "" == running.positions()["storms"] == running.positions()[REMEMBERED]


def test_repeats_give_nothing_when_nothing_came() -> None:
    repeats = Repeats(INTERVAL, lambda: 0.0, lambda: NOW)
    assert ([], [], None) == (repeats.due(), repeats.finish(), repeats.remember())


def test_records_and_events_are_counted_exactly_over_a_crash(tmp_path: Path) -> None:
    """What the host has committed by then is all that is known to the next run: nothing twice, nothing lost."""
    count = 3000
    now = time.monotonic_ns() // 1000
    records = "".join(f"3,{at},{now},-;NVRM: Xid (PCI:0000:38:00): 95, unit {at:#x}\n" for at in range(count))
    root = machine(tmp_path, records.encode())
    rows = events = 0
    positions: dict[str, str] = {}
    for crash in (1, 4, None):
        with Running(SyslogConfig(), root, positions, storms=True) as running:
            if crash is None:
                running.wait_for(lambda: running.positions().get(f"kmsg:{BOOT}") == str(count - 1), "all records")
                running.end_watch()
                units = list(running.units)
            else:
                running.wait_for(lambda crash=crash: len(running.units) >= crash, "units")  # type: ignore[misc]
                units = running.units[:crash]
        items = [item for unit in units for item in unit]
        positions = positions | {item.source: item.value for item in items if isinstance(item, Position)}
        rows += sum(row.get("copies", 1) for row in flat(items))
        events += sum(int(item.detail.get("times") or 1) for item in items if isinstance(item, Event))
    assert (count, count) == (rows, events)
    assert ("", "") == (positions["storms"], positions[REMEMBERED])
