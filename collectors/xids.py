"""What an Xid says: the number by which NVIDIA's driver names what went wrong; and the events that two sources tell.

NVML tells Xids, but not of a GPU that is gone, nor who was hit; the kernel log has the driver's own line of each. Both
tell the same events, and the agent makes one of two (`joining`).

Source: NVIDIA "Xid Errors" (docs.nvidia.com/deploy/xid-errors), the catalogue of 2025; in our own words.
"""

from enum import Enum
from typing import Final, NamedTuple

from schemas.events import EventSpec
from schemas.rows import Severity


class Cause(Enum):
    """Where to look."""

    PROGRAM = "program"
    """A program's own mistake in nearly all cases: says nothing bad of the GPU."""
    MEMORY = "memory"
    LINK = "link"
    HARDWARE = "hardware"
    DRIVER = "driver"
    """Driver or firmware."""
    STATE = "state"
    """Tells of a state, not of an error of its own."""


class Xid(NamedTuple):
    """One number."""

    text: str
    cause: Cause
    severity: Severity


_NOTICE, _WARNING, _ERROR, _CRITICAL = Severity.NOTICE, Severity.WARNING, Severity.ERROR, Severity.CRITICAL
_P, _M, _L, _H, _D, _S = Cause.PROGRAM, Cause.MEMORY, Cause.LINK, Cause.HARDWARE, Cause.DRIVER, Cause.STATE

XIDS: Final[dict[int, Xid]] = {
    13: Xid("graphics engine exception", _P, _NOTICE),
    31: Xid("memory page fault", _P, _NOTICE),
    32: Xid("invalid or corrupted push buffer", _D, _ERROR),
    38: Xid("driver firmware error", _D, _ERROR),
    43: Xid("a program's channel was stopped", _P, _NOTICE),
    44: Xid("graphics engine fault during context switch", _D, _ERROR),
    45: Xid("channels were cleaned up after another error", _P, _NOTICE),
    46: Xid("GPU stopped processing", _D, _ERROR),
    48: Xid("double bit ECC error", _M, _ERROR),
    54: Xid("auxiliary power is not connected", _H, _CRITICAL),
    56: Xid("display engine error", _H, _ERROR),
    57: Xid("video memory interface error", _H, _ERROR),
    58: Xid("unstable video memory interface", _H, _ERROR),
    61: Xid("internal micro-controller breakpoint", _D, _ERROR),
    62: Xid("internal micro-controller halt", _D, _CRITICAL),
    63: Xid("a row was remapped, or a page retired", _M, _WARNING),
    64: Xid("a row could not be remapped, or a page not retired", _M, _CRITICAL),
    65: Xid("video processor exception", _P, _NOTICE),
    68: Xid("video decoder exception", _P, _NOTICE),
    69: Xid("graphics engine class error", _P, _NOTICE),
    74: Xid("NVLink error", _L, _ERROR),
    79: Xid("GPU has fallen off the bus", _H, _CRITICAL),
    92: Xid("high rate of single bit ECC errors", _M, _WARNING),
    94: Xid("contained memory error", _M, _ERROR),
    95: Xid("uncontained memory error", _M, _CRITICAL),
    109: Xid("context switch timeout", _P, _NOTICE),
    110: Xid("security fault", _H, _CRITICAL),
    119: Xid("timeout waiting for the GPU system processor", _D, _CRITICAL),
    120: Xid("error of the GPU system processor", _D, _CRITICAL),
    121: Xid("chip-to-chip link corrected an error", _L, _WARNING),
    122: Xid("SPI read failure", _D, _ERROR),
    123: Xid("SPI write failure", _D, _ERROR),
    125: Xid("information memory failure", _H, _ERROR),
    136: Xid("link training failed", _L, _ERROR),
    137: Xid("NVLink access violation", _P, _NOTICE),
    140: Xid("unrecovered ECC error", _M, _CRITICAL),
    143: Xid("GPU initialization failure", _H, _CRITICAL),
    **dict.fromkeys(range(144, 151), Xid("NVLink error", _L, _ERROR)),
    151: Xid("key rotation error", _D, _ERROR),
    154: Xid("what the GPU needs to recover has changed", _S, _WARNING),
    155: Xid("NVLink was taken down by software", _L, _WARNING),
    156: Xid("a resource was retired", _M, _WARNING),
    157: Xid("a resource could not be retired", _M, _ERROR),
    158: Xid("fatal timeout of the GPU", _H, _CRITICAL),
    160: Xid("a memory channel was retired", _M, _WARNING),
    161: Xid("a memory channel could not be retired", _M, _ERROR),
    171: Xid("uncorrectable error of the DRAM", _M, _ERROR),
    172: Xid("uncorrectable error of the SRAM", _M, _ERROR),
}


def xid(code: int) -> Xid:
    """Give what a number says; an unknown one is an error that nobody has words for."""
    return XIDS.get(code, Xid("an error that is not in our catalogue", Cause.DRIVER, _ERROR))


_WHO: Final = ("address", "uuid")
GPU_EVENTS: Final = (
    EventSpec(
        "nvml.xid",
        "The driver reported an error by its number. Those of programs are notices: they say nothing bad of the GPU.",
        (_CRITICAL, _ERROR, _WARNING, _NOTICE),
        (
            "xid",
            "cause",
            *_WHO,
            "gpu_instance",
            "compute_instance",
            "process_id",
            "process",
            "text",
            "unit",
            "fatal",
            "link",
            "words",
            "previous_xid",
            "times",
            "first_time_ns",
            "last_time_ns",
        ),
    ),
    EventSpec("nvml.gpu.lost", "A GPU answers no more; the others go on.", (_CRITICAL,), (*_WHO, "reason")),
    EventSpec("nvml.gpu.reset_required", "A GPU answers nothing before it is reset.", (_CRITICAL,), (*_WHO, "reason")),
)
"""Told by NVML, by the kernel log, or by both: then once."""
