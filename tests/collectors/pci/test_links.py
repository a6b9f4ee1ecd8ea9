"""Links and error counters: only what the kernel says, in base units, and nothing for what is not there."""

from pathlib import Path

import pytest

from collectors.pci_documents import ERROR_METRICS, LINK_METRICS
from collectors.pci_link import METRICS, Links
from schemas.device import Document
from schemas.rows import Reading
from schemas.verbosity import Level
from tests.collectors.pci.help import Clock, collector_of, described
from tests.collectors.pci.made import GPUS, VFS, server, write

_AER = {
    "aer_dev_correctable": "RxErr 3\nBadTLP 2\nBadDLLP 1\nRollover 0\nTimeout 4\nTOTAL_ERR_COR 10\n",
    "aer_dev_nonfatal": "Undefined 0\nCmpltTO 1\nTOTAL_ERR_NONFATAL 1\n",
    "aer_dev_fatal": "Undefined 0\nTOTAL_ERR_FATAL 0\n",
}


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The made server, with counters at its first GPU."""
    server(tmp_path)
    for name, text in _AER.items():
        write(tmp_path, f"sys/bus/pci/devices/{GPUS[0]}/{name}", text)
    return tmp_path


def read(root: Path, level: Level = Level.DETAILED) -> dict[str, Reading]:
    """Give the rows, by PCI address."""
    return {row.device.removeprefix("pci:"): row for row in Links(root).read(level)}


def test_link_of_a_gpu_in_bytes_and_lanes(machine: Path) -> None:
    row = read(machine)[GPUS[0]].fields
    assert (4, 16, 1.0) == (row["link_generation"], row["link_width"], row["link_width_ratio"])
    assert 31_507_692_307 == row["link_rate_bytes_per_second"], "16 lanes of 16 GT/s, 128 of 130 bits"


def test_counters_are_totals_by_kind(machine: Path) -> None:
    """R001-16: uncorrectable errors of the bus."""
    row = read(machine)[GPUS[0]].fields
    assert (10, 1, 0) == tuple(row[f"{kind}_errors_total"] for kind in ("corrected", "nonfatal", "fatal"))
    assert (3, 2, 1, 0, 4) == tuple(
        row[name]
        for name in (
            "receiver_errors_total", "bad_tlp_total", "bad_dllp_total", "replay_rollovers_total",
            "replay_timeouts_total",
        )
    )  # fmt: skip


def test_card_in_a_narrow_slot_has_all_lanes_that_there_are(machine: Path) -> None:
    write(machine, f"sys/bus/pci/devices/{GPUS[0]}/current_link_width", "8\n")
    assert 0.5 == read(machine)[GPUS[0]].fields["link_width_ratio"]
    write(machine, "sys/bus/pci/devices/0000:02:08.0/max_link_width", "8\n")
    assert 1.0 == read(machine)[GPUS[0]].fields["link_width_ratio"]


def test_port_is_not_compared_with_what_is_plugged_into_it(machine: Path) -> None:
    for port in ("0000:02:08.0", "0000:01:00.0"):
        for name, text in (("current_link_width", "8\n"), ("current_link_speed", "8.0 GT/s PCIe\n")):
            write(machine, f"sys/bus/pci/devices/{port}/{name}", text)
        write(machine, f"sys/bus/pci/devices/{port}/max_link_width", "16\n")
    write(machine, "sys/bus/pci/devices/0000:00:01.0/max_link_width", "16\n")
    rows = read(machine)
    assert rows["0000:02:08.0"].fields["link_width_ratio"] is None
    assert 0.5 == rows["0000:01:00.0"].fields["link_width_ratio"], "the upper port of a switch is a lower end"


def test_link_of_what_is_gone_is_absent_not_63_lanes(machine: Path) -> None:
    write(machine, f"sys/bus/pci/devices/{GPUS[0]}/current_link_width", "63\n")
    write(machine, f"sys/bus/pci/devices/{GPUS[0]}/current_link_speed", "Unknown\n")
    row = read(machine)[GPUS[0]].fields
    assert {None} == {row[name] for name in ("link_generation", "link_width", "link_width_ratio")}


def test_counter_that_cannot_be_read_is_absent_not_zero(machine: Path) -> None:
    write(machine, f"sys/bus/pci/devices/{GPUS[0]}/aer_dev_fatal", "TOTAL_ERR_FATAL many\n")
    assert read(machine)[GPUS[0]].fields["fatal_errors_total"] is None
    assert "fatal_errors_total" not in read(machine)[GPUS[1]].fields


def test_essential_level_reads_errors_alone(machine: Path) -> None:
    rows = read(machine, Level.ESSENTIAL)
    assert {GPUS[0]} == rows.keys()
    assert {"corrected_errors_total", "nonfatal_errors_total", "fatal_errors_total"} == rows[GPUS[0]].fields.keys()


def test_virtual_functions_have_no_link_of_their_own(machine: Path) -> None:
    for name, text in (("current_link_width", "16\n"), ("current_link_speed", "16.0 GT/s PCIe\n"), *_AER.items()):
        write(machine, f"sys/bus/pci/devices/{VFS[0]}/{name}", text)
    assert VFS[0] not in read(machine)


def test_what_a_function_never_reports_is_said_to_be_unsupported(machine: Path) -> None:
    documents = described(machine)
    reported = {address: {f"pci.{name}" for name in row.fields} for address, row in read(machine).items()}
    declared = {spec.name for spec in METRICS}
    assert declared == {*LINK_METRICS, *ERROR_METRICS, "pci.power_state"}

    def missing(document: Document) -> set[str]:
        return declared - reported.get(document.slot.address, set()) - {"pci.power_state"}

    for address in GPUS:
        assert sorted(missing(documents[address])) == documents[address].unsupported
    assert sorted(declared) == documents[VFS[0]].unsupported


def test_links_are_read_when_they_are_due(machine: Path) -> None:
    clock = Clock()
    collector = collector_of(machine, clock=clock)
    counts = []
    for _ in range(3):
        counts.append(len(list(collector.collect())))
        clock.now += 31
    assert [2, 0, 2] == counts
