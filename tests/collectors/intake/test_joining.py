"""What NVML and the kernel log tell of one happening is one event; what only one of them sees goes through."""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collectors.blocks import Packer
from collectors.joining import WINDOW_NS
from collectors.log_rules.teller import Teller
from collectors.nvml.collector import NvmlCollector
from collectors.received import open_delivery
from collectors.syslog_kmsg import KernelLog, RecordedReader
from collectors.syslog_listener import METRICS, Counts
from collectors.syslog_rows import Rows
from schemas.device import DeviceKind, Document, Part, encode_document
from schemas.rows import Event, Item, Severity, Tally
from schemas.verbosity import Level, RowClass
from tests.collectors.intake.rig import Rig
from tests.collectors.nvml.help import machine, watching
from tests.fakes.nvml import FakeNvml
from tests.fakes.nvml.fixtures import fake_nvml

__all__ = ["fake_nvml"]


def deliver(rig: Rig, collector: str, items: Iterable[Item], documents: list[str] | None = None) -> None:
    """Hand items over as a helper does, through its bytes."""
    packer = Packer(NvmlCollector.METRICS if collector == "nvml" else METRICS, "node-1")
    for item in items:
        packer.add(item)
    delivery, bad, _ = open_delivery(packer.pack(documents))
    assert delivery is not None
    assert (0, {}) == (bad, packer.faults)
    rig.intake.take(collector, delivery)


def kernel_says(*lines: str, sequence: int = 0) -> list[Item]:
    """What the kernel log's reader makes of lines that were written just now."""
    now = time.monotonic_ns() // 1000
    data = "".join(f"3,{sequence + at},{now},-;{line}\n" for at, line in enumerate(lines)).encode()
    rows = Rows("node-1", time.time_ns)
    log = KernelLog(RecordedReader(data), Path("/nonexistent"), None, Counts(), teller=Teller(lambda kind, name: ""))
    log.read(rows)
    log.finish(rows)
    log.close()
    return rows.take()


def told(rig: Rig) -> list[dict[str, Any]]:
    """The events that are in the spool."""
    rig.settle()
    found = []
    for block in rig.blocks(RowClass.EVENT):
        for row, key in enumerate(block.rows):
            facts = json.loads(block.strings["detail"][row] or "{}")
            found.append({"type": block.strings["type"][row], "device": block.keys[key][0], **facts})
    return found


def folded(rig: Rig) -> int:
    assert rig.intake.drain()
    account = rig.spool.account()
    return sum(
        stream.folded for epoch in account.epochs for stream in epoch.streams if stream.row_class is RowClass.EVENT
    )


def xid(code: int = 79, address: str = "0000:3b:00.0", device: str = "gpu:GPU-1", **more: Any) -> Event:
    return Event("nvml.xid", f"Xid {code}", Severity.CRITICAL, device, {"xid": code, "address": address, **more})


def test_xid_that_the_driver_tells_both_ways_is_one_event_of_the_gpu(rig: Rig, fake_nvml: FakeNvml) -> None:
    """The fake library fires it, and the kernel's line of the same comes first: as on a real machine."""
    with machine(fake_nvml) as made:
        documents = [encode_document(one) for one in made.documents().values()]
        deliver(rig, "nvml", [], documents)
        place = made.document(4).slot.address.rpartition(".")[0]
        line = f"NVRM: Xid (PCI:{place}): 79, pid=4711, name=python3, GPU has fallen off the bus."
        with watching(made) as watch:
            rig.until(lambda: fake_nvml.calls("nvmlEventSetWait_v2"))
            deliver(rig, "syslog", kernel_says(line))
            fake_nvml.xid(4, 79)
            rig.until(lambda: watch.events)
            deliver(rig, "nvml", watch.items)
        (event,) = told(rig)
        assert ("nvml.xid", made.device(4), 79, 4711) == (
            event["type"], event["device"], event["xid"], event["process_id"])  # fmt: skip
        assert made.device(4) == f"gpu:{event['uuid']}"
        assert 1 == folded(rig)
        (row,) = rig.blocks(RowClass.LOG)
        assert line == row.strings["message"][0]


@pytest.mark.parametrize("first", ["nvml", "syslog"])
def test_whoever_is_first_is_heard_at_once_and_the_other_folded(rig: Rig, first: str) -> None:
    second = "syslog" if first == "nvml" else "nvml"
    deliver(rig, first, [xid(by=first)])
    deliver(rig, second, [xid(by=second)])
    assert [first] == [event["by"] for event in told(rig)]
    assert 1 == folded(rig)


def test_what_one_collector_tells_again_goes_through(rig: Rig) -> None:
    deliver(rig, "nvml", [xid(), xid(), xid()])
    assert 3 == len(told(rig))
    assert 0 == folded(rig)


@pytest.mark.parametrize("other", [xid(48), xid(address="0000:3c:00.0"), xid(address="")])
def test_other_number_gpu_or_unknown_place_is_another_happening(rig: Rig, other: Event) -> None:
    deliver(rig, "nvml", [xid()])
    deliver(rig, "syslog", [other])
    assert 2 == len(told(rig))


GPU = "gpu:GPU-1"


def gpu(device: str, *keys: str) -> str:
    return encode_document(Document(device, DeviceKind.GPU, [*keys], part=Part(uuid="GPU-1")))


def of_bmc(device: str = "bmc:b1/gpu/GPU_SXM_1", code: int = 79, seconds: float = 0.0, **more: Any) -> Event:
    """What a baseboard's BMC tells, `seconds` ago by its clock."""
    when = time.time_ns() - int(seconds * 1e9)
    return Event(
        "redfish.xid", f"XID {code}", Severity.CRITICAL, device, {"xid": code, "cause": "hardware", **more}, when
    )


def describe(rig: Rig, by_nvml: tuple[str, ...] = (GPU, "pci:0000:3b:00.0"), by_bmc: tuple[str, ...] = (GPU,)) -> None:
    deliver(rig, "nvml", [], [gpu(GPU, *by_nvml)])
    deliver(rig, "redfish", [], [gpu("bmc:b1/gpu/GPU_SXM_1", *by_bmc)])


def test_what_a_bmc_tells_of_an_xid_that_the_driver_told_is_folded(rig: Rig) -> None:
    describe(rig)
    deliver(rig, "nvml", [xid()])
    deliver(rig, "redfish", [of_bmc(seconds=-30.0), of_bmc(seconds=60.0)])
    assert ["nvml.xid"] == [event["type"] for event in told(rig)]
    assert 2 == folded(rig)


def test_the_drivers_own_word_is_heard_after_the_bmcs(rig: Rig) -> None:
    """Rules go by it, and it knows more."""
    describe(rig)
    deliver(rig, "redfish", [of_bmc()])
    deliver(rig, "nvml", [xid()])
    assert ["nvml.xid", "redfish.xid"] == sorted(event["type"] for event in told(rig))


@pytest.mark.parametrize(
    ("other", "names"),
    [
        (of_bmc(code=48), {}),
        (of_bmc("bmc:b1/gpu/GPU_SXM_2"), {}),
        (of_bmc(seconds=600.0), {}),
        (of_bmc(), {"by_bmc": ("gpu:GPU-2", "serial:1")}),
        (of_bmc(), {"by_bmc": ()}),
        (of_bmc(), {"by_nvml": (GPU,)}),
    ],
)
def test_what_may_be_another_happening_or_gpu_is_told(
    rig: Rig, other: Event, names: dict[str, tuple[str, ...]]
) -> None:
    describe(rig, **names)
    deliver(rig, "nvml", [xid()])
    deliver(rig, "redfish", [other])
    assert ["nvml.xid", "redfish.xid"] == sorted(event["type"] for event in told(rig))


def test_a_number_of_an_nvswitch_is_no_gpus(rig: Rig) -> None:
    describe(rig)
    deliver(rig, "nvml", [xid()])
    deliver(rig, "redfish", [msgspec.structs.replace(of_bmc(), detail={"xid": 79})])
    assert 2 == len(told(rig))


def test_happening_of_long_ago_that_is_only_now_read_is_another_one(rig: Rig) -> None:
    """The kernel log of a machine is read from its beginning when the agent is new there."""
    deliver(rig, "nvml", [xid()])
    past = time.time_ns() - 2 * WINDOW_NS["nvml.xid"]
    event = xid()
    deliver(rig, "syslog", [Event(event.type, event.message, event.severity, event.device, event.detail, past)])
    assert 2 == len(told(rig))


def test_the_rest_of_a_delivery_is_kept_in_order(rig: Rig) -> None:
    deliver(rig, "syslog", [xid()])
    others = [Event("nvml.gpu.taken", f"{at}", detail={"at": at}) for at in range(4)]
    deliver(rig, "nvml", [others[0], xid(), others[1], others[2], xid(), others[3]])
    assert [0, 1, 2, 3] == [event["at"] for event in told(rig) if "at" in event]
    assert 5 == len(told(rig))
    assert 2 == folded(rig)


def test_gpu_that_is_lost_is_told_once(rig: Rig) -> None:
    deliver(rig, "syslog", kernel_says("NVRM: GPU 0000:3b:00.0: GPU has fallen off the bus."))
    lost = Event(
        "nvml.gpu.lost", "x", Severity.CRITICAL, "gpu:GPU-1", {"address": "0000:3b:00.0", "reason": "GPU_IS_LOST"}
    )
    deliver(rig, "nvml", [lost])
    assert ["nvml.gpu.lost"] == [event["type"] for event in told(rig)]


def test_without_nvml_the_event_is_the_pci_functions(rig: Rig) -> None:
    deliver(rig, "syslog", kernel_says("NVRM: Xid (PCI:0000:3b:00): 79, pid=1, GPU has fallen off the bus."))
    assert ["pci:0000:3b:00.0"] == [event["device"] for event in told(rig)]


def test_facts_that_are_none_harm_nothing(rig: Rig) -> None:
    deliver(rig, "syslog", [Event("nvml.xid", "x"), Event("nvml.xid", "x", detail={"address": 5})])
    deliver(rig, "nvml", [Event("nvml.xid", "x")])
    assert 3 == len(told(rig))


def test_rows_that_a_collector_folded_or_left_out_are_in_the_account(rig: Rig) -> None:
    deliver(rig, "syslog", [Tally(RowClass.LOG, Level.DEBUG, folded=999), Tally(RowClass.LOG, Level.DEBUG, filtered=5)])
    assert rig.intake.drain()
    (stream,) = [one for one in rig.spool.account().epochs[0].streams if one.level is Level.DEBUG]
    assert (1004, 5, 999, 0) == (stream.produced, stream.filtered, stream.folded, stream.numbered)
