"""The guest's kernel and root file system: Debian, small, built once and kept.

Kept under `MUSTER_CACHE` (default `~/.cache/muster/vm`) in a folder named by a hash of the recipe, so that a changed
recipe builds anew and an unchanged one costs nothing. Building needs root, mmdebstrap and a Debian mirror
(`MUSTER_DEBIAN_MIRROR`), and takes about half a minute. What changes from run to run (our code) is not in it: it
travels in a second archive, which the kernel unpacks over the first.
"""

import fcntl
import hashlib
import inspect
import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.vm.cpio import Archive

ROOT: Final = Path(__file__).parents[2]
SUITE: Final = "bookworm"  # its Python is 3.11, for which the host's wheels are made
PACKAGES: Final = ("linux-image-amd64", "python3.11-minimal", "libpython3.11-stdlib", "busybox-static")
MODULES: Final = ("virtio_pci", "virtio_blk", "virtio_net", "ext4", "nvme")
NEEDLESS: Final = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/bug", "var")
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
for module in $(busybox cat /modules.order); do busybox insmod "$module"; done
busybox stty -F /dev/ttyS1 raw -echo 115200
exec </dev/ttyS1 >/dev/ttyS1
if [ -b /dev/vda ]; then busybox mount -t ext4 /dev/vda /disk || echo "MUSTER no disk"; fi
cd /muster
export PYTHONPATH=/muster:/muster/lib PYTHONDONTWRITEBYTECODE=1 HOME=/tmp
echo "MUSTER ready"
busybox sh /muster/command
echo "MUSTER exit $?"
busybox umount /disk
busybox sync
busybox poweroff -f
"""


class Image(NamedTuple):
    """What QEMU boots."""

    kernel: Path
    initramfs: Path


def image() -> Image:
    """Give the guest's kernel and root file system, built now if need be. Skips the test when that cannot be."""
    recipe = json.dumps(
        [SUITE, PACKAGES, MODULES, NEEDLESS, INIT, inspect.getsource(_build), inspect.getsource(Archive)]
    )
    cache = Path(os.environ.get("MUSTER_CACHE", "~/.cache/muster/vm")).expanduser()
    home = cache / hashlib.sha256(recipe.encode()).hexdigest()[:16]
    made = Image(home / "vmlinuz", home / "initramfs.cpio")
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the guest's Python is 3.11, and is given the libraries that this Python uses")
    for program in ("qemu-system-x86_64", "mkfs.ext4"):
        if not shutil.which(program):
            pytest.skip(f"needs {program}")
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.initramfs.exists():
            for program in ("mmdebstrap", "depmod", "modprobe"):
                if not shutil.which(program):
                    pytest.skip(f"building the guest needs {program}")
            if os.geteuid():
                pytest.skip("building the guest needs root")
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
        modules = _modules(root, version)
        kept = {name: (root / name).read_bytes() for name in modules}
        for name in (*NEEDLESS, "lib/modules"):
            shutil.rmtree(root / name, ignore_errors=True)
        ready = Path(place) / "ready"
        ready.mkdir()
        shutil.move(kernel, ready / "vmlinuz")
        shutil.rmtree(root / "boot")
        with Archive(ready / "initramfs.cpio") as archive:
            archive.tree(root, "")
            archive.folder("modules")
            for number, content in enumerate(kept.values()):
                archive.file(f"modules/{number:02}.ko", content)
            archive.file("modules.order", "".join(f"/modules/{number:02}.ko\n" for number in range(len(kept))).encode())
            archive.file("init", INIT.encode(), 0o755)
        shutil.rmtree(home, ignore_errors=True)
        ready.rename(home)


def _modules(root: Path, version: str) -> list[str]:
    """Give the paths of the kernel modules to load, each after those that it needs."""
    subprocess.run(["depmod", "-b", root, version], check=True)
    paths: dict[str, None] = {}
    for module in MODULES:
        command = ["modprobe", "-d", str(root), "-S", version, "--show-depends", module]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        for line in said.splitlines():
            verb, _, path = line.partition(" ")
            if verb == "insmod":
                paths[str(Path(path.split()[0]).relative_to(root))] = None
    return list(paths)


def code(path: Path, command: str) -> None:
    """Write the second archive: our packages, the libraries that they need, and the command that the guest runs."""
    with Archive(path) as archive:
        archive.folder("muster")
        archive.file("muster/command", f"{command}\n".encode())
        for name in OUR_PACKAGES:
            archive.tree(ROOT / name, f"muster/{name}")
        for name in ("tests", "tests/contract", "tests/vm"):
            archive.folder(f"muster/{name}")
            archive.file(f"muster/{name}/__init__.py", b"")
        archive.file("muster/tests/contract/log_appender.py", (ROOT / "tests/contract/log_appender.py").read_bytes())
        archive.tree(ROOT / "tests/vm/guest", "muster/tests/vm/guest")
        archive.folder("muster/lib")
        for name in LIBRARIES:
            found = find_spec(name)
            assert found is not None
            assert found.origin is not None
            archive.tree(Path(found.origin).parent, f"muster/lib/{name}")
