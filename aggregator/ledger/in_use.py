"""Who has a device outside Muster, and what the host needs it for: as its views tell, and other schedulers' records.

A device that no claim has is given to nobody while anything says so, whatever its lifecycle: a fact may come while a
claim has the device, when it changes nothing, and is true still once the claim is over.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from aggregator.ledger.givable import never_given
from aggregator.ledger.model import Device, View
from aggregator.ledger.state import State
from aggregator.ledger.words import SHARING, Lifecycle

NEEDS: Final = {"taken": "in_use_by", "kept": "host_needs"}
"""Cause of a transition -> the word of a view that tells it."""
_WORDS: Final = frozenset({*NEEDS.values(), "vfio_in_use"})


def told_by(view: View, cause: str) -> str:
    """Say who uses a device outside Muster (`taken`), or what the host needs it for (`kept`); "" for nobody."""
    told = view.own.get(NEEDS[cause])
    if isinstance(told, list):
        told = ", ".join(told)
    return str(told or ("a program" if cause == "taken" and view.own.get("vfio_in_use") is True else ""))


def seen(device: Device, cause: str = "taken", *, beside: str = "") -> str:
    """Say what the views of a device tell, that of source `beside` left out; "" for nothing."""
    told = [told_by(view, cause) for source, view in sorted(device.views.items()) if source != beside]
    return ", ".join(dict.fromkeys(one for one in told if one))


def recorded(state: State, device: Device) -> str:
    """Say who has a device by other schedulers' records; "" for nobody."""
    found = state.recorded.get(device.id, {})
    return ", ".join(f"{user} (recorded by {source})" for source, user in sorted(found.items()))


def outside(state: State, device: Device) -> str:
    """Say who uses a device outside Muster, by whatever source; "" for nobody that is known."""
    return ", ".join(one for one in (seen(device), recorded(state, device)) if one)


def busy(state: State, device: Device) -> str:
    """Say why nobody can be given a device that no claim holds: who uses it, or what the host needs it for; "" if idle.

    What is told of a GPU or drive while claims hold parts of it is told of them.
    """
    telling = any(not _WORDS.isdisjoint(view.own) for view in device.views.values())
    if not telling and device.id not in state.recorded:
        return ""
    user = recorded(state, device) if _in_parts(state, device) else outside(state, device)
    if user:
        return f"in use by {user}"
    need = seen(device, "kept")
    return f"the host's, which needs it: {need}" if need else ""


def unused(views: Mapping[str, View]) -> dict[str, View]:
    """Give the same views with nothing told of use: as of a device that was let go."""
    return {
        source: view
        if _WORDS.isdisjoint(view.own)
        else msgspec.structs.replace(view, own={word: value for word, value in view.own.items() if word not in _WORDS})
        for source, view in views.items()
    }


def uneasy(state: State, device: Device) -> str:
    """Say why a device of a group, in nobody's hands, is no neighbour for a tenant's own; "" when it is idle.

    One that was taken out for good may still have its user, or be what the host lives on.
    """
    if device.lifecycle not in (Lifecycle.FREE, Lifecycle.RETIRED):
        return str(device.lifecycle.value)
    why = busy(state, device)
    if not why and device.lifecycle is Lifecycle.RETIRED:
        why = never_given(device.kind, device.capabilities)
    return f"{device.lifecycle.value}, and {why}" if why else ""


def passed(state: State, device: Device) -> bool:
    """Tell whether a device in foreign use is out of the host's hands: a guest has it, as one of a group would."""
    if device.lifecycle not in (Lifecycle.FOREIGN, Lifecycle.RETIRED, Lifecycle.FREE):
        return False
    return device.id in state.recorded or any(view.own.get("vfio_in_use") is True for view in device.views.values())


def _in_parts(state: State, device: Device) -> bool:
    """Tell whether claims hold parts of a device that have no PCI function of their own."""
    parts = (state.devices[name] for name in state.found.parts.get(device.id, ()))
    return any(part.kind in SHARING and part.hold is not None for part in parts)
