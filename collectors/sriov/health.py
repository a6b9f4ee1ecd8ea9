"""What watches a card's health, as rows and as events: its firmware, its queues, each with what it found and mended."""

from collections.abc import Iterator, Mapping

from collectors.sriov.devlink import Reporter
from schemas.rows import Event, FieldValue, Reading, Severity

Health = Mapping[str, tuple[Reporter, ...]]
"""By PCI address."""


def health_rows(health: Health, devices: Mapping[str, str]) -> Iterator[Reading]:
    """Give a row for each reporter. `devices`: by PCI address; those of others are left out."""
    for address, reporters in health.items():
        if address in devices:
            for one in reporters:
                fields: dict[str, FieldValue] = {
                    "healthy": one.healthy,
                    "errors_total": one.errors,
                    "recoveries_total": one.recoveries,
                }
                yield Reading("nic_health", fields, devices[address], {"reporter": one.words})


def health_changes(before: Health, after: Health, devices: Mapping[str, str]) -> Iterator[Event]:
    """Give what reporters found since. One that was not there before, or counts anew, tells what is broken now."""
    for address, reporters in after.items():
        if address in devices:
            were = {one.words: one for one in before.get(address, ())}
            for one in reporters:
                yield from _of(address, devices[address], were.get(one.words, Reporter(one.name)), one)


def _of(address: str, device: str, last: Reporter, now: Reporter) -> Iterator[Event]:
    more = max(0, now.errors - last.errors) if now.errors is not None and last.errors is not None else 0
    broke = now.healthy is False and last.healthy is not False
    mended = now.healthy is True and last.healthy is False
    if not (more or broke or mended):
        return
    text = f"{address}: the health reporter {now.words} "
    if more:
        text += f"found {more} error{'s' if more > 1 else ''}"
    else:
        text += "is in error" if broke else "is healthy again"
    if more and now.healthy is not None:
        text += ", and is healthy again" if now.healthy else ", and is in error"
    detail: dict[str, FieldValue] = {
        "address": address,
        "reporter": now.words,
        "healthy": now.healthy,
        "errors": now.errors,
        "recoveries": now.recoveries,
    }
    severity = Severity.ERROR if now.healthy is False else Severity.WARNING if more else Severity.NOTICE
    yield Event("sriov.health", text, severity, device, detail)
