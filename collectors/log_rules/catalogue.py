"""All rules, and how a line of the kernel log finds its own.

Nearly no line is of interest, so what counts is how fast a line is passed over: its first three characters select the
few rules that begin so, and then four short words are looked for in it. A rule's expression is compiled for the first
line that gets so far: most machines never need most of them.
"""

import re
from collections.abc import Callable
from typing import Final

import msgspec

from collectors.log_rules import gpu, machine, network, pci, storage
from collectors.log_rules.rule import Facts, Rule, facts_of
from schemas.rows import Event, Severity

RULES: Final = (*gpu.RULES, *pci.RULES, *storage.RULES, *network.RULES, *machine.RULES)
"""The first that matches a line is the one."""

_REPEATED: Final = ("times", "first_time_ns", "last_time_ns")
EVENTS: Final = tuple(
    msgspec.structs.replace(spec, detail=(*spec.detail, *_REPEATED)) if spec.type.startswith("kernel.") else spec
    for spec in (*gpu.EVENTS, *pci.EVENTS, *storage.EVENTS, *network.EVENTS, *machine.EVENTS)
)
"""What the kernel log tells. `times` is there when an event stands for several."""

_SELECT: Final = 3
_TOGETHER_NS: Final = 10_000_000_000
"""Lines of one group that are further apart do not belong together."""
_MOST_GROUPS: Final = 64

DeviceOf = Callable[[str, str], str]
"""Gives the id of the device behind a name of a class in `/sys/class` (`block`, `net`); "" when there is none."""


class Told(msgspec.Struct):
    """An event, and what makes another one the same again."""

    event: Event
    same: tuple[object, ...]


def _by_beginning() -> dict[str, tuple[Rule, ...]]:
    table: dict[str, tuple[Rule, ...]] = {}
    for rule in RULES:
        for start in {begin[:_SELECT] for begin in rule.begins}:
            table[start] = (*table.get(start, ()), rule)
    return table


_BEGINNINGS: Final = _by_beginning()
_ANYWHERE: Final = {
    word: tuple(rule for rule in RULES if rule.holds == word and not rule.begins)
    for word in dict.fromkeys(rule.holds for rule in RULES if not rule.begins)
}
_HINTS: Final = ("rror", "ink ", "not ready ", "oom-killer: ")
"""Each word of `_ANYWHERE` has one of these in it: looking for fewer and shorter ones first is what makes it cheap."""


class Matcher:
    """Looks at lines one after the other, and remembers what belongs to the next. For one thread."""

    def __init__(self, device_of: DeviceOf = lambda _kind, _name: "") -> None:
        self._device_of = device_of
        self._compiled: dict[str, re.Pattern[str]] = {}
        self._groups: dict[tuple[str, str], tuple[int | None, Facts]] = {}

    def look(self, text: str, device: str, time_ns: int | None) -> Told | None:
        """Give what a line tells; None for nearly all. `device` is as the kernel tagged it, "" when it did not."""
        rules = _BEGINNINGS.get(text[:_SELECT])
        if rules is not None:
            for rule in rules:
                if text.startswith(rule.begins) and rule.holds in text:
                    match = self._match(rule, text)
                    if match is not None:
                        return self._take(rule, match, device, time_ns)
        error, link, ready, killer = _HINTS
        if error in text or link in text or ready in text or killer in text:
            return self._look_anywhere(text, device, time_ns)
        return None

    def _look_anywhere(self, text: str, device: str, time_ns: int | None) -> Told | None:
        for word, rules in _ANYWHERE.items():
            if word in text:
                for rule in rules:
                    match = self._match(rule, text)
                    if match is not None:
                        told = self._take(rule, match, device, time_ns)
                        if told is not None or not rule.type:
                            return told
        return None

    def _match(self, rule: Rule, text: str) -> re.Match[str] | None:
        compiled = self._compiled.get(rule.pattern)
        if compiled is None:
            compiled = self._compiled[rule.pattern] = re.compile(rule.pattern, re.ASCII | re.DOTALL)
        return compiled.match(text)

    def _take(self, rule: Rule, match: re.Match[str], device: str, time_ns: int | None) -> Told | None:
        facts = facts_of(rule, match)
        device = device or self._subject(facts)
        if rule.group:
            name = (rule.group, device if rule.by_device else "")
            facts = Facts(self._earlier(name, time_ns) | facts)
            if not rule.type:
                if len(self._groups) >= _MOST_GROUPS:
                    del self._groups[next(iter(self._groups))]
                self._groups[name] = (time_ns, facts)
                return None
        if rule.shape is None:
            text, severity = rule.text.format_map(_filled(facts, device)), rule.severity
        else:
            shaped = rule.shape(facts)
            if shaped is None:
                return None
            text, severity = shaped.text, shaped.severity
        event = Event(rule.type, text, Severity(severity), device, dict(facts), time_ns)
        return Told(event, (rule.type, device, *(facts.get(name) for name in rule.same)))

    def _earlier(self, name: tuple[str, str], now: int | None) -> Facts:
        """Give what the lines before said that belong to this one."""
        since, facts = self._groups.pop(name, (None, Facts()))
        if since is not None and now is not None and not 0 <= now - since <= _TOGETHER_NS:
            return Facts()
        return facts

    def _subject(self, facts: Facts) -> str:
        """Give the device that the line itself names."""
        if (address := facts.get("address")) is not None:
            return f"pci:{address}"
        for fact, kind in (("controller", "nvme"), ("block", "block"), ("interface", "net")):
            if isinstance(name := facts.get(fact), str):
                return self._device_of(kind, name) or f"{kind}:{name}"
        return ""


def _filled(facts: Facts, device: str) -> Facts:
    """Give the facts of a line for its text, with the subject."""
    return Facts(facts, device=device or "the machine")
