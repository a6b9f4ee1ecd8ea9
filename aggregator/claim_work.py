"""What the ledger's state asks of a node, now: plain functions, so that nothing of it has to be remembered."""

from collections.abc import Iterator
from typing import Final

from aggregator.ledger.evidence import expected
from aggregator.ledger.model import Device
from aggregator.ledger.relations import together
from aggregator.ledger.state import State
from aggregator.ledger.words import ClaimState, Epoch, Lifecycle, Mode
from schemas.claims import ClaimDevice, ClaimStep, Step

_STEPS: Final = {
    ClaimState.PROVISIONING: Step.PREPARE,
    ClaimState.UNDOING: Step.UNDO,
    ClaimState.RELEASING: Step.UNDO,
    ClaimState.SUSPECT: Step.CHECK,
}
_IDLE: Final = (Lifecycle.DIRTY, Lifecycle.CLEANING)


def unclean(state: State, node: str) -> list[Device]:
    """Give the devices of a node that are dirty or being cleaned."""
    return [device for device in state.devices_of(node) if device.lifecycle in _IDLE]


def work_of(state: State, node: str, idle: list[Device] | None = None, most: int = 1 << 30) -> list[ClaimStep]:
    """Give what claims ask of a node, about `most` devices; `idle`: its `unclean` devices, when they are known."""
    work: list[ClaimStep] = []
    for name in state.claims_on.get(node, ()):
        step = _held(state, name, node) or (_step(state, name, node) if most > 0 else None)
        if step is not None:
            work.append(step)
            most -= len(step.devices)
    cleaning = [device for device in (unclean(state, node) if idle is None else idle) if device.cleaning]
    return work + list(_cleans(state, cleaning[: max(0, most)]))


def _held(state: State, name: str, node: str) -> ClaimStep | None:
    """Give the step without devices by which a node keeps what a claim holds of it; None where it holds devices."""
    claim = state.claims[name]
    amounts = claim.shares.get(node)
    if not amounts or claim.state is ClaimState.RESERVED or any(one.node == node for one in claim.devices):
        return None
    epoch = (claim.epoch.generation, claim.epoch.sequence)
    return ClaimStep(
        claim.id, Step.PREPARE, claim.tenant, claim.consumer, *epoch, [], claim.lease_seconds, {node: amounts},
        confirm=claim.state is ClaimState.PROVISIONING and node in claim.unkept,
    )  # fmt: skip


def _step(state: State, name: str, node: str) -> ClaimStep | None:
    claim = state.claims[name]
    step = _STEPS.get(claim.state)
    if step is None:
        return None
    done = {**claim.undone, **claim.confirmed} if step is Step.PREPARE else claim.undone
    held = [one for one in claim.devices if one.node == node and one.device not in done]
    if not held:
        return None
    return ClaimStep(
        claim.id,
        step,
        claim.tenant,
        claim.consumer,
        claim.epoch.generation,
        claim.epoch.sequence,
        [claim_device(state, state.devices[one.device]) for one in held],
        claim.lease_seconds,
        {node: amounts} if (amounts := claim.amounts.get(node)) and step is Step.PREPARE else {},
    )


def _cleans(state: State, devices: list[Device]) -> Iterator[ClaimStep]:
    for device in devices:
        if device.lifecycle is Lifecycle.CLEANING:
            hold = device.hold
            epoch = hold.epoch if hold else Epoch(state.generation, device.cleaning)
            yield ClaimStep(
                hold.claim if hold else "",
                Step.CLEAN,
                hold.tenant if hold else "",
                "",
                epoch.generation,
                epoch.sequence,
                [claim_device(state, device)],
            )


def claim_device(state: State, device: Device) -> ClaimDevice:
    """Give what a node has to know of a device."""
    hold = device.hold
    parent = state.devices.get(device.parent)
    members = [device, *together(state, device)] if device.group is not None else []
    return ClaimDevice(
        device.id,
        device.kind.value,
        device.part_key if device.lifecycle is Lifecycle.CLEANING or hold is None else hold.part,
        device.slot.address,
        device.slot.path,
        (hold.mode if hold else Mode.DRIVER).value,
        -1 if device.group is None else device.group,
        tuple(sorted(member.slot.address for member in members if member.slot.address)),
        (parent or device).part_key,
        parent.slot.address if parent else "",
        device.planned,
        device.cleaning if device.lifecycle is Lifecycle.CLEANING else 0,
        expected(device),
        device.node,
    )
