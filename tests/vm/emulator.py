"""QEMU with the devices that the machine's own may be too old for: `igb` came with version 8.0.

Then a newer one is taken from Debian's backports, only extracted, and kept beside the guest's image (`tests.vm.image`).
"""

import fcntl
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.needs import unmet

OWN: Final = "qemu-system-x86_64"
_PACKAGES: Final = "qemu-system-x86,seabios,ipxe-qemu"
_SUITE: Final = "bookworm"


def emulator(device: str) -> tuple[str, ...]:
    """Give the command, with its first arguments, of a QEMU that has a device. Skips the test when there is none."""
    if shutil.which(OWN) and _has((OWN,), device):
        return (OWN,)
    cache = Path(os.environ.get("MUSTER_CACHE", "~/.cache/muster/vm")).expanduser()
    home = cache / f"qemu-{_SUITE}-backports"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            if not shutil.which("mmdebstrap") or os.geteuid():
                unmet(f"needs a QEMU with {device}, or mmdebstrap and root to fetch one")
            _fetch(home)
    command = _command(home)
    if not _has(command, device):
        unmet(f"QEMU of {_SUITE}-backports has no {device}, or does not run here")
    return command


def _fetch(home: Path) -> None:
    mirror = os.environ.get("MUSTER_DEBIAN_MIRROR", "http://deb.debian.org/debian")
    place = home.with_suffix(".new")
    shutil.rmtree(place, ignore_errors=True)
    command = ["mmdebstrap", "--quiet", "--variant=extract", f"--include={_PACKAGES}"]
    command += [f'--aptopt=APT::Default-Release "{_SUITE}-backports"', _SUITE, str(place)]
    command += [f"deb {mirror} {suite} main" for suite in (_SUITE, f"{_SUITE}-backports")]
    subprocess.run(command, check=True, timeout=600)
    place.rename(home)


def _command(home: Path) -> tuple[str, ...]:
    share = home / "usr/share"
    libraries = f"{home}/usr/lib/x86_64-linux-gnu:{home}/lib/x86_64-linux-gnu"
    folders = [part for name in ("qemu", "seabios") for part in ("-L", str(share / name))]
    return (
        *("/usr/bin/env", f"LD_LIBRARY_PATH={libraries}", f"QEMU_MODULE_DIR={home}/usr/lib/x86_64-linux-gnu/qemu"),
        *(str(home / "usr/bin" / OWN), *folders, "-L", str(home / "usr/lib/ipxe/qemu")),
    )


def _has(command: tuple[str, ...], device: str) -> bool:
    run = [*command, "-M", "q35", "-device", f"{device},help"]
    return "options:" in subprocess.run(run, capture_output=True, text=True, timeout=60, check=False).stdout
