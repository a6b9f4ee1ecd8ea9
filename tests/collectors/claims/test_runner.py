"""A step in a process of its own: the operator's hook, its bounds, and what the device shows after it."""

import json
import os
import time
from pathlib import Path

import msgspec
import pytest

from collectors.claims.crew import in_a_process
from collectors.claims.options import ClaimsSection, Hook
from collectors.claims.order import Order, wrong_with
from collectors.claims.readback import read_device
from schemas.claims import ClaimDevice, Step

ADDRESS, OTHER = "0000:01:00.0", "0000:01:00.1"


def machine(root: Path, *, driver: str = "vfio-pci", other: str = "vfio-pci") -> Path:
    """Make a machine with two functions in group 7, and processes that can all be seen."""
    for address, name in ((ADDRESS, driver), (OTHER, other)):
        folder = root / "sys/devices/pci0000:00/0000:00:01.0" / address
        folder.mkdir(parents=True)
        for file, text in (("vendor", "0x10de"), ("device", "0x2330"), ("class", "0x088000"), ("revision", "0xa1")):
            (folder / file).write_text(text)
        (folder / "reset_method").write_text("flr")
        (folder / "reset").write_text("")
        (folder / "iommu_group").symlink_to("../../../../kernel/iommu_groups/7")
        if name:
            (root / "sys/bus/pci/drivers" / name).mkdir(parents=True, exist_ok=True)
            (folder / "driver").symlink_to(f"../../../../bus/pci/drivers/{name}")
        members = root / "sys/kernel/iommu_groups/7/devices"
        members.mkdir(parents=True, exist_ok=True)
        (members / address).symlink_to(folder)
        devices = root / "sys/bus/pci/devices"
        devices.mkdir(parents=True, exist_ok=True)
        (devices / address).symlink_to(f"../../../devices/pci0000:00/0000:00:01.0/{address}")
    (root / "dev/vfio").mkdir(parents=True)
    (root / "dev/vfio/7").touch()
    (root / "proc/self/ns").mkdir(parents=True)
    (root / "proc/self/ns/pid").symlink_to("pid:[4026531836]")
    return root


def order(step: Step, root: Path, hook: Hook | None = None, **changes: object) -> Order:
    """Make an order for the first function."""
    device = ClaimDevice("pci-a", "pci", "slot:n1:x:v:m", ADDRESS, "pci0000:00/01.0/00.0", "passthrough", 7,
                         (ADDRESS, OTHER), "slot:n1:x:v:m", clean=12)  # fmt: skip
    device = msgspec.structs.replace(device, **changes)
    return Order(step, "c-1", "t\n$(reboot)", "job; rm -rf /", 1, 5, device, "pci.x" if hook else "", hook, str(root))


def opened(root: Path, process: int = 4711) -> None:
    """Let a program hold the group open."""
    folder = root / f"proc/{process}/fd"
    folder.mkdir(parents=True)
    (folder / "3").symlink_to("/dev/vfio/7")
    (root / f"proc/{process}/comm").write_text("qemu")


def test_prepare_is_confirmed_only_when_the_whole_group_is_off_the_hosts_drivers(tmp_path: Path) -> None:
    """The kernel says who has which member, whatever the hook or the aggregator says (invariant 2)."""
    assert in_a_process(order(Step.PREPARE, machine(tmp_path / "a"))).done
    report = in_a_process(order(Step.PREPARE, machine(tmp_path / "b", other="nvme")))
    assert (False, f"drivers of the host have {OTHER} (nvme)") == (report.done, report.problem)
    wrong = in_a_process(order(Step.PREPARE, tmp_path / "a", group=8))
    assert "IOMMU group 7, not 8" in wrong.problem
    driver = in_a_process(order(Step.PREPARE, tmp_path / "a", mode="driver"))
    assert "no driver of the host has it" in driver.problem


@pytest.mark.parametrize("mode", ["passthrough", "driver"])
def test_what_somebody_has_is_not_prepared_and_its_hook_does_not_run(tmp_path: Path, mode: str) -> None:
    """Nobody was told yet that it is the claim's: who has the group open has it by other ways."""
    root, mark = machine(tmp_path), tmp_path / "ran"
    opened(root)
    report = in_a_process(order(Step.PREPARE, root, Hook(["/usr/bin/touch", str(mark)]), mode=mode))
    assert (False, "it is in use by qemu/4711: nothing was done") == (report.done, report.problem)
    assert not mark.exists()


def test_what_the_claim_itself_or_its_tenant_has_open_is_confirmed_again(tmp_path: Path) -> None:
    root = machine(tmp_path)
    opened(root)
    for told in ({"again": True}, {"beside": True}):
        assert in_a_process(msgspec.structs.replace(order(Step.PREPARE, root), **told)).done


@pytest.mark.parametrize("mounted", [ADDRESS, OTHER])
def test_what_the_host_lives_on_is_not_prepared_nor_its_group(tmp_path: Path, mounted: str) -> None:
    """A hook that takes a drive from under a mounted file system harms the host, whichever member it is."""
    root, mark = machine(tmp_path, driver="nvme", other="nvme"), tmp_path / "ran"
    (root / "sys/bus/pci/devices" / mounted / "block/nvme0n1").mkdir(parents=True)
    (root / "sys/dev/block").mkdir(parents=True)
    (root / "sys/dev/block/259:0").symlink_to(f"../../devices/pci0000:00/0000:00:01.0/{mounted}/block/nvme0n1")
    (root / "proc/self/mountinfo").write_text("30 1 259:0 / /data rw - ext4 /dev/nvme0n1 rw\n")
    for told in ({}, {"beside": True}):
        one = order(Step.PREPARE, root, Hook(["/usr/bin/touch", str(mark)]))
        report = in_a_process(msgspec.structs.replace(one, **told))
        assert (False, f"the host needs {mounted}: mount:/data: nothing was done") == (report.done, report.problem)
    assert not mark.exists()


def test_who_opens_a_group_while_it_is_prepared_keeps_it_from_being_confirmed(tmp_path: Path) -> None:
    root = machine(tmp_path)
    folder = root / "proc/4712/fd"
    script = f"mkdir -p {folder} && ln -s /dev/vfio/7 {folder}/3 && echo qemu > {folder.parent}/comm"
    report = in_a_process(order(Step.PREPARE, root, Hook(["/bin/sh", "-c", script])))
    assert (False, "it is in use by qemu/4712") == (report.done, report.problem)


def test_undo_and_check_are_done_when_nothing_has_it_open(tmp_path: Path) -> None:
    """A program with the group open keeps it, and is named."""
    root = machine(tmp_path)
    assert in_a_process(order(Step.CHECK, root)).done
    opened(root)
    report = in_a_process(order(Step.UNDO, root))
    assert (False, "it is in use by qemu/4711") == (report.done, report.problem)


def test_what_cannot_be_looked_at_is_not_taken_for_unused(tmp_path: Path) -> None:
    """From within another namespace some processes cannot be seen."""
    root = machine(tmp_path)
    (root / "proc/self/ns/pid").unlink()
    report = in_a_process(order(Step.CHECK, root))
    assert (False, "whether anything uses it cannot be told here") == (report.done, report.problem)
    assert read_device(root, order(Step.CHECK, root).device).in_use is None


def test_clean_hands_in_what_the_device_shows_and_never_touches_one_in_use(tmp_path: Path) -> None:
    """The reset is seen by the kernel's own file; a device in use is not even given to the hook."""
    root, mark = machine(tmp_path), tmp_path / "ran"
    hook = Hook(["/usr/bin/touch", str(mark)])
    report = in_a_process(order(Step.CLEAN, root, hook))
    document = json.loads(report.evidence)
    assert {
        "kind": "function",
        "reset_seen": True,
        "clean": 12,
        "in_use": False,
        "hook": "pci.x",
    }.items() <= document.items()
    assert "1" == (root / "sys/bus/pci/devices" / ADDRESS / "reset").read_text()
    mark.unlink()
    opened(root)
    assert not in_a_process(order(Step.CLEAN, root, hook)).done
    assert not mark.exists()


@pytest.mark.parametrize(("kind", "field"), [("gpu", "memory_check"), ("nvme", "sanitize_status")])
def test_what_nothing_here_reads_is_said_to_be_unsupported(tmp_path: Path, kind: str, field: str) -> None:
    """It proves nothing then, and says so."""
    report = in_a_process(order(Step.CLEAN, machine(tmp_path), kind=kind))
    assert "unsupported" == json.loads(report.evidence)[field]


def test_hook_gets_typed_fields_and_no_shell_and_nothing_of_the_agents_environment(tmp_path: Path) -> None:
    """Whatever a tenant calls its job stays a text."""
    root, out = machine(tmp_path), tmp_path / "env"
    os.environ["MUSTER_TOKEN_OF_THE_TEST"] = "secret"
    try:
        report = in_a_process(order(Step.PREPARE, root, Hook(["/usr/bin/env"])))
        copy = Hook(["/bin/sh", "-c", f"env > {out}"])
        assert in_a_process(order(Step.PREPARE, root, copy)).done
    finally:
        del os.environ["MUSTER_TOKEN_OF_THE_TEST"]
    assert report.done
    found = dict(line.split("=", 1) for line in out.read_text().splitlines())
    assert ("t?$(reboot)", "job; rm -rf /", ADDRESS) == (
        found["MUSTER_TENANT"],
        found["MUSTER_CONSUMER"],
        found["MUSTER_ADDRESS"],
    )
    assert "MUSTER_TOKEN_OF_THE_TEST" not in found


def test_hook_that_fails_says_why_and_one_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    """By its deadline, the whole group of processes."""
    root, mark = machine(tmp_path), tmp_path / "late"
    failed = in_a_process(order(Step.PREPARE, root, Hook(["/bin/sh", "-c", "echo no such card >&2; exit 3"])))
    assert "hook pci.x: exit status 3: no such card" == failed.problem
    hangs = Hook(["/bin/sh", "-c", f"(sleep 2; touch {mark}) & sleep 60"], 0.3)
    began = time.monotonic()
    report = in_a_process(order(Step.PREPARE, root, hangs))
    assert "did not end within 0.3 s" in report.problem
    time.sleep(max(0.0, began + 3.0 - time.monotonic()))
    assert not mark.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"address": "../../etc"},
        {"members": ("0000:01:00.0/../x",)},
        {"parent": "x"},
        {"kind": "bomb"},
        {"mode": "root"},
        {"device": "a/b"},
    ],
)
def test_what_comes_over_the_wire_is_never_a_path(tmp_path: Path, changes: dict[str, object]) -> None:
    """An address is an address, or the step is refused before anything is done."""
    mark = tmp_path / "ran"
    refused = order(Step.PREPARE, tmp_path, Hook(["/usr/bin/touch", str(mark)]), **changes)
    assert wrong_with(refused)
    assert not in_a_process(refused).done
    assert not mark.exists()


def test_hooks_of_a_kind_go_before_those_for_any_and_bad_ones_are_told() -> None:
    """And what is configured wrongly is refused at the start."""
    hooks = {"any": {"clean": Hook(["/any"])}, "gpu": {"clean": Hook(["/gpu"])}}
    section = ClaimsSection(hooks)
    assert ("gpu.clean", Hook(["/gpu"])) == section.hook("gpu", Step.CLEAN)
    assert ("any.clean", Hook(["/any"])) == section.hook("vf", Step.CLEAN)
    assert section.hook("vf", Step.UNDO) is None
    wrong: tuple[dict[str, dict[str, Hook]], ...] = ({"gpus": {}}, {"gpu": {"check": Hook(["/x"])}})
    for hooks in wrong:
        with pytest.raises(ValueError, match="hooks"):
            ClaimsSection(hooks)
    with pytest.raises(ValueError, match="absolute"):
        Hook(["modprobe"])
