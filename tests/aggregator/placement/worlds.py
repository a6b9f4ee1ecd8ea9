"""Small fleets for tests of placement, described by what matters to it."""

from collections.abc import Sequence
from typing import Any

import msgspec

from aggregator.ledger import asks, claims, cleaning
from aggregator.ledger.asks import Ask, Pick
from aggregator.ledger.entries import NodeOrdered, NodeReached, NodeRun, NodeSeen, Tainted, VariantSet
from aggregator.ledger.facts import Sighting, observe
from aggregator.ledger.model import Device, Taint, Variant
from aggregator.ledger.words import Effect, Lifecycle, Mode
from aggregator.placement.placing import Placer
from aggregator.placement.request import Need, Request
from collectors.simulated.documents import describe
from collectors.simulated.effects import Effects
from collectors.simulated.fleet import default_fleet
from schemas.device import DeviceKind
from tests.aggregator.ledger.worlds import Book, begin, document

IDS = {"V100": ("10de", "1db4"), "H100": ("10de", "2330"), "CX7": ("15b3", "1021"), "VF": ("15b3", "101e")}
KINDS = {"V100": DeviceKind.GPU, "H100": DeviceKind.GPU, "CX7": DeviceKind.NIC, "VF": DeviceKind.VF}
SIMULATED_VARIANTS = (
    Variant("H100", DeviceKind.GPU, "10de", "2330"),
    Variant("V100", DeviceKind.GPU, "10de", "1db4"),
    Variant("V100-SXM2", DeviceKind.GPU, "10de", "1db1"),
    Variant("CX7", DeviceKind.NIC, "15b3", "1021"),
    Variant("VF", DeviceKind.VF, "15b3", "101e"),
    Variant("NVMe", DeviceKind.NVME, "1e0f", "0007"),
)


class Spec(msgspec.Struct, frozen=True):
    """One device of a world."""

    variant: str
    group: int | None = None
    numa: int | None = None
    root: int | None = None
    parent: int = -1
    """Number of its PF within the node."""
    lifecycle: str = "free"
    """`free`, `dirty`, `foreign`, or `held:<tenant>:<mode>`."""
    taint: str = ""
    links: dict[int, int] = {}
    partitions: list[str] = []
    """Of the NVSwitch."""


def name_variants(book: Book) -> None:
    """Set the variants of `IDS`."""
    book.write([VariantSet(Variant(name, KINDS[name], *ids)) for name, ids in IDS.items()])


def build(book: Book, node: str, specs: Sequence[Spec], **totals: int) -> list[Device]:
    """Make a node; give its devices in the order of `specs`."""
    begin(book, node, **totals)
    found = []
    for number, spec in enumerate(specs):
        more = _told(spec)
        parent = f"pci:{address(spec.parent)}" if spec.parent >= 0 else ""
        seen = book.see(document(KINDS[spec.variant], address(number), group=spec.group, parent=parent, **more), node)
        assert seen is not None
        found.append(seen)
    for number, spec in enumerate(specs):
        device = book.state.devices[found[number].id]
        if device.lifecycle is Lifecycle.DIRTY and spec.lifecycle != "dirty":
            book.decide(cleaning.attest(book.state, device.id, "op", "new"))
        if spec.taint:
            book.write([Tainted(node, device.id, Taint(spec.taint, Effect.NO_SCHEDULE, "seen", "test", 1))])
    for number, spec in enumerate(specs):
        if spec.lifecycle.startswith("held:"):
            _, tenant, mode = spec.lifecycle.split(":")
            ask = Ask(tenant, "vm", [Pick(found[number].id, Mode(mode))])
            if not list(asks.objections(book.state, ask)):  # as far as the relations allow
                book.decide(claims.grant(book.state, ask, f"held-{found[number].id}"))
    return [book.state.devices[device.id] for device in found]


def _told(spec: Spec) -> dict[str, Any]:
    vendor, model = IDS[spec.variant]
    more: dict[str, Any] = {"pci_vendor_id": vendor, "pci_device_id": model}
    if spec.numa is not None:
        more["numa_node"] = spec.numa
    if spec.root is not None:
        more["pcie_root"] = f"0000:00:{spec.root:02x}.0"
    if spec.links:
        more["nvlink_peers"] = [f"pci:{address(peer)}={links}" for peer, links in spec.links.items()]
    if spec.partitions:
        more["nvswitch_partitions"] = spec.partitions
    if spec.lifecycle == "foreign":
        more["vfio_in_use"] = True
    return more


def address(number: int) -> str:
    """Give the address of a device of a world."""
    return f"0000:{number + 1:02x}:00.0"


def simulated(kind: str, count: int = 1, book: Book | None = None) -> Book:
    """Make a ledger of simulated nodes of a built-in type, everything clean."""
    found = book or Book()
    found.write([VariantSet(variant) for variant in SIMULATED_VARIANTS])
    for each in default_fleet(count, node_type=kind).nodes:
        node = each.id
        found.write([NodeSeen(node, each.name), NodeRun(node, node, f"epoch-{node}", "b1")])
        for one in describe(each.hardware, Effects()):
            found.write(observe(found.state, Sighting(node, node, "simulated", one, "b1"), lambda *_: "attested"))
    return found


def asked(*needs: Need, tenant: str = "t1", **more: Any) -> Request:
    """Make a request."""
    return Request(tenant, "vm", needs=list(needs), **more)


def grant(book: Book, placer: Placer, request: Request, claim: str = "c1") -> list[str]:
    """Place and grant; give the devices."""
    book.decide(placer.grant(book.state, request, claim))
    return [held.device for held in book.state.claims[claim].devices]


def cordon(book: Book, node: str) -> None:
    """Close a node."""
    book.write([NodeOrdered(node, cordoned="broken fan")])


def silence(book: Book, node: str) -> None:
    """Let a node fall silent."""
    book.write([NodeReached(node, live=False)])
