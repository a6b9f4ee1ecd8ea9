"""Metric reports that a BMC sends by itself: each value becomes a row at once, and is not read a second time.

Which sensor a value is of, and in what unit, is known from the sensors themselves. So nothing is kept until a BMC has
sent its first report, and of that one nothing is told: its sensors are known with the next reading.

Source: DSP0266 1.20, 13.5 (EventFormatType MetricReport); DMTF MetricReport 1.5.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import msgspec

from collectors.redfish import reports
from collectors.redfish.readings import Seen, sensor_name, sensor_row
from collectors.redfish.resource import Resource, text
from collectors.redfish.series import MOST
from collectors.redfish.units import Sense
from schemas.rows import Reading

_GAP: Final = 1.0
"""Seconds from one value of a sensor to the next that is taken: a BMC that sends more is mad."""


class _Heard(msgspec.Struct):
    """What was heard of a sensor last."""

    at: float
    seen: Seen


class HeardReports:
    """What one BMC's reports say. `hear` is for any thread, all else for the one that reads the BMC."""

    def __init__(self, label: str, lasts: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`lasts`: seconds for which a sensor that was heard of is not read."""
        self._label, self._lasts, self._clock = label, lasts, clock
        self._lock = threading.Lock()
        self._wanted = False
        self._senses: dict[str, Sense] = {}
        self._times: dict[str, str] = {}
        self._heard: dict[str, _Heard] = {}

    def hear(self, report: Resource) -> list[Reading]:
        """Take a report that came; give the rows of what it says that nothing has told before."""
        self._wanted = True
        rows = []
        now, made = self._clock(), text(report, "Timestamp")
        for path, (read, when) in reports.values(report, self._senses).items():
            value = self._senses[path].value(read)
            before = self._heard.get(path)
            if value is None or (before is not None and now - before.at < _GAP) or not self.is_new(path, when or made):
                continue
            self._heard[path] = _Heard(now, Seen(self._senses[path], value))
            rows.append(sensor_row(self._label, path, self._heard[path].seen))
        return rows

    def is_new(self, path: str, when: str) -> bool:
        """Tell whether a sensor's value of a moment, as the BMC writes it ("": it does not), was not told before."""
        if not when:
            return True
        with self._lock:
            if self._times.get(path) == when:
                return False
            self._times[path] = when
            return True

    def now(self) -> dict[str, Seen]:
        """Give what was heard of sensors lately, by their path: they need not be read."""
        since = self._clock() - self._lasts
        return {path: one.seen for path, one in list(self._heard.items()) if one.at > since}

    def left(self, rows: Iterator[Reading], heard: Mapping[str, Seen]) -> Iterator[Reading]:
        """Yield rows of sensors but those of which was `heard`."""
        names = {sensor_name(path) for path in heard}
        for row in rows:
            if row.attributes.get("sensor") not in names:
                yield row

    def learn(self, seen: Mapping[str, Seen]) -> None:
        """Take what the sensors read, where reports come: what they mean is what values of theirs mean."""
        if self._wanted:
            known = {**self._senses, **{path: one.sense for path, one in seen.items()}}
            self._senses = known if len(known) <= MOST else {path: one.sense for path, one in seen.items()}
