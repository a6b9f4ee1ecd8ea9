"""Items become blocks: typed, split by level, stamped; one bad value harms only itself."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors._values import MAX_TEXT
from collectors.blocks import Packer
from collectors.delivery import Delivery
from schemas.batch import Block
from schemas.codec import check_block
from schemas.metrics import ValueType
from schemas.rows import Event, LogRecord, Parcel, Position, Reading, Severity
from schemas.verbosity import Level, RowClass
from tests.collectors.runtime.fleet import metric

METRICS = (
    metric("fan.ratio", ValueType.FLOAT),
    metric("fan.turns"),
    metric("fan.alarm", ValueType.BOOL),
    metric("fan.label", ValueType.STR),
    metric("fan.raw", level=Level.DEBUG),
    metric("core.ticks", attributes=("core",)),
)
NOW = 1_700_000_000_000_000_000


def pack(items: Iterable[object], now: int = NOW) -> tuple[Delivery, Packer]:
    packer = Packer(METRICS, "node-1", wall_ns=lambda: now)
    for item in items:
        packer.add(item)
    data = packer.pack()
    delivery = msgspec.msgpack.decode(data, type=Delivery) if data else Delivery([])
    for parcel in delivery.parcels:
        check_block(parcel.block)
    return delivery, packer


def column(field: str, values: list[Any]) -> tuple[list[Any], dict[str, int]]:
    """What becomes of values of one field, beside one that holds the rows in place."""
    other = "turns" if field != "turns" else "ratio"
    delivery, packer = pack(Reading("fan", {field: value, other: 1}) for value in values)
    (parcel,) = delivery.parcels
    block = parcel.block
    columns: dict[str, list[Any]] = {**block.floats, **block.ints, **block.bools, **block.strings}
    return list(columns.get(field, [None] * len(values))), packer.faults


@pytest.mark.parametrize(
    ("field", "value", "becomes", "faults"),
    [
        ("ratio", 0.0, 0.0, {}),
        ("ratio", 3, 3.0, {}),
        ("ratio", None, None, {}),
        ("ratio", float("nan"), None, {}),
        ("ratio", float("inf"), None, {"not_finite": 1}),
        ("ratio", True, None, {"type": 1}),
        ("ratio", "0.5", None, {"type": 1}),
        ("ratio", 10**400, None, {"out_of_range": 1}),
        ("turns", 0, 0, {}),
        ("turns", Severity.ERROR, 3, {}),
        ("turns", 2**64 - 1, 2**64 - 1, {}),
        ("turns", 2**64, None, {"out_of_range": 1}),
        ("turns", -(2**63) - 1, None, {"out_of_range": 1}),
        ("turns", 1.0, None, {"type": 1}),
        ("turns", False, None, {"type": 1}),
        ("alarm", False, False, {}),
        ("alarm", 0, None, {"type": 1}),
        ("label", "", "", {}),
        ("label", b"bytes", None, {"type": 1}),
        ("label", "disk\udc80", "disk\\udc80", {}),
        ("label", "x" * (MAX_TEXT + 1), "x" * MAX_TEXT, {"too_long": 1}),
        ("speed", 1, None, {"undeclared": 1}),
    ],
)
def test_value_becomes(field: str, value: Any, becomes: Any, faults: dict[str, int]) -> None:
    """Absent is not zero, and what does not fit its column is refused and counted, never bent."""
    assert column(field, [value]) == ([becomes], faults)


def test_bad_value_harms_no_other_value_of_its_row() -> None:
    delivery, packer = pack([Reading("fan", {"ratio": "bad", "turns": 7, "label": None})])
    (parcel,) = delivery.parcels
    assert (parcel.block.ints, parcel.block.floats, packer.faults) == ({"turns": [7]}, {}, {"type": 1})


def test_fields_are_split_by_level_and_share_their_time() -> None:
    """R001-12: the level of a row is that of its declaration."""
    delivery, _ = pack([Reading("fan", {"turns": 1, "raw": 2}), Reading("fan", {"turns": 3, "raw": 4})])
    by_level = {parcel.level: parcel.block for parcel in delivery.parcels}
    assert {level: block.ints for level, block in by_level.items()} == {
        Level.STANDARD: {"turns": [1, 3]},
        Level.DEBUG: {"raw": [2, 4]},
    }
    assert (by_level[Level.STANDARD].start, by_level[Level.STANDARD].steps) == (NOW, [0, 1])
    assert (by_level[Level.DEBUG].start, by_level[Level.DEBUG].steps) == (NOW, [0, 1])


def test_column_that_appears_late_is_absent_before() -> None:
    delivery, _ = pack([Reading("fan", {"turns": 1}), Reading("fan", {"ratio": 0.5}), Reading("fan", {"turns": 2})])
    (parcel,) = delivery.parcels
    assert parcel.block.ints == {"turns": [1, None, 2]}
    assert parcel.block.floats == {"ratio": [None, 0.5, None]}


@given(
    st.lists(
        st.dictionaries(st.sampled_from(("ratio", "turns", "alarm", "label")), st.integers(0, 1), min_size=1),
        min_size=1,
        max_size=12,
    )
)
def test_every_value_is_in_its_row_whatever_rows_have_beside_each_other(rows: list[dict[str, int]]) -> None:
    kinds: dict[str, Any] = {"ratio": float, "turns": int, "alarm": bool, "label": str}
    given_rows = [{name: kinds[name](value) for name, value in row.items()} for row in rows]
    delivery, _ = pack(Reading("fan", row) for row in given_rows)
    (parcel,) = delivery.parcels
    block = parcel.block
    columns: dict[str, list[Any]] = {**block.floats, **block.ints, **block.bools, **block.strings}
    assert given_rows == [
        {name: values[at] for name, values in columns.items() if values[at] is not None} for at in range(len(rows))
    ]


def test_row_without_a_value_is_no_row() -> None:
    delivery, packer = pack([Reading("fan", {"ratio": None, "turns": None}), Reading("fan", {})])
    assert (delivery.parcels, packer.rows, packer.faults) == ([], 0, {})


def test_rows_of_one_key_share_it_and_subjects_do_not_share_blocks() -> None:
    items = [
        Reading("core", {"ticks": 1}, "cpu:0", {"core": "0"}),
        Reading("core", {"ticks": 2}, "cpu:0", {"core": "1"}),
        Reading("core", {"ticks": 3}, "cpu:0", {"core": "0"}),
        Reading("core", {"ticks": 4}, "cpu:0", {"core": "0"}, subject="bmc-1"),
    ]
    delivery, _ = pack(items)
    blocks = {parcel.block.subject: parcel.block for parcel in delivery.parcels}
    assert blocks["node-1"].keys == [["cpu:0", "0"], ["cpu:0", "1"]]
    assert blocks["node-1"].rows == [0, 1, 0]
    assert blocks["bmc-1"].ints == {"ticks": [4]}


@pytest.mark.parametrize("attributes", [{}, {"cpu": "0"}, {"core": "0", "more": "1"}, {"core": 0}, {"core": "x" * 256}])
def test_row_without_exactly_its_attributes_is_refused(attributes: Any) -> None:
    delivery, packer = pack([Reading("core", {"ticks": 1}, attributes=attributes)])
    assert delivery.parcels == []
    assert sum(packer.faults.values()) == 1


def test_clock_that_stands_or_goes_back_gives_increasing_times() -> None:
    times = iter([NOW, NOW, NOW - 500, NOW + 10])
    packer = Packer(METRICS, "node-1", wall_ns=lambda: next(times))
    for turns in range(4):
        packer.add(Reading("fan", {"turns": turns}))
    (parcel,) = msgspec.msgpack.decode(packer.pack(), type=Delivery).parcels
    assert parcel.block.steps == [0, 1, 1, 8]


def test_event_is_essential_and_keeps_its_facts() -> None:
    delivery, _ = pack([Event("test.changed", "Fan 1 stopped.", Severity.ERROR, "fan:1", {"rpm": 0, "why": "x\udc80"})])
    (parcel,) = delivery.parcels
    assert (parcel.row_class, parcel.level, parcel.block.keys) == (RowClass.EVENT, Level.ESSENTIAL, [["fan:1"]])
    assert parcel.block.strings["detail"] == ['{"rpm":0,"why":"x\\\\udc80"}']
    assert parcel.block.ints["severity"] == [3]


def test_log_records_go_by_severity_and_source() -> None:
    delivery, _ = pack([LogRecord("ok", Severity.NOTICE, "udp", host="a"), LogRecord("bad", Severity.ERROR, "kmsg")])
    found = {parcel.level: (parcel.block.attributes, parcel.block.keys) for parcel in delivery.parcels}
    assert found == {Level.STANDARD: (["source"], [["", "udp"]]), Level.ESSENTIAL: (["source"], [["", "kmsg"]])}


def test_last_position_of_a_source_travels_with_the_rows() -> None:
    items = [Reading("fan", {"turns": 1}), Position("tape", "1"), Position("tape", "2"), Position("other", "9")]
    delivery, _ = pack(items)
    assert delivery.positions == [Position("tape", "2"), Position("other", "9")]


def block(**fields: Any) -> Block:
    made = Block("fan", "", [], [[""]], [0], NOW, [0], ints={"turns": [1]})
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def test_ready_made_parcel_is_taken_as_it_is() -> None:
    delivery, packer = pack([Parcel(RowClass.TELEMETRY, Level.STANDARD, block())])
    assert (delivery.parcels[0].block.subject, delivery.parcels[0].block.ints) == ("node-1", {"turns": [1]})
    assert (packer.rows, packer.faults) == (1, {})


@pytest.mark.parametrize(
    ("parcel", "reason"),
    [
        (Parcel(RowClass.TELEMETRY, Level.DEBUG, block()), "level"),
        (Parcel(RowClass.TELEMETRY, Level.STANDARD, block(measurement="none")), "undeclared"),
        (Parcel(RowClass.CAPABILITY, Level.STANDARD, block(measurement="capability")), "undeclared"),
        (Parcel(RowClass.TELEMETRY, Level.STANDARD, block(ints={"unknown": [1]})), "undeclared"),
        (Parcel(RowClass.TELEMETRY, Level.STANDARD, block(ints={}, floats={"turns": [1.0]})), "type"),
        (Parcel(RowClass.TELEMETRY, Level.STANDARD, block(attributes=["core"])), "attributes"),
        (Parcel(RowClass.TELEMETRY, Level.STANDARD, block(ints={"turns": [2**70]})), "garbage"),
        (Parcel(RowClass.TELEMETRY, Level.STANDARD, block(rows=None)), "garbage"),
        (Parcel(RowClass.TELEMETRY, Level.STANDARD, block(ints={}, strings={"label": ["x" * (3 << 20)]})), "too_large"),
    ],
)
def test_ready_made_parcel_that_is_not_as_declared_is_refused(parcel: Parcel, reason: str) -> None:
    delivery, packer = pack([parcel, Reading("fan", {"turns": 5})])
    assert packer.faults == {reason: 1}
    assert [parcel.block.ints for parcel in delivery.parcels] == [{"turns": [5]}]


def test_ready_made_parcel_from_another_time_is_stamped_now() -> None:
    delivery, _ = pack([Parcel(RowClass.TELEMETRY, Level.STANDARD, block(start=17))])
    assert delivery.parcels[0].block.start == NOW


def test_half_surrogates_in_a_ready_made_parcel_are_spelled() -> None:
    broken = block(ints={}, strings={"label": ["a\udcff", None]}, rows=[0, 0], steps=[0, 1], keys=[["fan:\udc80"]])
    delivery, packer = pack([Parcel(RowClass.TELEMETRY, Level.STANDARD, broken)])
    assert delivery.parcels[0].block.strings == {"label": ["a\\udcff", None]}
    assert (delivery.parcels[0].block.keys, packer.faults) == ([["fan:\\udc80"]], {})


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
nonsense = st.one_of(
    anything,
    st.builds(Reading, st.sampled_from(["fan", "core", "x"]) | anything, anything, anything, anything, anything),
    st.builds(Event, anything, anything, anything, anything, anything, anything, anything),
    st.builds(LogRecord, anything, anything, anything, anything, anything),
    st.builds(Parcel, st.sampled_from(RowClass) | anything, anything, st.builds(Block, *[anything] * 11) | anything),
    st.builds(Position, anything, anything),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(nonsense, max_size=6))
def test_nonsense_never_raises_and_never_hides_what_is_sound(items: list[Any]) -> None:
    """Promise 5: one bad value harms only itself."""
    packer = Packer(METRICS, "node-1", wall_ns=lambda: NOW)
    for item in [*items, Reading("fan", {"turns": 41})]:
        packer.add(item)
    delivery = msgspec.msgpack.decode(packer.pack(), type=Delivery, strict=True)
    found = [parcel.block.ints.get("turns", []) for parcel in delivery.parcels if parcel.block.measurement == "fan"]
    assert any(41 in turns for turns in found)
