"""What can be asked for, checked against what there is; whatever is wrong is said with the names that are near."""

from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta

from aggregator.expression import Expression, ExpressionError, compile_expression
from aggregator.expression.names import inventory_environment
from aggregator.ledger.asks import MAX_LEASE, MIN_LEASE
from aggregator.ledger.model import Package, Variant
from aggregator.ledger.state import State
from aggregator.ledger.words import AMOUNTS, MAX_AMOUNT, Mode
from schemas.device import DeviceKind
from schemas.errors import MusterError, misfit, near_names

MAX_INSTANCES: Final = 4096
MAX_COUNT: Final = 1024
MAX_NEEDS: Final = 16
MAX_DEVICES: Final = 65_536
"""Of a request, over all its instances: what is chosen for one claim is one answer, and one entry of the ledger."""
T = TypeVar("T")


class RequestError(MusterError):
    """The request cannot be meant like this."""

    code = "placement.invalid"
    status = 400


class ContradictionError(RequestError):
    """Two parts of the request contradict each other; both are named."""

    code = "placement.contradiction"

    def __init__(self, one: str, other: str, why: str) -> None:
        super().__init__(f"{one} contradicts {other}: {why}")
        self.parts = (one, other)


class UnknownNameError(RequestError):
    """The request names something that there is not."""

    code = "placement.unknown"


class Isolation(Enum):
    """What happens to the other endpoints of an IOMMU group of which a device is given for passthrough."""

    OWN_GROUP = "own-group"
    """They stay where they are, and nobody but the same tenant gets them meanwhile."""
    WHOLE_GROUP = "whole-group"
    """The claim takes every endpoint of each group that it touches."""
    SINGLETON = "singleton"
    """Only devices that are alone in their group are given."""


class Affinity(Enum):
    """How much it matters that devices are near each other."""

    NONE = "none"
    PREFER = "prefer"
    REQUIRE = "require"


class Strategy(Enum):
    """What decides between choices of equal topology."""

    LEAST_STRANDED = "least-stranded"
    """First what strands the least capacity, then the fullest node."""
    PACK = "pack"
    """First the node of which the fewest fitting devices are left, then what strands the least."""
    SPREAD = "spread"
    """First the node of which the most fitting devices are left, then what strands the least."""


class Affinities(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How near the devices of one instance should be."""

    numa: Affinity = Affinity.PREFER
    """On one NUMA node. Required: a device of which it is not known is no candidate."""
    pcie_root: Affinity = Affinity.NONE
    """Below one PCIe root port, likewise."""
    nvlink: Affinity = Affinity.PREFER
    """GPUs linked by NVLink. Required: they form one island by links among themselves."""


class Need(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """So many devices of one kind."""

    variant: str = ""
    """An operator's name; "" when `where` alone says which."""
    where: str = ""
    """An expression over `device.`: required capabilities and whatever else."""
    count: Annotated[int, Meta(ge=1, le=MAX_COUNT)] = 1
    mode: Mode | None = None
    """None: passthrough, or driver for a partition that is to be made."""
    profile: str = ""
    """A MIG profile: `count` partitions of it are made for the claim, on whichever GPUs others lose least by it."""


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a claim should be made of. A package, or needs and amounts; never both (R004-5)."""

    tenant: str
    consumer: str
    package: str = ""
    needs: list[Need] = []
    amounts: dict[str, int] = {}
    """`vcpus`, `memory_bytes`, `disk_bytes`, of each instance."""
    mode: Mode | None = None
    """Of a package's devices."""
    instances: Annotated[int, Meta(ge=1, le=MAX_INSTANCES)] = 1
    """A gang: so many times all of this, all or none."""
    per_node: Annotated[int, Meta(ge=1, le=MAX_INSTANCES)] = 1
    """The most instances on one node."""
    isolation: Isolation = Isolation.OWN_GROUP
    affinity: Affinities = Affinities()
    strategy: Strategy = Strategy.LEAST_STRANDED
    tolerations: list[str] = []
    """Rules of taints that are put up with."""
    where: str = ""
    """An expression over `node.`."""
    lease_seconds: float = 3600.0


class Wanted(msgspec.Struct, frozen=True):
    """One need, resolved."""

    variant: Variant | None
    where: str
    count: int
    mode: Mode
    profile: str


class Resolved(msgspec.Struct, frozen=True):
    """A request whose names have been looked up. What decides on one node is hashable: `key`."""

    request: Request
    needs: tuple[Wanted, ...]
    amounts: dict[str, int]
    key: tuple[object, ...]

    @property
    def devices(self) -> int:
        """How many devices are asked for, over all instances, without what whole groups add."""
        return self.request.instances * sum(need.count for need in self.needs)


def resolve(state: State, request: Request) -> Resolved:
    """Look up what a request names. Raises RequestError, with near names for what there is not."""
    _check(request)
    package = _package(state, request)
    needs: list[Wanted] = []
    if package is not None:
        for place, one in enumerate(package.devices):
            variant = _variant(state, one.variant, f"package {package.name!r}: devices[{place}]")
            needs.append(Wanted(variant, "", one.count, request.mode or Mode.PASSTHROUGH, ""))
    needs += [_need(state, need, f"needs[{place}]") for place, need in enumerate(request.needs)]
    amounts = package.amounts if package is not None else request.amounts
    if not needs and not amounts:
        raise RequestError("a request for nothing: name a package, needs or amounts")
    made = tuple(needs)
    _check_needs(request, made)
    shape = request.affinity
    key = (made, request.isolation, shape.numa, shape.pcie_root, shape.nvlink, request.strategy)
    resolved = Resolved(request, made, amounts, key)
    if resolved.devices > MAX_DEVICES:
        raise RequestError(f"{resolved.devices} devices in one request: {MAX_DEVICES} are the most; ask in parts")
    return resolved


def _package(state: State, request: Request) -> Package | None:
    if not request.package:
        if request.mode is not None:
            raise ContradictionError("mode", "needs", "it is for a package's devices; a need says its own")
        return None
    for part in ("needs", "amounts"):
        if getattr(request, part):
            raise ContradictionError("package", part, "a request is a package or a list of needs, never both")
    found = state.packages.get(request.package)
    if found is None:
        raise UnknownNameError(
            f"there is no package {request.package!r}.{near_names(request.package, set(state.packages))}"
        )
    return found


def _need(state: State, need: Need, place: str) -> Wanted:
    if not need.variant and not need.where:
        raise RequestError(f"{place}: say which devices: variant, where, or both")
    variant = _variant(state, need.variant, place) if need.variant else None
    if need.where:
        selector(need.where, "device", f"{place}.where")
    if need.profile:
        if need.mode is Mode.PASSTHROUGH:
            raise ContradictionError(
                f"{place}.profile", f"{place}.mode", "a partition has no PCI function to pass through"
            )
        if variant is not None and variant.kind is not DeviceKind.GPU:
            raise ContradictionError(
                f"{place}.profile",
                f"{place}.variant",
                f"{variant.name} is a {variant.kind.value}, and GPUs are divided",
            )
    mode = need.mode or (Mode.DRIVER if need.profile else Mode.PASSTHROUGH)
    return Wanted(variant, need.where, need.count, mode, need.profile)


def _variant(state: State, name: str, place: str) -> Variant:
    found = state.variants.get(name)
    if found is None:
        near = near_names(name, set(state.variants)) or _listed(state.variants)
        raise UnknownNameError(f"{place}: there is no variant {name!r}.{near}")
    return found


def _listed(known: dict[str, Any]) -> str:
    if not known:
        return " None is set yet: 'muster variants set'."
    return f" Known: {', '.join(sorted(known)[:8])}{', ...' if len(known) > 8 else ''}."


def _check(request: Request) -> None:
    if not request.tenant or not request.consumer:
        raise RequestError("a claim needs a tenant and a consumer: say whose it is, and what it is for")
    if not MIN_LEASE <= request.lease_seconds <= MAX_LEASE:
        raise RequestError(f"lease_seconds: {request.lease_seconds} is not from {MIN_LEASE:g} to {MAX_LEASE:g}")
    if request.per_node > request.instances:
        raise ContradictionError(
            f"per_node {request.per_node}", f"instances {request.instances}", "no node can hold more than there are"
        )
    for amount, number in request.amounts.items():
        if amount not in AMOUNTS:
            raise UnknownNameError(f"amounts: there is no {amount!r}.{near_names(amount, AMOUNTS) or _amounts()}")
        if number <= 0:
            raise RequestError(f"amounts.{amount}: {number} is not above 0; leave out what is not needed")
        if number > MAX_AMOUNT:
            raise RequestError(f"amounts.{amount}: {number} is above {MAX_AMOUNT}")
    if len(request.needs) > MAX_NEEDS:
        raise RequestError(f"needs: {len(request.needs)} of them, and {MAX_NEEDS} are the most in one request")
    if request.where:
        selector(request.where, "node", "where")


def _amounts() -> str:
    return f" Known: {', '.join(AMOUNTS)}."


def _check_needs(request: Request, needs: tuple[Wanted, ...]) -> None:
    if request.isolation is not Isolation.OWN_GROUP and all(need.mode is Mode.DRIVER for need in needs):
        raise ContradictionError(
            f"isolation {request.isolation.value!r}", "mode 'driver'", "IOMMU groups bind what is passed through"
        )
    if request.affinity.nvlink is Affinity.REQUIRE:
        for place, need in enumerate(needs):
            if need.profile:
                raise ContradictionError("affinity.nvlink", f"needs[{place}].profile", "partitions have no NVLink")
        kinds = [need.variant.kind if need.variant else None for need in needs]
        if None not in kinds and DeviceKind.GPU not in kinds:
            raise ContradictionError("affinity.nvlink", "needs", "none of them is a GPU")


@lru_cache(maxsize=512)
def _compiled(text: str) -> Expression:
    return compile_expression(text, inventory_environment())


def selector(text: str, root: str, place: str) -> Expression:
    """Compile an expression over one root. Raises RequestError that names `place`."""
    try:
        found = _compiled(text)
    except ExpressionError as error:
        raise RequestError(f"{place}: {error}") from None
    if strange := set(found.roots) - {root}:
        raise RequestError(f"{place}: it asks about {', '.join(sorted(strange))}; only {root}. is known here")
    return found


@lru_cache(maxsize=512)
def predicate(text: str, root: str) -> Callable[[object], object]:
    """Give the function that tells, by True, that an expression over one root fits an object."""
    return selector(text, root, "where").on_objects(root)


def decode(data: bytes, kind: type[T], **defaults: object) -> T:
    """Read what a user wrote as JSON. Raises RequestError; an unknown field is named with those that are near."""
    try:
        raw = msgspec.json.decode(data or b"{}")
        _fields(raw, msgspec.inspect.type_info(kind), "")
        return msgspec.convert({**defaults, **raw} if isinstance(raw, dict) else raw, kind)
    except msgspec.MsgspecError as error:
        raise RequestError(misfit(error)) from None


def _fields(value: Any, told: msgspec.inspect.Type, place: str) -> None:
    """Look for fields that there are not, before msgspec does, which does not know what was meant."""
    if isinstance(told, msgspec.inspect.Metadata):
        _fields(value, told.type, place)
    elif isinstance(told, msgspec.inspect.StructType) and isinstance(value, dict):
        known = {field.encode_name: field.type for field in told.fields}
        for name, inner in value.items():
            if name == told.tag_field:
                continue
            if name not in known:
                near = near_names(str(name), set(known)) or f" Known: {', '.join(sorted(known))}."
                raise UnknownNameError(f"{place}{name}: there is no such field.{near}")
            _fields(inner, known[name], f"{place}{name}.")
    elif isinstance(told, msgspec.inspect.ListType) and isinstance(value, list):
        for number, inner in enumerate(value):
            _fields(inner, told.item_type, f"{place.removesuffix('.')}[{number}].")
