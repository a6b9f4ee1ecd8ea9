"""Reading all sensors of a BMC, by as few requests as it allows.

The first reading, and one after each inventory, looks at everything and plans: of collections that overlap (a baseboard
lists the sensors of all its parts) the fewest that show every sensor; where members do not come with their collection,
metric reports that hold many of them; and each sensor that is left, one by one, but for those that are absent.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Final

import msgspec

from collectors.redfish import reports
from collectors.redfish.client import Client, is_whole
from collectors.redfish.heard_reports import HeardReports
from collectors.redfish.readings import Seen, read_sensor, rows_of, sensor_row
from collectors.redfish.readings_parts import plain_name
from collectors.redfish.resource import Resource, text, uri
from collectors.redfish.series import MOST
from collectors.redfish.units import Sense, sense_of
from schemas.rows import Reading

_WORTH: Final = 4
"""Sensors that a metric report must save requests for."""
_SLOW: Final = ("slow", "not all sensors could be read in the time that there is")


class _Source(msgspec.Struct, frozen=True):
    """One request, and the sensors that it shows."""

    path: str
    senses: dict[str, Sense] | None = None
    """Of a report: what it is read for. None: a collection with its members, or one sensor."""
    single: bool = False


class _Survey:
    """How far a look at everything has come."""

    def __init__(self, left: deque[str]) -> None:
        self.left = left
        """Collections that are left."""
        self.known: set[str] = set()
        self.whole: dict[str, set[str]] = {}
        """The members of each collection that came with them."""
        self.single: dict[str, Sense] = {}
        """Sensors that were had one by one."""


class Sensors:
    """The sensors of one BMC."""

    def __init__(self, client: Client, heard: HeardReports | None = None) -> None:
        """`heard`: the reports that the BMC sends by itself."""
        self._client = client
        self._label = client.bmc.label
        self._heard = heard or HeardReports(client.bmc.label, 0.0)
        self._sources: list[_Source] = []
        self._next = 0
        self._survey: _Survey | None = None
        self.names: set[str] = set()
        """What the sensors are called, by `plain_name`, as of the plan; emptied by who needs it no more."""

    @property
    def planned(self) -> bool:
        """Whether no survey waits to be gone on with."""
        return self._survey is None

    def start_over(self) -> None:
        """Begin the next survey anew: there may be other collections now."""
        self._survey = None

    def survey(
        self,
        collections: Iterable[str],
        reported: Iterable[str],
        seen: dict[str, Seen],
        until: Callable[[], bool] = lambda: False,
    ) -> Iterator[Reading]:
        """Read everything there is and plan the next readings; `seen` takes what was read. Raises BmcError.

        `collections`: paths of collections of sensors. `reported`: of collections of metric reports. What is left
        when `until` says so, or an error comes, is gone on with the next time; `planned` tells whether it ended.
        """
        if self._survey is None:
            self._survey = _Survey(deque(collections))
            self.names = set()
        survey = self._survey
        while survey.left:
            if not (yield from self._look_at(survey.left[0], survey, seen, until)):
                return
            survey.left.popleft()
        whole = survey.whole
        self._sources = [_Source(path) for path in _cover(whole)]
        shown = set().union(*(whole[one.path] for one in self._sources))
        left = {path: sense for path, sense in survey.single.items() if path not in shown}
        if len(left) >= _WORTH:
            self._sources += self._useful_reports(reported, left)
        self._sources += [_Source(path, single=True) for path in left]
        self._next = 0
        self._survey = None

    def _look_at(
        self, path: str, survey: "_Survey", seen: dict[str, Seen], until: Callable[[], bool]
    ) -> Generator[Reading, None, bool]:
        """Read one collection, page by page: a whole one may be large. Gives whether it came to its end."""
        members: set[str] = set()
        all_whole = True
        for one in self._client.listing(path):
            members.add(uri(one))
            all_whole = all_whole and is_whole(one)
            if uri(one) in survey.known:
                continue
            if until():
                self._client.faults.add(*_SLOW)
                return False
            if len(survey.known) >= MOST:
                self._client.faults.add("flood", f"more than {MOST} sensors")
                members.discard(uri(one))
                break
            sensor = one if is_whole(one) else self._client.get(uri(one))
            survey.known.add(uri(one))
            if sensor is None:
                continue
            self.names.add(plain_name(text(sensor, "Name")))
            if not is_whole(one) and read_sensor(sensor, self._client.faults) is not None:
                survey.single[uri(sensor)] = sense_of(sensor)
            yield from rows_of(self._label, [sensor], self._client.faults, seen)
        if members and all_whole:
            survey.whole[path] = members
        return True

    def read(self, seen: dict[str, Seen], until: Callable[[], bool]) -> Iterator[Reading]:
        """Read as planned; what is left when `until` says so comes first the next time. Raises BmcError.

        Sensors of which was heard just now have no row, and where they are read one by one no request.
        """
        heard = self._heard.now()
        yield from self._heard.left(self._planned(seen, heard, until), heard)
        self._heard.learn(seen)

    def _planned(self, seen: dict[str, Seen], heard: dict[str, Seen], until: Callable[[], bool]) -> Iterator[Reading]:
        for _ in range(len(self._sources)):
            if until():
                self._client.faults.add(*_SLOW)
                return
            if len(seen) >= MOST:
                self._client.faults.add("flood", f"more than {MOST} sensors")
                return
            source = self._sources[self._next % len(self._sources)]
            self._next = (self._next + 1) % len(self._sources)
            if source.single and source.path in heard:
                seen[source.path] = heard[source.path]
            else:
                yield from self._read(source, seen)

    def _read(self, source: _Source, seen: dict[str, Seen]) -> Iterator[Reading]:
        faults = self._client.faults
        if source.single:
            sensor = self._client.get(source.path)
            yield from rows_of(self._label, [] if sensor is None else [sensor], faults, seen)
        elif source.senses is None:
            yield from rows_of(self._label, self._client.members(source.path), faults, seen)
        else:
            report = self._client.get(source.path)
            if report is not None:
                yield from self._of_report(report, source.senses, seen)

    def _of_report(self, report: Resource, senses: dict[str, Sense], seen: dict[str, Seen]) -> Iterator[Reading]:
        """Yield the rows of a report's values, but of those that it told before: their time says so."""
        for path, (read, when) in reports.values(report, senses).items():
            value = senses[path].value(read)
            fresh = self._heard.is_new(path, when)
            if value is None:
                self._client.faults.add("impossible", f"{path} reads {read!r:.40} in a report")
            elif fresh and path not in seen:
                seen[path] = Seen(senses[path], value)
                yield sensor_row(self._label, path, seen[path])

    def _useful_reports(self, reported: Iterable[str], left: dict[str, Sense]) -> list[_Source]:
        """Choose reports that save requests, and take what they hold out of `left`."""
        chosen = []
        for collection in reported:
            for report in self._client.members(collection):
                held = reports.values(report, left)
                if len(held) >= _WORTH and uri(report):
                    chosen.append(_Source(uri(report), {path: left.pop(path) for path in held}))
        return chosen


def _cover(whole: dict[str, set[str]]) -> list[str]:
    """Choose few collections that show all members of all; the largest first, as that is nearly always the fewest."""
    chosen: list[str] = []
    shown: set[str] = set()
    for path in sorted(whole, key=lambda path: (-len(whole[path]), path)):
        if not whole[path] <= shown:
            chosen.append(path)
            shown |= whole[path]
    return chosen
