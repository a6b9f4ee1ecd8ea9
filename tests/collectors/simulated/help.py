"""Shared by the tests of the simulated fleet: stepping a node, and finding its rows."""

import json
from typing import Any

from collectors.simulated import Fault, SimulatedNode, default_fleet
from schemas.batch import Block
from schemas.rows import Parcel
from schemas.verbosity import RowClass

SECOND = 1_000_000_000
START = 1_780_000_000 * SECOND
"""The first step of every test's node: May 2026."""


def one_node(node_type: str = "hgx-h100", seed: int = 1) -> SimulatedNode:
    """Give a node that has made its first step, at START."""
    node = default_fleet(1, seed, node_type=node_type).nodes[0]
    node.step(START)
    return node


def run(node: SimulatedNode, seconds: int, first: int = 1) -> list[Parcel]:
    """Step a node once a second; give the last step's parcels."""
    parcels: list[Parcel] = []
    for second in range(first, first + seconds):
        parcels = node.step(START + second * SECOND)
    return parcels


def column(parcels: list[Parcel], measurement: str, field: str) -> list[Any]:
    """Give a column, in the order of the devices; [] when no block has it."""
    for parcel in parcels:
        if parcel.row_class is RowClass.TELEMETRY and parcel.block.measurement == measurement:
            for group in groups(parcel.block):
                if field in group:
                    return list(group[field])
    return []


def devices(parcels: list[Parcel], measurement: str) -> list[str]:
    """Give the devices of a measurement's first block; [] without one."""
    for parcel in parcels:
        if parcel.block.measurement == measurement:
            return [key[0] for key in parcel.block.keys]
    return []


def groups(block: Block) -> tuple[dict[str, Any], ...]:
    """Give a block's columns by type."""
    return block.floats, block.ints, block.bools, block.strings


def events(parcels: list[Parcel]) -> list[str]:
    """Give the types of the events, in order."""
    return [text for parcel in of(parcels, RowClass.EVENT) for text in parcel.block.strings["type"] if text]


def details(parcels: list[Parcel]) -> list[dict[str, Any]]:
    """Give the facts of the events, in order."""
    return [json.loads(text or "") for parcel in of(parcels, RowClass.EVENT) for text in parcel.block.strings["detail"]]


def lines(parcels: list[Parcel]) -> list[str]:
    """Give the texts of the log records, in order."""
    return [text for parcel in of(parcels, RowClass.LOG) for text in parcel.block.strings["message"] if text]


def of(parcels: list[Parcel], row_class: RowClass) -> list[Parcel]:
    """Give the parcels of one class."""
    return [parcel for parcel in parcels if parcel.row_class is row_class]


def break_it(node: SimulatedNode, fault: str, **more: Any) -> None:
    """Inject a fault."""
    node.inject(Fault(fault=fault, **more))
