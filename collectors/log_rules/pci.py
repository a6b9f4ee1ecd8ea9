"""Rules for PCI: errors by AER and DPC, hot-plug, functions that do not come back from a reset, what an IOMMU refuses.

Source: Linux `drivers/pci/pcie/aer.c`, `dpc.c`, `drivers/pci/hotplug/pciehp_ctrl.c`, `drivers/pci/pci.c`,
`drivers/iommu/intel/dmar.c`, `drivers/iommu/amd/iommu.c`.
"""

from typing import Final

from collectors.log_rules.rule import PCI, Facts, Rule, Shaped
from schemas.events import EventSpec
from schemas.rows import Severity

_CORRECTED: Final = {
    0: "RxErr",
    6: "BadTLP",
    7: "BadDLLP",
    8: "Rollover",
    12: "Timeout",
    13: "NonFatalErr",
    14: "CorrIntErr",
    15: "HeaderOF",
}
_UNCORRECTED: Final = {
    0: "Undefined",
    4: "DLP",
    5: "SDES",
    12: "TLP",
    13: "FCP",
    14: "CmpltTO",
    15: "CmpltAbrt",
    16: "UnxCmplt",
    17: "RxOF",
    18: "MalfTLP",
    19: "ECRC",
    20: "UnsupReq",
    21: "ACSViol",
    22: "UncorrIntErr",
    23: "BlockedTLP",
    24: "AtomicOpBlocked",
    25: "TLPBlockedErr",
    26: "PoisonTLPBlocked",
}
"""The kernel's names of the bits of the status registers; of those that are masked nothing is said."""
_SEVERITIES: Final = {
    "corrected": Severity.WARNING,
    "nonfatal": Severity.ERROR,
    "fatal": Severity.CRITICAL,
}


def _word(text: str) -> str:
    """Give `corrected`, `nonfatal` or `fatal` for what the kernel's versions say."""
    if text.startswith("Correct"):
        return "corrected"
    return "fatal" if "(Fatal)" in text else "nonfatal"


def _aer(facts: Facts) -> Shaped | None:
    """The line with the status ends what the kernel says of one error; without the one before, its kind is unknown."""
    kind = _word(str(facts["kind"])) if "kind" in facts else ""
    facts["kind"] = kind or "unknown"
    status, masked = int(str(facts.pop("status")), 16), int(str(facts.pop("mask")), 16)
    names = _CORRECTED if kind == "corrected" else _UNCORRECTED
    bits = [names.get(bit, f"bit{bit}") for bit in range(32) if (status & ~masked) >> bit & 1] if kind else []
    if bits:
        facts["errors"] = ",".join(bits)
    facts["status"] = status
    said = f": {facts['errors']}" if bits else ""
    layer = f" ({facts['layer']})" if "layer" in facts else ""
    text = f"{str(facts['kind']).capitalize()} PCIe error of {facts['address']}{layer}{said}"
    return Shaped(text, _SEVERITIES.get(kind, Severity.ERROR))


def _inaccessible(facts: Facts) -> Shaped:
    """Of a device that cannot be read any more the kernel says nothing else."""
    kind = _word(str(facts["kind"]))
    facts["kind"] = kind
    text = f"{kind.capitalize()} PCIe error of {facts['address']}, whose registers cannot be read"
    return Shaped(text, _SEVERITIES[kind])


def _recovery(facts: Facts) -> Shaped:
    good = facts["outcome"] == "successful"
    return Shaped(f"The port {facts['address']} recovered what is behind it from an error" if good
                  else f"The port {facts['address']} could not recover what is behind it from an error",
                  Severity.NOTICE if good else Severity.CRITICAL)  # fmt: skip


_HOTPLUG: Final = {
    "Link Down": ("kernel.pcie.slot.link_down", Severity.ERROR),
    "Link Up": ("kernel.pcie.slot.link_up", Severity.NOTICE),
    "Card not present": ("kernel.pcie.slot.empty", Severity.ERROR),
    "Card present": ("kernel.pcie.slot.card", Severity.NOTICE),
}
_BUS_ERROR: Final = rf"\S+ {PCI}: (?:AER: )?PCIe Bus Error: severity=(?P<kind>[^,]+), type="

RULES: Final = (
    Rule(
        type="kernel.pcie.error",
        holds="PCIe Bus Error: severity=",
        pattern=(_BUS_ERROR + r"(?P<layer>Inaccessible)"),
        same=("kind",),
        shape=_inaccessible,
    ),
    Rule(
        type="",
        holds="PCIe Bus Error: severity=",
        pattern=(_BUS_ERROR + r"(?P<layer>[^,]+), (?:id=\w+)?\((?P<agent>[^)]*)\)"),
        group="aer",
    ),
    Rule(
        type="kernel.pcie.error",
        holds=" error status/mask=",
        pattern=(
            rf"\S+ {PCI}: (?:AER: )? *device \[[0-9a-f:]+\] error status/mask="
            r"(?P<status>[0-9a-f]+)/(?P<mask>[0-9a-f]+)"
        ),
        same=("kind", "errors"),
        group="aer",
        shape=_aer,
    ),
    Rule(
        type="kernel.pcie.contained",
        severity=Severity.CRITICAL,
        begins=("pcieport ",),
        pattern=(
            rf"pcieport {PCI}: DPC: containment event, status:(?P<status>0x[0-9a-f]+)"
            r"(?:,? source:(?P<source>0x[0-9a-f]+))?"
        ),
        numbers=frozenset(("status", "source")),
        text="The port {address} cut off what is behind it after an error",
    ),
    Rule(
        type="kernel.pcie.recovery",
        begins=("pcieport ",),
        pattern=(rf"pcieport {PCI}: AER: device recovery (?P<outcome>failed|successful)"),
        same=("outcome",),
        shape=_recovery,
    ),
    *(
        Rule(
            type=type_,
            severity=severity,
            begins=("pcieport ",),
            pattern=(rf"pcieport {PCI}: pciehp: Slot\((?P<slot>[^)]*)\): {words}"),
            text="Slot {slot} at the port {address}: " + words.lower(),
            same=("slot",),
        )
        for words, (type_, severity) in _HOTPLUG.items()
    ),
    Rule(
        type="kernel.pcie.slot.power_fault",
        severity=Severity.CRITICAL,
        begins=("pcieport ",),
        pattern=(rf"pcieport {PCI}: pciehp: Slot\((?P<slot>[^)]*)\): Power fault"),
        text="Slot {slot} at the port {address} has a power fault",
        same=("slot",),
    ),
    Rule(
        type="kernel.pcie.not_ready",
        severity=Severity.CRITICAL,
        holds=": not ready ",
        pattern=(rf"\S+ {PCI}: not ready (?P<waited_ms>\d+)ms after (?P<after>[^;]+); giving up"),
        numbers=frozenset(("waited_ms",)),
        text="{address} did not come back after {after}",
    ),
    Rule(
        type="kernel.iommu.fault",
        begins=("DMAR: [",),
        pattern=(
            rf"DMAR: \[(?P<access>[^\]]+)\] Request device \[{PCI}\]"
            r"(?:.*?fault addr (?P<fault_address>(?:0x)?[0-9a-f]+))?"
        ),
        text="The IOMMU refused {access} of {address}",
        same=("access",),
    ),
    Rule(
        type="kernel.iommu.fault",
        begins=("AMD-Vi: Event logged",),
        pattern=(
            rf"AMD-Vi: Event logged \[(?P<access>IO_PAGE_FAULT) device={PCI}.*?address=(?P<fault_address>0x[0-9a-f]+)"
        ),
        text="The IOMMU refused an access of {address}",
        same=("access",),
    ),
)

_SLOT: Final = ("address", "slot")
EVENTS: Final = (
    EventSpec(
        "kernel.pcie.error",
        "PCIe reported an error of a device (AER); `errors` are the kernel's names of them.",
        (Severity.CRITICAL, Severity.ERROR, Severity.WARNING),
        ("address", "kind", "layer", "agent", "errors", "status"),
    ),
    EventSpec(
        "kernel.pcie.contained",
        "A port cut off what is behind it after an uncorrectable error (DPC).",
        (Severity.CRITICAL,),
        ("address", "status", "source"),
    ),
    EventSpec(
        "kernel.pcie.recovery",
        "The kernel reset what is behind a port after an error: with or without success.",
        (Severity.CRITICAL, Severity.NOTICE),
        ("address", "outcome"),
    ),
    EventSpec("kernel.pcie.slot.link_down", "The link of a hot-plug slot went down.", (Severity.ERROR,), _SLOT),
    EventSpec("kernel.pcie.slot.link_up", "The link of a hot-plug slot is up.", (Severity.NOTICE,), _SLOT),
    EventSpec("kernel.pcie.slot.empty", "A hot-plug slot has no card any more.", (Severity.ERROR,), _SLOT),
    EventSpec("kernel.pcie.slot.card", "A card was put into a hot-plug slot.", (Severity.NOTICE,), _SLOT),
    EventSpec("kernel.pcie.slot.power_fault", "A hot-plug slot has a power fault.", (Severity.CRITICAL,), _SLOT),
    EventSpec(
        "kernel.pcie.not_ready",
        "A function did not come back from a reset.",
        (Severity.CRITICAL,),
        ("address", "after", "waited_ms"),
    ),
    EventSpec(
        "kernel.iommu.fault",
        "The IOMMU refused an access of a device.",
        (Severity.ERROR,),
        ("address", "access", "fault_address"),
    ),
)
