"""A systemd that runs a machine of its own: process 1 of a PID namespace, with the units of `compose/systemd` in it.

What it writes to `/etc`, `/var/lib`, `/run` and `/opt` is in memory and goes with it; network and devices are this
machine's. Needs root.
"""

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.needs import REPOSITORY

UNITS: Final = REPOSITORY / "compose" / "systemd"
PATIENCE: Final = 90.0
_PROGRAM: Final = Path("/lib/systemd/systemd")
_PROGRAMS: Final = Path(sys.executable).parent
_BORROWED: Final = {
    "muster-source": REPOSITORY,
    "muster-needs": Path(sysconfig.get_path("purelib")),
    "python": Path(sys.base_prefix),
}
"""What is seen in `/opt`, by services too, from which units hide other folders: Muster, what it needs, this Python."""
_CGROUPS: Final = Path("/sys/fs/cgroup")
_TARGETS: Final = ("default", "sysinit", "basic", "network-online", "multi-user", "shutdown", "umount", "exit", "final")
"""Empty ones: nothing else of the machine is started."""
_BEGIN: Final = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs {layers}
mkdir {layers}/upper {layers}/work
mount -t overlay overlay -o lowerdir=/etc,upperdir={layers}/upper,workdir={layers}/work /etc
mkdir {layers}/opt {layers}/programs
cp {programs}/muster {programs}/muster-agent {layers}/programs
mount -t tmpfs -o mode=755 tmpfs {layers}/opt
{borrow}
mount --rbind {layers}/opt /opt
for folder in /run /var/lib; do mount -t tmpfs -o mode=755 tmpfs $folder; done
mkdir -p /run/systemd/system /run/systemd/system.conf.d
printf '[Manager]\\nDefaultEnvironment=LD_LIBRARY_PATH=/opt/python/lib\\n' > /run/systemd/system.conf.d/python.conf
/opt/python/bin/python{version} -m venv --without-pip /opt/muster
printf '/opt/%s\\n' muster-source muster-needs > "$(echo /opt/muster/lib/python3*/site-packages)/borrowed.pth"
for name in muster muster-agent; do
    {{ echo '#!/opt/muster/bin/python'; tail -n +2 {layers}/programs/$name; }} > /opt/muster/bin/$name
    chmod 755 /opt/muster/bin/$name
done
exec env -i container=test PATH="$PATH" SYSTEMD_UNIT_PATH=/etc/systemd/system:{units} {systemd} \
    --system --unit=default.target --show-status=no --log-target=console
"""


def missing() -> str:
    """Give what keeps it from running here; "" when it can."""
    if os.geteuid() != 0:
        return "namespaces need root"
    if not _PROGRAM.is_file() or shutil.which("systemctl") is None or shutil.which("unshare") is None:
        return "systemd is not installed"
    words = ["unshare", "--mount", "--pid", "--cgroup", "--fork", "true"]
    if subprocess.run(words, capture_output=True, check=False).returncode != 0:
        return "namespaces are not allowed here"
    closed = [str(path) for path in _BORROWED.values() if path.stat().st_mode & 0o005 != 0o005]
    return f"services of others than root cannot read {' or '.join(closed)}" if closed else ""


class Booted:
    """The machine, while the block runs. Nothing is installed in it but Muster's programs, in `/opt/muster/bin`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._targets = folder / "targets"
        self._targets.mkdir()
        (folder / "layers").mkdir()
        for name in _TARGETS:
            (self._targets / f"{name}.target").write_text("[Unit]\nDefaultDependencies=no\n")
        self._process: subprocess.Popen[bytes] | None = None
        self._init = 0
        self._before: set[Path] = set()

    def __enter__(self) -> Self:
        self._before = _slices()
        layers = self._folder / "layers"
        borrow = [
            f"mkdir {layers}/opt/{name} && mount --bind {shlex.quote(str(path))} {layers}/opt/{name}"
            for name, path in _BORROWED.items()
        ]
        script = _BEGIN.format(
            layers=layers,
            borrow="\n".join(borrow),
            version=f"{sys.version_info.major}.{sys.version_info.minor}",
            programs=_PROGRAMS,
            units=self._targets,
            systemd=_PROGRAM,
        )
        words = ["unshare", "--mount", "--pid", "--ipc", "--uts", "--cgroup", "--fork", "--kill-child", "--mount-proc"]
        with (self._folder / "console").open("wb") as console:
            self._process = subprocess.Popen([*words, "sh", "-c", script], stdout=console, stderr=console)
        end = time.monotonic() + PATIENCE
        while not self._up():
            assert self._process.poll() is None, self.console
            assert time.monotonic() < end, self.console
            time.sleep(0.1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.systemctl("stop", "muster-agent.service", "muster-aggregator.service")
        self._process.kill()  # and with it process 1, and with that all others
        self._process.wait()
        _remove(_slices() - self._before)

    @property
    def console(self) -> str:
        """What systemd says."""
        return (self._folder / "console").read_text(errors="replace")

    def _up(self) -> bool:
        assert self._process is not None
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        if not children:
            return False
        self._init = int(children[0])
        if Path(f"/proc/{self._init}/comm").read_text().strip() != "systemd":
            return False
        return self.systemctl("is-active", "default.target").stdout.strip() == "active"

    def run(self, *words: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command in it."""
        inside: Sequence[str | Path] = ["nsenter", "-t", str(self._init), "-m", "-p", "-i", "-u", *words]
        env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        return subprocess.run(inside, input=given, capture_output=True, text=True, timeout=PATIENCE, env=env,
                              check=False)  # fmt: skip

    def systemctl(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `systemctl`."""
        return self.run("systemctl", *words)

    def show(self, unit: str, name: str) -> str:
        """Give a property of a unit."""
        return self.systemctl("show", "--value", "-p", name, unit).stdout.strip()

    def wait_for(self, unit: str, name: str, *values: str) -> str:
        """Wait until a property has one of these values, and give it."""
        end = time.monotonic() + PATIENCE
        while (value := self.show(unit, name)) not in values:
            assert time.monotonic() < end, f"{unit}: {name} is {value}, not {values}: {self.console[-4000:]}"
            time.sleep(0.2)
        return value

    def write(self, path: str, text: str, mode: str = "644") -> None:
        """Write a file in it, with the folders above."""
        done = self.run("sh", "-c", f'mkdir -p "$(dirname {path})" && cat > {path} && chmod {mode} {path}', given=text)
        assert 0 == done.returncode, done.stderr


def _slices() -> set[Path]:
    """Give the control groups of services that there are."""
    return set(_CGROUPS.glob("*/system.slice")) | set(_CGROUPS.glob("system.slice"))


def _remove(groups: set[Path]) -> None:
    for group in groups:
        end = time.monotonic() + PATIENCE
        while group.is_dir() and time.monotonic() < end:
            for folder in (*sorted(group.rglob("*/"), reverse=True), group):
                with contextlib.suppress(OSError):  # what was in it is still ending
                    folder.rmdir()
            time.sleep(0.05)
