"""A simulated DPU is a device of its host and a node of its own; what it can do comes and goes (R001-1 to R001-4)."""

import pytest

from collectors.simulated import Fleet, SimulatedNode, default_fleet
from collectors.simulated.faults import FAULTS
from collectors.simulated.models import DPU_MODELS
from schemas.capabilities import DPU_WORDS, PCI_WORDS
from schemas.device import DeviceKind, Document
from schemas.errors import ConfigError
from tests.collectors.simulated.help import SECOND, START, break_it, column, details, events, groups, lines, run

RESETS = {name: kind.reset_cause for name, kind in FAULTS.items() if kind.reset_cause}
WORDS = {word.name: word for word in (*PCI_WORDS, *DPU_WORDS)}


def pair() -> tuple[SimulatedNode, SimulatedNode]:
    """Give a host and the node that its DPU is, both stepped once."""
    host, dpu = default_fleet(1, node_type="dpu-host").nodes
    for node in (host, dpu):
        node.step(START)
    return host, dpu


def described(host: SimulatedNode) -> Document:
    (document,) = [one for one in host.documents() if one.kind is DeviceKind.DPU]
    return document


def own(node: SimulatedNode) -> Document:
    (document,) = [one for one in node.documents() if one.kind is DeviceKind.NODE]
    return document


def test_a_dpu_and_the_node_that_it_is_name_each_other() -> None:
    host, dpu = pair()
    device, node = described(host), own(dpu)
    assert (device.capabilities["dpu_node"], device.part.serial) == (dpu.id, node.part.serial)
    assert (node.capabilities["host_node"], node.capabilities["host_device"]) == (host.id, device.device)
    assert dpu.name == f"{host.name}-dpu0"
    assert {"host_node", "host_device"}.isdisjoint(own(host).capabilities)


def test_the_node_of_a_dpu_has_what_its_device_says() -> None:
    host, dpu = pair()
    device, node = described(host).capabilities, own(dpu).capabilities
    assert [device[name] for name in ("cores", "memory_bytes", "storage_bytes")] == [
        node[name] for name in ("cores", "memory_bytes", "disk_bytes")
    ]


def test_identity_of_a_dpu_and_of_its_parts_is_told() -> None:
    """R001-1: vendor, serial number, part number, versions of the DPU and its parts."""
    device = described(pair()[0])
    assert all((device.part.vendor, device.part.serial, device.part.part_number, device.part.firmware))
    versions = device.capabilities["firmware_versions"]
    assert isinstance(versions, list)
    assert ["atf", "bmc", "bsp", "nic", "uefi"] == [one.partition("=")[0] for one in versions]


@pytest.mark.parametrize("model", sorted(DPU_MODELS))
def test_every_word_of_a_dpu_is_declared_with_its_type(model: str) -> None:
    text = f"[types.t]\nswitches = 0\n[types.t.dpu]\nmodel = '{model}'\ncount = 2\n[[nodes]]\ntype = 't'"
    for document in [one for one in Fleet.from_text(text).nodes[0].documents() if one.kind is DeviceKind.DPU]:
        for name, value in document.capabilities.items():
            if name != "simulated":
                kind = WORDS[name].type
                assert isinstance(value, list) if kind == list[str] else type(value) is kind, name
        assert document.capabilities["offloads"] == sorted(document.capabilities["offloads"])  # type: ignore[arg-type]


def test_encryption_moves_to_software_and_back() -> None:
    """R001-3: hardware or software is a capability, its change an event, its rate another."""
    host, _ = pair()
    before = described(host).capabilities
    assert "encryption=hardware" in before["offloads"]  # type: ignore[operator]
    steady = [column(run(host, 1, second), "dpu", "encrypted_bytes_total")[0] for second in (1, 2)]
    break_it(host, "dpu_encryption_lost")
    parcels = run(host, 1, 3)
    assert events(parcels) == ["dpu.capability.removed", "dpu.capability.added"]
    assert [(one["capability"], one["implementation"]) for one in details(parcels)] == [
        ("encryption", "hardware"),
        ("encryption", "software"),
    ]
    now = described(host).capabilities
    assert "encryption=software" in now["offloads"]  # type: ignore[operator]
    rates = [told["encryption_rate_bytes_per_second"] for told in (before, now)]
    slow = [column(run(host, 1, second), "dpu", "encrypted_bytes_total")[0] for second in (4, 5)]
    assert slow[1] - slow[0] == rates[1] < steady[1] - steady[0] < rates[0]
    assert column(run(host, 1, 6), "dpu", "offload_errors_total")[0] > 0
    host.clear("dpu_encryption_lost")
    run(host, 1, 7)
    assert described(host).capabilities == before


def test_a_service_adds_a_capability_and_consumes() -> None:
    """R001-3, R001-4."""
    host, _ = pair()
    assert "compression_algorithms" not in described(host).capabilities
    before = consumed(host, 1)
    break_it(host, "dpu_service")
    run(host, 1, 2)
    told = described(host).capabilities
    assert ("compression=software" in told["offloads"], told["compression_algorithms"]) == (True, ["deflate"])  # type: ignore[operator]
    after = consumed(host, 3)
    assert after["subfunctions"] > before["subfunctions"]


def consumed(host: SimulatedNode, second: int) -> dict[str, int]:
    """Give what is consumed of each resource."""
    for parcel in host.step(START + second * SECOND):
        if parcel.block.measurement == "dpu_resource":
            columns = groups(parcel.block)[1]
            told = described(host).capabilities
            limits = {key[1]: limit for key, limit in zip(parcel.block.keys, columns["limit"], strict=True)}
            words = {"vfs": "sriov_total_vfs"}
            assert limits == {name: told[words.get(name, name)] for name in limits}
            used = {key[1]: amount for key, amount in zip(parcel.block.keys, columns["used"], strict=True)}
            assert all(0 <= used[name] <= limits[name] for name in used)
            return used
    raise AssertionError("nothing is said of resources")


@pytest.mark.parametrize(("fault", "cause"), sorted(RESETS.items()))
def test_resets_are_told_apart_and_silence_the_dpus_node(fault: str, cause: str) -> None:
    """R001-16: state and reason; afterwards the reason is still known."""
    host, dpu = pair()
    break_it(host, fault, duration_seconds=5.0)
    parcels = run(host, 1)
    assert (events(parcels), details(parcels)[0]["cause"]) == (["dpu.down"], cause)
    assert dpu.silent
    assert run(dpu, 1) == []
    assert column(parcels, "dpu_resource", "used") == [], "what does not run consumes nothing"
    if fault != "dpu_power_loss":
        assert described(host).capabilities["boot_progress"] != "OSRunning"
        assert described(host).capabilities["reset_cause"] == cause
    back = run(host, 1, 6)
    assert events(back) == ["dpu.up"]
    assert not dpu.silent
    assert run(dpu, 1, 7)
    told = described(host).capabilities
    assert (told["boot_progress"], told["reset_cause"]) == ("OSRunning", cause)


def test_the_causes_of_resets_are_words_that_are_declared() -> None:
    assert {cause for cause in RESETS.values() if f"`{cause}`" not in WORDS["reset_cause"].meaning} == set()
    assert len(set(RESETS.values())) == len(RESETS)


def test_a_dpu_that_does_not_boot_says_where_it_stands_and_why() -> None:
    host, _ = pair()
    break_it(host, "dpu_boot_fails")
    run(host, 1, 1000)
    told = described(host).capabilities
    assert (told["boot_progress"], told["boot_error"]) == ("MemoryInitializationStarted", "BL2: DDR training failed")
    host.clear("dpu_boot_fails")
    run(host, 1, 1001)
    assert "boot_error" not in described(host).capabilities


def test_a_dpu_without_power_is_gone_from_its_host() -> None:
    host, _ = pair()
    break_it(host, "dpu_power_loss")
    parcels = run(host, 1)
    assert [one for one in host.documents() if one.kind is DeviceKind.DPU] == []
    assert column(parcels, "dpu", "boot_progress") == []
    assert lines(parcels)[1].endswith("Card not present")


def test_the_bmc_of_a_dpu_dies_alone() -> None:
    host, dpu = pair()
    break_it(dpu, "bmc_dead")
    run(dpu, 1)
    assert [one for one in dpu.documents() if one.kind is DeviceKind.BMC] == []
    assert not dpu.silent
    assert not host.effects.bmc_dead


def test_a_model_that_there_is_not_is_named_with_what_is_near() -> None:
    with pytest.raises(ConfigError, match=r"types\.t\.dpu\.model: no model 'BlueField3'.*BlueField-3"):
        Fleet.from_text("[types.t.dpu]\nmodel = 'BlueField3'")
