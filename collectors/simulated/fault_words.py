"""What a kind of fault is: its name, what it happens to, and what it makes a node say."""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from schemas.rows import Severity

Target = Literal["gpu", "nvme", "nic", "vf", "dpu", "bmc", "node"]

EVER: Final = float("inf")


class Saying(msgspec.Struct, frozen=True):
    """An event, its texts with `{facts}` to fill in."""

    type: str
    message: str
    severity: Severity
    detail: Mapping[str, int | str] = {}


class Line(msgspec.Struct, frozen=True):
    """A line of the kernel log, its text with `{facts}` to fill in."""

    message: str
    severity: Severity


class FaultKind(msgspec.Struct, frozen=True, kw_only=True):
    """A kind of fault. Its `{facts}` are those of `node.facts`: `{device}`, `{address}`, `{pci}` and so on."""

    name: str
    target: Target
    meaning: str
    """For people who choose one."""
    seconds: float = EVER
    """How long it usually lasts."""
    value: float = 0.0
    """Its usual amount."""
    needs_driver: bool = False
    """It can only happen to a GPU that NVIDIA's driver has."""
    reset_cause: str = ""
    """What a DPU says afterwards of why it was reset: a word of `reset_cause` in `schemas.capabilities`."""
    events: tuple[Saying, ...] = ()
    lines: tuple[Line, ...] = ()
    recovery_events: tuple[Saying, ...] = ()
    recovery_lines: tuple[Line, ...] = ()
