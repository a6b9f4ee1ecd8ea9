"""What a node keeps of claims, in a file of its own: it outlives the spool, the agent, and the ledger.

Two things: the highest epochs that it has seen, by what they exclude (a device, a port or GPU whole, their parts, an
IOMMU group), so that nobody who decides from an older ledger is obeyed; and the claims that it confirmed, from which a
lost ledger is built again. Written whole, to another name, flushed and renamed, before anything rests on it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from collectors._durable import replace_file
from schemas.claims import Checkpoint, CheckpointClaim, ClaimDevice, ClaimStep, Step
from schemas.digest import blake2b
from schemas.errors import MusterError
from schemas.mig import read_plan

VERSION: Final = 1


class CheckpointError(MusterError):
    """The checkpoint cannot be read or written: no claim is worked on, for nobody knows what was promised."""

    code = "claim.checkpoint"


class EpochError(MusterError):
    """The step comes from an older ledger than this node has seen: it is refused."""

    code = "claim.epoch"


class Fence(msgspec.Struct, array_like=True, frozen=True):
    """The highest epoch seen of one thing, and who it was for."""

    generation: int
    sequence: int
    tenant: str
    mode: str

    @property
    def epoch(self) -> tuple[int, int]:
        """What is compared."""
        return (self.generation, self.sequence)


class Kept(msgspec.Struct):
    """A device that was confirmed."""

    device: ClaimDevice
    boot: str
    """The boot in which it was prepared; in another it has to be prepared again."""


class KeptClaim(msgspec.Struct):
    """A claim as far as this node confirmed it."""

    tenant: str
    consumer: str
    generation: int
    sequence: int
    lease_seconds: float
    devices: dict[str, Kept] = {}
    amounts: dict[str, dict[str, int]] = {}
    """By node; {} as well where it was kept by an agent that did not know of amounts."""


class _File(msgspec.Struct):
    version: int
    generation: int = 0
    sequence: int = 0
    fences: dict[str, Fence] = {}
    claims: dict[str, KeptClaim] = {}


class CheckpointFile:
    """Reads once, writes on change. `durable` false: a crash of the machine may lose the last writes (simulation)."""

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        """Read what was kept. Raises CheckpointError when there is something that cannot be read."""
        self._path = path
        self._durable = durable
        self._file = _read(path)

    # --- epochs -------------------------------------------------------------------------------------------------------

    def refuse_older(self, step: ClaimStep, device: ClaimDevice) -> None:
        """Raise EpochError when something that excludes this step was asked for under a higher epoch."""
        epoch = (step.generation, step.sequence)
        for key, same in _excluding(device):
            seen = self._file.fences.get(key)
            if seen is None or seen.epoch <= epoch:
                continue
            if same and (seen.tenant, seen.mode) == (step.tenant, device.mode):
                continue  # its own tenant's other devices of the group: in whatever order they come
            raise EpochError(
                f"{device.device}: the step has epoch {step.generation}.{step.sequence}, and this node has seen"
                f" {seen.generation}.{seen.sequence} of {key}: it comes from an older ledger"
            )

    def raise_fences(self, step: ClaimStep, device: ClaimDevice) -> None:
        """Keep a step's epoch before anything is done for it; on disk when this returns. Raises CheckpointError."""
        mine = Fence(step.generation, step.sequence, step.tenant, device.mode)
        changed = False
        for key in _raised(device) if step.step is Step.PREPARE else _parts(device):
            seen = self._file.fences.get(key)
            if seen is None or seen.epoch < mine.epoch:
                self._file.fences[key] = mine
                changed = True
        if (self._file.generation, self._file.sequence) < mine.epoch:
            self._file.generation, self._file.sequence = mine.epoch
            changed = True
        if changed:
            self.save()

    # --- claims -------------------------------------------------------------------------------------------------------

    def confirm(self, step: ClaimStep, device: ClaimDevice, boot: str) -> None:
        """Keep that a device is the claim's; on disk when this returns. It is then no other's. Raises CheckpointError.

        A claim that is kept under an older epoch begins anew.
        """
        self._drop(device.device, but=step.claim)
        claim = self._file.claims.get(step.claim)
        if claim is None or (claim.generation, claim.sequence) != (step.generation, step.sequence):
            claim = KeptClaim(step.tenant, step.consumer, step.generation, step.sequence, step.lease_seconds)
            self._file.claims[step.claim] = claim
        claim.devices[device.device] = Kept(device, boot)
        claim.amounts |= step.amounts
        self.save()

    def hold(self, steps: list[ClaimStep]) -> None:
        """Keep the claims that hold nothing but amounts, and no others; on disk when this returns.

        Raises CheckpointError; then what was kept before still is.
        """
        before = self._file.claims
        after = {
            name: msgspec.structs.replace(claim, amounts=dict(claim.amounts))
            for name, claim in before.items()
            if claim.devices
        }
        for step in steps:  # of several nodes that one publisher speaks for, each is a step
            epoch = (step.generation, step.sequence)
            kept = after.get(step.claim)
            if kept is None:
                kept = after[step.claim] = KeptClaim(step.tenant, step.consumer, *epoch, step.lease_seconds)
            if epoch == (kept.generation, kept.sequence):
                kept.amounts |= step.amounts
        self._file.claims = after
        if self._file.claims == before:
            return
        try:
            self.save()
        except CheckpointError:
            self._file.claims = before
            raise

    def forget(self, device: str) -> None:
        """Keep that a device is nobody's; on disk when this returns. Raises CheckpointError."""
        if self._drop(device):
            self.save()

    def kept(self, step: ClaimStep, device: str) -> Kept | None:
        """Give what was confirmed of a device under this very claim and epoch; None when nothing was."""
        claim = self._file.claims.get(step.claim)
        if claim is None or (claim.generation, claim.sequence) != (step.generation, step.sequence):
            return None
        return claim.devices.get(device)

    def beside(self, step: ClaimStep, device: ClaimDevice, boot: str) -> bool:
        """Tell whether a claim of the same tenant has another member of a device's group in this boot."""
        return len(device.members) > 1 and any(
            kept.boot == boot
            and kept.device.mode == device.mode == "passthrough"
            and kept.device.device != device.device
            and _group(kept.device) == _group(device)
            for claim in self._file.claims.values()
            if claim.tenant == step.tenant
            for kept in claim.devices.values()
        )

    def message(self) -> Checkpoint:
        """Give what the aggregator is told with the first request of a run."""
        claims = [
            CheckpointClaim(
                name,
                claim.tenant,
                claim.consumer,
                claim.generation,
                claim.sequence,
                claim.lease_seconds,
                [kept.device for kept in claim.devices.values()],
                dict(claim.amounts),
            )
            for name, claim in self._file.claims.items()
        ]
        return Checkpoint(self._file.generation, self._file.sequence, claims)

    def _drop(self, device: str, but: str = "") -> bool:
        dropped = False
        for name, claim in list(self._file.claims.items()):
            if name != but and claim.devices.pop(device, None) is not None:
                dropped = True
                if not claim.devices:
                    del self._file.claims[name]
        return dropped

    def save(self) -> None:
        """Write it whole. Raises CheckpointError; then what is on disk is what was there before."""
        body = msgspec.json.encode(self._file)
        whole = body + b"\n" + blake2b(body, digest_size=16).hexdigest().encode() + b"\n"
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            replace_file(self._path, whole, durable=self._durable)
        except OSError as error:
            raise CheckpointError(f"{self._path}: cannot be written: {error.strerror or error}") from None


def _excluding(device: ClaimDevice) -> Iterator[tuple[str, bool]]:
    """Give what a step must not be older than; true where the same tenant's other devices may be newer."""
    own, whole = _own(device), device.family in ("", device.part)
    for name in _parts(device):
        yield name, False
    if whole:
        yield f"parts-of:{own}", False
    else:
        yield f"whole:{device.family}", False
    if device.mode == "passthrough" and len(device.members) > 1:
        yield _group(device), True


def _raised(device: ClaimDevice) -> Iterator[str]:
    own = _own(device)
    yield from _parts(device)
    if device.family in ("", device.part):
        yield f"whole:{own}"
    else:
        yield f"parts-of:{device.family}"
    if device.mode == "passthrough" and len(device.members) > 1:
        yield _group(device)


def _parts(device: ClaimDevice) -> Iterator[str]:
    """Name what is given: a device; of a partition that is made for a claim each slice of its GPU that it takes."""
    plan = read_plan(device.profile)
    if plan is None:
        yield f"part:{_own(device)}"
        return
    for at in range(plan.place.start, plan.place.start + plan.place.size):
        yield f"part:{device.family}/slice{at}"


def _own(device: ClaimDevice) -> str:
    """Name a device for good: parts that say nothing of themselves share a name with whatever sits in their slot."""
    return device.part or f"slot:{device.path or device.address}"


def _group(device: ClaimDevice) -> str:
    """Name a group by its members: its number is another one after a boot."""
    return "group:" + blake2b(" ".join(sorted(device.members)).encode(), digest_size=8).hexdigest()


def exclusive(device: ClaimDevice) -> frozenset[str]:
    """Give what no two steps may work on at once."""
    return frozenset(
        {
            f"part:{_own(device)}",
            f"family:{device.family or _own(device)}",
            *([_group(device)] if len(device.members) > 1 else ()),
        }
    )


def _read(path: Path) -> _File:
    try:
        body, _, rest = path.read_bytes().partition(b"\n")
    except FileNotFoundError:
        return _File(VERSION)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from None
    if rest.strip() != blake2b(body, digest_size=16).hexdigest().encode():
        raise CheckpointError(
            f"{path}: is damaged. It says what this node promised: undo its claims by hand, then remove it"
        )
    try:
        found = msgspec.json.decode(body, type=_File)
    except msgspec.MsgspecError as error:
        raise CheckpointError(f"{path}: is not a checkpoint: {error}") from None
    if found.version != VERSION:
        raise CheckpointError(f"{path}: has version {found.version}, and this is {VERSION}: start the newer agent")
    return found
