"""The traffic of a node's network ports and virtual functions, in columns.

What a function sends or receives crosses its port's wire, together with what the host itself sends, so a port never
counts less than its functions. A function that is made anew counts from 0; its port goes on.
"""

from collections.abc import Iterable
from math import sin
from operator import add
from typing import Any, Final

import msgspec

from collectors.simulated.effects import Effects
from collectors.simulated.identity import number

PACKET_BYTES: Final = 1100
"""Mean size of a packet."""


class NetPlan(msgspec.Struct, frozen=True):
    """What does not change."""

    family: tuple[int, ...]
    """For each port how many virtual functions it has; the functions are counted over all ports."""
    receive_rate: tuple[int, ...]
    """For each function, mean bytes a second."""
    transmit_rate: tuple[int, ...]
    host_rate: int
    """The host's own traffic on each port, bytes a second and direction."""
    phase: float
    link_bytes_per_second: int


class NetState(msgspec.Struct, frozen=True):
    """What changes. Lists are never changed in place."""

    vf_receive: list[int]
    vf_transmit: list[int]
    port_receive: list[int]
    port_transmit: list[int]
    link_downs: list[int]


def plan_net(family: tuple[int, ...], link_bytes_per_second: int, seed: int, node: str) -> NetPlan:
    """Make the network of one node. All functions together use at most about a third of the links' rate."""
    functions = sum(family)
    fair = link_bytes_per_second * max(len(family), 1) // max(functions, 1) // 8
    return NetPlan(
        family=family,
        receive_rate=tuple(fair // 2 + number(seed, node, "rx", i) % max(fair, 1) for i in range(functions)),
        transmit_rate=tuple(fair // 2 + number(seed, node, "tx", i) % max(fair, 1) for i in range(functions)),
        host_rate=2_000_000 + number(seed, node, "host") % 3_000_000,
        phase=number(seed, node, "phase") % 628 / 100,
        link_bytes_per_second=link_bytes_per_second,
    )


def fresh_net(plan: NetPlan) -> NetState:
    """Give the state after boot: all counters 0."""
    functions, ports = [0] * len(plan.receive_rate), [0] * len(plan.family)
    return NetState(functions, functions, ports, ports, ports)


def forget_vf(state: NetState, vf: int) -> NetState:
    """Give the state after a virtual function was made anew: it counts from 0."""
    receive, transmit = state.vf_receive.copy(), state.vf_transmit.copy()
    receive[vf] = transmit[vf] = 0
    return msgspec.structs.replace(state, vf_receive=receive, vf_transmit=transmit)


def drop_link(state: NetState, port: int) -> NetState:
    """Give the state after a port lost its carrier."""
    downs = state.link_downs.copy()
    downs[port] += 1
    return msgspec.structs.replace(state, link_downs=downs)


def advance_net(state: NetState, plan: NetPlan, effects: Effects, now_ns: int, dt_ns: int) -> NetState:
    """Give the state `dt_ns` nanoseconds later, at `now_ns`. Depends on nothing but its arguments."""
    milli = dt_ns // 1_000_000
    load = int(1000 * (1.0 + 0.6 * sin(now_ns / 1e9 / 97.0 + plan.phase))) * milli
    receive = [rate * load // 1_000_000 for rate in plan.receive_rate]
    transmit = [rate * load // 1_000_000 for rate in plan.transmit_rate]
    if effects.vfs_missing or effects.ports_down:
        for vf in _still(plan, effects):
            receive[vf] = transmit[vf] = 0
    host = [0 if port in effects.ports_down else plan.host_rate * milli // 1000 for port in range(len(plan.family))]
    return NetState(
        vf_receive=list(map(add, state.vf_receive, receive)),
        vf_transmit=list(map(add, state.vf_transmit, transmit)),
        port_receive=_wire(state.port_receive, plan.family, host, receive),
        port_transmit=_wire(state.port_transmit, plan.family, host, transmit),
        link_downs=state.link_downs,
    )


def vf_columns(state: NetState, vlans: list[int], up: list[bool]) -> dict[str, list[Any]]:
    """Give the columns of the measurement `vf`."""
    receive = [amount // PACKET_BYTES for amount in state.vf_receive]
    nothing = [0] * len(receive)
    return {
        "receive_bytes_total": state.vf_receive,
        "transmit_bytes_total": state.vf_transmit,
        "receive_packets_total": receive,
        "transmit_packets_total": [amount // PACKET_BYTES for amount in state.vf_transmit],
        "receive_multicast_total": [packets // 5000 for packets in receive],
        "receive_broadcast_total": [packets // 20000 for packets in receive],
        "receive_dropped_total": [packets // 900_000 for packets in receive],
        "transmit_dropped_total": nothing,
        "vlan": vlans,
        "link_up": up,
    }


def port_columns(state: NetState, plan: NetPlan, effects: Effects) -> dict[str, list[Any]]:
    """Give the columns of the measurement `nic`."""
    ports = range(len(plan.family))
    up = [port not in effects.ports_down for port in ports]
    gone = [0] * len(plan.family)
    for vf in effects.vfs_missing:
        gone[port_of(plan, vf)] += 1
    return {
        "link_up": up,
        "link_downs_total": list(state.link_downs),
        "receive_bytes_total": list(state.port_receive),
        "transmit_bytes_total": list(state.port_transmit),
        "receive_packets_total": [amount // PACKET_BYTES for amount in state.port_receive],
        "transmit_packets_total": [amount // PACKET_BYTES for amount in state.port_transmit],
        "receive_dropped_total": [amount // PACKET_BYTES // 800_000 for amount in state.port_receive],
        "symbol_errors_total": [downs * 17 for downs in state.link_downs],
        "link_rate_bytes_per_second": [plan.link_bytes_per_second if carrier else None for carrier in up],
        "vfs": [size - less for size, less in zip(plan.family, gone, strict=True)],
    }


def port_of(plan: NetPlan, vf: int) -> int:
    """Give the port of a virtual function."""
    for port, size in enumerate(plan.family):
        if vf < size:
            return port
        vf -= size
    raise IndexError(vf)


def _still(plan: NetPlan, effects: Effects) -> Iterable[int]:
    """Yield the functions through which nothing goes."""
    yield from effects.vfs_missing
    first = 0
    for port, size in enumerate(plan.family):
        if port in effects.ports_down:
            yield from range(first, first + size)
        first += size


def _wire(had: list[int], family: tuple[int, ...], host: list[int], functions: list[int]) -> list[int]:
    """Add to each port's counter what the host and its functions moved."""
    totals, first = [], 0
    for amount, size, own in zip(had, family, host, strict=True):
        totals.append(amount + own + sum(functions[first : first + size]))
        first += size
    return totals
