"""Placement's bars (DESIGN part 9): `python -m tests.bench.bench_placement [--quick]`.

A fleet of 8-GPU nodes, half of them behind NVSwitch and half in a cube mesh, each with a random part of its GPUs held
by claims, so that every occupancy occurs. Requests for 1, 2, 4 and 8 GPUs are granted in turn and now and then
released, so that nodes change between requests as they do at work; "no" asks for 8 GPUs of which no node has so many
left. Figures are CPU time of this process, the whole decision included: index kept up to date, choice, the ledger's own
checks, entries made and applied; not the disk. The garbage collector is set as the server sets it. Peer: OpenStack
Placement 16 on PostgreSQL, tuned as documented, 1,000 hosts of 8 GPUs (research, part 3.2).
"""

import argparse
import gc
import random
import time
from collections.abc import Callable
from contextlib import suppress

from aggregator.ledger import claims
from aggregator.ledger.apply import apply
from aggregator.ledger.asks import Ask, Pick
from aggregator.ledger.entries import Entry, NodeRun, NodeSeen, VariantSet
from aggregator.ledger.facts import Sighting, observe
from aggregator.ledger.model import Variant
from aggregator.ledger.state import State
from aggregator.placement.placing import NotPlacedError, Placer
from aggregator.placement.request import Need, Request
from collectors.simulated.models import CUBE_MESH
from schemas.device import DeviceKind, Document, Part, Slot
from tests.bench.measuring import Line, show

PEER = {1: 0.41, 2: 0.59, 4: 0.88, 8: 1.39}
"""Seconds."""
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

    def _node(self, node: str, *, mesh: bool) -> None:
        self.write([NodeSeen(node, node, {"vcpus": 128}), NodeRun(node, node, "e", "b")])
        for number in range(8):
            self.write(observe(self.state, Sighting(node, node, "bench", _gpu(node, number, mesh), "b"), _free))
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


def measure(fleet: Fleet, nodes: int, times: int) -> list[Line]:
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
        peer = PEER[count] * 1e3 if nodes == 1000 else None
        lines += [
            Line(f"{nodes} nodes: {count} GPUs p50", grants[count], "ms", p50, peer, "Placement" if peer else ""),
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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="1,000 nodes alone, and few requests")
    options = parser.parse_args()
    lines: list[Line] = []
    for nodes, times in ((1_000, 60),) if options.quick else ((1_000, 400), (10_000, 100)):
        began = time.process_time()
        fleet = Fleet(nodes)
        made = time.process_time() - began
        began = time.process_time()
        fleet.placer.index(fleet.state)
        indexed = time.process_time() - began
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        lines.append(Line(f"{nodes} nodes: index from nothing", indexed, "s", note=f"fleet made in {made:.1f} s"))
        lines += measure(fleet, nodes, times)
    lines += gangs()
    show(lines)


if __name__ == "__main__":
    main()
