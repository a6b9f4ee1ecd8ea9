"""File systems: one that hangs harms no other, and a turn to read-only is told."""

import os
import threading
from pathlib import Path

import pytest

from collectors._statvfs import Asker
from collectors.host_file_system import FileSystemSection, parse_mounts
from collectors.host_section import NETWORK_TYPES, PSEUDO_TYPES, HostConfig, Look
from schemas.rows import Event, Item, Reading
from schemas.verbosity import Level

_ANSWER = os.statvfs_result([4096, 4096, 1000, 400, 300, 100, 40, 40, 0, 255])
_LOOK = Look(Level.STANDARD, slow=False)


class _Disk:
    """A statvfs whose places can be made to hang, fail, or turn read-only."""

    def __init__(self) -> None:
        self.hanging: dict[str, threading.Event] = {}
        self.locked: set[str] = set()
        self.asked: list[str] = []

    def __call__(self, path: str) -> os.statvfs_result:
        self.asked.append(path)
        if path in self.hanging:
            self.hanging[path].wait(10)
        if path.endswith("gone"):
            raise OSError(116, "stale")
        flag = os.ST_RDONLY if path in self.locked else 0
        return os.statvfs_result([*_ANSWER[:8], flag, 255])


def _mounts(root: Path, *lines: str) -> None:
    (root / "proc/1").mkdir(parents=True, exist_ok=True)
    (root / "proc/1/mountinfo").write_text("".join(line + "\n" for line in lines))


def _section(root: Path, disk: _Disk, **config: object) -> FileSystemSection:
    section = FileSystemSection(root, HostConfig(file_system_timeout_seconds=0.05, **config), disk)  # type: ignore[arg-type]
    section.start()
    return section


def _places(items: list[Item]) -> list[str]:
    return [item.attributes["mountpoint"] for item in items if isinstance(item, Reading)]


def _events(items: list[Item]) -> list[tuple[str, object]]:
    return [(item.type, item.detail["mountpoint"]) for item in items if isinstance(item, Event)]


_ROOT = "1 0 8:1 / / rw - ext4 /dev/sda1 rw"
_NFS = "2 1 0:50 / /net rw - nfs4 nas:/x rw"


def test_network_file_system_is_left_out_unless_asked_for(tmp_path: Path) -> None:
    _mounts(tmp_path, _ROOT, _NFS)
    assert ["/"] == _places(list(_section(tmp_path, _Disk()).read(_LOOK)))


def test_file_system_that_hangs_harms_no_other(tmp_path: Path) -> None:
    _mounts(tmp_path, _ROOT, _NFS, "3 1 0:51 / /nas2 rw - nfs4 nas2:/x rw")
    disk = _Disk()
    released = disk.hanging[f"{tmp_path}/net"] = threading.Event()
    section = _section(tmp_path, disk, file_system_types_exclude=PSEUDO_TYPES)
    items = list(section.read(_LOOK))
    used = {item.attributes["mountpoint"]: "used_ratio" in item.fields for item in items if isinstance(item, Reading)}
    assert {"/": True, "/net": False, "/nas2": True} == used
    assert [("host.file_system.unavailable", "/net")] == _events(items)
    assert [] == _events(list(section.read(_LOOK)))  # told once
    assert 1 == disk.asked.count(f"{tmp_path}/net")  # and not asked again while it hangs
    released.set()
    disk.hanging.clear()
    events: list[tuple[str, object]] = []
    for _ in range(50):
        events += _events(list(section.read(_LOOK)))
        if events:
            break
        threading.Event().wait(0.02)
    assert [("host.file_system.available", "/net")] == events
    section.close()


def test_threads_end_with_the_section(tmp_path: Path) -> None:
    _mounts(tmp_path, _ROOT, _NFS)
    before = threading.active_count()
    section = _section(tmp_path, _Disk(), file_system_types_exclude=PSEUDO_TYPES)
    list(section.read(_LOOK))
    assert before + 1 == threading.active_count()
    section.close()
    for _ in range(100):
        if threading.active_count() == before:
            break
        threading.Event().wait(0.02)
    assert before == threading.active_count()


def test_failing_file_system_has_no_numbers_but_its_state(tmp_path: Path) -> None:
    _mounts(tmp_path, _ROOT, "2 1 8:2 / /gone ro - xfs /dev/sdb1 rw")
    rows = [item for item in _section(tmp_path, _Disk()).read(_LOOK) if isinstance(item, Reading)]
    assert {"read_only": True} == dict(rows[1].fields)


def test_turn_to_read_only_by_the_kernel_is_told(tmp_path: Path) -> None:
    """The mount table gives no sign of it on a real kernel; what statvfs says has it read again."""
    _mounts(tmp_path, _ROOT)
    disk = _Disk()
    section = _section(tmp_path, disk)
    assert [] == _events(list(section.read(_LOOK)))
    disk.locked.add(f"{tmp_path}/")
    _mounts(tmp_path, _ROOT.replace("sda1 rw", "sda1 rw,emergency_ro"))
    assert [("host.file_system.read_only", "/")] == _events(list(section.read(_LOOK)))
    assert [] == _events(list(section.read(_LOOK)))
    _mounts(tmp_path, _ROOT)
    assert [("host.file_system.writable", "/")] == _events(list(section.read(_LOOK)))


def test_file_system_mounted_read_only_from_the_first_is_no_event(tmp_path: Path) -> None:
    _mounts(tmp_path, _ROOT)
    section = _section(tmp_path, _Disk())
    list(section.read(_LOOK))
    _mounts(tmp_path, _ROOT, "2 1 8:2 / /cd ro - ext4 /dev/sdb1 ro")
    items = list(section.read(_LOOK))
    assert ([], ["/", "/cd"]) == (_events(items), _places(items))


def test_one_file_system_in_many_places_is_one_row(tmp_path: Path) -> None:
    _mounts(
        tmp_path,
        _ROOT,
        "2 1 8:2 /vol /var/x rw - ext4 /dev/sdb1 rw",
        "3 1 8:2 / /data/long rw - ext4 /dev/sdb1 rw",
        "4 1 8:2 / /data rw - ext4 /dev/sdb1 rw",
    )
    assert ["/", "/data"] == _places(list(_section(tmp_path, _Disk()).read(_LOOK)))


def test_root_is_read_whatever_its_type(tmp_path: Path) -> None:
    _mounts(tmp_path, "1 0 0:30 / / rw - overlay overlay rw")
    assert ["/"] == _places(list(_section(tmp_path, _Disk()).read(_LOOK)))


def test_escaped_names_are_read(tmp_path: Path) -> None:
    mount = next(parse_mounts(b"1 0 8:1 / /a\\040b\\134c rw,x shared:1 master:2 - ext4 /dev/x rw\n"))
    assert ("/a b\\c", "ext4") == (mount.mountpoint, mount.type)


@pytest.mark.parametrize(
    "line", [b"", b"1 2", b"1 0 8:1 / / rw ext4 /dev/x rw a b", b"1 0 8:1 / / rw - ext4", b"\xff\xfe"]
)
def test_line_that_is_none_is_skipped(line: bytes) -> None:
    assert [] == list(parse_mounts(line))


def test_network_and_pseudo_types_do_not_overlap() -> None:
    assert set() == set(NETWORK_TYPES) & set(PSEUDO_TYPES)


def test_asker_gives_up_on_more_than_it_has_threads_for() -> None:
    disk = _Disk()
    asker = Asker(1.0, disk)
    answers = asker.ask({f"/{at}": f"/{at}" for at in range(40)}, frozenset())
    assert 32 == len(answers)
    asker.close()
