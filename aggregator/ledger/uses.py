"""What follows when a device is in use outside Muster: as collectors see it, and as other schedulers' records say.

Both make a device `foreign`, and it is let go only when nobody says so any more: of two who say that it is in use, one
that falls silent proves nothing. A record speaks of the device that was at a place when it was handed in; of a place
where nothing is known it means what is first seen there.
"""

from collections.abc import Mapping, Sequence

import msgspec

from aggregator.ledger import in_use, nodes
from aggregator.ledger.claims import claimed, invalidate
from aggregator.ledger.entries import Entry, Passed, RecordDropped, UsesRecorded
from aggregator.ledger.model import Device
from aggregator.ledger.outside import Use, UseRecord
from aggregator.ledger.relations import excludes
from aggregator.ledger.state import State
from aggregator.ledger.transitions import allowed
from aggregator.ledger.words import SHARING, ClaimState, Lifecycle, Reach
from schemas.errors import MusterError


class RecordUnknownError(MusterError):
    """No record of that name was handed in."""

    code = "record.unknown"
    status = 404


class RecordInvalidError(MusterError):
    """A record cannot be taken as it is; nothing of it was."""

    code = "record.invalid"
    status = 400


def awaited(state: State, node: str, address: str, device: str) -> list[Entry]:
    """Bind what records say of a place to the device that is first seen there; [] when none says anything."""
    entries: list[Entry] = []
    for name in _names(state, node) if state.awaited else ():
        for source in state.awaited.get((name, address), {}):
            record = state.records[source]
            use = record.uses[f"{name} {address}"]
            bound = msgspec.structs.replace(use, node=node, device=device)
            unsaid = [use.place] if bound.place != use.place else []
            entries.append(UsesRecorded(source, record.kind, record.as_of_ns, [bound], unsaid, record.who))
    return entries


def awaited_user(state: State, node: str, address: str) -> str:
    """Say who has whatever is first seen at a place, by records; "" for nobody."""
    if not (address and state.awaited):
        return ""
    names = _names(state, node)
    return ", ".join(
        f"{user} (recorded by {source})"
        for name in names
        for source, user in sorted(state.awaited.get((name, address), {}).items())
    )


def _names(state: State, node: str) -> list[str]:
    """Give what a record may call a node: its id, its name, its host name."""
    known = state.nodes.get(node)
    return list(dict.fromkeys((node, known.name, known.host_name) if known else (node,)))


# --- handing in -------------------------------------------------------------------------------------------------------


def take(
    state: State, source: str, kind: str, uses: Sequence[Use], as_of_ns: int, who: str
) -> tuple[list[Entry], UseRecord]:
    """Take a record: all that a source says now. What it names is foreign, what it names no more is let go.

    The same again changes nothing but the time. Raises RecordInvalidError for one that is older than what was taken.
    """
    if not source or "\n" in source:
        raise RecordInvalidError("a record needs a name, of one line: --source")
    before = state.records.get(source)
    if before is not None and as_of_ns < before.as_of_ns:
        raise RecordInvalidError(f"the record {source} was taken as of a later time already: this one is older")
    places = _Places(state)
    now = {use.place: use for use in (places.resolved(use) for use in uses)}
    known = before.uses if before is not None else {}
    said = [use for place, use in now.items() if known.get(place) != use]
    unsaid = [place for place in known if place not in now]
    entries: list[Entry] = [UsesRecorded(source, kind, as_of_ns, said, unsaid, who)]
    named = {use.device: use.user for use in now.values() if use.device}
    dropped = {use.device for use in known.values() if use.device} - named.keys()
    entries += _follow(state, source, named, dropped)
    return entries, UseRecord(source, kind, as_of_ns, state.time_ns, who, now)


def drop(state: State, source: str, who: str) -> tuple[list[Entry], UseRecord]:
    """Let a record hold no more; what nobody else says to be in use is let go. Raises RecordUnknownError."""
    record = find(state, source)
    dropped = {use.device for use in record.uses.values() if use.device}
    return [RecordDropped(source, who), *_follow(state, source, {}, dropped)], record


def find(state: State, source: str) -> UseRecord:
    """Give a record. Raises RecordUnknownError."""
    record = state.records.get(source)
    if record is None:
        raise RecordUnknownError(f"no record of the name {source!r} was handed in")
    return record


def overdue(state: State, device: Device, *, seen: bool = False) -> list[Entry]:
    """Make a device foreign that a record names, and that was a claim's when the record came; [] for any other.

    With `seen`: so too a free one, or the host's, that its views say to be so ever since a claim had it.
    """
    entries = taken(state, {device.id: user}) if (user := in_use.recorded(state, device)) else []
    if not entries and seen and device.lifecycle is Lifecycle.FREE and in_use.busy(state, device):
        cause = "taken" if in_use.seen(device) else "kept"
        entries = _begun(state, device, cause, in_use.seen(device, cause))
    return entries


def begun(state: State, device: Device, cause: str, why: str) -> list[Entry]:
    """Give what follows when a device is seen in use outside Muster (`taken`), or the host needs it (`kept`).

    Of a device that a claim may have in use that is no news. Of what was but promised nobody has anything yet: the
    promise is taken back, to a part or its whole as well when somebody else has the device.
    """
    if in_hands(state, device):
        return []
    return _begun(state, device, cause, why)


def _begun(state: State, device: Device, cause: str, why: str) -> list[Entry]:
    if device.lifecycle is not Lifecycle.RESERVED and not allowed(device.lifecycle, cause):
        return []
    partners = [one for one in excludes(state, device) if cause == "taken"]
    return [*invalidate(state, [device, *partners], _why(device, cause, why)), Passed(device.id, cause, why=why)]


def _why(device: Device, cause: str, why: str) -> str:
    return f"{device.id} is in use by {why}" if cause == "taken" else f"the host needs {device.id}: {why}"


def taken(state: State, users: Mapping[str, str]) -> list[Entry]:
    """Give what follows when records name devices: `users` by device."""
    found: list[tuple[Device, str]] = []
    for name, user in users.items():
        device = state.devices[name]
        fits = device.lifecycle is Lifecycle.RESERVED or allowed(device.lifecycle, "taken")
        if fits and not in_hands(state, device):
            found.append((device, user))
    promised = [one for device, _ in found for one in (device, *excludes(state, device))]
    why = "; ".join(_why(device, "taken", user) for device, user in found)
    entries: list[Entry] = [*invalidate(state, promised, why)]
    return [*entries, *(Passed(device.id, "taken", why=f"in use by {user}") for device, user in found)]


def in_hands(state: State, device: Device) -> bool:
    """Tell whether a claim of which a node was told may have a device in use, or a part that has no function."""
    parts = (state.devices[name] for name in state.found.parts.get(device.id, ()))
    for one in (device, *(part for part in parts if part.kind in SHARING)):
        claim = state.claims.get(one.hold.claim) if one.hold else None
        if claim is not None and claim.state is not ClaimState.RESERVED and claimed(state, one):
            return True
    return False


def _follow(state: State, source: str, named: dict[str, str], dropped: set[str]) -> list[Entry]:
    entries = taken(state, {name: f"{user} (recorded by {source})" for name, user in named.items()})
    for name in sorted(dropped):
        device = state.devices[name]
        others = state.recorded.get(name, {}).keys() - {source}
        if allowed(device.lifecycle, "let_go") and not others and not in_use.seen(device):
            entries.append(Passed(name, "let_go", why=f"{source} names it no more"))
    return entries


class _Places:
    """Finds what is at a place, each node looked through once."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._nodes: dict[str, tuple[str, dict[str, str]]] = {}

    def resolved(self, use: Use) -> Use:
        """Give a use with the node's id and the device that is there, as far as they are known."""
        if use.node not in self._nodes:
            self._nodes[use.node] = self._look(use.node)
        node, devices = self._nodes[use.node]
        return Use(node, use.address, use.user, devices.get(use.address, ""))

    def _look(self, name: str) -> tuple[str, dict[str, str]]:
        node = nodes.node_of(self._state, name)
        if node is None:
            return name, {}
        devices = {
            device.slot.address: device.id
            for device in self._state.devices_of(node.id)
            if device.slot.address and not device.is_bridge and device.reach is not Reach.ABSENT
        }
        return node.id, devices
