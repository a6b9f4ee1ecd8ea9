"""The NVLinks of one GPU: which are up, what they carry, how they fail.

Which counters there are moved from generation to generation: all are asked for, and what answers is kept.
Source: NVML API reference, NvLink methods and `NVML_FI_DEV_NVLINK_*`.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

from collectors.metrics_gpu import NVLINK_METRICS, NVML_METRICS
from collectors.nvml.fields import Field, Fields
from collectors.nvml.library import Asker
from schemas.rows import FieldValue, Reading
from schemas.verbosity import Level

_LEVELS: Final = {spec.field: spec.level for spec in (*NVLINK_METRICS, *NVML_METRICS) if spec.measurement == "nvlink"}
MOST_LINKS: Final = 36
"""Source: nvml.h, NVML_NVLINK_MAX_LINKS."""
_ALL: Final = 0xFFFFFFFF
"""The scope of a field that sums over all links."""
_KIBI: Final = 1024
_RATE: Final = 164


def _kibi(value: Any) -> int:
    return int(value * _KIBI)


def _mega(value: Any) -> int:
    return int(value * 1_000_000)


_COLUMNS: Final[tuple[tuple[str, int, Callable[[Any], FieldValue]], ...]] = (
    ("receive_bytes_total", 139, _kibi),
    ("receive_bytes_total", 204, int),
    ("transmit_bytes_total", 138, _kibi),
    ("transmit_bytes_total", 202, int),
    ("recoveries_total", 162, int),
    ("recoveries_total", 215, int),
    ("failed_recoveries_total", 214, int),
    ("replays_total", 161, int),
    ("crc_errors_total", 163, int),
    ("symbol_errors_total", 221, int),
    ("effective_errors_total", 219, int),
    ("receive_errors_total", 208, int),
    ("integrity_errors_total", 211, int),
    ("transmit_discards_total", 212, int),
    ("rate_bytes_per_second", _RATE, _mega),
)
_SUMS: Final = (("nvlink_receive_bytes_total", 139, _kibi), ("nvlink_transmit_bytes_total", 138, _kibi))


class Links:
    """Reads the links of one GPU."""

    def __init__(self, asker: Asker, device: str) -> None:
        self._asker = asker
        self._device = device
        self._fields: dict[int, Fields] = {}
        self._sums = Fields(asker, [Field(name, number, Level.STANDARD, made, _ALL) for name, number, made in _SUMS])
        self.active: dict[int, bool] = {}
        """By number, whether a link carries traffic, as of the last reading; {} without NVLink."""

    def read(self, level: Level, whole: dict[str, FieldValue]) -> Iterator[Reading]:
        """Give a row for each link, and add to `whole` what is told of all together.

        Raises GpuLostError, NewProcessError.
        """
        self.active = self.states()
        if not self.active:
            return
        whole["nvlinks_active"] = sum(self.active.values())
        self._sums.read(whole, level)
        if level < Level.STANDARD:
            return
        for link, active in self.active.items():
            fields: dict[str, FieldValue] = {"active": active}
            if level >= Level.DETAILED:
                self._of(link).read(fields, level)
            yield Reading("nvlink", fields, self._device, {"link": str(link)})

    def states(self) -> dict[int, bool]:
        """Give by number whether a link carries traffic; one that the GPU has not is left out."""
        found = {}
        for link in range(MOST_LINKS):
            state = self._asker.ask("nvmlDeviceGetNvLinkState", link)
            if state is not None:
                found[link] = bool(state)
            elif not link and self._asker.lacks("nvmlDeviceGetNvLinkState", 0):
                break
        return found

    def _of(self, link: int) -> Fields:
        known = self._fields.get(link)
        if known is None:
            known = self._fields[link] = Fields(
                self._asker, [Field(name, number, _LEVELS[name], made, link) for name, number, made in _COLUMNS]
            )
        return known


def rate_of(asker: Asker) -> int | None:
    """Give what a link carries one way, bytes a second; None when it is not told. Raises as `Links.read`."""
    found: dict[str, FieldValue] = {}
    Fields(asker, [Field("rate", _RATE, Level.ESSENTIAL, _mega)]).read(found, Level.ESSENTIAL)
    rate = found.get("rate")
    return rate if isinstance(rate, int) and rate else None
