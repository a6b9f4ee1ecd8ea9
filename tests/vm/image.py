"""The guest's kernel and root file system: Debian, small, built once and kept.

Kept under `MUSTER_CACHE` (default `~/.cache/muster/vm`) in a folder named by a hash of the recipe, so that a changed
recipe builds anew and an unchanged one costs nothing. Building needs root, mmdebstrap and a Debian mirror
(`MUSTER_DEBIAN_MIRROR`), and takes about half a minute. What changes from run to run (our code) is not in it: it
travels in a second archive, which the kernel unpacks over the first.
"""

import compileall
import fcntl
import hashlib
import inspect
import json
import lzma
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Final, NamedTuple

from tests.needs import unmet
from tests.vm.cpio import Archive

ROOT: Final = Path(__file__).parents[2]
SUITE: Final = "bookworm"  # its Python is 3.11, for which the host's wheels are made
PACKAGES: Final = (
    *("linux-image-amd64", "python3.11-minimal", "libpython3.11-stdlib", "busybox-static", "iproute2", "dash", "sed"),
    *("nvme-cli", "smartmontools"),  # other readers of the same drives
)
MODULES: Final = ("virtio_pci", "virtio_blk", "virtio_net", "ext4", "nvme", "vfio-pci", "igb", "igbvf")
SPARE: Final = ("crc32_generic", "rdma_rxe", "nvme-rdma", "nvmet-rdma", "psample")
"""Modules that only some tests load, with `load` of `tests.vm.guest.modules`."""
NEEDLESS: Final = (
    *("usr/share", "var", "lib/modules", "lib/udev", "lib/systemd", "usr/lib/udev", "usr/lib/systemd", "usr/bin/perl"),
    *("usr/lib/x86_64-linux-gnu/gconv", "usr/lib/x86_64-linux-gnu/perl-base"),
    *(f"usr/lib/python3.11/{name}" for name in ("test", "pydoc_data", "lib2to3", "ensurepip", "idlelib")),
)
OUR_PACKAGES: Final = ("schemas", "collectors", "aggregator")
LIBRARIES: Final = ("msgspec", "zstandard", "psutil")

INIT: Final = """#!/bin/busybox sh
# Everything that programs say goes to the second serial line, so that the kernel's words never cut one of theirs.
export PATH=/usr/bin:/bin:/sbin
busybox mkdir -p /proc /sys /dev /tmp /run /disk
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs dev /dev
busybox mount -t tmpfs tmpfs /tmp
busybox mount -t tmpfs tmpfs /run
busybox ip link set lo up
busybox ln -s dash /bin/sh
for module in $(busybox cat /modules.order); do busybox insmod "$module"; done
busybox mount -t tracefs tracefs /sys/kernel/tracing
busybox stty -F /dev/ttyS1 raw -echo 115200
exec </dev/ttyS1 >/dev/ttyS1
[ ! -b /dev/vda ] || busybox mount -t ext4 /dev/vda /disk || echo "MUSTER no disk"
cd /muster
export PYTHONPATH=/muster:/muster/lib PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
echo "MUSTER ready"
busybox sh /muster/command
echo "MUSTER exit $?"
[ ! -b /dev/vda ] || busybox umount /disk
busybox sync
busybox poweroff -f
"""


class Image(NamedTuple):
    """What QEMU boots."""

    kernel: Path
    initramfs: Path


def image() -> Image:
    """Give the guest's kernel and root file system, built now if need be. Skips the test when that cannot be."""
    sources = [inspect.getsource(part) for part in (_build, _unpacked, _compile, _modules, Archive)]
    recipe = json.dumps([SUITE, PACKAGES, MODULES, SPARE, NEEDLESS, INIT, sources])
    cache = Path(os.environ.get("MUSTER_CACHE", "~/.cache/muster/vm")).expanduser()
    home = cache / hashlib.sha256(recipe.encode()).hexdigest()[:16]
    made = Image(home / "vmlinux", home / "initramfs.cpio")
    if sys.version_info[:2] != (3, 11):
        unmet("the guest's Python is 3.11, and is given the libraries that this Python uses")
    for program in ("qemu-system-x86_64", "mkfs.ext4"):
        if not shutil.which(program):
            unmet(f"needs {program}")
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.initramfs.exists():
            for program in ("mmdebstrap", "depmod", "modprobe"):
                if not shutil.which(program):
                    unmet(f"building the guest needs {program}")
            if os.geteuid():
                unmet("building the guest needs root")
            _build(home)
    return made


def _build(home: Path) -> None:
    """Make the root file system from packages that are only extracted: nothing of theirs runs."""
    mirror = os.environ.get("MUSTER_DEBIAN_MIRROR", "http://deb.debian.org/debian")
    with tempfile.TemporaryDirectory(dir=home.parent) as place:
        root = Path(place) / "root"
        command = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={','.join(PACKAGES)}"]
        subprocess.run([*command, SUITE, root, mirror], check=True, timeout=300)
        (kernel,) = (root / "boot").glob("vmlinuz-*")
        version = kernel.name.removeprefix("vmlinuz-")
        modules = _modules(root, version, MODULES)
        spare = {name: _modules(root, version, (name,)) for name in SPARE}
        kept = {
            name: (root / name).read_bytes()
            for name in {*modules, *(one for all_of in spare.values() for one in all_of)}
        }
        ready = Path(place) / "ready"
        ready.mkdir()
        (ready / "vmlinux").write_bytes(_unpacked(kernel.read_bytes()))
        for name in (*NEEDLESS, "boot"):
            shutil.rmtree(root / name, ignore_errors=True)
        _compile(root / "usr/lib/python3.11")
        with Archive(ready / "initramfs.cpio") as archive:
            archive.tree(root, "")
            archive.folder("modules")
            for name, content in kept.items():
                archive.file(f"modules/{Path(name).name}", content)
            for name, paths in {
                "modules.order": modules,
                **{f"{name}.order": one for name, one in spare.items()},
            }.items():
                archive.file(name, "".join(f"/modules/{Path(path).name}\n" for path in paths).encode())
            archive.file("init", INIT.encode(), 0o755)
        shutil.rmtree(home, ignore_errors=True)
        ready.rename(home)


def _unpacked(kernel: bytes) -> bytes:
    """Give the ELF image inside a bzImage: QEMU boots it directly, five seconds before the guest has unpacked it."""
    at = kernel.find(b"\xfd7zXZ\0")
    assert at > 0, "the kernel is not compressed by xz"
    return lzma.LZMADecompressor().decompress(kernel[at:])


def _compile(folder: Path) -> None:
    """Compile Python code beforehand: emulated, that takes seconds."""
    compileall.compile_dir(folder, quiet=2, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)


def _modules(root: Path, version: str, wanted: Iterable[str]) -> list[str]:
    """Give the paths of the kernel modules to load, each after those that it needs."""
    subprocess.run(["depmod", "-b", root, version], check=True)
    paths: dict[str, None] = {}
    for module in wanted:
        command = ["modprobe", "-d", str(root), "-S", version, "--show-depends", module]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        for line in said.splitlines():
            verb, _, path = line.partition(" ")
            if verb == "insmod":
                paths[str(Path(path.split()[0]).relative_to(root))] = None
    return list(paths)


def _installed(base: Path) -> None:
    """Write the metadata by which the agent finds its collectors, as an installation would."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    folder = base / "rackmuster-0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: rackmuster\nVersion: 0\n")
    groups = project["entry-points"].items()
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in names.items()) for group, names in groups
    ]
    (folder / "entry_points.txt").write_text("\n".join(lines))


def code(path: Path, command: str, files: Mapping[str, Path]) -> None:
    """Write the second archive: our packages, their libraries, the guest's command, `files` by their names there."""
    with Archive(path) as archive:
        archive.file("muster/command", f"{command}\n".encode())
        for name, source in files.items():
            archive.file(f"muster/{name}", source.read_bytes(), source.stat().st_mode & 0o777)
    own = path.read_bytes()
    path.write_bytes(_packages() + own)


@cache
def _packages() -> bytes:
    """Give an archive of our packages and their libraries, compiled: the same for every guest of this process."""
    trees = {name: ROOT / name for name in (*OUR_PACKAGES, "tests/vm/guest", "docs/hooks")}
    for name in LIBRARIES:
        found = find_spec(name)
        assert found is not None
        assert found.origin is not None
        trees[f"lib/{name}"] = Path(found.origin).parent
    with tempfile.TemporaryDirectory() as place:
        base = Path(place) / "muster"
        base.mkdir()
        for name, source in trees.items():
            shutil.copytree(source, base / name, ignore=shutil.ignore_patterns("__pycache__", "tests"))
        for name in ("tests", "tests/contract", "tests/vm"):
            (base / name).mkdir(exist_ok=True)
            (base / name / "__init__.py").touch()
        shutil.copy(ROOT / "tests/contract/log_appender.py", base / "tests/contract")
        _installed(base)
        _compile(base)
        path = Path(place) / "packages.cpio"
        with Archive(path) as archive:
            archive.tree(base, "muster")
        return path.read_bytes()
