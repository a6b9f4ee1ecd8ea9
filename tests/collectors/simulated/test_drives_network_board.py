"""What simulated drives, network functions and BMC measure holds together."""

from collectors.simulated import default_fleet
from collectors.simulated.physics_board import SUPPLY_EFFICIENCY
from tests.collectors.simulated.help import SECOND, START, break_it, column, devices, one_node, run

LIFE = [
    "read_bytes_total",
    "written_bytes_total",
    "read_commands_total",
    "busy_seconds_total",
    "power_on_seconds_total",
]


def test_drives_count_on_over_a_restart() -> None:
    """A drive's counters are those of its life: a new process finds them where the old one left them, or higher."""
    before = run(one_node(), 100)
    again = default_fleet(1).nodes[0].step(START + 101 * SECOND)
    for field in LIFE:
        for old, new in zip(column(before, "nvme", field), column(again, "nvme", field), strict=True):
            assert 0 < old <= new


def test_drives_never_count_backwards() -> None:
    node, before = one_node(), [[0] * 4] * len(LIFE)
    for minute in range(1, 180):
        parcels = node.step(START + minute * 60 * SECOND)
        after = [column(parcels, "nvme", field) for field in LIFE]
        assert all(a <= b for old, new in zip(before, after, strict=True) for a, b in zip(old, new, strict=True))
        before = after


def test_drives_count_in_the_steps_of_the_specification() -> None:
    parcels = run(one_node(), 3)
    assert all(value % 512_000 == 0 for value in column(parcels, "nvme", "written_bytes_total"))
    assert all(value % 3600 == 0 for value in column(parcels, "nvme", "power_on_seconds_total"))
    assert all(0 < value < 1 for value in column(parcels, "nvme", "used_ratio"))


def test_a_port_carries_at_least_what_its_functions_do() -> None:
    parcels = run(one_node(), 60)
    for field in ("receive_bytes_total", "transmit_bytes_total"):
        functions, ports = column(parcels, "vf", field), column(parcels, "nic", field)
        assert min(functions) > 0
        assert ports[0] > sum(functions[:32])
        assert ports[1] > sum(functions[32:])


def test_a_port_carries_no_more_than_its_link_can() -> None:
    node = one_node("a10-sriov")
    before = column(run(node, 1), "nic", "receive_bytes_total")
    for second in range(2, 700, 7):
        after = column(node.step(START + second * SECOND), "nic", "receive_bytes_total")
        after_s = 1 if second == 2 else 7
        assert all(new - old <= after_s * 6_250_000_000 for old, new in zip(before, after, strict=True))
        before = after


def test_a_port_without_carrier_stands_still_with_its_functions() -> None:
    """Rate is absent, not zero, and the other port goes on."""
    node = one_node()
    run(node, 10)
    break_it(node, "link_down", target=1, duration_seconds=60.0)
    down = run(node, 1, 11)
    later = run(node, 10, 12)
    assert column(later, "nic", "link_up") == [True, False]
    assert column(later, "nic", "link_rate_bytes_per_second")[1] is None
    assert column(later, "nic", "link_downs_total") == [0, 1]
    assert column(down, "nic", "receive_bytes_total")[1] == column(later, "nic", "receive_bytes_total")[1]
    assert column(down, "vf", "receive_bytes_total")[32:] == column(later, "vf", "receive_bytes_total")[32:]
    assert column(later, "vf", "link_up") == [True] * 32 + [False] * 32
    assert column(down, "nic", "receive_bytes_total")[0] < column(later, "nic", "receive_bytes_total")[0]


def test_supplies_give_what_the_gpus_take_and_more() -> None:
    node = one_node()
    for second in range(1, 100):
        parcels = run(node, 1, second)
        gpus = sum(column(parcels, "gpu", "power_watts"))
        output, supplied = (sum(column(parcels, "bmc_psu", f"{word}_watts")) for word in ("output", "input"))
        assert output >= gpus + node.hardware.type.bmc.base_watts
        assert abs(output / supplied - SUPPLY_EFFICIENCY) < 1e-9
        assert abs(column(parcels, "bmc", "system_power_watts")[0] - supplied) < 1e-6


def test_air_warms_on_its_way_and_fans_follow_heat() -> None:
    node = one_node()
    cool = run(node, 1)
    break_it(node, "thermal_runaway", target=0)
    hot = run(node, 200, 2)
    for parcels in (cool, hot):
        inlet, outlet = (column(parcels, "bmc", f"{end}_temperature_celsius")[0] for end in ("inlet", "outlet"))
        assert 15.0 < inlet < 35.0
        assert inlet < outlet < 75.0
    assert column(hot, "bmc_fan", "speed_rpm")[0] > column(cool, "bmc_fan", "speed_rpm")[0]


def test_gpus_kept_from_the_driver_have_no_telemetry_but_take_power() -> None:
    """R002-5: bound to vfio-pci, they are in the inventory, and what they measure is absent, not zero."""
    from collectors.simulated import Fleet

    text = "[types.given]\ngpu = {driver = 'vfio-pci'}\n[[nodes]]\ntype = 'given'\n"
    node = Fleet.from_text(text).nodes[0]
    node.step(START)
    parcels = run(node, 30)
    assert devices(parcels, "gpu") == devices(parcels, "nvlink") == []
    assert sum(column(parcels, "bmc_psu", "output_watts")) > 900 + 8 * 70
    assert len(column(parcels, "bmc_temperature", "temperature_celsius")) == 8
