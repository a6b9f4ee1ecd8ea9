"""Placement's bars (DESIGN part 9): `python -m tests.bench.bench_placement [--quick] [--peers]`.

A fleet of 8-GPU nodes, half of them behind NVSwitch and half in a cube mesh, each with a random part of its GPUs held
by claims, so that every occupancy occurs. Requests for 1, 2, 4 and 8 GPUs are granted in turn and now and then
released, so that nodes change between requests as they do at work; "no" asks for 8 GPUs of which no node has so many
left. Figures are CPU time of this process, the whole decision included: index kept up to date, choice, the ledger's own
checks, entries made and applied; not the disk. The garbage collector is set as the server sets it.

A second fleet has drives and ports beside its GPUs: requests for three kinds at once, near each other, each asked for
the first time, with nothing known of it. On a third, GPUs are divided.

Peers, with `--peers` in the same run: OpenStack Placement 12 and 16 on PostgreSQL, tuned as documented, 1,000 hosts of
8 GPUs (`bench_placement_peers`); what they take is given as time, of which `CPU` is the part of a machine without other
work.
"""

import argparse
import gc
import random
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import msgspec

from aggregator.ledger import claims
from aggregator.ledger.apply import apply
from aggregator.ledger.asks import Ask, Pick
from aggregator.ledger.entries import Entry, NodeRun, NodeSeen, VariantSet
from aggregator.ledger.facts import Sighting, observe
from aggregator.ledger.model import Variant
from aggregator.ledger.state import State
from aggregator.placement.placing import NotPlacedError, Placer
from aggregator.placement.request import Affinities, Affinity, Need, Request
from collectors.simulated.models import CUBE_MESH
from schemas.device import DeviceKind, Document, Part, Slot, Value
from tests.bench.bench_placement_peers import Answered, figures
from tests.bench.measuring import Line, show

HELD = 0.55
"""Share of the GPUs that are in use."""
FREE = 0.05
"""Share of the nodes that are all free."""


class Fleet:
    """A ledger without a disk, full of nodes."""

    def __init__(self, nodes: int, seed: int = 1) -> None:
        self.state = State()
        self.random = random.Random(seed)
        self.placer = Placer()
        self.claims = 0
        self.write([VariantSet(Variant("H100", DeviceKind.GPU, "10de", "2330"))])
        for number in range(nodes):
            self._node(f"node-{number:05d}", mesh=number % 2 == 1)

    def write(self, entries: list[Entry]) -> None:
        """Apply entries."""
        for entry in entries:
            apply(self.state, self.state.sequence + 1, self.state.sequence, entry)

    def documents(self, node: str, *, mesh: bool) -> list[Document]:
        """Give what a node has."""
        return [_gpu(node, number, mesh) for number in range(8)]

    def _node(self, node: str, *, mesh: bool) -> None:
        self.write([NodeSeen(node, node, {"vcpus": 128}), NodeRun(node, node, "e", "b")])
        for document in self.documents(node, mesh=mesh):
            self.write(observe(self.state, Sighting(node, node, "bench", document, "b"), _free))
        devices = [device.id for device in self.state.devices_of(node)]
        held = [name for name in devices if self.random.random() < HELD]
        if held and self.random.random() > FREE:
            self.grant(Ask("somebody", "vm", [Pick(name) for name in held]))

    def grant(self, ask: Ask) -> str:
        """Grant by name."""
        self.claims += 1
        entries, claim = claims.grant(self.state, ask, f"c{self.claims}")
        self.write(entries)
        return claim

    def place(self, request: Request) -> str:
        """Place and grant in one decision."""
        self.claims += 1
        entries, claim = self.placer.grant(self.state, request, f"c{self.claims}")
        self.write(entries)
        return claim

    def release(self, claim: str) -> None:
        """Give a claim back that no node was told of."""
        self.write(list(claims.release(self.state, claim, who="bench")[0]))


class Mixed(Fleet):
    """Nodes with eight drives and eight ports beside their GPUs, two of each below a root."""

    def documents(self, node: str, *, mesh: bool) -> list[Document]:
        """Give what a node has."""
        kinds = {"nvme": (DeviceKind.NVME, "1e0f", "0007"), "nic": (DeviceKind.NIC, "15b3", "1021")}
        more = [_beside(node, word, *ids, number) for word, ids in kinds.items() for number in range(8)]
        return [*super().documents(node, mesh=mesh), *more]


class Divided(Fleet):
    """Nodes whose GPUs can be divided."""

    def documents(self, node: str, *, mesh: bool) -> list[Document]:
        """Give what a node has."""
        told: dict[str, Value] = {"mig_placements": PLACEMENTS}
        found = super().documents(node, mesh=mesh)
        return [msgspec.structs.replace(one, capabilities=one.capabilities | told) for one in found]


PLACEMENTS = [
    "1g.10gb:{0,1,2,3,4,5,6}:1",
    "1g.20gb:{0,2,4,6}:2",
    "2g.20gb:{0,2,4}:2",
    "3g.40gb:{0,4}:4",
    "4g.40gb:{0}:4",
    "7g.80gb:{0}:8",
]


def _beside(node: str, word: str, kind: DeviceKind, vendor: str, device: str, number: int) -> Document:
    address = f"0000:{64 + 32 * (word == 'nic') + number:02x}:00.0"
    told: dict[str, Value] = {"pci_vendor_id": vendor, "pci_device_id": device, "iommu_group": int(address[5:7], 16)}
    told |= {"numa_node": number // 4, "pcie_root": f"0000:0{number // 2}:00.0"}
    part = Part(word, word, serial=f"{node}-{word}-{number}")
    slot = Slot(path=f"{word}/{number}", address=address)
    return Document(f"{word}:{number}", kind, [f"pci:{address}"], slot=slot, part=part, capabilities=told)


def _free(*_: object) -> str:
    return "attested"


def _gpu(node: str, number: int, mesh: bool) -> Document:
    address = f"0000:{number + 1:02x}:00.0"
    links = CUBE_MESH[number] if mesh else [18 * (peer != number) for peer in range(8)]
    return Document(
        f"gpu:{number}",
        DeviceKind.GPU,
        [f"pci:{address}"],
        slot=Slot(path=f"p/{number}", address=address),
        part=Part("NVIDIA", "H100", uuid=f"{node}-{number}"),
        capabilities={
            "pci_vendor_id": "10de",
            "pci_device_id": "2330",
            "iommu_group": number,
            "numa_node": number // 4,
            "pcie_root": f"0000:0{number // 2}:00.0",
            "nvlink_peers": [f"gpu:{peer}={count}" for peer, count in enumerate(links) if count],
        },
    )


def request(count: int, **more: object) -> Request:
    """Ask for GPUs."""
    return Request("t1", "vm", needs=[Need("H100", count=count)], **more)  # type: ignore[arg-type]


def timed(times: int, work: Callable[[], object]) -> list[float]:
    """Give the CPU milliseconds of each time, sorted."""
    spent = []
    gc.collect()
    for _ in range(times):
        began = time.process_time_ns()
        work()
        spent.append((time.process_time_ns() - began) / 1e6)
    return sorted(spent)


def quantile(spent: list[float], share: float) -> float:
    """Give a quantile of sorted values."""
    return spent[min(len(spent) - 1, int(share * len(spent)))]


class Asking:
    """Grants, and releases the oldest of more than a few."""

    def __init__(self, fleet: Fleet, wanted: Request) -> None:
        self.fleet, self.wanted = fleet, wanted
        self.open: list[str] = []

    def __call__(self) -> None:
        self.open.append(self.fleet.place(self.wanted))

    def rest(self) -> None:
        """Leave room."""
        while len(self.open) > 20:
            self.fleet.release(self.open.pop(0))

    def end(self) -> None:
        """Give all back."""
        for claim in self.open:
            self.fleet.release(claim)


Peers = dict[str, dict[int, Answered | None]]
"""By version what Placement answered, by GPUs of one host."""


def measure(fleet: Fleet, nodes: int, times: int, peers: Peers) -> list[Line]:
    """Measure one fleet."""
    lines = []
    p50, p99 = (5.0, 20.0) if nodes <= 1000 else (30.0, 30.0)
    grants: dict[int, float] = {}
    for count in (1, 2, 4, 8):
        asking = Asking(fleet, request(count))
        spent: list[float] = []
        for _ in range(times):
            spent += timed_once(asking)
            asking.rest()
        asking.end()
        spent.sort()
        grants[count] = quantile(spent, 0.5)
        lines += [
            _beside_peers(
                f"{nodes} nodes: {count} GPUs p50", grants[count], p50, peers if nodes == 1000 else {}, count
            ),
            Line(f"{nodes} nodes: {count} GPUs p99", quantile(spent, 0.99), "ms", p99, note=f"worst {spent[-1]:.1f}"),
        ]
    lines += refusals(fleet, nodes, times, grants[8])
    gang = Request("t1", "job", needs=[Need("H100", count=2)], instances=64)
    asking = Asking(fleet, gang)
    spent = []
    for _ in range(3):
        spent += timed_once(asking)
        asking.end()
        asking.open = []
    lines.append(Line(f"{nodes} nodes: gang of 64 x 2 GPUs", quantile(sorted(spent), 0.5), "ms", 100.0))
    return lines


def _beside_peers(what: str, ours: float, bar: float, peers: Peers, count: int) -> Line:
    """Give a line with the newer peer's time, and what all said."""
    said = {name: found.get(count) for name, found in peers.items()}
    words = [f"{name} {f'{one.ms:.0f} ms, CPU {one.cpu_ms:.0f}' if one else 'no answer'}" for name, one in said.items()]
    name, newest = list(said.items())[-1] if said else ("", None)
    return Line(what, ours, "ms", bar, newest.ms if newest else None, name if newest else "", note="; ".join(words))


def three_kinds(nodes: int = 1000) -> list[Line]:
    """Ask for three kinds at once, near each other, for the first time each."""
    fleet = Mixed(nodes)
    fleet.write([VariantSet(Variant("CX7", DeviceKind.NIC, "15b3", "1021"))])
    fleet.write([VariantSet(Variant("NVMe", DeviceKind.NVME, "1e0f", "0007"))])
    fleet.placer.index(fleet.state)
    gc.collect()
    gc.freeze()
    spent: list[float] = []
    for gpus, ports, drives in ((1, 1, 1), (2, 2, 2), (4, 2, 4), (4, 4, 4), (8, 8, 8), (3, 1, 2), (2, 1, 4), (5, 2, 3)):
        needs = [Need("H100", count=gpus), Need("CX7", count=ports), Need("NVMe", count=drives)]
        for root in Affinity:
            wanted = Request("t1", "vm", needs=needs, affinity=Affinities(pcie_root=root))
            spent += timed_once(partial(_tried, fleet, wanted))
    spent.sort()
    return [
        Line(f"{nodes} nodes: first request for three kinds p50", quantile(spent, 0.5), "ms", 20.0),
        Line(f"{nodes} nodes: first request for three kinds, worst", spent[-1], "ms", 20.0),
    ]


def _tried(fleet: Fleet, wanted: Request) -> None:
    with suppress(NotPlacedError):
        fleet.placer.place(fleet.state, wanted)


def partitions(nodes: int = 1000, times: int = 60) -> list[Line]:
    """Ask for partitions to be made."""
    fleet = Divided(nodes)
    fleet.placer.index(fleet.state)
    gc.collect()
    gc.freeze()
    spent: list[float] = []
    needs = [Need("H100", profile="3g.40gb"), Need("H100", profile="1g.10gb", count=3)]
    for wanted in (needs[:1], needs[1:], needs):
        asking = Asking(fleet, Request("t1", "job", needs=wanted))
        asking()
        for _ in range(times):
            spent += timed_once(asking)
            asking.rest()
        asking.end()
    spent.sort()
    return [
        Line(f"{nodes} nodes: 1 to 4 partitions p50", quantile(spent, 0.5), "ms", 5.0),
        Line(f"{nodes} nodes: 1 to 4 partitions p99", quantile(spent, 0.99), "ms", 20.0),
    ]


def timed_once(work: Callable[[], object]) -> list[float]:
    """Time one call."""
    began = time.process_time_ns()
    work()
    return [(time.process_time_ns() - began) / 1e6]


def refusals(fleet: Fleet, nodes: int, times: int, grant: float) -> list[Line]:
    """Take every node that is all free away, and ask for one."""
    asking = Asking(fleet, request(8))
    with suppress(NotPlacedError):
        while True:
            asking()
    refused: list[NotPlacedError] = []

    def no() -> None:
        try:
            fleet.placer.place(fleet.state, request(8))
        except NotPlacedError as error:
            refused.append(error)

    spent = timed(times, no)
    no_ms = quantile(spent, 0.5)
    explained = timed(max(3, times // 20), lambda: fleet.placer.explain(fleet.state, request(8), refused[0].refusal))
    asking.end()
    p50, p99 = (5.0, 20.0) if nodes <= 1000 else (30.0, 30.0)
    return [
        Line(f'{nodes} nodes: "no" p50', no_ms, "ms", p50, note="Placement untuned: no answer in 300 s"),
        Line(f'{nodes} nodes: "no" p99', quantile(spent, 0.99), "ms", p99),
        Line(f"{nodes} nodes: refusal with counts / grant", no_ms / grant, "x", 2.0),
        Line(f"{nodes} nodes: full explanation / grant", quantile(explained, 0.5) / grant, "x", 10.0),
    ]


def gangs(nodes: int = 1000) -> list[Line]:
    """A gang over nodes that are all free."""
    global HELD  # noqa: PLW0603 - one fleet of its own
    before, HELD = HELD, 0.0
    fleet = Fleet(nodes)
    HELD = before
    wanted = Request("t1", "job", needs=[Need("H100", count=8)], instances=64)
    asking = Asking(fleet, wanted)
    spent = []
    asking()
    for _ in range(5):
        asking.end()
        asking.open = []
        spent += timed_once(asking)
    return [Line(f"{nodes} nodes: gang of 64 x 8 GPUs", quantile(sorted(spent), 0.5), "ms", 100.0)]


def lines(*, quick: bool = False, peers: bool = True) -> list[Line]:
    """Give the lines of the table."""
    theirs = {name: one.candidates for name, one in figures().items()} if peers else {}
    collecting = gc.get_threshold()
    try:
        return _ours(theirs, quick=quick)
    finally:
        gc.set_threshold(*collecting)
        gc.unfreeze()


def _ours(theirs: Peers, *, quick: bool) -> list[Line]:
    found: list[Line] = []
    for nodes, times in ((1_000, 60),) if quick else ((1_000, 400), (10_000, 100)):
        began = time.process_time()
        fleet = Fleet(nodes)
        made = time.process_time() - began
        began = time.process_time()
        fleet.placer.index(fleet.state)
        indexed = time.process_time() - began
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        found.append(Line(f"{nodes} nodes: index from nothing", indexed, "s", note=f"fleet made in {made:.1f} s"))
        found += measure(fleet, nodes, times, theirs)
    return [*found, *gangs(), *three_kinds(), *partitions()]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1,000 nodes alone, and few requests")
    parser.add_argument("--peers", action="store_true", help="OpenStack Placement 12 and 16 in the same run: 3 minutes")
    options = parser.parse_args()
    show(lines(quick=options.quick, peers=options.peers))


if __name__ == "__main__":
    main()
