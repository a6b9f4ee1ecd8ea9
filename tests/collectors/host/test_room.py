"""The disk that a node offers to claims is the file system in which their disks lie, counted as nova counts it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from collectors.host_machine import describe_machine
from collectors.host_room import STEP_BYTES, disk_bytes
from schemas.device import DeviceKind
from tests.collectors.host.replay import collector_of
from tests.collectors.host.test_machine_documents import numa_server

GIB = 1 << 30
ROOT = "1 0 8:1 / / rw - ext4 /dev/sda1 rw"
DATA = "2 1 8:2 / /var/lib/nova rw - xfs /dev/sdb1 rw"


def mounted(root: Path, *lines: str) -> Path:
    (root / "proc/1").mkdir(parents=True, exist_ok=True)
    (root / "proc/1/mountinfo").write_text("".join(line + "\n" for line in lines))
    return root


def sizes(root: Path, **bytes_at: int) -> Callable[[str], os.statvfs_result]:
    """Give a statvfs that knows some places, by their path with `_` for `/`, in blocks of 4096 bytes."""
    known = {str(root / name.strip("_").replace("_", "/")): size for name, size in bytes_at.items()}

    def statvfs(path: str) -> os.statvfs_result:
        if path not in known:
            raise FileNotFoundError(path)
        return os.statvfs_result([4096, 4096, known[path] // 4096, 9, 9, 9, 9, 9, 0, 255])

    return statvfs


def test_all_that_the_file_system_holds_counts_in_whole_gib(tmp_path: Path) -> None:
    statvfs = sizes(mounted(tmp_path, ROOT), _var_lib=100 * GIB + 4096 * 7)
    assert disk_bytes(tmp_path, "/var/lib", statvfs) == 100 * GIB


def test_a_size_that_changes_a_little_stays_the_same(tmp_path: Path) -> None:
    mounted(tmp_path, ROOT)
    told = {disk_bytes(tmp_path, "/d", sizes(tmp_path, _d=size)) for size in (50 * GIB, 51 * GIB - 4096)}
    assert told == {50 * GIB}
    assert STEP_BYTES == GIB


@pytest.mark.parametrize(
    ("lines", "path", "expected"),
    [
        ((ROOT,), "", None),
        ((ROOT,), "/not/there", None),
        ((), "/var/lib", None),
        ((ROOT, DATA), "/var/lib", GIB),
        ((ROOT, "2 1 0:50 / /var/lib rw - nfs4 nas:/x rw"), "/var/lib", None),
        ((ROOT, "2 1 0:50 / /var rw - ceph mon:/x rw"), "/var/lib", None),
        ((ROOT, "2 1 0:50 / /var/lib rw - tmpfs none rw"), "/var/lib", None),
        ((ROOT, "2 1 0:50 / /var/lib2 rw - nfs4 nas:/x rw"), "/var/lib", GIB),
        (("1 0 0:20 / / rw - overlay overlay rw",), "/var/lib", GIB),
        (
            (ROOT, "2 1 0:50 / /var/lib rw - nfs4 nas:/x rw", "3 2 8:2 / /var/lib rw - ext4 /dev/sdb1 rw"),
            "/var/lib",
            GIB,
        ),
        (("1 0 8:1 / / rw - zfs tank rw",), "/var/lib", GIB),
    ],
)
def test_what_is_not_the_nodes_own_or_not_there_is_absent(
    tmp_path: Path, lines: tuple[str, ...], path: str, expected: int | None
) -> None:
    mounted(tmp_path, *lines)
    assert disk_bytes(tmp_path, path, sizes(tmp_path, _var_lib=GIB)) == expected


def test_a_network_file_system_is_never_asked(tmp_path: Path) -> None:
    """It may hang."""
    mounted(tmp_path, ROOT, "2 1 0:50 / /var/lib rw - nfs4 nas:/x rw")

    def hangs(path: str) -> os.statvfs_result:
        raise AssertionError(path)

    assert disk_bytes(tmp_path, "/var/lib/nova", hangs) is None


def test_the_node_tells_it_where_claims_read_it(tmp_path: Path) -> None:
    root = mounted(numa_server(tmp_path), ROOT, DATA)
    statvfs = sizes(root, _var_lib=10 * GIB, _var_lib_nova=900 * GIB)
    told = {}
    for path in ("/var/lib", "/var/lib/nova", ""):
        (node,) = (one for one in describe_machine(root, path, statvfs) if one.kind is DeviceKind.NODE)
        told[path] = node.capabilities.get("disk_bytes")
    assert told == {"/var/lib": 10 * GIB, "/var/lib/nova": 900 * GIB, "": None}


def test_this_machine_offers_some() -> None:
    (node,) = (one for one in collector_of(Path("/"), statvfs=os.statvfs).describe() if one.kind is DeviceKind.NODE)
    size = node.capabilities.get("disk_bytes")
    assert size is None or (isinstance(size, int) and size % GIB == 0)


def test_a_path_that_is_not_there_is_objected_to(tmp_path: Path) -> None:
    collector = collector_of(tmp_path)
    assert [one.option for one in collector.check_options(attempt=True)] == ["disk_path"]
    assert [*collector.check_options(attempt=False)] == []
    (tmp_path / "var/lib").mkdir(parents=True)
    assert [*collector.check_options(attempt=True)] == []
