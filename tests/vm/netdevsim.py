"""The kernel's simulated card, `netdevsim`, built for the guest's kernel: Debian's kernels are built without it.

Made from Debian's packages of the same kernel, its source and its headers, once: kept beside the guest's image
(`tests.vm.image`), in a file named by the kernel. It takes about a minute and needs apt-get, gcc, make and a mirror.
"""

import fcntl
import lzma
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Final

from tests.needs import unmet
from tests.vm.image import SUITE, image

_KERNEL: Final = re.compile(rb"Linux version (\S+) .*? Debian (\S+) ")
_SOURCE: Final = "/drivers/net/netdevsim/"
_PARTS: Final = "netdev dev ethtool fib bus health hwstats udp_tunnels bpf ipsec psample"
"""Its Makefile asks the kernel's configuration for them; Debian's has what all of them need."""


def netdevsim() -> Path:
    """Give the module, built now if need be. Skips the test when that cannot be."""
    kernel = image().kernel
    found = _KERNEL.search(kernel.read_bytes())
    assert found is not None
    version, package = (word.decode() for word in found.groups())
    made = kernel.parent.parent / f"netdevsim-{version}-{package}.ko"
    with (kernel.parent.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            for program in ("apt-get", "dpkg-deb", "gcc", "make", "strip"):
                if not shutil.which(program):
                    unmet(f"building netdevsim needs {program}")
            with tempfile.TemporaryDirectory(dir=made.parent) as place:
                built = _build(Path(place), version, package)
                built.rename(made)
    return made


def _build(place: Path, version: str, package: str) -> Path:
    series = ".".join(version.split(".")[:2])
    common = f"{version.rpartition('-')[0]}-common"
    source, *others = _fetched(
        place,
        package,
        f"linux-source-{series}",
        *(f"linux-{one}" for one in (f"headers-{version}", f"headers-{common}")),
        f"linux-kbuild-{series}",
    )
    headers = place / "headers"
    for one in others:
        subprocess.run(("dpkg-deb", "-x", one, headers), check=True)
    makefile = headers / f"usr/src/linux-headers-{version}/Makefile"
    makefile.write_text(makefile.read_text().replace("/usr/src/", f"{headers}/usr/src/"))
    module = place / "module"
    module.mkdir()
    _unpack(source, module)
    parts = " ".join(f"{name}.o" for name in _PARTS.split())
    (module / "Kbuild").write_text(f"obj-m := netdevsim.o\nnetdevsim-y := {parts}\n")
    command = ("make", "--silent", "-C", makefile.parent, f"M={module}", "CC=gcc", f"-j{os.cpu_count()}", "modules")
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert 0 == done.returncode, done.stderr[-4000:]
    subprocess.run(("strip", "--strip-debug", module / "netdevsim.ko"), check=True)
    return module / "netdevsim.ko"


def _fetched(place: Path, package: str, *names: str) -> list[Path]:
    """Give packages of one version, from the mirror that the image is from, whatever this machine's own apt knows."""
    mirror = os.environ.get("MUSTER_DEBIAN_MIRROR", "http://deb.debian.org/debian")
    (place / "sources.list").write_text(f"deb {mirror} {SUITE} main\n")
    (place / "state/lists/partial").mkdir(parents=True)
    (place / "cache/archives/partial").mkdir(parents=True)
    options = {"State": place / "state", "Cache": place / "cache", "Etc::SourceList": place / "sources.list"}
    apt = [
        "apt-get",
        "-qq",
        "-o",
        "Dir::Etc::SourceParts=-",
        "-o",
        "APT::Sandbox::User=root",
        "-o",
        "Acquire::Languages=none",
    ]
    apt += [word for name, value in options.items() for word in ("-o", f"Dir::{name}={value}")]
    subprocess.run([*apt, "update"], check=True, timeout=120)
    wanted = [f"{name}={package}" for name in names]
    done = subprocess.run(
        [*apt, "download", *wanted], cwd=place, capture_output=True, text=True, timeout=300, check=False
    )
    if done.returncode:
        unmet(f"the mirror has no source of the image's kernel {package}; remove the image: {done.stderr.strip()}")
    return [next(place.glob(f"{name}_*.deb")) for name in names]


def _unpack(package: Path, folder: Path) -> None:
    """Take the module's files out of the archive in the package of the kernel's source, and stop behind them."""
    with subprocess.Popen(("dpkg-deb", "--fsys-tarfile", package), stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        with tarfile.open(fileobj=reader.stdout, mode="r|") as outer:
            inside = next(one for one in outer if one.name.endswith(".tar.xz"))
            archive = outer.extractfile(inside)
            assert archive is not None
            with lzma.open(archive) as plain, tarfile.open(fileobj=plain, mode="r|") as inner:
                for one in inner:
                    if _SOURCE in one.name and one.isfile():
                        content = inner.extractfile(one)
                        assert content is not None
                        (folder / Path(one.name).name).write_bytes(content.read())
                    elif any(folder.iterdir()):
                        break
        reader.kill()
