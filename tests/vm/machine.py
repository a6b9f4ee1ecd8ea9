"""A virtual machine that runs one command, says what the command says, and can lose its power.

QEMU with software emulation only (a `/dev/kvm` that opens is no proof that it works). The guest's disks are raw image
files with `cache=writeback`: the guest sees a disk with a volatile cache and must flush it, and a flush reaches the
image file. Killing the emulator loses the guest's memory with its page cache, which is what a power cut does, while
what the guest had flushed lies in the image.
"""

import json
import os
import queue
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tests.vm.emulator import OWN
from tests.vm.image import code, image

BOOT_SECONDS: Final = 60.0
"""A guest that has not come up by then is started once more: software emulation aborts now and then."""


class MachineError(Exception):
    """The guest did not do what it should; the message ends with the last of its console."""


def make_disk(path: Path, size: int = 64 << 20) -> Path:
    """Make a raw image of `size` bytes with an empty ext4 file system."""
    with path.open("wb") as file:
        file.truncate(size)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", path], check=True)
    return path


class Machine:
    """A guest with Muster's code at `/muster` and the first disk at `/disk`. A context manager: entering boots it."""

    def __init__(
        self,
        command: str,
        disks: Sequence[Path] = (),
        *,
        memory: int = 1024,
        extra: Sequence[str] = (),
        emulator: Sequence[str] = (OWN,),
        files: Mapping[str, Path] | None = None,
    ) -> None:
        """Prepare a guest that runs `command` (of a shell, in `/muster`) with these disks and `memory` MiB.

        `extra` are further arguments of QEMU, `emulator` the command that is QEMU, `files` lie beside the command.
        """
        self._files = files or {}
        self._emulator = emulator
        self._command = command
        self._disks = disks
        self._memory = memory
        self._extra = extra
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.exit_status: int | None = None
        """Of the command, once `lines` came to its end; None when it did not end by itself."""

    def __enter__(self) -> Self:
        made = image()
        self._folder = tempfile.TemporaryDirectory(prefix="muster-vm-")
        self._place = Path(self._folder.name)
        code(self._place / "code.cpio", self._command, self._files)
        with (self._place / "initramfs").open("wb") as file:
            for part in (made.initramfs, self._place / "code.cpio"):
                file.write(part.read_bytes())
        try:
            self._boot(made.kernel)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        self.kill()
        self._folder.cleanup()

    def _boot(self, kernel: Path) -> None:
        for attempt in (1, 2):
            self._start(kernel)
            try:
                for line in self._read(BOOT_SECONDS):
                    if line == "MUSTER ready":
                        return
                raise MachineError(f"the guest went down while booting\n{self.console}")
            except MachineError:
                self.kill()
                if attempt == 2:
                    raise

    def _start(self, kernel: Path) -> None:
        command = [*self._emulator, "-M", "q35", "-accel", "tcg,thread=single", "-smp", "1"]
        command += ["-cpu", "max,la57=off"]  # a fifth level of page tables would cost a tenth of the time
        command += ["-m", str(self._memory), "-nodefaults", "-display", "none", "-no-reboot"]
        command += ["-serial", f"file:{self._place / 'console'}", "-serial", "stdio"]
        command += ["-qmp", f"unix:{self._place / 'qmp'},server=on,wait=off"]
        command += ["-kernel", str(kernel), "-initrd", str(self._place / "initramfs")]
        command += ["-append", "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on"]
        for disk in self._disks:
            command += ["-drive", f"file={disk},format=raw,if=virtio,cache=writeback"]
        self._lines = queue.SimpleQueue()
        self._process = subprocess.Popen(
            [*command, *self._extra], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, errors="replace"
        )
        self._collector = threading.Thread(target=self._collect, args=(self._process, self._lines), daemon=True)
        self._collector.start()

    @staticmethod
    def _collect(process: "subprocess.Popen[str]", lines: "queue.SimpleQueue[str | None]") -> None:
        assert process.stdout is not None
        with process.stdout as stream:
            for line in stream:
                if line.endswith("\n"):  # a line cut short by the power going was not said
                    lines.put(line.rstrip("\r\n"))
        lines.put(None)

    def _read(self, timeout: float) -> Iterator[str]:
        deadline = time.monotonic() + timeout
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise MachineError(f"the guest took longer than {timeout} s\n{self.console}") from None
            if line is None:
                return
            yield line

    def lines(self, timeout: float = 60.0) -> Iterator[str]:
        """Give what the command says on its standard output, line by line, to its end or the end of the power.

        Raises MachineError when that takes longer than `timeout` seconds in all.
        """
        for line in self._read(timeout):
            word, _, status = line.rpartition(" ")
            if word == "MUSTER exit":
                self.exit_status = int(status)
            else:
                yield line

    def say(self, line: str) -> None:
        """Send a line to the command's standard input."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        """Cut the power: SIGKILL to the emulator. Returns when it is gone; safe twice."""
        if self._process is not None:
            if self._process.poll() is None:
                os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._collector.join()
            if self._process.stdin is not None:
                self._process.stdin.close()
            self._process = None

    def qmp(self, execute: str, **arguments: object) -> Any:
        """Give what QEMU returns to a command of its machine protocol. Raises MachineError when it refuses."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self._place / "qmp"))
            with connection.makefile("rw", encoding="utf-8") as stream:
                stream.readline()  # the greeting
                answer: dict[str, Any] = {}
                for request in ({"execute": "qmp_capabilities"}, {"execute": execute, "arguments": arguments}):
                    stream.write(json.dumps(request) + "\n")
                    stream.flush()
                    answer = json.loads(stream.readline())
                    while "event" in answer:
                        answer = json.loads(stream.readline())
                    if "error" in answer:
                        raise MachineError(f"{execute}: {answer['error']}")
        return answer["return"]

    @property
    def console(self) -> str:
        """The last of what the kernel and the command's standard error said."""
        path = self._place / "console"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""
