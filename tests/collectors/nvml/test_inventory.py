"""What `nvml` and `pci` say of one machine makes one device of each GPU, and partitions below theirs."""

from pathlib import Path

import pytest

from aggregator.ledger.words import Lifecycle
from schemas.device import DeviceKind
from tests.aggregator.ledger.worlds import Book
from tests.collectors.nvml.help import machine
from tests.collectors.pci.help import collector_of
from tests.fakes.nvml import FakeNvml, MigInstance, Process


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give a machine on whose bus are the fake's GPUs, each below a root port of its own."""
    devices = tmp_path / "root/sys/bus/pci/devices"
    devices.mkdir(parents=True)
    for number in range(8):
        bus = 0x1B + 0x10 * number
        folder = tmp_path / f"root/sys/devices/pci0000:{bus - 1:02x}/0000:{bus - 1:02x}:01.0/0000:{bus:02x}:00.0"
        folder.mkdir(parents=True)
        for name, text in (("vendor", "0x10de"), ("device", "0x2330"), ("class", "0x030200"), ("revision", "0xa1")):
            (folder / name).write_text(text)
        (folder / "driver").symlink_to("../../../../bus/pci/drivers/nvidia")
        (devices / f"0000:{bus:02x}:00.0").symlink_to(folder)
    return tmp_path / "root"


def test_gpu_is_one_device_of_two_sources_and_foreign_while_a_program_uses_it(fake_nvml: FakeNvml, root: Path) -> None:
    fake_nvml.gpus[2].set_processes("compute", [Process(41, 1 << 30)])
    fake_nvml.set_mig(0, [MigInstance("3g.40gb", 4)])
    book = Book()
    for document in collector_of(root).describe():
        book.see(document, "n1", collector="pci")
    with machine(fake_nvml, root=root) as made:
        for document in made.documents().values():
            book.see(document, "n1", collector="nvml")
    gpus = {one.part.uuid: one for one in book.state.devices.values() if one.kind is DeviceKind.GPU}
    assert {gpu.uuid for gpu in fake_nvml.gpus} == gpus.keys()
    assert {2} == {len(one.views) for one in gpus.values()}
    used = gpus[str(fake_nvml.gpus[2].uuid)]
    assert (Lifecycle.FOREIGN, "nvidia", "NVIDIA_H100") == (
        used.lifecycle,
        used.capabilities["driver"],
        used.capabilities["variant_hint"],
    )
    assert Lifecycle.FOREIGN is not gpus[str(fake_nvml.gpus[3].uuid)].lifecycle
    (partition,) = [one for one in book.state.devices.values() if one.kind is DeviceKind.GPU_PARTITION]
    whole = gpus[str(fake_nvml.gpus[0].uuid)]
    assert (whole.id, f"{whole.slot.path}/mig4:4") == (partition.parent, partition.slot.path)
