"""Decisions about what operators name and set: variants, packages, quotas, and how far amounts are over-committed."""

import math
import re
from typing import Final

from aggregator.ledger.entries import (
    Entry,
    PackageRemoved,
    PackageSet,
    QuotaSet,
    RatioSet,
    VariantRemoved,
    VariantSet,
)
from aggregator.ledger.model import Package, Quota, Variant
from aggregator.ledger.state import State
from aggregator.ledger.words import AMOUNTS, MAX_AMOUNT
from aggregator.placement.request import MAX_COUNT
from schemas.errors import MusterError, near_names

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_HEX: Final = re.compile(r"[0-9a-f]{4}\Z")
EVERYBODY: Final = "*"
"""How the quota is called that holds for tenants without one of their own; no tenant can be called so."""
MAX_RATIO: Final = 1000.0


class CatalogError(MusterError):
    """It cannot be meant like this; nothing was changed."""

    code = "catalog.invalid"
    status = 400


class CatalogUnknownError(MusterError):
    """There is nothing of that name."""

    code = "catalog.unknown"
    status = 404


class CatalogInUseError(MusterError):
    """Something else names it."""

    code = "catalog.in_use"
    status = 409


def set_variant(state: State, variant: Variant, who: str) -> tuple[list[Entry], Variant]:
    """Make or change a variant; the same again writes nothing. Raises CatalogError."""
    _check_name("variant", variant.name)
    for word, value in (("vendor", variant.vendor), ("device", variant.device)):
        if not _HEX.match(value):
            raise CatalogError(
                f"{word}: {value!r} is not a PCI id: four hexadecimal digits in lower case, such as 10de"
            )
    for other in state.variants.values():
        same = (other.kind, other.vendor, other.device, other.revision)
        if other.name != variant.name and same == (variant.kind, variant.vendor, variant.device, variant.revision):
            raise CatalogError(f"variant {other.name!r} names the same devices already")
    return ([] if state.variants.get(variant.name) == variant else [VariantSet(variant, who)]), variant


def remove_variant(state: State, name: str, who: str) -> tuple[list[Entry], None]:
    """Remove a variant. Raises CatalogUnknownError, or CatalogInUseError while a package or a quota names it."""
    _known("variant", name, state.variants)
    packages = [
        package.name for package in state.packages.values() if any(one.variant == name for one in package.devices)
    ]
    quotas = [quota.tenant or EVERYBODY for quota in state.quotas.values() if f"devices:{name}" in quota.limits]
    if packages or quotas:
        users = [*(f"package {one!r}" for one in packages), *(f"the quota of {one!r}" for one in quotas)]
        raise CatalogInUseError(f"variant {name!r} is named by {', '.join(users)}")
    return [VariantRemoved(name, who)], None


def set_package(state: State, package: Package, who: str) -> tuple[list[Entry], Package]:
    """Make or change a package. Raises CatalogError, or CatalogUnknownError for a variant that there is not."""
    _check_name("package", package.name)
    for amount, number in package.amounts.items():
        _check_amount("amounts", amount)
        if number <= 0:
            raise CatalogError(f"amounts.{amount}: {number} is not above 0; leave out what is not needed")
        if number > MAX_AMOUNT:
            raise CatalogError(f"amounts.{amount}: {number} is above {MAX_AMOUNT}")
    for place, one in enumerate(package.devices):
        _known(f"devices[{place}]: variant", one.variant, state.variants)
        if not 1 <= one.count <= MAX_COUNT:
            raise CatalogError(f"devices[{place}].count: {one.count} is not from 1 to {MAX_COUNT}")
    if not package.amounts and not package.devices:
        raise CatalogError("a package of nothing: name amounts or devices")
    return ([] if state.packages.get(package.name) == package else [PackageSet(package, who)]), package


def remove_package(state: State, name: str, who: str) -> tuple[list[Entry], None]:
    """Remove a package; claims that were made from it keep what they hold. Raises CatalogUnknownError."""
    _known("package", name, state.packages)
    return [PackageRemoved(name, who)], None


def set_quota(state: State, quota: Quota, who: str) -> tuple[list[Entry], Quota]:
    """Set a tenant's limits, all of them; "" for everybody without limits of their own. Raises CatalogError."""
    if quota.tenant:
        _check_name("tenant", quota.tenant)
    for name, limit in quota.limits.items():
        check_limit(state, name, limit)
    return ([] if state.quotas.get(quota.tenant) == quota else [QuotaSet(quota, who)]), quota


def check_limit(state: State, name: str, limit: int) -> None:
    """Raise CatalogError, or CatalogUnknownError, for a limit that no quota can have."""
    kind, colon, variant = name.partition(":")
    known = ("claims", "devices", *AMOUNTS)
    if kind not in known or (colon and kind != "devices"):
        near = near_names(name, known) or f" Known: {', '.join(known)}, devices:<variant>."
        raise CatalogError(f"limits: there is no {name!r}.{near}")
    if colon:
        _known(f"limits: {name}: variant", variant, state.variants)
    if limit < 0:
        raise CatalogError(f"limits.{name}: {limit} is below 0")
    if limit > MAX_AMOUNT:
        raise CatalogError(f"limits.{name}: {limit} is above {MAX_AMOUNT}")


def remove_quota(state: State, tenant: str, who: str) -> tuple[list[Entry], None]:
    """Take a tenant's own limits away; those for everybody hold then. Raises CatalogUnknownError."""
    if tenant not in state.quotas:
        known = [name or EVERYBODY for name in state.quotas]
        raise CatalogUnknownError(f"there is no quota of {tenant or EVERYBODY!r}.{near_names(tenant, known)}")
    return [QuotaSet(Quota(tenant, {}), who)], None


def set_ratio(state: State, amount: str, ratio: float, who: str) -> tuple[list[Entry], float]:
    """Set how much of an amount may be given for each that is there. Raises CatalogError."""
    _check_amount("ratio", amount)
    if not (math.isfinite(ratio) and 0 < ratio <= MAX_RATIO):
        raise CatalogError(f"ratio: {ratio} is not above 0 and at most {MAX_RATIO:g}")
    return ([] if state.ratios.get(amount, 1.0) == ratio else [RatioSet(amount, ratio, who)]), ratio


def known_variant(state: State, name: str) -> None:
    """Raise CatalogUnknownError, with near names, for a variant that there is not; "" is none, and well."""
    if name:
        _known("variant", name, state.variants)


def _check_name(what: str, name: str) -> None:
    if not _NAME.match(name):
        raise CatalogError(f"{name[:80]!r} cannot name a {what}: use 1 to 128 letters, digits and . _ -")


def _check_amount(place: str, amount: str) -> None:
    if amount not in AMOUNTS:
        near = near_names(amount, AMOUNTS) or f" Known: {', '.join(AMOUNTS)}."
        raise CatalogError(f"{place}: there is no amount {amount!r}.{near}")


def _known(what: str, name: str, known: object) -> None:
    assert isinstance(known, dict)
    if name not in known:
        near = near_names(name, set(known)) or (
            f" Known: {', '.join(sorted(known)[:8])}." if known else " None is set yet."
        )
        raise CatalogUnknownError(f"{what} {name!r}: there is none.{near}")
