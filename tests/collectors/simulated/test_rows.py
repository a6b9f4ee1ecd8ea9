"""The rows of a simulated node are sound blocks of declared metrics, and cheap."""

import time
from itertools import pairwise

import pytest

from collectors.simulated import default_fleet
from collectors.simulated.models import NODE_TYPES
from collectors.simulated.readings import METRICS
from schemas.codec import decode_body, encode_body
from schemas.metrics import Catalogue, ValueType
from schemas.rows import CAPABILITY_METRICS, EVENT_METRICS, LOG_METRICS, Parcel
from schemas.verbosity import Level, RowClass
from tests.collectors.simulated.help import SECOND, START, break_it, groups, one_node

KNOWN = Catalogue([*METRICS, *EVENT_METRICS, *LOG_METRICS, *CAPABILITY_METRICS])
TYPES = {ValueType.FLOAT: float, ValueType.INT: int, ValueType.BOOL: bool, ValueType.STR: str}
WRONG = {
    False: ("xid_79", "ecc_double_bit", "vf_missing", "link_flap", "nvme_media_errors"),
    True: ("nvme_media_errors", "dpu_crash", "dpu_encryption_lost", "dpu_service"),
}
"""By whether the node has DPUs instead of GPUs and ports, what goes wrong with it."""


def steps(node_type: str = "hgx-h100") -> list[list[Parcel]]:
    """Give some steps in which much goes wrong."""
    node = one_node(node_type)
    for fault in WRONG[bool(node.hardware.dpus)]:
        break_it(node, fault, after_seconds=2.0, duration_seconds=3.0)
    return [node.step(START + second * SECOND) for second in range(1, 10)]


@pytest.mark.parametrize("node_type", sorted(NODE_TYPES))
def test_blocks_pass_the_codec(node_type: str) -> None:
    for parcels in steps(node_type):
        blocks = [parcel.block for parcel in parcels]
        assert decode_body(encode_body(blocks)) == blocks


@pytest.mark.parametrize("node_type", sorted(NODE_TYPES))
def test_every_column_is_declared_with_its_type_level_and_attributes(node_type: str) -> None:
    for parcel in [parcel for parcels in steps(node_type) for parcel in parcels]:
        block = parcel.block
        assert KNOWN.attributes(block.measurement) == tuple(block.attributes)
        for group, kind in zip(groups(block), TYPES, strict=True):
            for field, values in group.items():
                spec = KNOWN.get(block.measurement, field)
                assert spec is not None, f"{block.measurement}.{field} is not declared"
                assert spec.type is kind
                assert {type(value) for value in values} <= {TYPES[kind], type(None)}
                if parcel.row_class is RowClass.TELEMETRY:
                    assert spec.level is parcel.level


def test_every_declared_metric_is_measured_by_some_node() -> None:
    seen = set()
    for node_type in NODE_TYPES:
        for parcel in one_node(node_type).step(START + SECOND):
            seen |= {f"{parcel.block.measurement}.{field}" for group in groups(parcel.block) for field in group}
    assert {spec.name for spec in METRICS} == seen


def test_no_two_rows_of_a_node_share_a_time() -> None:
    node = one_node()
    times: list[int] = []
    for second in (1, 1, 2, 0, 3):  # twice the same, and a step back
        for parcel in node.step(START + second * SECOND):
            at = parcel.block.start
            for step in parcel.block.steps:
                at += step
                times.append(at)
    assert all(before < after for before, after in pairwise(times))
    assert times[-1] < START + 3 * SECOND + SECOND // 1000


def test_a_step_back_in_time_moves_nothing() -> None:
    node = one_node()
    node.step(START + 50 * SECOND)
    before = node.machine.gpus.energy_picojoules
    node.step(START)
    assert before == node.machine.gpus.energy_picojoules


def test_all_rows_speak_about_the_node() -> None:
    node = one_node()
    assert {parcel.block.subject for parcel in node.step(START + SECOND)} == {node.id}


def test_whoever_gets_a_block_may_change_it() -> None:
    """An intake merges blocks in place; the physics must not notice."""
    changed, left = one_node(), one_node()
    for second in range(1, 5):
        spoiled, sound = (node.step(START + second * SECOND) for node in (changed, left))
        assert [parcel.block for parcel in spoiled] == [parcel.block for parcel in sound]
        for parcel in spoiled:
            parcel.block.keys.append(["spoiled"])
            for group in groups(parcel.block):
                for values in group.values():
                    values.clear()


def test_levels_above_the_one_in_force_are_left_out() -> None:
    for level in Level:
        node = one_node()
        levels = {parcel.level for parcel in node.step(START + SECOND, level)}
        assert levels == {each for each in Level if each <= min(level, Level.DETAILED)}


def test_the_load_profile_is_exactly_20_rows_of_10_fields() -> None:
    node = default_fleet(1, profile="load").nodes[0]
    for second in range(30):
        blocks = [parcel.block for parcel in node.step(START + second * SECOND)]
        assert [("gpu", 8), ("nvme", 4), ("vf", 8)] == [(block.measurement, len(block.rows)) for block in blocks]
        assert [10, 10, 10] == [sum(map(len, groups(block))) for block in blocks]
        assert all(None not in values for block in blocks for group in groups(block) for values in group.values())


def test_a_thousand_loaded_nodes_cost_well_below_a_quarter_core() -> None:
    """Processor time, the best of several tries: other programs on the machine cannot make it pass or fail."""
    nodes = default_fleet(40, profile="load").nodes
    best = float("inf")
    for turn in range(12):
        begin = time.thread_time()
        for node in nodes:
            node.step(START + turn * SECOND)
        best = min(best, (time.thread_time() - begin) / len(nodes))
    assert best * 1000 < 0.25
