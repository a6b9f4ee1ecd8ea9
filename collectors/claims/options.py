"""`[claims]` of the agent's configuration: which hooks do the steps of claims."""

from typing import Final

import msgspec

from schemas.claims import Step
from schemas.device import DeviceKind

ANY: Final = "any"
"""Hooks for kinds that have none of their own."""
HOOKED: Final = (Step.PREPARE, Step.UNDO, Step.CLEAN)
"""Steps that a hook can do; CHECK only reads."""


class Hook(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A program of the operator's that does one step for one device. Run again after a crash, it finds it done."""

    run: list[str]
    """Its absolute path and its arguments, as they are: no shell reads them. What it is to do is in its environment."""
    timeout_seconds: float = 60.0
    """When it is killed, and everything that it started."""

    def __post_init__(self) -> None:
        if not self.run or not self.run[0].startswith("/"):
            raise ValueError("run: the first word is the absolute path of a program")
        if not 0 < self.timeout_seconds <= 86_400:
            raise ValueError(f"timeout_seconds: more than 0 and at most 86400, not {self.timeout_seconds}")


class ClaimsSection(msgspec.Struct, frozen=True):
    """`[claims]`: what the node does when its devices are claimed, given back and cleaned."""

    hooks: dict[str, dict[str, Hook]] = {}
    """By kind of device (or `any`) and step: `[claims.hooks.gpu]` `prepare = {run = ["/etc/muster/bind-vfio"]}`. A
    step without a hook waits until somebody confirms it on the node: muster-agent claim confirm."""
    parallel: int = 4
    """Steps that run at the same time; never two of one IOMMU group, one port and its functions, or one GPU."""
    output_bytes: int = 4096
    """So much of the end of what a hook writes is kept, to tell why it failed."""
    reset: bool = True
    """After a clean, reset a PCI function that no host driver has through the kernel: that is how a reset is seen."""

    def __post_init__(self) -> None:
        kinds = {ANY, *(kind.value for kind in DeviceKind)}
        steps = {step.value for step in HOOKED}
        for kind, hooks in self.hooks.items():
            if kind not in kinds:
                raise ValueError(f"hooks: {kind!r} is no kind of device; there are {', '.join(sorted(kinds))}")
            for step in hooks:
                if step not in steps:
                    raise ValueError(f"hooks: {step!r} is no step; there are {', '.join(sorted(steps))}")
        if not 1 <= self.parallel <= 64:
            raise ValueError(f"parallel: from 1 to 64, not {self.parallel}")
        if not 0 <= self.output_bytes <= 1 << 16:
            raise ValueError(f"output_bytes: from 0 to 65536, not {self.output_bytes}")

    def hook(self, kind: str, step: Step) -> tuple[str, Hook] | None:
        """Give the hook that does a step for a kind of device, with its name; None: somebody on the node does it."""
        for name in (kind, ANY):
            hook = self.hooks.get(name, {}).get(step.value)
            if hook is not None:
                return f"{name}.{step.value}", hook
        return None
