"""Links and error counters of PCI functions. All of it is what the kernel has in memory, or one word of a port."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from collectors._declare import Declare
from collectors._procfs import link, names, number_after, ratio, read_bytes, read_text
from collectors.pci_documents import device_id
from collectors.pci_sysfs import DEVICES, addresses_in, link_generation, link_width
from schemas.metrics import Category, MetricSpec
from schemas.rows import FieldValue, Reading
from schemas.verbosity import Level

_LANE_BYTES: Final = {1: 2.5e9 * 8 / 10 / 8, 2: 5e9 * 8 / 10 / 8, 3: 8e9 * 128 / 130 / 8, 4: 16e9 * 128 / 130 / 8,
                      5: 32e9 * 128 / 130 / 8, 6: 64e9 * 242 / 256 / 8}  # fmt: skip
"""Bytes a second of one lane, one way, after its coding. Source: PCI Express Base Specification 6.0, 1.2 and 4.2."""
_ERRORS: Final = (
    ("aer_dev_correctable", b"TOTAL_ERR_COR ", "corrected_errors_total"),
    ("aer_dev_nonfatal", b"TOTAL_ERR_NONFATAL ", "nonfatal_errors_total"),
    ("aer_dev_fatal", b"TOTAL_ERR_FATAL ", "fatal_errors_total"),
)
_CORRECTED: Final = (
    (b"RxErr ", "receiver_errors_total"),
    (b"BadTLP ", "bad_tlp_total"),
    (b"BadDLLP ", "bad_dllp_total"),
    (b"Rollover ", "replay_rollovers_total"),
    (b"Timeout ", "replay_timeouts_total"),
)


def _metrics() -> tuple[MetricSpec, ...]:
    lane = Declare("pci", "/sys/bus/pci/devices/*/current_link_*, sysfs-bus-pci", Category.LOAD)
    state = Declare("pci", "/sys/bus/pci/devices/*/power_state, sysfs-bus-pci", Category.LOAD)
    error = Declare("pci", "/sys/bus/pci/devices/*/aer_dev_*, sysfs-bus-pci-devices-aer_stats", Category.ERROR)
    detailed = Level.DETAILED
    return (
        lane.gauge("link_generation", "Generation of PCI Express that the link runs at, 1 to 6; falls while idle."),
        lane.gauge("link_width", "Lanes that the link uses, 1 to 32."),
        lane.gauge(
            "link_width_ratio",
            "Lanes in use to the most that both ends can; below 1: badly seated or broken.",
            category=Category.ERROR,
        ),
        lane.gauge("link_rate_bytes_per_second", "What the link can carry one way, at its speed and width of now."),
        state.text("power_state", "Power state of the function: D0, D1, D2, D3hot, D3cold, unknown.", detailed),
        error.counter("corrected_errors_total", "Errors that the link or the device corrected by itself."),
        error.counter(
            "nonfatal_errors_total", "Uncorrectable errors after which the link still works.", Level.ESSENTIAL
        ),
        error.counter("fatal_errors_total", "Uncorrectable errors that break the link.", Level.ESSENTIAL),
        error.counter("receiver_errors_total", "Corrected: symbols or blocks received wrong.", detailed),
        error.counter("bad_tlp_total", "Corrected: transaction packets with a wrong checksum or number.", detailed),
        error.counter("bad_dllp_total", "Corrected: link packets with a wrong checksum.", detailed),
        error.counter("replay_rollovers_total", "Corrected: packets sent four times without success.", detailed),
        error.counter("replay_timeouts_total", "Corrected: packets sent again for want of an answer.", detailed),
    )


METRICS: Final = _metrics()


class Links:
    """Reads every function that has a link or counters; virtual functions share those of their physical one."""

    def __init__(self, root: Path) -> None:
        self._folder = root / DEVICES

    def read(self, level: Level) -> Iterator[Reading]:
        """Give a row for each such function."""
        for address in names(self._folder):
            folder = f"{self._folder}/{address}"
            if link(f"{folder}/physfn"):
                continue
            above = addresses_in(link(folder))[:-1]
            fields = _errors(folder, level)
            if level >= Level.STANDARD:
                fields |= _link(folder, f"{self._folder}/{above[-1]}" if len(above) % 2 else "")
            if any(value is not None for value in fields.values()):
                if level >= Level.DETAILED:
                    fields["power_state"] = read_text(f"{folder}/power_state") or None
                yield Reading("pci", fields, device_id(address))


def _link(folder: str, port: str) -> dict[str, FieldValue]:
    """Read a link. `port`: the folder of its upper end when this is the lower one, which each second step down is.

    Only at the lower end is the width compared: a port is often wider than what is plugged into it.
    """
    generation, width = link_generation(f"{folder}/current_link_speed"), link_width(f"{folder}/current_link_width")
    widest = [link_width(f"{end}/max_link_width") for end in (folder, port)] if port else []
    most = min((lanes for lanes in widest if lanes is not None), default=None)
    rate = None if generation is None or width is None else int(_LANE_BYTES[generation] * width)
    return {
        "link_generation": generation,
        "link_width": width,
        "link_width_ratio": ratio(width, most),
        "link_rate_bytes_per_second": rate,
    }


def _errors(folder: str, level: Level) -> dict[str, FieldValue]:
    fields: dict[str, FieldValue] = {}
    for file, key, field in _ERRORS:
        data = read_bytes(f"{folder}/{file}")
        if data is None:
            continue
        fields[field] = number_after(data, key)
        if level >= Level.DETAILED and field == "corrected_errors_total":
            fields |= {name: number_after(data, word) for word, name in _CORRECTED}
    return fields
