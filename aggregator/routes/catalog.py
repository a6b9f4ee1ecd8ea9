"""What operators name and set: variants (R004-3), packages (R004-5), quotas (R002-4), over-commit."""

from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Request, Response

from aggregator.access import Action, Caller, authorise, may
from aggregator.ledger.model import Needs, Package, Quota, Variant
from aggregator.ledger.state import State
from aggregator.ledger.words import AMOUNTS
from aggregator.placement import catalog
from aggregator.placement.catalog import EVERYBODY, CatalogUnknownError
from aggregator.placement.request import decode
from aggregator.routes.common import CallerOf, ServiceOf, allow, answer, informed
from schemas.device import DeviceKind
from schemas.errors import near_names

router = APIRouter(tags=["inventory"])
Reader = Annotated[Caller, Depends(allow(Action.READ))]
Writer = Annotated[Caller, Depends(allow(Action.ADMIN))]


class VariantWanted(msgspec.Struct, forbid_unknown_fields=True):
    """What a variant stands for."""

    kind: DeviceKind
    vendor: str
    device: str
    revision: str = ""


class VariantView(msgspec.Struct, frozen=True):
    """A variant, as answers show it."""

    name: str
    kind: str
    vendor: str
    device: str
    revision: str
    devices: int
    """How many there are of it."""


class PackageWanted(msgspec.Struct, forbid_unknown_fields=True):
    """What a package holds."""

    amounts: dict[str, int] = {}
    devices: list[dict[str, str | int]] = []
    """`variant` and `count` each."""


class QuotaWanted(msgspec.Struct, forbid_unknown_fields=True):
    """A tenant's limits: by `claims`, an amount, `devices`, or `devices:<variant>`."""

    limits: dict[str, int]


class QuotaView(msgspec.Struct, frozen=True):
    """A tenant's limits, and what it holds."""

    tenant: str
    limits: dict[str, int]
    own: bool
    """False: the limits are those for everybody."""
    used: dict[str, int]


class RatioWanted(msgspec.Struct, forbid_unknown_fields=True):
    """How much may be given for each that is there."""

    ratio: float


# --- variants ---------------------------------------------------------------------------------------------------------


@router.get("/v1/variants", summary="List variants", response_class=Response)
async def list_variants(service: ServiceOf, caller: CallerOf) -> Response:
    """List the names that operators gave to devices of one make; whoever may claim may know them."""
    informed(caller)
    return answer(await service.ledger.read(_variants))


@router.get("/v1/variants/{name}", summary="Show a variant", response_class=Response)
async def show_variant(service: ServiceOf, caller: CallerOf, name: str) -> Response:
    """Show a variant."""
    informed(caller)
    return answer(await service.ledger.read(lambda state: _one(_variants(state), "name", name, "variant")))


@router.put("/v1/variants/{name}", summary="Set a variant", response_class=Response)
async def set_variant(request: Request, service: ServiceOf, caller: Writer, name: str) -> Response:
    """Make or change a variant."""
    wanted = decode(await request.body(), VariantWanted)
    variant = Variant(name, wanted.kind, wanted.vendor.lower(), wanted.device.lower(), wanted.revision)
    await service.ledger.decide(lambda state: catalog.set_variant(state, variant, caller.name))
    return await show_variant(service, caller, name)


@router.delete("/v1/variants/{name}", summary="Remove a variant", response_class=Response)
async def remove_variant(service: ServiceOf, caller: Writer, name: str) -> Response:
    """Remove a variant that no package and no quota names."""
    await service.ledger.decide(lambda state: catalog.remove_variant(state, name, caller.name))
    return answer({"removed": name})


def _variants(state: State) -> list[VariantView]:
    counts: dict[tuple[int, ...], int] = {}
    for device in state.devices.values():
        counts[device.profiles] = counts.get(device.profiles, 0) + 1
    return [
        VariantView(
            one.name,
            one.kind.value,
            one.vendor,
            one.device,
            one.revision,
            sum(number for profiles, number in counts.items() if state.is_variant(profiles, one.name)),
        )
        for one in state.variants.values()
    ]


# --- packages ---------------------------------------------------------------------------------------------------------


@router.get("/v1/packages", summary="List packages", response_class=Response)
async def list_packages(service: ServiceOf, caller: CallerOf) -> Response:
    """List packages; whoever may claim may know them."""
    informed(caller)
    return answer(await service.ledger.read(_packages))


@router.get("/v1/packages/{name}", summary="Show a package", response_class=Response)
async def show_package(service: ServiceOf, caller: CallerOf, name: str) -> Response:
    """Show a package."""
    informed(caller)
    return answer(await service.ledger.read(lambda state: _one(_packages(state), "name", name, "package")))


@router.put("/v1/packages/{name}", summary="Set a package", response_class=Response)
async def set_package(request: Request, service: ServiceOf, caller: Writer, name: str) -> Response:
    """Make or change a package."""
    wanted = decode(await request.body(), PackageWanted)
    needs = [decode(msgspec.json.encode(one), _NeedWanted) for one in wanted.devices]
    package = Package(name, wanted.amounts, [Needs(one.variant, one.count) for one in needs])
    await service.ledger.decide(lambda state: catalog.set_package(state, package, caller.name))
    return await show_package(service, caller, name)


@router.delete("/v1/packages/{name}", summary="Remove a package", response_class=Response)
async def remove_package(service: ServiceOf, caller: Writer, name: str) -> Response:
    """Remove a package; claims that were made from it keep what they hold."""
    await service.ledger.decide(lambda state: catalog.remove_package(state, name, caller.name))
    return answer({"removed": name})


class _NeedWanted(msgspec.Struct, forbid_unknown_fields=True):
    variant: str
    count: int = 1


def _packages(state: State) -> list[dict[str, object]]:
    return [
        {
            "name": package.name,
            "amounts": package.amounts,
            "devices": [{"variant": one.variant, "count": one.count} for one in package.devices],
        }
        for package in state.packages.values()
    ]


# --- quotas and ratios ------------------------------------------------------------------------------------------------


@router.get("/v1/quotas", summary="List quotas", response_class=Response)
async def list_quotas(service: ServiceOf, _: Reader) -> Response:
    """List the limits of all tenants, those for everybody under `*`, with what each holds."""

    def question(state: State) -> list[QuotaView]:
        return [_quota(state, tenant) for tenant in {**state.quotas, **state.tenants}]

    return answer(await service.ledger.read(question))


@router.get("/v1/quotas/{tenant}", summary="Show a tenant's quota", response_class=Response)
async def show_quota(service: ServiceOf, caller: CallerOf, tenant: str) -> Response:
    """Show the limits that hold for a tenant, and what it holds; a tenant may see its own."""
    informed(caller)
    reads = may(caller, Action.READ)
    if not reads:
        authorise(caller, Action.CLAIM, tenant)

    def question(state: State) -> QuotaView:
        names = {*state.quotas, *state.tenants}
        if reads and _named(tenant) not in names and (near := near_names(tenant, {name for name in names if name})):
            raise CatalogUnknownError(f"tenant {tenant!r} has no quota of its own, and holds nothing.{near}")
        return _quota(state, _named(tenant))

    return answer(await service.ledger.read(question))


@router.put("/v1/quotas/{tenant}", summary="Set a tenant's quota", response_class=Response)
async def set_quota(request: Request, service: ServiceOf, caller: Writer, tenant: str) -> Response:
    """Set the limits of a tenant, all of them; of `*`: for everybody without limits of their own."""
    wanted = decode(await request.body(), QuotaWanted)
    quota = Quota(_named(tenant), wanted.limits)
    await service.ledger.decide(lambda state: catalog.set_quota(state, quota, caller.name))
    return answer(await service.ledger.read(lambda state: _quota(state, _named(tenant))))


@router.delete("/v1/quotas/{tenant}", summary="Remove a tenant's quota", response_class=Response)
async def remove_quota(service: ServiceOf, caller: Writer, tenant: str) -> Response:
    """Take a tenant's own limits away; those for everybody hold then."""
    await service.ledger.decide(lambda state: catalog.remove_quota(state, _named(tenant), caller.name))
    return answer({"removed": tenant})


@router.get("/v1/ratios", summary="Show over-commit", response_class=Response)
async def show_ratios(service: ServiceOf, _: Reader) -> Response:
    """Show how much of each amount may be given for each that is there."""
    return answer(await service.ledger.read(_ratios))


@router.put("/v1/ratios/{amount}", summary="Set over-commit", response_class=Response)
async def set_ratio(request: Request, service: ServiceOf, caller: Writer, amount: str) -> Response:
    """Set how much of an amount may be given for each that is there."""
    wanted = decode(await request.body(), RatioWanted)
    await service.ledger.decide(lambda state: catalog.set_ratio(state, amount, wanted.ratio, caller.name))
    return answer(await service.ledger.read(_ratios))


def _ratios(state: State) -> dict[str, float]:
    return {amount: state.ratios.get(amount, 1.0) for amount in AMOUNTS}


def _named(tenant: str) -> str:
    return "" if tenant == EVERYBODY else tenant


def _quota(state: State, tenant: str) -> QuotaView:
    limits = state.quota(tenant)
    holds = state.tenants.get(tenant)
    used = dict(holds.used) if holds else {}
    for name in limits.limits if limits else ():
        _, _, variant = name.partition(":")
        if variant:
            used[name] = sum(
                number
                for profiles, number in (holds.profiles if holds else {}).items()
                if state.is_variant(profiles, variant)
            )
    return QuotaView(tenant or EVERYBODY, limits.limits if limits else {}, tenant in state.quotas, used)


def _one(found: list[object] | list[VariantView] | list[dict[str, object]], field: str, name: str, what: str) -> object:
    names = []
    for one in found:
        told = one[field] if isinstance(one, dict) else getattr(one, field)
        if told == name:
            return one
        names.append(str(told))
    near = near_names(name, names) or (f" Known: {', '.join(sorted(names)[:8])}." if names else " None is set yet.")
    raise CatalogUnknownError(f"there is no {what} {name!r}.{near}")
