"""What a node's answer to its work does to the ledger: plain functions of the state, as all decisions are.

The node's word counts for its own devices, in claims that hold them, under the epoch that it was told. Everything else
is refused and changes nothing.
"""

from aggregator import reconcile
from aggregator.ledger import claims, cleaning, evidence
from aggregator.ledger.entries import Entry
from aggregator.ledger.evidence import EvidenceError
from aggregator.ledger.model import Device, Held
from aggregator.ledger.state import State
from aggregator.ledger.words import ClaimState, Epoch, Lifecycle
from schemas.claims import ClaimReport, DeviceReport, Step


def taken(state: State, publisher: str, report: ClaimReport, told: DeviceReport) -> tuple[list[Entry], object]:
    """Take what a publisher reports of one device. Again: nothing new.

    Raises ClaimError for another node's device, another claim's, or another epoch, and what the decision itself raises.
    """
    device = cleaning.find(state, told.device)
    if state.nodes[device.node].publisher != publisher:
        raise claims.ClaimError(f"{told.device} is not a device of {publisher}")
    if report.step is Step.CLEAN:
        return _cleaned(state, device, told, publisher)
    epoch = Epoch(report.generation, report.sequence)
    held = _held(state, report.claim, epoch, device)
    if report.step is Step.PREPARE:
        wrong = _wrong(state, device, held, told) if told.done else f"{device.id}: {told.problem}"
        if not wrong:
            ids = {device.id: told.made} if told.made is not None else {}
            return claims.confirm(state, report.claim, epoch, [device.id], ids)
        claims.find(state, report.claim, states=(ClaimState.PROVISIONING, ClaimState.UNDOING, ClaimState.RELEASING))
        return claims.begin_undo(state, report.claim, wrong)
    if told.done:
        return claims.undone(state, report.claim, epoch, [device.id])
    return [], None


def kept(state: State, publisher: str, report: ClaimReport) -> tuple[list[Entry], object]:
    """Take a publisher's word that its nodes keep what a claim holds of them beside devices. Again: nothing new."""
    found = claims.find(state, report.claim)
    mine = (node for node in report.nodes if node in state.nodes and state.nodes[node].publisher == publisher)
    nodes = [node for node in mine if node in found.unkept]
    if not nodes or found.state is not ClaimState.PROVISIONING:
        return [], None
    return claims.confirm(state, report.claim, Epoch(report.generation, report.sequence), [], nodes=nodes)


def _held(state: State, claim: str, epoch: Epoch, device: Device) -> Held:
    """Give what a claim holds of a device: who is told of nothing has nothing to say of it."""
    found = claims.find(state, claim)
    if found.epoch != epoch:
        raise claims.ClaimError(f"claim {claim} has epoch {found.epoch}, not {epoch}")
    for held in found.devices:
        if held.device == device.id:
            return held
    raise claims.ClaimError(f"claim {claim} does not hold {device.id}")


def _wrong(state: State, device: Device, held: Held, told: DeviceReport) -> str:
    """Say what keeps a device that was prepared from being the claim's; "" when nothing does."""
    if told.part != held.part:
        return f"{device.id}: the node found the part {told.part}"
    if device.planned and told.made is None:
        return f"{device.id}: the node did not say which partition it made"
    if device.group is not None and told.group != device.group:
        return f"{device.id}: the node found it in IOMMU group {told.group}, not {device.group}"
    other = reconcile.in_its_slot(state, device)
    if other is not None and device.lifecycle is Lifecycle.PROVISIONING:  # bound to vfio, it does not say which it is
        return f"{device.id} is absent: the part {other.part_key} is in its slot, as {other.id}"
    return ""


def _cleaned(state: State, device: Device, told: DeviceReport, publisher: str) -> tuple[list[Entry], object]:
    """Take the end of a clean: nothing but evidence that holds makes a device free."""
    if told.clean != device.cleaning or device.lifecycle is not Lifecycle.CLEANING:
        return [], None  # of an older clean, told late; or of this one, told again until its node heard that it is over
    if not told.done:
        return cleaning.fail_clean(state, device.id, told.clean, told.problem, publisher)
    try:
        document = evidence.read(told.evidence)
        if document.device != device.id or document.clean != told.clean:
            raise EvidenceError(f"it is of the clean at {document.clean} of {document.device}")
    except EvidenceError as error:
        return cleaning.fail_clean(state, device.id, told.clean, f"its evidence does not hold: {error}", publisher)
    return cleaning.end_clean(state, device.id, document, publisher)
