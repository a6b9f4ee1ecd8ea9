"""When functions are compared with what they should be, and what is told of it."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from collectors.contract import Objection
from collectors.expectation import Expectation, ExpectationError, read_expectations
from collectors.expectation import compare as compare_expected
from collectors.sriov.drift import MacOf, Metadata, match, standing, with_drift
from collectors.sriov.standing import METADATA, OPERATOR, Drift, Standing, changed
from collectors.sriov.survey import Survey
from collectors.sriov.sysfs import in_cloud
from collectors.vnics import VnicsError, fetch
from schemas.device import DeviceKind, Document
from schemas.rows import Event

KINDS: Final = frozenset({DeviceKind.NIC, DeviceKind.VF})
"""Of what the collector has documents."""
_ASK_S: Final = 0.4
"""So long each step of an answer may take: the service is on the node's own link, and a watch ends within a second."""


def place_of(address: str) -> tuple[str, int]:
    """Give host and port of `<host>:<port>`. Raises ValueError."""
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isdecimal() and 0 < int(port) < 1 << 16):
        raise ValueError(f"{address!r} is not <host>:<port>")
    return host.strip("[]"), int(port)


def objections(metadata_address: str, expectations: str) -> Iterator[Objection]:
    """Give what cannot work of these options."""
    try:
        place_of(metadata_address)
    except ValueError as error:
        yield Objection("metadata_address", str(error))
    if expectations:
        try:
            read_expectations(Path(expectations))
        except ExpectationError as error:
            yield Objection("expectations", str(error))


class Checks:
    """Keeps what the metadata and the operator say, and what differs from it."""

    def __init__(
        self,
        root: Path,
        metadata: str,
        address: str,
        every_seconds: float,
        expectations: str,
        clock: Callable[[], float],
    ) -> None:
        """Prepare; nothing is asked before `look`."""
        wanted = metadata == "on" or (metadata == "auto" and in_cloud(root))
        self._metadata = Metadata(lambda: _fetch(address)) if wanted else None
        self._every = every_seconds
        self._clock = clock
        self._due = float("-inf")
        self._path = Path(expectations) if expectations else None
        self._expected: list[Expectation] | None = None
        self.problem = ""
        """Why the operator's file cannot be read; what it said before stands."""
        self.drift = Drift()
        """What differed at the last look, that of an earlier process among it."""

    @property
    def wanted(self) -> bool:
        """Whether there is anything to compare with."""
        return self._metadata is not None or self._path is not None

    @property
    def due(self) -> bool:
        """Whether it is time to look though nothing changed."""
        return self.wanted and self._clock() >= self._due

    def look(self, found: Survey, mac_of: MacOf, documents: Callable[[], Iterable[Document]]) -> list[Event]:
        """Compare, and give what came and what is over. `documents`: made when something is expected of them."""
        if not self.wanted:
            return []
        events: list[Event] = []
        if self._clock() >= self._due:
            self._due = self._clock() + self._every
            events += self._ask()
        now: set[Standing] = set()
        vnic_of: dict[str, str] = {}
        if self._metadata is not None and self._metadata.vnics is not None:
            matched, ports = match(self._metadata.vnics, found, mac_of)
            now |= set(standing(matched, ports))
            vnic_of = matched.vnic_of
        elif self._metadata is not None:
            now |= self._still(METADATA)
            vnic_of = self.drift.vnic_of
        if self._expected:
            unmet = compare_expected(self._expected, documents())
            now |= {Standing(one.device, one.kind, "", one.message, OPERATOR) for one in unmet}
        elif self._expected is None and self._path is not None:
            now |= self._still(OPERATOR)
        after = Drift(frozenset(now), vnic_of)
        events += changed(self.drift, after)
        self.drift = after
        return events

    def marked(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Give documents with the words of their drift."""
        return with_drift(documents, self.drift)

    def _still(self, source: str) -> set[Standing]:
        """Give what differed from what one has said who cannot be read since this process began."""
        return {one for one in self.drift.standing if one.source == source}

    def _ask(self) -> Iterator[Event]:
        if self._path is not None:
            try:
                self._expected = [one for one in read_expectations(self._path) if one.kind in KINDS]
                self.problem = ""
            except ExpectationError as error:
                self.problem = str(error)
        if self._metadata is not None:
            yield from self._metadata.ask()


def _fetch(address: str) -> bytes:
    try:
        host, port = place_of(address)
    except ValueError as error:
        raise VnicsError(str(error)) from None
    return fetch(host, port, _ASK_S)
