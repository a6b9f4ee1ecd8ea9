"""What changed on a GPU between two readings, as events."""

from collections.abc import Iterator, Mapping
from typing import Final

from collectors.nvml.documents import RECOVERY
from collectors.nvml.events import event
from collectors.nvml.gpus import Gpu
from schemas.rows import Event, FieldValue, Severity

_COMPARED: Final = (
    "row_remap_pending",
    "row_remap_failed",
    "rows_remapped_corrected",
    "rows_remapped_uncorrected",
    "ecc_uncorrected_total",
    "recovery_action",
    "power_limit_watts",
    "fabric_state",
    "fabric_health_mask",
    "processes",
)


class Changes:
    """Keeps of each GPU what was read last. The first reading is where changes are counted from."""

    def __init__(self) -> None:
        self._fields: dict[str, dict[str, FieldValue]] = {}
        self._links: dict[str, dict[int, bool]] = {}
        self._partitions: dict[str, tuple[str, ...]] = {}

    def forget(self, gpu: Gpu) -> None:
        """Let the next reading of a GPU be the first."""
        for known in (self._fields, self._links, self._partitions):
            known.pop(gpu.identity.uuid, None)

    def row(self, gpu: Gpu, fields: Mapping[str, FieldValue]) -> list[Event]:
        """Compare a row of `gpu`; what it does not tell stays as it was."""
        before = self._fields.setdefault(gpu.identity.uuid, {})
        now = {name: fields[name] for name in _COMPARED if fields.get(name) is not None}
        found = [one for name in now if name in before and before[name] != now[name]
                 for one in _change(gpu, name, before[name], now[name], now)]  # fmt: skip
        before.update(now)
        return found

    def links(self, gpu: Gpu, active: Mapping[int, bool]) -> Iterator[Event]:
        """Compare which links are up."""
        before = self._links.get(gpu.identity.uuid, {})
        for link, up in active.items():
            if link in before and before[link] != up:
                if up:
                    yield event("nvml.nvlink.up", gpu, f"has NVLink {link} again", Severity.NOTICE, {"link": link})
                else:
                    yield event("nvml.nvlink.down", gpu, f"lost NVLink {link}", Severity.ERROR, {"link": link})
        self._links[gpu.identity.uuid] = dict(active)

    def partitions(self, gpu: Gpu, devices: list[str]) -> Iterator[Event]:
        """Compare which partitions there are."""
        now = tuple(sorted(devices))
        before = self._partitions.get(gpu.identity.uuid)
        self._partitions[gpu.identity.uuid] = now
        if before is not None and before != now:
            text = f"has {len(now)} partitions, not the {len(before)} that it had"
            yield event("nvml.mig.changed", gpu, text, Severity.NOTICE, {"partitions": len(now)})


def _change(gpu: Gpu, name: str, before: FieldValue, now: FieldValue, row: Mapping[str, FieldValue]) -> Iterator[Event]:
    match name:
        case "row_remap_pending" if now:
            yield event("nvml.row_remap.pending", gpu, "has a memory row that waits for a reset", Severity.WARNING)
        case "row_remap_failed" if now:
            yield event("nvml.row_remap.failed", gpu, "could not replace a memory row", Severity.CRITICAL)
        case "rows_remapped_corrected" | "rows_remapped_uncorrected" if _grew(before, now):
            yield event("nvml.row_remap.done", gpu, "replaced a memory row by a spare", Severity.NOTICE)
        case "ecc_uncorrected_total" if _grew(before, now):
            more = int(now or 0) - int(before or 0)
            text = f"has {more} more memory errors that ECC could not correct"
            yield event("nvml.ecc.uncorrected", gpu, text, Severity.ERROR, {"count": more})
        case "recovery_action":
            yield recovery_event(gpu, int(now or 0), int(before or 0))
        case "power_limit_watts":
            detail = {"watts": now, "watts_before": before}
            text = f"has a power limit of {now:g} W, not {before:g} W"
            yield event("nvml.power_limit.changed", gpu, text, Severity.NOTICE, detail)
        case "fabric_state" | "fabric_health_mask":
            state, known = row.get("fabric_state"), before if name == "fabric_state" else row.get("fabric_state")
            detail = {"state": state, "state_before": known, "health_mask": row.get("fabric_health_mask")}
            severity = Severity.NOTICE if state == 3 and name == "fabric_state" else Severity.WARNING
            yield event("nvml.fabric.changed", gpu, f"has another {name.replace('_', ' ')}", severity, detail)
        case "processes":
            yield from _used(gpu, int(now or 0), int(before or 0))


def _used(gpu: Gpu, now: int, before: int) -> Iterator[Event]:
    if now and not before:
        yield event("nvml.gpu.taken", gpu, f"is used by {now} programs", Severity.NOTICE, {"processes": now})
    elif before and not now:
        yield event("nvml.gpu.left", gpu, "is used by nobody any more", Severity.NOTICE)


def recovery_event(gpu: Gpu, now: int, before: int) -> Event:
    """Make the event that what a GPU needs has changed."""
    word = RECOVERY.get(now, "nothing")
    detail: dict[str, FieldValue] = {"action": word, "action_before": RECOVERY.get(before, "nothing")}
    severity = Severity.CRITICAL if now else Severity.NOTICE
    return event("nvml.gpu.recovery_action", gpu, f"needs {word}", severity, detail)


def _grew(before: FieldValue, now: FieldValue) -> bool:
    return isinstance(before, int) and isinstance(now, int) and now > before
