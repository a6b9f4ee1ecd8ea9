"""What one BMC lastingly does not report stands in its documents, and is told apart from what is missing now."""

from collectors.redfish.unit import lacking
from schemas.device import DeviceKind, Document
from tests.collectors.redfish.running import Running, address
from tests.fakes.redfish import Simulator, made

BOARD, FAN = Document("bmc:b", DeviceKind.BMC), Document("fan:b/1", DeviceKind.FAN)


def test_what_a_device_does_not_report_is_unsupported() -> None:
    board, fan, supply = lacking(
        [BOARD, FAN, Document("psu:b/1", DeviceKind.PSU)],
        {"bmc:b": {"power_state", "health"}, "fan:b/1": {"speed_rpm", "speed_ratio", "health"}},
        on=True,
    )
    air = {"bmc.inlet_temperature_celsius", "bmc.outlet_temperature_celsius"}
    assert air | {"bmc.system_power_watts"} <= set(board.unsupported)
    assert not {"bmc.power_state", "bmc.health"} & set(board.unsupported)
    assert [] == fan.unsupported == supply.unsupported  # one reports all, of the other nothing was read this time


def test_of_a_machine_that_is_off_nobody_knows_what_it_would_report() -> None:
    assert [BOARD, FAN] == lacking([BOARD, FAN], {"bmc:b": set(), "fan:b/1": set()}, on=False)


def test_documents_say_what_rows_do_not_have(simulator: Simulator) -> None:
    with Running(address(simulator.add(made("made")), "b")) as running:
        told = running.until(lambda: running.described("bmc:b"))[-1]
        rows = {row.device: set(row.fields) for name in ("bmc", "bmc_fan", "bmc_psu") for row in running.rows(name)}
        assert rows
        for one in told.documents:
            assert not {name.partition(".")[2] for name in one.unsupported} & rows.get(one.device, set())
