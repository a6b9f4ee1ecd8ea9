"""What proves a drive clean: its own sanitize log, or formats that the kernel saw while the hook ran. Else nothing."""

import gc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.claims.order import Order
from collectors.claims.proof import evidence_of, note
from collectors.claims.readback import Reading, read_device
from collectors.nvme.admin import DeniedError
from collectors.nvme.evidence import Shown, shown
from collectors.nvme.formats import ALL, Format, FormatTrace, parse_formats
from schemas.claims import ClaimDevice, Step
from schemas.evidence import NvmeReadback
from tests.collectors.nvme import made
from tests.collectors.nvme.made import FakeDrive, opener
from tests.collectors.pci.made import write

ADDRESS = "0000:01:00.0"
HEAD = "     nvme-412     [000] .....    71.4: "


def _begun(cid: int, nsid: int = 1, erase: int = 1, drive: int = 0) -> str:
    words = f"lbaf=0, mset=0, pi=0, pil=0, ses={erase}"
    return (
        f"{HEAD}nvme_setup_cmd: nvme{drive}: qid=0, cmdid={cid}, nsid={nsid}, flags=0x0, meta=0x0, "
        f"cmd=(nvme_admin_format_nvm {words})"
    )


def _ended(cid: int, status: int = 0, drive: int = 0) -> str:
    return (
        f"{HEAD}nvme_complete_rq: nvme{drive}: qid=0, cmdid={cid}, res=0x0, retries=0, flags=0x0, status=0x{status:x}"
    )


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([_begun(5), _ended(5)], [Format("nvme0", 1)]),
        ([_begun(5), _ended(6)], []),
        ([_begun(5), _ended(5, drive=1)], []),
        ([_begun(5), _ended(5, status=0x4002)], []),
        ([_begun(5, erase=0), _ended(5)], []),
        ([_begun(5, erase=2), _begun(6, nsid=2), _ended(6), _ended(5)], [Format("nvme0", 2), Format("nvme0", 1)]),
        ([_begun(5, nsid=ALL), _ended(5)], [Format("nvme0", ALL)]),
        ([_ended(5), _begun(5)], []),
        ([_begun(5), _begun(5, erase=0), _ended(5)], []),
    ],
)
def test_format_counts_with_erase_and_success_alone(lines: list[str], expected: list[Format]) -> None:
    assert expected == parse_formats("\n".join(["# tracer: nop", *lines, ""]))


def test_words_of_older_kernels_are_read() -> None:
    """They print the command's words as bytes: cdw10 = 0x00000200 is a format with user data erased."""
    what = "nvme0: disk=nvme0n1, qid=0, cmdid=3"
    line = f"{HEAD}nvme_setup_cmd: {what}, nsid=1, flags=0x0, meta=0x0, cmd=(nvme_admin_format_nvm "
    end = f"{HEAD}nvme_complete_rq: {what}, res=0x0, retries=0, flags=0x0, status=0x0"
    assert [Format("nvme0", 1)] == parse_formats(f"{line}cdw10=00 02 00 00 00 00)\n{end}")
    assert [] == parse_formats(f"{line}cdw10=00 00 00 00 00 00)\n{end}")


@given(st.text())
def test_garbage_is_no_format(text: str) -> None:
    assert [] == parse_formats(text)


def test_sanitize_is_what_the_drive_says(tmp_path: Path) -> None:
    made.drive(tmp_path)
    drive = FakeDrive()
    drive.pages[0x81] = made.sanitize_log(1, 4, untouched=True)
    assert Shown("completed", "crypto-erase", False, [], [1]) == _shown(tmp_path, drive)
    drive.pages[0x81] = made.sanitize_log(1, 4)
    assert Shown("completed", "crypto-erase", True, [], [1]) == _shown(tmp_path, drive)
    del drive.pages[0x81]
    assert Shown("", "", None, [], [1]) == _shown(tmp_path, drive), "the drive cannot; that is not `unsupported` here"
    assert drive.opened == drive.closed


def test_formats_of_other_drives_and_of_name_spaces_that_are_gone_prove_nothing(tmp_path: Path) -> None:
    made.drive(tmp_path)
    drive = FakeDrive()
    drive.spaces[2] = made.namespace()
    assert [1] == _formatted(tmp_path, drive, Format("nvme0", 1), Format("nvme1", 2), Format("nvme0", 7))
    assert [1, 2] == _formatted(tmp_path, drive, Format("nvme0", ALL))
    assert [] == _formatted(tmp_path, drive, Format("nvme1", ALL))
    drive.identity = made.controller(fna=2)
    assert [1, 2] == _formatted(tmp_path, drive, Format("nvme0", 1)), "this drive erases all with any"
    drive.spaces[2] = made.namespace(fpi=0x80 | 40)
    assert [1] == _formatted(tmp_path, drive, Format("nvme0", 1)), "a format that still runs is none"


def test_drive_that_may_not_be_asked_shows_nothing(tmp_path: Path) -> None:
    made.drive(tmp_path)
    drive = FakeDrive()
    drive.denied = True
    assert None is shown(tmp_path, ADDRESS, (), opener(nvme0=drive))
    drive.denied, drive.failing = False, DeniedError("no")
    assert None is shown(tmp_path, ADDRESS, (), opener(nvme0=drive))
    assert None is shown(tmp_path, "0000:09:00.0", (), opener(nvme0=drive))
    readback = _evidence(tmp_path)
    assert ("unsupported", None, [], [1]) == (
        *(readback.sanitize_status, readback.data_written_since, readback.formatted, readback.namespaces),
    )


def test_trace_is_set_up_for_formats_alone_and_taken_away(tmp_path: Path) -> None:
    tracing = tmp_path / "sys/kernel/tracing"
    (tracing / "events/nvme").mkdir(parents=True)
    (tracing / "instances").mkdir()
    assert None is FormatTrace.open(tmp_path, ADDRESS), "a kernel without these events, as far as it lets us see"
    assert [] == list((tracing / "instances").iterdir())


def test_without_a_trace_formats_are_not_told(tmp_path: Path) -> None:
    made.drive(tmp_path)
    assert None is note(tmp_path, _order(tmp_path))
    gc.collect()
    assert [] == _evidence(tmp_path).formatted


def _shown(root: Path, drive: FakeDrive, *formats: Format) -> Shown:
    found = shown(root, ADDRESS, formats, opener(nvme0=drive))
    assert found is not None
    return found


def _formatted(root: Path, drive: FakeDrive, *formats: Format) -> list[int]:
    return _shown(root, drive, *formats).formatted


def _order(root: Path, **changes: Any) -> Order:
    part = "serial:144d:S64HNE0"
    device = ClaimDevice("drive-a", "nvme", part, ADDRESS, "", "driver", -1, (), part, clean=12)
    return Order(Step.CLEAN, "c-1", "t", "job", 1, 5, device, root=str(root), **changes)


def _evidence(root: Path) -> NvmeReadback:
    order = _order(root)
    _, document = evidence_of(root, order, before=note(root, order))
    assert isinstance(document, NvmeReadback)
    return document


def test_name_space_is_in_use_by_what_is_on_it_and_not_by_its_neighbour(tmp_path: Path) -> None:
    folder = made.drive(tmp_path)
    for name, text in (("nsid", "2"), ("dev", "259:9"), ("size", "8"), ("ro", "0")):
        write(folder, f"nvme0n2/{name}", f"{text}\n")
    write(tmp_path, "proc/self/mountinfo", "36 1 259:0 / /srv rw - xfs /dev/nvme0n1 rw\n")
    write(tmp_path, "proc/swaps", "Filename Type Size Used Priority\n")
    first, second = _space(tmp_path, "253841a1b2c30"), _space(tmp_path, "S64HNE0/2")
    assert ("", True, ("mount:/srv",)) == (first.problem, first.in_use, first.users)
    assert ("", False, "nvme") == (second.problem, second.in_use, second.driver)
    assert "no name space" in _space(tmp_path, "S64HNE0/3").problem
    write(tmp_path, "proc/swaps", "Filename Type Size Used Priority\n/dev/nvme0n2 partition 8 0 -2\n")
    assert ("swap",) == _space(tmp_path, "S64HNE0/2").users


def _space(root: Path, serial: str) -> Reading:
    serial = serial.rjust(32, "0") if "/" not in serial else serial
    part = f"serial:Samsung:{serial}"
    return read_device(
        root, ClaimDevice("d-1", "nvme-namespace", part, "", "", "driver", -1, (), part, ADDRESS, clean=12)
    )
