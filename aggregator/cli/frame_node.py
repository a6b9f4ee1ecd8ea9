"""Draws one node: processors, memory, disks, file systems, network, GPUs, and what was logged last. Pure: no I/O."""

import datetime
from collections.abc import Sequence

from rich.text import Text

from aggregator.cli.drawing import (
    LABEL,
    STATES,
    TITLE,
    Glyphs,
    bar,
    beside,
    between,
    count,
    fit,
    heat,
    percent,
    said_age,
    short,
    table,
    visible,
)
from aggregator.cli.watching import NodeLook, Row, Said, Sums
from aggregator.cli.words import age

_WORST = ("bold white on red", "bold red", "bold red", "red", "yellow", "", LABEL, LABEL)
"""The colours of severities 0 to 7."""
_WORDS = ("emerg", "alert", "crit", "error", "warn", "notice", "info", "debug")
_WIDE = 110
"""From here on there is room for two columns of sections."""


def node_head(look: NodeLook, width: int, clock: str, title: str = "muster top") -> Text:
    """Draw the first line: who, how it is, its load, the time."""
    left = Text(f"{title}  ", TITLE) + Text(look.name, "bold") + Text("  ")
    left.append(look.state, STATES.get(look.state, ""))
    if look.state != "live":
        left.append(f", heard {said_age(look.silent_s)}")
    load = look.one("load")
    if load:
        left.append("   load ", LABEL).append(
            " ".join(f"{load[name]:.2f}" for name in ("average_1m", "average_5m", "average_15m") if name in load)
        )
    uptime = look.one("system").get("uptime_seconds")
    if uptime is not None:
        left.append("   up ", LABEL).append(age(uptime))
    return between(left, Text(clock, LABEL), width)


def balance_line(sums: Sums, width: int) -> Text:
    """Draw the balance: where the rows are, and that none is missing."""
    line = Text("rows   ", LABEL)
    if sums.rows_a_second is not None:
        line.append(f"{count(sums.rows_a_second)}/s   ", "bold")
    line.append(f"stored {sums.done:,}/{sums.numbered:,}")
    if sums.moving:
        line.append(f"   on the way {sums.moving:,}")
    if sums.elsewhere:
        line.append(f"   dropped or aside {sums.elsewhere:,}", "yellow")
    line.append(f"   unaccounted {sums.unaccounted:,}", "bold red" if sums.unaccounted else "green")
    if sums.word_age is not None:
        line.append("   word ", LABEL).append(age(sums.word_age), "red" if sums.word_age > 30 else "")
    return fit(line, width)


def node_body(look: NodeLook, width: int, height: int, glyphs: Glyphs) -> list[Text]:
    """Draw everything below the head in at most `height` lines; the log takes what is left."""
    if not look.series:
        return [Text(), Text("nothing has arrived from this node yet; it waits for its first rows", "yellow")]
    lines = [*_processors(look, width, height, glyphs), *_memory(look, width, glyphs), Text()]
    room = max(3, (height - len(lines)) // 2)
    if width >= _WIDE:
        left = [*_disks(look, room // 2), Text(), *_file_systems(look, (width - 3) // 2, room // 2, glyphs)]
        right = [*_network(look, room // 2), *_gpus(look, (width - 3) // 2, room, glyphs)]
        lines += beside(left, right, width)
    else:
        lines += beside(_disks(look, max(1, room // 3)), _network(look, max(1, room // 3)), width)
        lines += _file_systems(look, width, max(2, room // 3), glyphs)
        lines += _gpus(look, width, max(2, room // 2), glyphs)
    lines.append(Text())
    return [*lines, *_said(look.said, width, height - len(lines), glyphs)][:height]


def _processors(look: NodeLook, width: int, height: int, glyphs: Glyphs) -> list[Text]:
    cpu = look.one("cpu")
    line = Text("cpu    ", LABEL) + bar(cpu.get("usage_ratio"), min(30, width // 4), glyphs)
    for word, modes in (("user", "user nice"), ("system", "system"), ("wait", "iowait"), ("irq", "irq softirq"),
                        ("steal", "steal")):  # fmt: skip
        share = _share(cpu, modes.split())
        if share is not None and (share >= 0.005 or word in ("user", "system", "wait")):
            line.append(f"  {word} ", LABEL).append(percent(share))
    cores = sorted(look.series.get("cpu_core", ()), key=lambda row: (len(row.get("cpu", "")), row.get("cpu", "")))
    if not cores and "cores" in cpu:
        line.append(f"  of {cpu['cores']} cores", LABEL)
    return [fit(line, width), *_cores(cores, width, max(1, height // 5), glyphs)]


def _share(cpu: Row, modes: Sequence[str]) -> float | None:
    """Give the share of all cores' time that was spent in these modes."""
    parts = [cpu.get(f"{mode}_seconds_total:rate") for mode in modes]
    known = [part for part in parts if part is not None]
    return min(1.0, sum(known) / cpu["cores"]) if known and cpu.get("cores") else None


def _cores(cores: Sequence[Row], width: int, most: int, glyphs: Glyphs) -> list[Text]:
    """Draw a bar a core where there is room for them, else one step a core."""
    if not cores:
        return []
    cell = 20
    across = max(1, (width - 7) // cell)
    if len(cores) <= across * most:
        lines = []
        for at in range(0, len(cores), across):
            line = Text(" " * 7)
            for row in cores[at : at + across]:
                name = str(row.get("cpu", "")).rjust(3 if len(cores) > 100 else 2 if len(cores) > 10 else 1)
                drawn = bar(row.get("usage_ratio"), cell - len(name) - 8, glyphs, 5)
                line += Text(f"{name} ", LABEL) + drawn + Text("  ")
            lines.append(line)
        return lines
    steps = Text()
    for row in cores:
        ratio = row.get("usage_ratio")
        if ratio is None:
            steps.append("?", LABEL)
        else:
            steps.append(glyphs.steps[min(7, int(ratio * 8))], heat(ratio))
    room = width - 7
    return [Text(" " * 7) + steps[at : at + room] for at in range(0, len(steps), room)][:most]


def _memory(look: NodeLook, width: int, glyphs: Glyphs) -> list[Text]:
    size = min(30, width // 4)
    memory, swap = look.one("memory"), look.one("swap")
    line = Text("memory ", LABEL) + bar(memory.get("used_ratio"), size, glyphs)
    line.append(f"  {short(memory.get('used_bytes'))} of {short(memory.get('total_bytes'))}")
    if "cached_bytes" in memory:
        line.append("  cached ", LABEL).append(short(memory["cached_bytes"]))
    if swap.get("total_bytes"):
        line.append("  swap ", LABEL).append(percent(swap.get("used_ratio")), heat(swap.get("used_ratio", 0.0)))
        line.append(f" of {short(swap['total_bytes'])}")
    elif swap:
        line.append("  no swap", LABEL)
    lines = [fit(line, width)]
    waits = {row.get("resource", ""): row.get("some_10s_ratio") for row in look.series.get("pressure", ())}
    if waits:
        line = Text("waits  ", LABEL)
        for resource, ratio in waits.items():
            line.append(f"{resource} ", LABEL).append(percent(ratio), heat((ratio or 0.0) * 3)).append("   ")
        lines.append(fit(line.append("of the last 10 s, some task for it", LABEL), width))
    return lines


def _disks(look: NodeLook, most: int) -> list[Text]:
    rows = sorted(look.series.get("disk", ()), key=lambda row: -(row.get("busy_seconds_total:rate") or 0.0))
    cells = [
        (
            str(row.get("disk", "")),
            short(row.get("read_bytes_total:rate")),
            short(row.get("write_bytes_total:rate")),
            percent(_most_one(row.get("busy_seconds_total:rate"))),
        )
        for row in rows[:most]
    ]
    return table(("disk", "read/s", "write/s", "busy"), cells, (13, 7, 8, 6)) if cells else [Text("no disks", LABEL)]


def _most_one(ratio: float | None) -> float | None:
    return None if ratio is None else min(1.0, ratio)


def _network(look: NodeLook, most: int) -> list[Text]:
    rows = sorted(
        look.series.get("network", ()),
        key=lambda row: (not row.get("up"), -(row.get("receive_bytes_total:rate") or 0.0), row.get("interface", "")),
    )
    cells = []
    for row in rows[:most]:
        name = Text(str(row.get("interface", "")), "" if row.get("up") else LABEL)
        errors = row.get("receive_errors_total", 0) + row.get("transmit_errors_total", 0)
        cells.append(
            (
                name,
                short(row.get("receive_bytes_total:rate")),
                short(row.get("transmit_bytes_total:rate")),
                Text(count(errors), "red" if errors else ""),
            )
        )
    if not cells:
        return [Text("no network interfaces", LABEL)]
    return table(("network", "in/s", "out/s", "errors"), cells, (13, 7, 7, 6))


def _file_systems(look: NodeLook, width: int, most: int, glyphs: Glyphs) -> list[Text]:
    rows = sorted(look.series.get("file_system", ()), key=lambda row: -(row.get("used_ratio") or 0.0))
    lines = [Text("file system".ljust(20), LABEL) + Text("used", LABEL)] if rows else []
    for row in rows[:most]:
        name = Text(visible(str(row.get("mountpoint", ""))))
        name.truncate(19, overflow="ellipsis")
        line = name + Text(" " * (20 - name.cell_len)) + bar(row.get("used_ratio"), min(24, width // 4), glyphs)
        line.append(f"  {short(row.get('used_bytes'))} of {short(row.get('size_bytes'))}")
        line.append(f"  {short(row.get('available_bytes'))} left", LABEL)
        if row.get("read_only"):
            line.append("  read-only", "yellow")
        lines.append(fit(line, width))
    return lines


def _gpus(look: NodeLook, width: int, most: int, glyphs: Glyphs) -> list[Text]:
    rows = look.series.get("gpu", ())
    lines = [Text("gpu".ljust(24), LABEL) + Text("busy", LABEL)] if rows else []
    for row in list(rows)[:most]:
        name = str(row.get("device", ""))
        line = Text((name if len(name) <= 23 else "…" + name[-22:]).ljust(24))
        line += bar(row.get("utilization_ratio"), min(20, width // 5), glyphs, 5)
        line.append(f"  {short(row.get('memory_used_bytes'))}")
        for field, unit in (("temperature_celsius", "°C"), ("power_watts", "W")):
            if field in row:
                line.append(f"  {row[field]:.0f} {unit}")
        lines.append(fit(line, width))
    return lines


def _said(said: Sequence[Said], width: int, room: int, glyphs: Glyphs) -> list[Text]:
    """Draw the newest log lines and events, newest last."""
    if room < 2:
        return []
    lines = [between(Text("log and events", LABEL), Text(), width)]
    if not said:
        return [*lines, Text("nothing in the last hour", LABEL)]
    for one in said[-(room - 1) :]:
        moment = datetime.datetime.fromtimestamp((one.source_time_ns or one.time_ns) / 1e9).astimezone()
        severity = 6 if one.severity is None else min(7, max(0, one.severity))
        mark = glyphs.dot if one.event else " "
        line = Text(f"{moment:%H:%M:%S} ", LABEL) + Text(f"{mark} ", "cyan")
        line.append(f"{_WORDS[severity]:<7}", _WORST[severity])
        line.append(f"{visible(one.source)}: " if one.source else "", LABEL)
        lines.append(fit(line.append(visible(one.message), _WORST[severity] if severity < 5 else ""), width))
    return lines
