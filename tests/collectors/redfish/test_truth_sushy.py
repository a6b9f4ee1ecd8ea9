"""Who else reads the same BMC reads the same: sushy, OpenStack's library, beside the collector on one simulator.

Not every machine gives sushy all that it insists on; what it reads, the collector says too. Of sensors sushy knows the
old schemas alone, so these are compared where the collector has nothing else either: the recorded machines show the
same sensors in both schemas, as they read some seconds apart.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sushy
import sushy.auth
import sushy.exceptions

from schemas.device import DeviceKind, Document
from schemas.rows import Reading
from tests.collectors.redfish.reading import Reads
from tests.fakes.redfish import Bmc, Simulator, made, recorded

MACHINES = ["dell", "lenovo", "nvidia_dpu", "nvidia_viking", "made"]
KINDS = {"CPU": DeviceKind.CPU, "GPU": DeviceKind.GPU}


class Both:
    """What sushy and the collector read of one machine."""

    def __init__(self, name: str, bmc: Bmc) -> None:
        self.name, self.bmc = name, bmc
        user = sushy.auth.SessionOrBasicAuth(self.bmc.user, self.bmc.password)
        self.theirs = sushy.Sushy(self.bmc.url, auth=user)
        self.system = self.theirs.get_system_collection().get_members()[0]
        with Reads(self.bmc) as reads:
            self.rows: list[Reading] = reads.rows()
            self.documents: list[Document] = reads.reader.found or []
        self.board = next(one for one in self.documents if one.kind is DeviceKind.BMC)

    def of_kind(self, *kinds: DeviceKind) -> list[Document]:
        """Give the documents of some kinds."""
        return [one for one in self.documents if one.kind in kinds]

    def close(self) -> None:
        """End sushy's session now: left to itself it does so whenever it is forgotten, and waits for the BMC."""
        self.theirs._auth.close()
        self.theirs._conn.close()


@pytest.fixture(scope="module", params=MACHINES)
def both(request: pytest.FixtureRequest) -> Iterator[Both]:
    logging.getLogger("sushy").setLevel(logging.CRITICAL)  # it warns of what the recorded machines leave out
    with Simulator() as simulator:
        name: str = request.param
        found = Both(name, simulator.add(made(name) if name == "made" else recorded(name)))
        yield found
        found.close()


def had(read: Callable[[], Any]) -> Any:
    """Give what sushy reads; [] where the machine lacks what sushy insists on."""
    try:
        return read()
    except (sushy.exceptions.SushyError, KeyError, TypeError):
        return []


def test_it_is_the_same_machine(both: Both) -> None:
    theirs = both.system
    told = both.board.capabilities
    uuid = str(theirs.uuid).lower() if theirs.uuid else None
    assert (uuid, theirs.model, theirs.serial_number) == (
        told.get("system_uuid"),
        told["machine_model"],
        told["machine_serial"],
    )


def test_it_is_on_or_off_for_both(both: Both) -> None:
    (row,) = (one for one in both.rows if one.measurement == "bmc")
    assert str(both.system.power_state.value).lower() == row.fields["power_state"]


def test_its_bmc_runs_the_same_firmware(both: Both) -> None:
    versions = {one.firmware_version for one in both.theirs.get_manager_collection().get_members()}
    assert both.board.part.firmware in versions


def test_processors_are_the_same(both: Both) -> None:
    theirs: Counter[tuple[DeviceKind, int]] = Counter()
    for system in both.theirs.get_system_collection().get_members():
        for one in had(lambda: list(system.processors.get_members())):  # noqa: B023  # called at once
            there = one.status is None or str(one.status.state.value) != "Absent"
            if there and one.processor_type and one.processor_type.value in KINDS:
                theirs[KINDS[one.processor_type.value], one.total_cores or 0] += 1
    ours = Counter(
        (one.kind, int(str(one.capabilities.get("cores", 0))) if one.kind is DeviceKind.CPU else 0)
        for one in both.of_kind(DeviceKind.CPU, DeviceKind.GPU)
    )
    assert theirs == ours


def test_drives_are_the_same_by_serial_number_and_size(both: Both) -> None:
    theirs = {}
    for store in had(lambda: list(both.system.storage.get_members())):
        theirs.update({one.serial_number: one.capacity_bytes for one in store.drives})
    ours = {one.part.serial: one.capabilities["capacity_bytes"] for one in both.of_kind(DeviceKind.NVME)}
    assert theirs == ours
    assert both.name not in {"dell", "lenovo", "made"} or ours


def test_firmware_is_listed_in_the_same_versions(both: Both) -> None:
    theirs: dict[str, set[str]] = {}
    for one in had(lambda: list(both.theirs.get_update_service().firmware_inventory.get_members())):
        theirs.setdefault(one.identity.rpartition("__")[2], set()).add(one.version)
    said = both.board.capabilities.get("firmware_versions", [])
    assert isinstance(said, list)
    ours = [str(one).partition("=") for one in said]
    if theirs:
        assert [] == [name for name, _, version in ours if version not in theirs[name]]
        assert len(ours) >= 5


@pytest.mark.parametrize("name", ["dell", "lenovo", "nvidia_dpu", "nvidia_viking"])
def test_temperatures_and_fans_are_read_alike_in_the_old_schema(simulator: Simulator, name: str) -> None:
    tree = recorded(name)
    bmc = simulator.add(tree)
    for path in tree:
        if path.startswith("/redfish/v1/Chassis/") and path.count("/") == 4:
            told = bmc.resource(path) or {}
            bmc.put(path, {key: value for key, value in told.items() if key not in {"Sensors", "ThermalSubsystem"}})
    both = Both(name, bmc)
    temperatures: Counter[tuple[str, float]] = Counter()
    fans: Counter[float] = Counter()
    for chassis in both.theirs.get_chassis_collection().get_members():
        thermal = had(lambda: chassis.thermal)  # noqa: B023  # called at once
        for one in thermal.temperatures or [] if thermal else []:
            if one.reading_celsius is not None:
                temperatures[f"{chassis.identity}/{one.name}", one.reading_celsius] += 1
        fans.update(one.reading for one in (thermal.fans or [] if thermal else []) if one.reading is not None)
    both.close()
    rows = both.rows
    ours = Counter(
        (str(one.attributes["sensor"]), one.fields["temperature_celsius"])
        for one in rows
        if one.measurement == "bmc_temperature"
    )
    assert temperatures == ours
    assert fans == Counter(one.fields.get("speed_rpm") for one in rows if one.measurement == "bmc_fan")
    assert ours
