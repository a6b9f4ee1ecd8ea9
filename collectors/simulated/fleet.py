"""A simulated fleet: the nodes of a fleet file, or the built-in ones."""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from collectors.simulated.fleet_file import parse_fleet, read_fleet
from collectors.simulated.hardware import Hardware
from collectors.simulated.models import NODE_TYPES, dpu_machine
from collectors.simulated.node import SimulatedNode
from collectors.simulated.spec import FleetSpec, NodeGroup, NodeType, Profile
from collectors.simulated.topology import Layout, layout
from schemas.errors import ConfigError, near_names


class Fleet:
    """Nodes that behave like real ones. Equal seeds and names make equal nodes, in every run and on every machine."""

    def __init__(self, spec: FleetSpec, place: str = "fleet") -> None:
        self.spec = spec
        layouts: dict[str, tuple[NodeType, Layout]] = {}
        self.nodes: list[SimulatedNode] = []
        """In the order of the file; after each node those that its DPUs are."""
        numbers: dict[str, int] = {}
        for group in spec.nodes:
            if group.type not in layouts:
                layouts[group.type] = _lay_out(spec.types, group.type, place)
            node_type, where = layouts[group.type]
            first = numbers.get(group.prefix, 1)
            numbers[group.prefix] = first + group.count
            for number in range(first, first + group.count):
                hardware = Hardware(f"{group.prefix}-{number:04d}", spec.seed, group.type, node_type, where, group.boot)
                node = SimulatedNode(hardware, group.profile)
                self.nodes += [node, *_dpu_nodes(node, group.boot)]
        self._by_name = {node.name: node for node in self.nodes}
        self._plan_faults(place)

    @classmethod
    def from_file(cls, path: Path) -> "Fleet":
        """Read a fleet file. Raises ConfigError that names file, key and what was probably meant."""
        return cls(read_fleet(path), str(path))

    @classmethod
    def from_text(cls, text: str, place: str = "fleet") -> "Fleet":
        """Read the text of a fleet file; `place` names it in errors. Raises ConfigError."""
        return cls(parse_fleet(text, place), place)

    def node(self, name: str) -> SimulatedNode:
        """Give a node by name or id. Raises ConfigError with names that are near."""
        node = self._by_name.get(name) or next((each for each in self.nodes if each.id == name), None)
        if node is None:
            raise ConfigError(f"no node {name!r} in the fleet.{near_names(name, list(self._by_name))}")
        return node

    def _plan_faults(self, place: str) -> None:
        mistakes = []
        for index, fault in enumerate(self.spec.faults):
            try:
                self.node(fault.node).inject(fault)
            except ConfigError as error:
                mistakes.append(f"{place}: faults[{index}]: {error}")
        if mistakes:
            raise ConfigError(*mistakes)


def _dpu_nodes(node: SimulatedNode, boot: int) -> Iterator[SimulatedNode]:
    """Make the nodes that the DPUs of a node are."""
    host = node.hardware
    for index in range(host.type.dpu.count):
        node_type = dpu_machine(host.type.dpu.model)
        hardware = Hardware(
            host.dpu_name(index), host.seed, host.dpu_model.name, node_type, _dpu_layout(host.type.dpu.model), boot
        )
        hardware.host, hardware.host_index = host, index
        yield SimulatedNode(hardware, node.profile, node)


@cache
def _dpu_layout(model: str) -> Layout:
    return layout(dpu_machine(model))


def default_fleet(count: int = 1, seed: int = 1, *, node_type: str = "hgx-h100", profile: Profile = "full") -> Fleet:
    """Make a fleet of `count` nodes `sim-0001` and up of a built-in type. Raises ConfigError on an unknown type."""
    return Fleet(FleetSpec(seed=seed, nodes=(NodeGroup(count=count, type=node_type, profile=profile),)))


def _lay_out(types: Mapping[str, NodeType], name: str, place: str) -> tuple[NodeType, Layout]:
    node_type = types.get(name) or NODE_TYPES.get(name)
    if node_type is None:
        names = sorted({*types, *NODE_TYPES})
        raise ConfigError(f"{place}: no type {name!r}.{near_names(name, names) or ' Known: ' + ', '.join(names) + '.'}")
    try:
        return node_type, layout(node_type)
    except ConfigError as error:
        raise ConfigError(*(f"{place}: type {name!r}: {line}" for line in error.places)) from None
