"""MIG partitions: devices of their own, known by their numbers and by how often these were given."""

from pathlib import Path

import pytest

from schemas.device import DeviceKind, Document
from tests.collectors.nvml.help import Machine, machine
from tests.fakes.nvml import FakeNvml, MigInstance, Process


def _partitions(made: Machine) -> list[Document]:
    return [one for one in made.documents().values() if one.kind is DeviceKind.GPU_PARTITION]


def test_partition_is_a_device_with_its_gpu_as_parent(fake_nvml: FakeNvml) -> None:
    fake_nvml.set_mig(2, [MigInstance("3g.40gb", 4), MigInstance("1g.10gb", 0)])
    with machine(fake_nvml) as made:
        wide, small = _partitions(made)
        gpu = made.document(2)
    assert (gpu.device, gpu.device) == (wide.parent, small.parent)
    assert wide.device.endswith("/1/0/1")
    expected = {"mig_profile": "3g.40gb", "mig_placement": "4:4", "mig_gpu_instance": 1, "mig_compute_instance": 0,
                "mig_generation": 1, "memory_bytes": 40448 << 20, "multiprocessors": 60}  # fmt: skip
    assert expected == {name: wide.capabilities[name] for name in expected}
    assert wide.part.uuid.startswith("MIG-")
    assert ("gi1/ci0/1", "0000:3b:00.0/mig4:4") == (wide.part.serial, wide.slot.path)
    assert ("enabled", ["1g.10gb", "1g.10gb+me", "1g.20gb", "2g.20gb", "3g.40gb", "4g.40gb", "7g.80gb"]) == (
        gpu.capabilities["mig_mode"],
        gpu.capabilities["mig_profiles"],
    )


def test_partition_has_rows_and_programs_of_its_own(fake_nvml: FakeNvml) -> None:
    fake_nvml.set_mig(0, [MigInstance("3g.40gb", 0)])
    fake_nvml.gpus[0].set("mig.1.0.memory.used", 7 << 30)
    fake_nvml.gpus[0].set("mig.1.0.process.compute", Process(5, 7 << 30, 1, 0).as_written())
    with machine(fake_nvml) as made:
        (document,) = _partitions(made)
        made.items()
        (row,) = [row for row in made.rows() if row.device == document.device]
        assert 7 << 30 == row.fields["memory_used_bytes"]
        assert ["?/5"] == document.capabilities["in_use_by"]
        made.later()
        assert [1] == [row.fields["processes"] for row in made.rows() if row.device == document.device]


def test_partition_made_again_under_the_same_numbers_is_another_one(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    """DESIGN part 3: MIG = (parent, GI, CI, generation)."""
    with machine(fake_nvml, state_dir=tmp_path) as made:
        fake_nvml.set_mig(0, [MigInstance("3g.40gb", 0)])
        (first,) = _partitions(made)
        fake_nvml.set_mig(0, [])
        assert [] == _partitions(made)
        fake_nvml.set_mig(0, [MigInstance("3g.40gb", 0)])
        (second,) = _partitions(made)
    assert first.device.endswith("/1/0/1")
    assert second.device.endswith("/1/0/2")
    assert not set(first.merge_keys) & set(second.merge_keys)
    assert second.part.uuid.endswith(".2")


def test_generation_outlives_the_process(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    fake_nvml.set_mig(0, [MigInstance("3g.40gb", 0)])
    with machine(fake_nvml, state_dir=tmp_path) as made:
        (first,) = _partitions(made)
    with machine(fake_nvml, state_dir=tmp_path) as made:
        (same,) = _partitions(made)
    fake_nvml.set_mig(0, [MigInstance("3g.40gb", 4)])
    with machine(fake_nvml, state_dir=tmp_path) as made:
        (moved,) = _partitions(made)
    assert first.device == same.device
    assert moved.device.endswith("/1/0/2")


def test_partitions_do_not_outlive_a_boot(fake_nvml: FakeNvml, tmp_path: Path) -> None:
    boot = tmp_path / "root/proc/sys/kernel/random/boot_id"
    boot.parent.mkdir(parents=True)
    fake_nvml.set_mig(0, [MigInstance("3g.40gb", 0)])
    seen = []
    for word in ("one", "two"):
        boot.write_text(word)
        with machine(fake_nvml, root=tmp_path / "root", state_dir=tmp_path) as made:
            seen += [one.device[-1] for one in _partitions(made)]
    assert ["1", "2"] == seen


def test_change_of_partitions_is_told_and_described(fake_nvml: FakeNvml) -> None:
    with machine(fake_nvml) as made:
        made.items()
        fake_nvml.set_mig(1, [MigInstance("4g.40gb", 0), MigInstance("3g.40gb", 4)])
        made.later()
        made.items()
        (told,) = made.events()
    assert ("nvml.mig.changed", made.device(1), 2) == (told.type, told.device, told.detail["partitions"])


def test_gpu_in_mig_mode_has_no_utilisation_and_gets_it_back(fake_nvml: FakeNvml) -> None:
    gpu = fake_nvml.gpus[0]
    fake_nvml.set_mig(0, [MigInstance("3g.40gb", 0)])
    gpu.utilization = None
    with machine(fake_nvml) as made:
        assert "gpu.utilization_ratio" in made.document().unsupported
        assert "utilization_ratio" not in made.row()
        fake_nvml.set_mig(0, None)
        gpu.utilization = 50
        made.later()
        made.items()
        made.later()
        assert 0.5 == made.row()["utilization_ratio"]
        assert "gpu.utilization_ratio" not in made.document().unsupported


def test_without_rights_a_partition_is_known_and_its_place_is_not(fake_nvml: FakeNvml) -> None:
    fake_nvml.set_mig(0, [MigInstance("3g.40gb", 0)])
    fake_nvml.returns("nvmlDeviceGetGpuInstanceById", 4)
    with machine(fake_nvml) as made:
        (partition,) = _partitions(made)
        made.items()
        assert "not permitted: nvmlDeviceGetGpuInstanceById" in made.partial
        assert "root" in made.partial
    assert "mig_placement" not in partition.capabilities
    assert "3g.40gb" == partition.capabilities["mig_profile"]


@pytest.mark.parametrize("compute", [(1, 1, 1), (2, 1)])
def test_each_compute_instance_is_a_device(fake_nvml: FakeNvml, compute: tuple[int, ...]) -> None:
    fake_nvml.set_mig(0, [MigInstance("3g.40gb", 0, compute)])
    with machine(fake_nvml) as made:
        found = _partitions(made)
    assert [(1, number) for number in range(len(compute))] == [
        (one.capabilities["mig_gpu_instance"], one.capabilities["mig_compute_instance"]) for one in found
    ]
