"""The state that the ledger adds up to, and what finds things in it. A pure function of the entries, in their order.

Entries change it, through `apply` alone.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from aggregator.ledger.index import Index
from aggregator.ledger.merge import merge
from aggregator.ledger.model import Claim, Device, Node, Package, Profile, Quota, Sight, Tenant, Variant
from aggregator.ledger.outside import Divergence, Use, UseRecord
from aggregator.ledger.sharing import Sharing
from aggregator.ledger.transitions import transition
from aggregator.ledger.words import LIVE_CLAIMS, Lifecycle, Reach
from schemas.digest import blake2b


class Kept(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What is kept of a state; all else is derived. The form of a snapshot."""

    sequence: int = 0
    """Of the last entry applied; 0 for none."""
    time_ns: int = 0
    """When that entry was decided."""
    generation: int = 1
    profiles: list[Profile] = []
    nodes: list[Node] = []
    devices: list[Device] = []
    claims: list[Claim] = []
    variants: list[Variant] = []
    packages: list[Package] = []
    quotas: list[Quota] = []
    ratios: dict[str, float] = {}
    keys: dict[str, str] = {}
    """Idempotency key, behind its tenant and a line feed -> claim."""
    sights: list[Sight] = []
    records: list[UseRecord] = []
    divergences: list[Divergence] = []
    generations: list[tuple[int, int]] = []


class State:
    """Everything that the ledger says as of `sequence`."""

    def __init__(self) -> None:
        self.sequence = 0
        self.time_ns = 0
        self.generation = 1
        self.generations: dict[int, int] = {1: 0}
        """Generation -> sequence at which it began: what was granted in an earlier one from there on is lost."""
        self.profiles: list[Profile] = []
        self.nodes: dict[str, Node] = {}
        self.devices: dict[str, Device] = {}
        self.claims: dict[str, Claim] = {}
        self.variants: dict[str, Variant] = {}
        self.packages: dict[str, Package] = {}
        self.quotas: dict[str, Quota] = {}
        self.ratios: dict[str, float] = {}
        self.keys: dict[str, str] = {}
        self.sights: dict[str, list[Sight]] = {}
        """By device, oldest first: where it has been."""
        self.records: dict[str, UseRecord] = {}
        """By source: what other schedulers' records say."""
        self.divergences: dict[str, Divergence] = {}
        """By id: where two views do not agree now."""
        # derived
        self.recorded: dict[str, dict[str, str]] = {}
        """Device -> source of a record -> who has it."""
        self.awaited: dict[tuple[str, str], dict[str, str]] = {}
        """(node or its name, PCI address) -> source of a record that means what is first seen there -> who has it."""
        self.numbers: dict[bytes, int] = {}
        """Profile, encoded -> its number."""
        self.found = Index()
        self.sharing = Sharing()
        self.tenants: dict[str, Tenant] = {}
        self.claims_on: dict[str, dict[str, None]] = {}
        """Node -> live claims that hold something there."""
        self.listeners: list[set[str]] = []
        """Each gets the ids of nodes as they change; who put it there empties it."""
        self.unread: dict[str, float] = {}
        """Publisher -> seconds that we are behind what it said, only where we are. Of the moment, and no fact."""
        self._names: tuple[int, Counter[str]] = (-1, Counter())
        """How many nodes have a name, and as of which sequence."""
        self.indexed = True
        """False while many entries are replayed: what finds things is built once, at the end (`build_index`)."""

    # --- change -------------------------------------------------------------------------------------------------------

    def move(self, device: Device, cause: str) -> None:
        """Take a device along a line of the table."""
        line = transition(device.lifecycle, cause)
        device.lifecycle = line.target
        gpu = self.devices.get(device.parent) if device.planned else None
        if gpu is not None and line.target is Lifecycle.DIRTY:
            gpu.released = self.sequence  # what was in its partition was in its memory
        if line.target in (Lifecycle.FREE, Lifecycle.HOST, Lifecycle.FOREIGN, Lifecycle.RETIRED):
            device.hold = None
        elif line.target is Lifecycle.DIRTY:
            device.released = self.sequence
        elif line.target is Lifecycle.CLEANING:
            device.cleaning = self.sequence
        self.touch(device)
        self.end_planned(device)

    def end_planned(self, device: Device) -> None:
        """Let go of a device that was made for a claim, once it is clean and nobody sees it any more."""
        seen = device.views and device.reach is not Reach.ABSENT
        if not device.planned or device.lifecycle is not Lifecycle.FREE or seen:
            return
        for name in self.claims_on.get(device.node, ()):  # it may be clean before other nodes gave up its claim
            claim = self.claims[name]
            if any(held.device == device.id for held in claim.devices):
                _add(self.tenants[claim.tenant].profiles, device.profiles, -1)
        self.unindex(device)
        self.nodes[device.node].devices.pop(device.id)
        del self.devices[device.id]
        self.sights.pop(device.id, None)

    def record(self, source: str, use: Use, sign: int = 1) -> None:
        """Let what a record says be found (`sign` 1), or no more (-1)."""
        index: dict[Any, dict[str, str]]
        key: Any
        index, key = (self.recorded, use.device) if use.device else (self.awaited, (use.node, use.address))
        if sign > 0:
            index.setdefault(key, {})[source] = use.user
        else:
            found = index.get(key, {})
            found.pop(source, None)
            if not found:
                index.pop(key, None)

    def touch(self, device: Device) -> None:
        """Note that a device changed, and its node with it."""
        device.changed = self.sequence
        self.touch_node(device.node)

    def touch_node(self, node: str) -> None:
        """Note that a node changed."""
        found = self.nodes.get(node)
        if found is not None:
            found.changed = self.sequence
        for listener in self.listeners:
            listener.add(node)

    def note_unread(self, unread: dict[str, float]) -> None:
        """Note of which publishers not all is read, and for how many seconds; listeners hear of nodes that differ."""
        before, self.unread = self.unread, unread
        if before.keys() != unread.keys():
            differ = [
                node.id for node in self.nodes.values() if (node.publisher in before) != (node.publisher in unread)
            ]
            for listener in self.listeners:
                listener.update(differ)

    # --- derived ------------------------------------------------------------------------------------------------------

    def derive(self, device: Device) -> None:
        """Bring everything derived from a device's views up to date. Call `unindex` before they change."""
        holder = self.claims.get(device.hold.claim) if device.hold else None
        live = holder is not None and holder.state in LIVE_CLAIMS
        before = device.profiles
        merge(device, self.profiles, self.sharing)
        if live and holder is not None and before != device.profiles:  # the tenant's count is by profile
            counts = self.tenants[holder.tenant].profiles
            _add(counts, before, -1)
            _add(counts, device.profiles, 1)
        self.index(device)
        self.touch(device)

    def index(self, device: Device) -> None:
        """Let a device be found."""
        if self.indexed:
            self.found.add(device)

    def unindex(self, device: Device) -> None:
        """Undo `index`, before what it went by changes."""
        if self.indexed:
            self.found.remove(device)

    def join(self, device: Device, parent: str) -> None:
        """Make a device a part of another; with "" of none."""
        if self.indexed:
            self.found.join(device, parent)
        else:
            device.parent = parent
        self.touch(device)

    def hold(self, claim: Claim, sign: int = 1) -> None:
        """Let a claim hold its devices and amounts (`sign` 1), or let them go (-1): its nodes change by that."""
        self.count(claim, sign)
        for node in {*claim.amounts, *(held.node for held in claim.devices)}:
            self.touch_node(node)

    def count(self, claim: Claim, sign: int = 1) -> None:
        """Count what a claim holds (`sign` 1), or no longer holds (-1): derived, nothing changes by it."""
        tenant = self.tenants.setdefault(claim.tenant, Tenant(claim.tenant))
        if sign > 0:
            tenant.claims[claim.id] = None
        else:
            tenant.claims.pop(claim.id, None)
        _add(tenant.used, "claims", sign)
        for node in {*claim.shares, *(held.node for held in claim.devices)}:
            if sign > 0:
                self.claims_on.setdefault(node, {})[claim.id] = None
            else:
                _take(self.claims_on, node, claim.id)
        for held in claim.devices:
            _add(tenant.used, "devices", sign)
            device = self.devices.get(held.device)
            if device is not None:
                _add(tenant.profiles, device.profiles, sign)
        for node, amounts in claim.shares.items():
            for amount, number in amounts.items():
                _add(tenant.used, amount, sign * number)
                _add(self.nodes[node].used, amount, sign * number)
        if not tenant.claims and sign < 0:
            del self.tenants[claim.tenant]

    # --- questions ----------------------------------------------------------------------------------------------------

    def reach(self, device: Device) -> Reach:
        """Give what we know of a device now, its node's silence included."""
        gpu = self.devices.get(device.parent) if device.planned and not device.views else None
        if gpu is not None:
            return self.reach(gpu)  # of what nobody describes it is known what is known of what it is made on
        node = self.nodes.get(device.node)
        if device.reach is Reach.LIVE and (node is None or not node.live):
            return Reach.STALE
        if device.reach is Reach.LIVE and node is not None and node.shown != self.generation:
            return Reach.UNVERIFIED
        return device.reach

    def devices_of(self, node: str) -> Iterator[Device]:
        """Yield a node's devices in the order of first sight."""
        found = self.nodes.get(node)
        return (self.devices[name] for name in (found.devices if found else ()))

    def in_slot(self, node: str, path: str) -> list[str]:
        """Give the ids of the devices that are or were in a slot, in the order of first sight."""
        if self.indexed:
            return list(self.found.by_slot.get((node, path), ()))
        return [device.id for device in self.devices_of(node) if device.slot.path == path]

    def called(self, node: Node) -> str:
        """Give what people call a node: its host name, with its id where another has it too; its id without one."""
        if self._names[0] != self.sequence:
            self._names = (self.sequence, Counter(one.name for one in self.nodes.values() if not one.retired))
        others = self._names[1][node.name] - (0 if node.retired else 1)
        return node.id if not node.name else f"{node.name} ({node.id})" if others > 0 else node.name

    def live_claims(self) -> Iterator[Claim]:
        """Yield the claims that hold something."""
        return (claim for claim in self.claims.values() if claim.state in LIVE_CLAIMS)

    def capacity(self, node: Node, amount: str) -> int | None:
        """Give how much of an amount may be given on a node, by its policy; None when nobody knows what there is."""
        total = node.totals.get(amount)
        return None if total is None else int(total * self.ratios.get(amount, 1.0))

    def quota(self, tenant: str) -> Quota | None:
        """Give the limits of a tenant: its own, else everybody's; None without either."""
        return self.quotas.get(tenant) or self.quotas.get("")

    def is_variant(self, profiles: tuple[int, ...], name: str) -> bool:
        """Tell whether devices of a making are of the variant of that name."""
        variant = self.variants.get(name)
        return variant is not None and variant.names(self.profiles[number] for number in profiles)

    def variant_of(self, device: Device) -> str:
        """Give the name of the variant that a device is of; "" when none fits."""
        for name in self.variants:
            if self.is_variant(device.profiles, name):
                return name
        return ""

    # --- keeping ------------------------------------------------------------------------------------------------------

    def keep(self, *, whole: bool = True) -> Kept:
        """Give what a snapshot holds. It shares its parts with the state: encode it before the next entry.

        Not `whole`: without nodes, devices, claims and sights.
        """
        nodes = self.nodes.values() if whole else ()
        devices = self.devices.values() if whole else ()
        claims = self.claims.values() if whole else ()
        return Kept(
            self.sequence,
            self.time_ns,
            self.generation,
            self.profiles,
            list(nodes),
            list(devices),
            list(claims),
            list(self.variants.values()),
            list(self.packages.values()),
            list(self.quotas.values()),
            self.ratios,
            self.keys,
            [sight for device in devices for sight in self.sights.get(device.id, ())],
            list(self.records.values()),
            list(self.divergences.values()),
            list(self.generations.items()),
        )

    @classmethod
    def of(cls, kept: Kept, *, index: bool = True) -> "State":
        """Build a state from what was kept of it, which it takes over.

        Without `index` nothing is found by what it is, and entries are applied faster; call `build_index` after them.
        """
        state = cls()
        state.indexed = False
        state.sequence, state.time_ns, state.generation = kept.sequence, kept.time_ns, kept.generation
        state.profiles = kept.profiles
        state.numbers = {encode_profile(profile): number for number, profile in enumerate(kept.profiles)}
        state.nodes = {node.id: node for node in kept.nodes}
        state.devices = {device.id: device for device in kept.devices}
        state.claims = {claim.id: claim for claim in kept.claims}
        state.variants = {variant.name: variant for variant in kept.variants}
        state.packages = {package.name: package for package in kept.packages}
        state.quotas = {quota.tenant: quota for quota in kept.quotas}
        state.ratios, state.keys = kept.ratios, kept.keys
        for sight in kept.sights:
            state.sights.setdefault(sight.device, []).append(sight)
        for record in kept.records:
            state.records[record.source] = record
            for use in record.uses.values():
                state.record(record.source, use)
        state.generations = dict(kept.generations) or {1: 0}
        state.divergences = {divergence.id: divergence for divergence in kept.divergences}
        for device in kept.devices:
            if not device.profiles:
                merge(device, state.profiles)
            state.nodes[device.node].devices[device.id] = None
        for claim in state.live_claims():
            state.count(claim)
        if index:
            state.build_index()
        return state

    def build_index(self) -> None:
        """Let everything be found."""
        self.found = Index.of(self.devices.values())
        self.indexed = True

    def digest(self) -> str:
        """Give the hash of the state: equal states, equal hashes, whatever way led there."""
        return blake2b(encode_kept(self.keep()), digest_size=16).hexdigest()


def encode_profile(profile: Profile) -> bytes:
    """Give a profile in one form only."""
    return msgspec.msgpack.encode(profile, order="sorted")


_kept_decoder: Final = msgspec.msgpack.Decoder(Kept)


def encode_kept(kept: Kept) -> bytes:
    """Give the bytes of a snapshot, derived fields left out, in one form only."""
    derived = [(device, device.capabilities, device.profiles) for device in kept.devices]
    amounts = [(node, node.used, node.devices) for node in kept.nodes]
    try:
        for device in kept.devices:
            device.capabilities, device.profiles = {}, ()
        for node in kept.nodes:
            node.used, node.devices = {}, {}
        return msgspec.msgpack.encode(kept, order="deterministic")
    finally:
        for device, capabilities, profiles in derived:
            device.capabilities, device.profiles = capabilities, profiles
        for node, used, devices in amounts:
            node.used, node.devices = used, devices


def decode_kept(data: bytes) -> Kept:
    """Read a snapshot. Raises msgspec.DecodeError."""
    return _kept_decoder.decode(data)


def _add(counts: dict[Any, int], name: object, number: int) -> None:
    left = counts.get(name, 0) + number
    if left:
        counts[name] = left
    else:
        counts.pop(name, None)


def _take(index: dict[Any, dict[str, None]], key: object, device: str) -> None:
    found = index.get(key)
    if found is not None:
        found.pop(device, None)
        if not found:
            del index[key]
