"""What the aggregator and a node say about claims. Part of the control channel (`schemas.control`).

The aggregator tells a node all its work at once, as often as it changes: the node compares, does what it has not done,
and reports until a step is no longer among its work. So nothing has to be acknowledged, whatever gets lost. A step says
what is to become of devices; how, the operator's hooks in the agent's own configuration know. No commands, no paths.
"""

from enum import Enum

import msgspec


class Step(Enum):
    """What a node is to do with devices."""

    PREPARE = "prepare"
    """Make them ready for the claim, off the host's drivers where the mode asks for it, and confirm."""
    UNDO = "undo"
    """Take them away from the claim, and confirm that nothing uses them."""
    CHECK = "check"
    """The lease ran out: look whether anything uses them, and confirm when nothing does. Change nothing."""
    CLEAN = "clean"
    """Clean them, and hand in each one's evidence."""


class ClaimDevice(msgspec.Struct, array_like=True, frozen=True):
    """One device of a step."""

    device: str
    """The ledger's id."""
    kind: str
    part: str
    """The part that it must be (`uuid:...`, `serial:<vendor>:<serial>`, or `slot:...` where it tells nothing)."""
    address: str
    """PCI address as last seen; "" for what has none."""
    path: str
    """Its slot: root port and bridges."""
    mode: str
    """`passthrough` or `driver`."""
    group: int
    """IOMMU group as last seen; -1 for none."""
    members: tuple[str, ...] = ()
    """PCI addresses of all endpoints of that group."""
    family: str = ""
    """What shares one fate: the part of the PF of a VF, of the GPU of a partition; else its own."""
    parent: str = ""
    """PCI address of what it is a part of; "" for nothing."""
    profile: str = ""
    """Of a partition that is made for claims: its plan (`schemas.mig.Plan`), to be made with PREPARE on the GPU at
    `parent`, whose part is `family`, and to be destroyed with CLEAN; "" for what is there anyhow."""
    clean: int = 0
    """With CLEAN: ledger sequence at which the clean was begun; its evidence quotes it."""
    expected: dict[str, str] = {}
    """What a VF should be like when nobody has it: `mac`, `vlan`."""
    node: str = ""
    """Where it is, for a publisher that speaks for several nodes; "" from an aggregator that did not say so yet."""


class ClaimStep(msgspec.Struct, array_like=True, frozen=True):
    """One piece of a node's work."""

    claim: str
    """Claim; with CLEAN the one that held the devices last, or ""."""
    step: Step
    tenant: str
    consumer: str
    generation: int
    sequence: int
    """With the generation: the claim's epoch. A node refuses a lower one than it has seen of what excludes a device."""
    devices: list[ClaimDevice]
    """[]: the claim holds nothing of the node but `amounts`; there is nothing to do, but to keep that, and say so."""
    lease_seconds: float = 3600.0
    """The claim's term: with it a lost ledger restores the claim from the node's checkpoint."""
    amounts: dict[str, dict[str, int]] = {}
    """What the claim holds beside devices, in base units, by node; kept for the same end, and nothing else."""
    confirm: bool = False
    """Without devices: whether the node is to report, without devices, that it keeps it."""


class Made(msgspec.Struct, array_like=True, frozen=True):
    """The ids of a partition that was made."""

    uuid: str
    """As the driver gives it, which may give it again."""
    gpu_instance: int
    compute_instance: int
    generation: int
    """Which making under these ids on this GPU it is: 1, and higher for each later one."""


class DeviceReport(msgspec.Struct, array_like=True, frozen=True):
    """What became of one device of a step."""

    device: str
    done: bool
    problem: str = ""
    """Why it was not; for people."""
    part: str = ""
    """The part that was there."""
    group: int = -1
    """The IOMMU group that it was in."""
    driver: str = ""
    """Its driver after the step; "" for none."""
    evidence: str = ""
    """With CLEAN: the typed document, as JSON."""
    made: Made | None = None
    """With PREPARE of a partition: what was made."""
    clean: int = 0
    """With CLEAN: which clean it was, as in `ClaimDevice.clean`."""


class ClaimReport(msgspec.Struct, array_like=True, frozen=True):
    """What became of a step, as far as it is done."""

    claim: str
    step: Step
    generation: int
    sequence: int
    devices: list[DeviceReport]
    nodes: list[str] = []
    """Those of the publisher's that keep what the claim holds of them beside devices, as they were asked to."""


class CheckpointClaim(msgspec.Struct, array_like=True, frozen=True):
    """A claim that a node confirmed and has not undone: what a lost ledger is built from again."""

    claim: str
    tenant: str
    consumer: str
    generation: int
    sequence: int
    lease_seconds: float
    devices: list[ClaimDevice]
    amounts: dict[str, dict[str, int]] = {}
    """What it holds beside devices, by node; {} as well from an agent that did not keep it yet."""


class Checkpoint(msgspec.Struct, array_like=True, frozen=True):
    """What a node keeps of claims, in a file of its own that outlives the spool."""

    generation: int
    """Of the highest epoch that it has seen."""
    sequence: int
    claims: list[CheckpointClaim]
