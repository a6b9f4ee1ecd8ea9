"""Muster's own names: rows of blocks, and what the ledger keeps."""

import pytest

from aggregator.catalogue import installed_catalogue
from aggregator.expression import Environment, Fault, compile_expression, compile_value
from aggregator.expression.errors import ExpressionNameError
from aggregator.expression.names import inventory_environment, rows_environment
from aggregator.expression.rows import block_predicate
from aggregator.expression.types import STRING, Field, Record
from aggregator.ledger.model import Device, Hold, Node, Taint
from aggregator.ledger.words import Effect, Epoch, Mode
from schemas.batch import Block
from schemas.device import DeviceKind, Part

ROWS = rows_environment(installed_catalogue())
INVENTORY = inventory_environment()
BLOCK = Block(
    "network",
    "node-1",
    ["interface"],
    [["", "eth0"], ["nic:1", "eth1"]],
    [0, 1, 0],
    1_700_000_000_000_000_000,
    [0, 5, 10_000_000_000],
    ints={"receive_errors_total": [1, None, 30]},
)
EVENTS = Block(
    "event",
    "node-1",
    [],
    [["gpu:0"]],
    [0, 0, 0],
    0,
    [0, 1, 1],
    ints={"severity": [2, 2, 2]},
    strings={"type": ["nvml.xid"] * 3, "detail": ['{"xid": 79}', None, "no json"]},
)
DEVICE = Device(
    "d1",
    "n1",
    DeviceKind.GPU,
    part=Part(vendor="NVIDIA"),
    taints={"ecc": Taint("ecc", Effect.NO_SCHEDULE, "row remap failed", "rule:ecc", 5)},
    capabilities={"memory_bytes": 80 << 30, "modes": ["a", "b"]},
)
NODE = Node("n1", "host-1", labels={"rack": "r7"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("network.receive_errors_total > 5", [False, None, True]),
        ("network.interface == 'eth0'", [True, False, True]),
        ("device.id == 'nic:1'", [None, True, None]),
        ("node.id == 'node-1'", [True, True, True]),
        ("network.time > timestamp('2023-11-14T22:13:25Z')", [False, False, True]),
        ("gpu.power_watts > 1.0", [None, None, None]),
        ("network.receive_bytes_total > 1", [None, None, None]),
        ("has(gpu.power_watts)", [False, False, False]),
    ],
)
def test_rows_of_a_block_are_told_by_measurement_attribute_time_and_subject(
    text: str, expected: list[bool | None]
) -> None:
    assert expected == block_predicate(compile_expression(text, ROWS))(BLOCK).outcomes


def test_the_facts_of_an_event_are_a_map_and_what_is_no_json_is_absent() -> None:
    predicate = block_predicate(compile_expression("event.type == 'nvml.xid' && event.detail.xid in [48, 79]", ROWS))
    assert [True, None, None] == predicate(EVENTS).outcomes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("device.kind == 'gpu' && device.part.vendor == 'NVIDIA'", True),
        ("device.capabilities.memory_bytes >= quantity('80GiB') && node.labels['rack'] == 'r7'", True),
        ("device.capabilities.modes.exists(mode, mode == 'b')", True),
        ("device.capabilities.link_rate_bytes_per_second > 1", None),
        ("device.part.serial == 'x'", None),
        ("has(device.part.serial)", False),
        ("device.taints.all(taint, taint.effect != 'NoSchedule')", False),
        ("device.taints.exists(taint, taint.since < timestamp('1970-01-01T00:00:01Z') && !has(taint.expires))", True),
        ("device.lifecycle == 'dirty' && device.reach == 'live'", True),
        ("device.tenant == 'blue'", None),
        ("has(device.claim)", False),
        ("node.name.startsWith('host') && node.live && !has(node.cordoned)", True),
    ],
)
def test_devices_and_nodes_of_the_ledger_are_told_by_their_fields(text: str, expected: bool | None) -> None:
    assert expected is compile_expression(text, INVENTORY).on_objects("device", "node")(DEVICE, NODE)


def test_every_name_of_devices_and_nodes_reads_what_the_ledger_keeps() -> None:
    """A field that the ledger renames would be a fault of every device."""
    held = Device("d1", "n1", DeviceKind.GPU, hold=Hold("c1", "blue", Mode.DRIVER, Epoch(1, 1), "part"))
    for root, thing in (("device", held), ("node", NODE)):
        names = [name for name, _ in INVENTORY.names() if name.startswith(f"{root}.")]
        known = {name: compile_value(name, INVENTORY).on_objects(root)(thing) for name in names}
        assert [] == [name for name, value in known.items() if isinstance(value, Fault)]


def test_a_caller_adds_fields_and_replaces_others() -> None:
    more = {"device": {"variant": Field(STRING, read=lambda device: f"{device.part.vendor}_X")}}
    predicate = compile_expression("device.variant == 'NVIDIA_X'", inventory_environment(more)).on_objects()
    assert predicate(DEVICE) is True


def test_every_declared_metric_is_a_name() -> None:
    catalogue = installed_catalogue()
    names = {name for name, _ in ROWS.names()}
    assert [] == [
        f"{measurement}.{field}"
        for measurement in catalogue.measurements()
        for field in catalogue.fields(measurement)
        if f"{measurement}.{field}" not in names
    ]


def test_a_misspelled_measurement_names_its_like() -> None:
    with pytest.raises(ExpressionNameError, match="Did you mean 'network'"):
        compile_expression("networc.receive_errors_total > 5", ROWS)


def test_a_ratio_compared_with_per_cent_is_hinted_at() -> None:
    assert "share of 1" in compile_expression("memory.available_bytes > 0 && swap.used_ratio > 90", ROWS).hints[0]
    assert () == compile_expression("swap.used_ratio > 0.9", ROWS).hints


@pytest.mark.parametrize("name", ["", "a b", "1a", "in", "true", "while"])
def test_a_root_that_no_expression_could_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a name"):
        Environment({name: Record("x", {})})


def test_environments_with_one_name_are_not_joined() -> None:
    with pytest.raises(ValueError, match="device"):
        INVENTORY | INVENTORY
