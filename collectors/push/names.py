"""What a pusher may call its things: names that every store and query takes as they are, and nobody else's."""

import re
from collections.abc import Iterable
from typing import Final

from collectors.push.refusal import NAME, RefusedError
from schemas.metrics import NAME as FORM
from schemas.metrics import RESERVED, MetricSpec

_OWN: Final = """
agent aggregator alert bmc bmc_fan bmc_leak bmc_memory bmc_port bmc_processor bmc_psu bmc_reader bmc_sensor
bmc_temperature capability claim clock collector cpu cpu_core device disk divergence dpu dpu_resource event
file_system gpu gpu_ecc gpu_fan gpu_process gpu_xid host inventory kernel ledger load log memory memory_controller
memory_module muster network nic nic_health node nvlink nvme nvme_ocp nvme_sensor nvml oracle pci placement pressure
processes publisher push push_refused quarantine rdma redfish rows service simulated spool sriov store swap syslog
system systemd vf vnic
"""
TAKEN: Final = frozenset(_OWN.split())
"""Muster's own measurements, and the first words of its own events. The tests hold it against all declarations."""
SOURCE_TIME: Final = "source_time_ns"
"""The column of time stamps that pushers give: rows are in the order in which they came, as everywhere in Muster."""
_EVENT: Final = re.compile(r"[a-z][a-z0-9_]{0,62}(?:\.[a-z][a-z0-9_]{0,62}){1,5}\Z")
_NOT_A_WORD: Final = re.compile(r"[^a-z0-9]+")
_HUMP: Final = re.compile(r"([a-z0-9])([A-Z])")


class Names:
    """Says of names whether a pusher may use them; every method raises RefusedError when not."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        """`taken`: measurements and first words of events of other distributions' collectors."""
        self._taken = TAKEN.union(taken)

    def measurement(self, name: str, column: int = 1) -> None:
        """Check the name of a measurement."""
        check_form(name, "measurement", column)
        if name in self._taken:
            raise RefusedError(NAME, f"the measurement {name!r} is Muster's own: write 'my_{name}', say", column)

    def event(self, type_: str) -> None:
        """Check the type of an event."""
        if not _EVENT.match(type_):
            raise RefusedError(NAME, f"{type_!r:.80} is no type of an event: write words with dots, 'backup.failed'")
        first = type_.partition(".")[0]
        if first in self._taken:
            raise RefusedError(NAME, f"events '{first}.' are Muster's own: write 'my_{type_}', say")


def check_form(name: str, what: str, column: int = 1) -> None:
    """Check that a name is one that can be used everywhere. Raises RefusedError with one that could."""
    if not FORM.match(name):
        raise RefusedError(
            NAME,
            f"{name[:80]!r} cannot name a {what}: small letters, digits and _, from a letter on, 63 at most;"
            f" {_suggest(name)!r}, say",
            column,
        )


def check_column(name: str, what: str, column: int = 1) -> None:
    """Check the name of a field or tag. Raises RefusedError."""
    check_form(name, what, column)
    if name in RESERVED:
        raise RefusedError(NAME, f"every table has its own {name!r}: call the {what} 'my_{name}', say", column)
    if name == SOURCE_TIME:
        raise RefusedError(NAME, f"{name!r} is the time stamp at the end of the line: write it there", column)


def taken_by(metrics: Iterable[MetricSpec], events: Iterable[str]) -> set[str]:
    """Give what a collector takes by its declarations: measurements, and the first words of its types of events."""
    return {spec.measurement for spec in metrics} | {type_.partition(".")[0] for type_ in events}


def _suggest(name: str) -> str:
    words = _NOT_A_WORD.sub("_", _HUMP.sub(r"\1_\2", name).lower()).strip("_") or "value"
    return (words if words[0].isalpha() else f"n_{words}")[:63]
