"""What OpenStack Placement and ours are both asked, they answer alike, host by host, while hosts fill and empty.

Both know one fleet. A host is one provider of Placement: amounts are its inventories, with ratios of over-commit; its
GPUs are `PGPU`, those that are not clean reserved, as Nova does with devices that are used once; variant and rack are
traits, and so is that a host is closed. Whatever ours places is granted by ours and allocated at Placement.
"""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregator.ledger import claims
from aggregator.ledger.entries import NodeOrdered, NodeSeen, RatioSet
from aggregator.placement.placing import NotPlacedError, Placer
from aggregator.placement.request import Need, Request
from tests.aggregator.ledger.worlds import Book
from tests.aggregator.placement.worlds import Spec, build, name_variants
from tests.services.placement import Client, placement
from tests.services.postgresql import postgresql

CLASSES: Final = {"vcpus": ("VCPU", 1), "memory_bytes": ("MEMORY_MB", 1 << 20), "disk_bytes": ("DISK_GB", 1 << 30)}
"""Amount -> its resource class, and how much of ours one unit of it is."""
RACKS: Final = ("A", "B")
CLOSED: Final = "COMPUTE_STATUS_DISABLED"

_numbers = itertools.count()


class Host(msgspec.Struct, frozen=True):
    """A machine; amounts in units of their resource class."""

    amounts: dict[str, int]
    variant: str
    gpus: int
    dirty: int
    rack: str
    closed: bool


class Wish(msgspec.Struct, frozen=True):
    """What is asked for."""

    amounts: dict[str, int]
    gpus: int
    variants: tuple[str, ...]
    """Any of them; () when it does not matter."""
    rack: str
    not_rack: str
    host: int | None
    """Number of the only host that will do; one that is not there is none of them."""


class Leave(msgspec.Struct, frozen=True):
    """One of those who were granted something goes: the one of this number, counted round and round."""

    which: int


def _amounts(least: int, most: int) -> st.SearchStrategy[dict[str, int]]:
    return st.fixed_dictionaries({}, optional=dict.fromkeys(CLASSES, st.integers(least, most)))


@st.composite
def hosts(draw: st.DrawFn) -> Host:
    """A host that has room for some wishes, and seldom lacks an amount altogether."""
    amounts = {"vcpus": 8, "memory_bytes": 8, "disk_bytes": 8} | draw(_amounts(2, 8))
    if draw(st.integers(0, 7)) == 7:
        del amounts["disk_bytes"]
    return Host(
        amounts,
        draw(st.sampled_from(["V100", "H100"])),
        gpus := draw(st.sampled_from([4, 3, 2, 0])),
        min(gpus, draw(st.sampled_from([0, 0, 1]))),
        draw(st.sampled_from(RACKS)),
        draw(st.integers(0, 7)) == 7,
    )


@st.composite
def wishes(draw: st.DrawFn) -> Wish:
    gpus = draw(st.sampled_from([1, 2, 1, 3, 0, 4]))
    amounts = draw(_amounts(1, 4))
    if not gpus and not amounts:
        amounts = {"vcpus": 1}
    variants = draw(st.sampled_from([(), ("V100",), ("H100",), ("H100", "V100")])) if gpus else ()
    rack, not_rack = draw(st.sampled_from([("", "")] * 3 + [("A", ""), ("", "A"), ("", "B")]))
    return Wish(amounts, gpus, variants, rack, not_rack, draw(st.sampled_from([None] * 7 + [0, 1, 9])))


@st.composite
def steps(draw: st.DrawFn) -> Wish | Leave:
    """What happens next: mostly a wish."""
    return Leave(draw(st.integers(0, 9))) if draw(st.integers(0, 5)) == 5 else draw(wishes())


fleets = st.lists(hosts(), min_size=3, max_size=5)
ratios = st.sampled_from([{}, {"vcpus": 2.0}, {"vcpus": 1.5, "memory_bytes": 0.5}])


class Ours:
    """The fleet in the ledger."""

    def __init__(self, fleet: Sequence[Host], ratios: dict[str, float]) -> None:
        self.book = Book()
        self.placer = Placer()
        name_variants(self.book)
        self.book.write([RatioSet(amount, ratio) for amount, ratio in ratios.items()])
        for number, host in enumerate(fleet):
            gpus = [Spec(host.variant, lifecycle="dirty" if at < host.dirty else "free") for at in range(host.gpus)]
            totals = {amount: units * CLASSES[amount][1] for amount, units in host.amounts.items()}
            build(self.book, f"n{number}", gpus, **totals)
            self.book.write([NodeSeen(f"n{number}", labels={"rack": host.rack})])
            if host.closed:
                self.book.write([NodeOrdered(f"n{number}", cordoned="broken fan")])

    def request(self, wish: Wish, only: str = "") -> Request:
        """Say a wish in our words."""
        terms = [f"node.id == '{only}'"] if only else []
        terms += [f"node.id == 'n{wish.host}'"] if wish.host is not None else []
        terms += [f"node.labels.rack == '{wish.rack}'"] if wish.rack else []
        terms += [f"node.labels.rack != '{wish.not_rack}'"] if wish.not_rack else []
        if len(wish.variants) == 1:
            needs = [Need(variant=wish.variants[0], count=wish.gpus)]
        else:  # all there are, so that any will do
            needs = [Need(where="device.kind == 'gpu'", count=wish.gpus)] if wish.gpus else []
        amounts = {amount: units * CLASSES[amount][1] for amount, units in wish.amounts.items()}
        return Request("t1", "vm", needs=needs, amounts=amounts, where=" && ".join(terms))

    def place(self, request: Request) -> str | None:
        """Give where a request would go."""
        try:
            return self.placer.dry_run(self.book.state, request).instances[0].node
        except NotPlacedError:
            return None

    def feasible(self, wish: Wish) -> set[str]:
        """Give the nodes that a wish fits, each asked about by itself."""
        return {node for node in self.book.state.nodes if self.place(self.request(wish, node)) is not None}


class Theirs:
    """The fleet at Placement; a trait of its own keeps it apart from those before it."""

    def __init__(self, client: Client, fleet: Sequence[Host], ratios: dict[str, float]) -> None:
        self.client = client
        run = next(_numbers)
        self.fleet = f"CUSTOM_FLEET_{run}"
        client.name_traits([self.fleet])
        self.ids: dict[str, str] = {}
        for number, host in enumerate(fleet):
            traits = [self.fleet, f"CUSTOM_RACK_{host.rack}", f"CUSTOM_{host.variant}"]
            self.ids[f"n{number}"] = client.add_provider(
                f"{self.fleet}-n{number}",
                {"PGPU": host.gpus, **{CLASSES[amount][0]: units for amount, units in host.amounts.items()}},
                traits=[*traits, CLOSED] if host.closed else traits,
                reserved={"PGPU": host.dirty},
                ratios={CLASSES[amount][0]: ratio for amount, ratio in ratios.items()},
            )

    def resources(self, wish: Wish) -> dict[str, int]:
        """Say in their words how much is asked for."""
        found = {CLASSES[amount][0]: units for amount, units in wish.amounts.items()}
        return found | ({"PGPU": wish.gpus} if wish.gpus else {})

    def feasible(self, wish: Wish) -> set[str]:
        """Give the hosts that a wish fits."""
        resources = ",".join(f"{name}:{number}" for name, number in self.resources(wish).items())
        required = [self.fleet, f"!{CLOSED}"]
        required += [f"CUSTOM_RACK_{wish.rack}"] if wish.rack else []
        required += [f"!CUSTOM_RACK_{wish.not_rack}"] if wish.not_rack else []
        path = f"/allocation_candidates?resources={resources}&required={','.join(required)}"
        if wish.variants:
            path += f"&required=in:{','.join(f'CUSTOM_{variant}' for variant in wish.variants)}"
        if wish.host is not None:
            path += f"&in_tree={self.ids.get(f'n{wish.host}', '00000000-0000-0000-0000-000000000000')}"
        answer = self.client.must("GET", path)
        named = {host: node for node, host in self.ids.items()}
        return {named[host] for one in answer["allocation_requests"] for host in one["allocations"]}


@pytest.fixture(scope="module")
def client(postgres_binary: Path, placement12: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """Placement 12, the newest that keeps its own rules."""
    folder = tmp_path_factory.mktemp("placement")
    with postgresql(postgres_binary) as server, placement(placement12, server, folder) as running:
        with Client(running.address) as found:
            found.name_traits([f"CUSTOM_{name}" for name in ("V100", "H100", *(f"RACK_{rack}" for rack in RACKS))])
            yield found


@pytest.mark.service
@pytest.mark.slow
@settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))
@given(fleets, st.lists(steps(), min_size=8, max_size=14), ratios)
def test_every_host_is_feasible_for_both_or_for_neither(
    client: Client, fleet: list[Host], steps: list[Wish | Leave], ratios: dict[str, float]
) -> None:
    ours, theirs = Ours(fleet, ratios), Theirs(client, fleet, ratios)
    granted: list[tuple[str, str]] = []
    for number, step in enumerate(steps):
        if isinstance(step, Leave):
            if granted:
                claim, consumer = granted.pop(step.which % len(granted))
                ours.book.decide(claims.release(ours.book.state, claim))
                client.must("DELETE", f"/allocations/{consumer}")
            continue
        expected = theirs.feasible(step)
        assert expected == ours.feasible(step), step
        request = ours.request(step)
        node = ours.place(request)
        assert (node in expected) if expected else node is None
        if node is not None:
            ours.book.decide(ours.placer.grant(ours.book.state, request, f"c{number}"))
            consumer = f"00000000-0000-4000-8000-{next(_numbers):012x}"
            assert 204 == client.allocate(theirs.ids[node], theirs.resources(step), consumer)
            granted.append((f"c{number}", consumer))
