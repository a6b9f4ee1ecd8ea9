"""Rules for NVIDIA's drivers: Xid, SXid, GPUs that are gone.

Source: NVIDIA open-gpu-kernel-modules, `nverror.h`; lines of real machines in leptonai/gpud's test data and in
issues of NVIDIA/NVSentinel.
"""

import re
from typing import Final

from collectors.log_rules.rule import PCI, Facts, Rule, Shaped
from collectors.xids import GPU_EVENTS, xid
from schemas.events import EventSpec
from schemas.rows import Severity

_XID: Final = (
    rf"NVRM: Xid \((?:PCI:)?{PCI}(?: GPU-I:(?P<gpu_instance>\d+))?(?: GPU-CI:(?P<compute_instance>\d+))?\): "
    r"(?P<xid>\d{1,5})(?:, (?:pid='?(?P<process_id>[^',]*+)'?)"
    r"(?:, name=(?P<process>[^,]*+))?)?(?:, (?P<text>.*))?"
)
_NVLINK: Final = re.compile(
    r"(?P<unit>[A-Z][A-Z0-9_]+)\s+(?P<fatal>Fatal|Nonfatal)\s+XC\s?\d+\s+i\s?\d+\s+Link\s+(?P<link>-?\d+)\s+"
    r"[(\[](?P<words>[0-9a-fx ]+)[)\]]",
    re.ASCII,
)
"""NVLink 5: Xid 144 to 150 name the unit, whether it is fatal, the link, and words of status."""
_PREVIOUS: Final = re.compile(r"previous Xid (\d{1,5})", re.ASCII)
_UNKNOWN: Final = ("<unknown>", "unknown")


def _xid(facts: Facts) -> Shaped:
    code = int(facts["xid"] or 0)
    known = xid(code)
    facts["cause"] = known.cause.value
    severity = known.severity
    if facts.get("process") in _UNKNOWN:
        del facts["process"]
    text = str(facts.get("text", ""))
    if match := _NVLINK.search(text):
        fatal = match["fatal"] == "Fatal"
        facts |= {"unit": match["unit"], "fatal": fatal, "link": int(match["link"]), "words": match["words"]}
        severity = Severity.CRITICAL if fatal else Severity.ERROR
    if match := _PREVIOUS.search(text):
        facts["previous_xid"] = int(match[1])
    whose = f" (process {facts['process']})" if "process" in facts else ""
    return Shaped(f"Xid {code} on GPU at {facts.get('address', 'an unknown place')}{whose}: {known.text}", severity)


def _sxid(facts: Facts) -> Shaped:
    fatal = facts.pop("how", "") == "Fatal"
    facts["fatal"] = fatal
    word = "Fatal" if fatal else "Non-fatal"
    text = f"{word} SXid {facts['sxid']} on NVSwitch {facts['switch']} at {facts.get('address', '')}"
    return Shaped(
        f"{text}: {facts.get('text', 'nothing more is said')}", Severity.CRITICAL if fatal else Severity.ERROR
    )


RULES: Final = (
    Rule(
        type="nvml.xid",
        begins=("NVRM: Xid ",),
        pattern=_XID,
        numbers=frozenset(("xid", "process_id", "gpu_instance", "compute_instance")),
        same=("xid", "link", "process_id", "gpu_instance"),
        shape=_xid,
    ),
    Rule(
        type="nvml.gpu.lost",
        severity=Severity.CRITICAL,
        begins=("NVRM: GPU ", "NVRM: The NVIDIA GPU "),
        pattern=(rf"NVRM: (?:GPU (?:at )?(?:PCI:)?|The NVIDIA GPU ){PCI}.*?(?P<reason>fallen off the bus)"),
        text="The GPU at {address} has fallen off the bus",
    ),
    Rule(
        type="nvml.gpu.reset_required",
        severity=Severity.CRITICAL,
        begins=("NVRM: Rate limiting GSP RPC error prints",),
        pattern=(rf"NVRM: Rate limiting.*? for GPU at (?:PCI:)?{PCI}.*?(?P<reason>The GPU likely needs[^.]*)"),
        text="The GPU at {address} likely needs a reset: its processor answers no more",
    ),
    Rule(
        type="kernel.nvswitch.sxid",
        begins=("nvidia-nvswitch",),
        pattern=(
            rf"nvidia-nvswitch(?P<switch>\d+): SXid \(PCI:{PCI}\): (?P<sxid>\d+), (?P<how>Fatal|Non-fatal), "
            r"(?:Link (?P<link>\d+) ?)?(?P<text>.*)"
        ),
        numbers=frozenset(("switch", "sxid", "link")),
        same=("sxid", "link"),
        shape=_sxid,
    ),
)

EVENTS: Final = (
    *GPU_EVENTS,
    EventSpec(
        "kernel.nvswitch.sxid",
        "The driver of an NVSwitch reported an error by its number.",
        (Severity.CRITICAL, Severity.ERROR),
        ("sxid", "switch", "address", "fatal", "link", "text"),
    ),
)
