"""Partitions to be made: placement finds a place whenever trying every one does, and every refusal is explained."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aggregator.ledger import claims, cleaning
from aggregator.ledger.asks import Ask, Pick, objections
from aggregator.ledger.entries import QuotaSet, VariantSet
from aggregator.ledger.facts import withdraw
from aggregator.ledger.model import Device, Quota, Variant
from aggregator.ledger.state import State
from aggregator.ledger.words import Lifecycle, Mode
from aggregator.placement.edits import FreeDevice, Hypothesis
from aggregator.placement.placing import NotPlacedError, Placer
from aggregator.placement.request import Affinities, Affinity, Need, Request, Strategy
from schemas.claims import Made
from schemas.device import DeviceKind, Document, Part
from tests.aggregator.ledger.worlds import Book, begin, document

TABLES = {
    "A": ["1g:{0,1,2,3,4,5,6}:1", "2g:{0,2,4}:2", "3g:{0,4}:4", "7g:{0}:8"],
    "B": ["1g:{0,1,2,3}:1", "2g:{0,2}:2", "4g:{0}:4"],
}
IDS = {"A": "2330", "B": "20b7", "VF": "101e"}
NONE = Affinity.NONE


class Gpu:
    """A GPU of a world: what is on it already, and where it sits."""

    def __init__(self, model: str, numa: int | None, group: int | None, taken: list[str], how: str) -> None:
        self.model, self.numa, self.group, self.taken, self.how = model, numa, group, taken, how

    def __repr__(self) -> str:
        return f"Gpu{self.model, self.numa, self.group, self.taken, self.how}"


def places(model: str) -> list[tuple[str, int, int]]:
    """Every profile and place of a model, read in another way than the ledger reads it."""
    found = []
    for text in TABLES[model]:
        profile, starts, size = text.replace("{", "").replace("}", "").split(":")
        found += [(profile, int(start), int(size)) for start in starts.split(",")]
    return found


@st.composite
def gpus(draw: st.DrawFn) -> Gpu:
    model = draw(st.sampled_from("AAB"))
    taken = draw(st.lists(st.sampled_from([f"{p}@{s}:{n}" for p, s, n in places(model)]), max_size=3))
    how = draw(st.sampled_from(["planned", "planned", "dirty", "static", "unknown", "whole", "foreign"]))
    return Gpu(model, draw(st.sampled_from([None, 0, 1])), draw(st.sampled_from([None, 1, 1, 2])), taken, how)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    needs = []
    for profile in draw(st.lists(st.sampled_from(["1g", "2g", "3g", "7g", "4g"]), min_size=1, max_size=3, unique=True)):
        variant = draw(st.sampled_from(["A", "A", "B"]))
        most = {"1g": 4, "2g": 3}.get(profile, 2)
        needs.append(Need(variant, profile=profile, count=draw(st.integers(1, most))))
    if draw(st.booleans()):
        mode = draw(st.sampled_from(Mode))
        needs.insert(0, Need(draw(st.sampled_from(["A", "VF"])), mode=mode))
    numa = draw(st.sampled_from(Affinity))
    strategy = draw(st.sampled_from(list(Strategy)))
    return Request("t1", "job", needs=needs, affinity=Affinities(numa, NONE, NONE), strategy=strategy)


def build(nodes: list[list[Gpu]], quota: dict[str, int]) -> Book:
    book = Book()
    for name, ids in IDS.items():
        kind = DeviceKind.VF if name == "VF" else DeviceKind.GPU
        book.write([VariantSet(Variant(name, kind, "10de", ids))])
    for number, specs in enumerate(nodes):
        begin(book, f"n{number}")
        vf = document(DeviceKind.VF, "0000:f0:00.1", pci_device_id=IDS["VF"], group=9, numa_node=0)
        devices = [book.see(vf, f"n{number}")]
        for at, spec in enumerate(specs):
            more: dict[str, Any] = {} if spec.numa is None else {"numa_node": spec.numa}
            one = document(
                DeviceKind.GPU,
                f"0000:{at + 1:02x}:00.0",
                group=spec.group,
                pci_device_id=IDS[spec.model],
                mig_placements=TABLES[spec.model],
                **more,
            )
            devices.append(book.see(one, f"n{number}"))
        for device in devices:
            assert device is not None
            book.decide(cleaning.attest(book.state, device.id, "op", "new"))
        for spec, device in zip(specs, devices[1:], strict=True):
            assert device is not None
            _occupy(book, f"n{number}", spec, device)
    if quota:
        book.write([QuotaSet(Quota("t1", quota))])
    return book


def _occupy(book: Book, node: str, spec: Gpu, gpu: Device) -> None:
    for at, plan in enumerate(spec.taken):
        pick = Pick(gpu.id, profile=plan, mode=Mode.DRIVER)
        if spec.how in ("whole", "foreign"):
            pick = Pick(gpu.id, Mode.DRIVER if at else Mode.PASSTHROUGH)
        if list(objections(book.state, Ask("t2", "x", [pick]))):
            continue
        if spec.how in ("static", "unknown"):
            told: dict[str, Any] = {"mig_placement": plan.partition("@")[2]} if spec.how == "static" else {}
            name = f"mig:{gpu.id}:{at}"
            source = next(iter(gpu.views.values())).document
            seen = book.see(
                Document(name, DeviceKind.GPU_PARTITION, [], source, part=Part(uuid=name), capabilities=told), node
            )
            assert seen is not None
            continue
        claim = f"{gpu.id}-{at}"
        book.decide(claims.grant(book.state, Ask("t2", "x", [pick]), claim))
        if spec.how == "dirty":
            _give_back(book, claim)


def _give_back(book: Book, name: str) -> None:
    """Let a partition be one that was used and is not cleaned."""
    claim = book.state.claims[name]
    device = claim.devices[0].device
    book.decide(claims.provision(book.state, name))
    book.decide(claims.confirm(book.state, name, claim.epoch, [device], {device: Made(device, 1, 0, 1)}))
    book.decide(claims.release(book.state, name))
    book.decide(claims.undone(book.state, name, claim.epoch, [device]))


# --- trying everything ------------------------------------------------------------------------------------------------


def feasible(state: State, request: Request) -> bool:
    """Tell whether there is any way at all; the ledger's objections are the judge."""
    return any(_on(state, request, list(state.devices_of(node))) for node in state.nodes)


def _on(state: State, request: Request, devices: Sequence[Device]) -> bool:
    rooms = [None] if request.affinity.numa is not Affinity.REQUIRE else [0, 1]
    return any(
        _picked(state, request, [one for one in devices if room is None or one.get("numa_node") == room], 0, [])
        for room in rooms
    )


def _picked(state: State, request: Request, devices: Sequence[Device], at: int, picks: list[Pick]) -> bool:
    if at == len(request.needs):
        return not list(objections(state, Ask(request.tenant, "x", picks)))
    need = request.needs[at]
    fitting = [one for one in devices if state.is_variant(one.profiles, need.variant)]
    every: list[Pick] = []
    for device in fitting:
        if not need.profile:
            every.append(Pick(device.id, need.mode or Mode.PASSTHROUGH))
        for name in IDS if need.profile else ():
            if name in TABLES and state.is_variant(device.profiles, name):
                every += [
                    Pick(device.id, Mode.DRIVER, profile=f"{p}@{s}:{n}")
                    for p, s, n in places(name)
                    if p == need.profile
                ]
    alone = [pick for pick in every if _may(state, request, [*picks, pick])]
    return any(
        _may(state, request, [*picks, *chosen]) and _picked(state, request, devices, at + 1, [*picks, *chosen])
        for chosen in combinations(alone, need.count)
    )


def _may(state: State, request: Request, picks: list[Pick]) -> bool:
    """What is refused stays refused when more is asked for."""
    if len({(one.device, one.profile) for one in picks}) < len(picks):
        return False
    return not list(objections(state, Ask(request.tenant, "x", picks)))


# --- claims of the tests ----------------------------------------------------------------------------------------------

fleets = st.lists(st.lists(gpus(), min_size=1, max_size=2), min_size=1, max_size=2)
quotas = st.sampled_from([{}, {}, {}, {"devices": 3}, {"devices:A": 0}])


@settings(deadline=None, max_examples=120, suppress_health_check=list(HealthCheck))
@given(fleets, requests(), quotas)
def test_it_finds_a_place_whenever_there_is_one(
    fleet: list[list[Gpu]], request: Request, quota: dict[str, int]
) -> None:
    book = build(fleet, quota)
    expected = feasible(book.state, request)
    placer = Placer()
    if expected:
        placement = placer.dry_run(book.state, request)
        book.decide(placer.grant(book.state, request, "new"))
        assert len(placement.ask.devices) == len(book.state.claims["new"].devices)
        return
    with pytest.raises(NotPlacedError) as refused:
        placer.place(book.state, request)
    blockers = placer.explain(book.state, request, refused.value.refusal)
    if blockers is None:
        assert not feasible(_all_free(book), request)
        return
    assert blockers
    for left_out in (None, *blockers):
        edits = [one.edit for one in blockers if one is not left_out]
        assert feasible(Hypothesis(book.state).apply(edits).state, request) is (left_out is None)


def _all_free(book: Book) -> State:
    hypothesis = Hypothesis(book.state).apply(FreeDevice(name) for name in book.state.devices)
    hypothesis.state.quotas = {}
    return hypothesis.state


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(st.lists(gpus(), min_size=1, max_size=3), st.lists(st.sampled_from(["1g", "2g", "3g"]), min_size=1, max_size=4))
def test_what_is_made_takes_least_from_others(fleet: list[Gpu], profiles: list[str]) -> None:
    """Of all ways to make some partitions, the one that is chosen leaves the most places, each by its size."""
    book = build([fleet], {})
    counted = [Need("A", profile=profile, count=profiles.count(profile)) for profile in sorted(set(profiles))]
    request = Request("t1", "job", needs=counted, affinity=Affinities(NONE, NONE, NONE))
    best = max((_left(book.state, picks) for picks in _ways(book.state, request, 0, [])), default=None)
    if best is None:
        with pytest.raises(NotPlacedError):
            Placer().place(book.state, request)
        return
    found = Placer().place(book.state, request).ask.devices
    assert best == _left(book.state, found)


def _ways(state: State, request: Request, at: int, picks: list[Pick]) -> Iterator[list[Pick]]:
    if at == len(request.needs):
        yield picks
        return
    need = request.needs[at]
    every = [
        Pick(device.id, Mode.DRIVER, profile=f"{p}@{s}:{n}")
        for device in state.devices_of("n0")
        if state.is_variant(device.profiles, need.variant)
        for p, s, n in places("A")
        if p == need.profile
    ]
    alone = [pick for pick in every if _may(state, request, [*picks, pick])]
    for chosen in combinations(alone, need.count):
        if _may(state, request, [*picks, *chosen]):
            yield from _ways(state, request, at + 1, [*picks, *chosen])


def _left(state: State, picks: Sequence[Pick]) -> int:
    """Give the slices of all places that nobody has, on GPUs that somebody might be given a part of."""
    taken: dict[str, set[int]] = {}
    for device in state.devices_of("n0"):
        plan = device.planned.partition("@")[2] or device.get("mig_placement")
        if device.kind is DeviceKind.GPU_PARTITION:
            start, size = map(int, str(plan or "0:16").split(":"))
            taken.setdefault(device.parent, set()).update(range(start, start + size))
    for pick in picks:
        start, size = map(int, pick.profile.partition("@")[2].split(":"))
        taken.setdefault(pick.device, set()).update(range(start, start + size))
    return sum(
        size
        for device in state.devices_of("n0")
        if state.is_variant(device.profiles, "A") and device.lifecycle is Lifecycle.FREE
        for _, start, size in places("A")
        if not taken.get(device.id, set()) & set(range(start, start + size))
    )


def test_a_partition_that_is_seen_no_more_frees_its_place_at_once() -> None:
    """The index follows a partition that ends with its clean, and one that somebody else destroys."""
    book = build([[Gpu("B", 0, None, ["4g@0:4"], "static")]], {})
    request = Request("t1", "job", needs=[Need("B", profile="1g")])
    placer = Placer()
    with pytest.raises(NotPlacedError):
        placer.place(book.state, request)
    static = next(one for one in book.state.devices.values() if one.kind is DeviceKind.GPU_PARTITION)
    book.write(withdraw(book.state, "n0", next(iter(static.views)), "destroyed"))
    book.decide(placer.grant(book.state, request, "c1"))
    book.decide(claims.release(book.state, "c1"))
    whole = Request("t1", "job", needs=[Need("B")])
    placer.dry_run(book.state, whole)
