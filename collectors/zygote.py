"""The zygote: a small process, forked off first, from which every helper is forked.

It exists before the agent has threads, open files or heavy modules, so that a helper inherits none of them and shares
most of its memory with its siblings. It does two things: it forks, and it says who ended. Nothing of a collector ever
runs in it. Should a collector kill it all the same, the agent starts another one by exec, which costs a little memory.

Signals: a service manager may send SIGTERM to every process of the group; zygote and helpers take no notice, because
the agent still wants their last rows. They end when their channel does; SIGKILL ends what does not.
"""

import contextlib
import errno
import gc
import os
import resource
import select
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Final, Protocol

import msgspec

from collectors import helper
from collectors.channel import HelperEnd
from collectors.registry import build_config, check_class, load_factory

MEMORY_BYTES: Final = 512 << 20
"""What a helper may allocate by default. A limit of the kernel (RLIMIT_DATA), so that an allocation beyond it fails in
the helper, as MemoryError, before the machine notices; address space that is only reserved does not count."""
_WARM: Final = ("collectors.host:HostCollector", "collectors.syslog:SyslogCollector")
"""What nearly every agent runs. Imported before the first fork it is shared; imported by a helper it costs that one
4 MB, most of it copies of pages that new objects are put into."""
_GRACE_SECONDS: Final = 2.0
"""After the agent's end, helpers have so long to end by themselves."""
_CHANNEL_FD: Final = 3
_MAX_MESSAGE: Final = 4096


class Fork(msgspec.Struct, array_like=True, tag=0):
    """Asks for a helper; its channel travels beside the message."""

    token: int
    title: str
    memory_bytes: int


class Kill(msgspec.Struct, array_like=True, tag=1):
    """Asks to kill a helper and what it forked off. The zygote knows whether the number still is that helper's."""

    pid: int


class Forked(msgspec.Struct, array_like=True, tag=0):
    """Tells a helper's process number."""

    token: int
    pid: int


class ForkFailed(msgspec.Struct, array_like=True, tag=1):
    """Tells that there is no helper."""

    token: int
    reason: str


class Exited(msgspec.Struct, array_like=True, tag=2):
    """Tells that a helper ended."""

    pid: int
    how: str
    """`exit status 3`, `signal 9`."""


Notice = Forked | ForkFailed | Exited

_encoder = msgspec.msgpack.Encoder()
_orders = msgspec.msgpack.Decoder(Fork | Kill)
_notices = msgspec.msgpack.Decoder(Notice)


class ZygoteLostError(Exception):
    """The zygote is gone."""


class ZygoteLike(Protocol):
    """What the scheduler needs of a zygote."""

    def fork(self, token: int, title: str, memory_bytes: int) -> socket.socket:
        """Ask for a helper and give the agent's end of its channel. Raises ZygoteLostError."""

    def kill(self, pid: int) -> None:
        """Ask to kill a helper. Raises ZygoteLostError."""

    def notices(self) -> list[Notice]:
        """Give what it said since the last call, without waiting. Raises ZygoteLostError."""

    def fileno(self) -> int:
        """The descriptor to wait on."""

    def again(self) -> "ZygoteLike":
        """Start another one in place of this one, which is lost. Raises OSError."""

    def close(self) -> None:
        """Let it end, with all helpers."""


class Zygote:
    """The agent's side. Not for several threads at once."""

    def __init__(self, sock: socket.socket, pid: int) -> None:
        sock.setblocking(False)
        self._sock = sock
        self.pid = pid

    def fork(self, token: int, title: str, memory_bytes: int) -> socket.socket:
        """Ask for a helper and give the agent's end of its channel; `Forked` or `ForkFailed` follows."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with theirs:
                self._send(Fork(token, title, memory_bytes), [theirs.fileno()])
        except ZygoteLostError:
            ours.close()
            raise
        return ours

    def kill(self, pid: int) -> None:
        """Ask to kill a helper; `Exited` follows, unless the kernel cannot end it."""
        self._send(Kill(pid), [])

    def notices(self) -> list[Notice]:
        """Give what it said since the last call, without waiting."""
        notices: list[Notice] = []
        while True:
            try:
                data = self._sock.recv(_MAX_MESSAGE)
            except BlockingIOError:
                return notices
            except OSError as error:
                raise ZygoteLostError(str(error)) from None
            if not data:
                if notices:
                    return notices  # the end is found again at the next call
                raise ZygoteLostError("the zygote ended")
            notices.append(_notices.decode(data))

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return self._sock.fileno()

    def again(self) -> "Zygote":
        """Start another one by exec: the agent has threads by now, and a fork of it would inherit everything."""
        self.close()
        return exec_zygote()

    def close(self) -> None:
        """Let it end, and wait for it for a little longer than it gives its helpers. Safe twice."""
        if self._sock.fileno() == -1:
            return
        self._sock.close()
        deadline = time.monotonic() + _GRACE_SECONDS + 1.0
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(self.pid, os.WNOHANG)[0] == 0 and time.monotonic() < deadline:
                time.sleep(0.01)

    def _send(self, order: Fork | Kill, fds: list[int]) -> None:
        try:
            socket.send_fds(self._sock, [_encoder.encode(order)], fds)
        except OSError as error:
            raise ZygoteLostError(str(error)) from None


def start_zygote() -> Zygote:
    """Fork the zygote. To be called first of all: before threads, open files and imports that are not for helpers."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    _warm_up()
    pid = os.fork()
    if pid == 0:
        _never_return(lambda: _begin(ours, theirs))
    theirs.close()
    return Zygote(ours, pid)


def _warm_up() -> None:
    """Import what most helpers need, and keep collections, in whatever process, from touching and so copying it."""
    for factory in _WARM:
        with contextlib.suppress(Exception):  # its helper will say what is wrong
            collector = load_factory(factory)
            check_class(collector)
            build_config(collector.name, collector, {})
    gc.collect()
    gc.freeze()


def exec_zygote() -> Zygote:
    """Start a zygote as a new program: where a fork would take too much along. Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; from collectors.main import import_msgspec; import_msgspec();"
        f" from collectors.zygote import adopt; adopt({_CHANNEL_FD})"
    )
    with theirs:
        theirs_fd = theirs.fileno()
        if theirs_fd == _CHANNEL_FD:  # dup2 onto itself would leave the descriptor to be closed by exec
            theirs_fd = os.dup(theirs_fd)
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-P", "-c", code],
            os.environ,
            file_actions=[(os.POSIX_SPAWN_DUP2, theirs_fd, _CHANNEL_FD)],
        )
        if theirs_fd != theirs.fileno():
            os.close(theirs_fd)
    return Zygote(ours, pid)


def adopt(fd: int) -> None:
    """Be the zygote of whoever holds the other end of this descriptor. Does not return."""
    _warm_up()
    _never_return(lambda: serve(socket.socket(fileno=fd)))


def _begin(ours: socket.socket, theirs: socket.socket) -> None:
    ours.close()
    serve(theirs)


def _never_return(work: Callable[[], None]) -> None:
    """Do the work of a forked process and end it: it must not run on in the code of its parent."""
    status = 70
    try:
        work()
        status = 0
    except BaseException as error:  # noqa: BLE001  # nobody above may see it
        with contextlib.suppress(OSError, ValueError):
            os.write(2, f"muster process={os.getpid()} error={type(error).__name__}: {error}\n".encode())
    finally:
        os._exit(status)


def serve(control: socket.socket) -> None:
    """Fork and reap until the agent is gone, then end what is left."""
    os.setsid()  # Ctrl-C in the terminal is the agent's business
    woken, waker = os.pipe()
    os.set_blocking(woken, False)
    os.set_blocking(waker, False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, _take_no_notice)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    _set_title("muster-zygote")
    gc.freeze()
    gc.disable()  # nothing grows here; helpers switch it on again
    zygote = _Server(control, (woken, waker))
    poller = select.poll()
    poller.register(control, select.POLLIN)
    poller.register(woken, select.POLLIN)
    while zygote.connected:
        for fd, _ in poller.poll():
            if fd == woken:
                with contextlib.suppress(BlockingIOError):
                    os.read(woken, 4096)
                zygote.reap()
            else:
                zygote.obey()
    zygote.end()


class _Server:
    """The zygote's side: which helpers there are."""

    def __init__(self, control: socket.socket, pipe: tuple[int, int]) -> None:
        self.connected = True
        self._control = control
        self._pipe = pipe
        self._helpers: set[int] = set()

    def obey(self) -> None:
        """Do one thing that is asked for."""
        try:
            data, fds, _, _ = socket.recv_fds(self._control, _MAX_MESSAGE, 1)
        except OSError:
            data, fds = b"", []
        if not data:
            self.connected = False
            return
        order = _orders.decode(data)
        if isinstance(order, Kill):
            if order.pid in self._helpers:
                _kill(order.pid)
            return
        try:
            pid = self._fork(order, fds[0])
        except OSError as error:
            self._tell(ForkFailed(order.token, f"{errno.errorcode.get(error.errno or 0, '?')}: {error.strerror}"))
        else:
            self._helpers.add(pid)
            self._tell(Forked(order.token, pid))
        finally:
            os.close(fds[0])

    def reap(self) -> None:
        """Take note of who ended, and tell."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                # What it forked off must not go on alone. Its group still has the number, if there is anybody in it.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
                self._helpers.discard(pid)
                code = os.waitstatus_to_exitcode(status)
                self._tell(Exited(pid, f"signal {-code}" if code < 0 else f"exit status {code}"))

    def end(self) -> None:
        """Wait a moment for the helpers, whose channels are closed too, and kill those that stay."""
        deadline = time.monotonic() + _GRACE_SECONDS
        while self._helpers and time.monotonic() < deadline:
            time.sleep(0.02)
            self.reap()
        for pid in self._helpers:
            _kill(pid)

    def _fork(self, order: Fork, channel: int) -> int:
        pid = os.fork()
        if pid == 0:
            _never_return(lambda: self._become_helper(order, channel))
        return pid

    def _become_helper(self, order: Fork, channel: int) -> None:
        gc.enable()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        os.dup2(channel, _CHANNEL_FD, inheritable=False)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(2, 1)  # what a collector prints must not get into what the agent prints
        os.closerange(_CHANNEL_FD + 1, 1 << 20)
        _set_title(order.title)
        _limit_memory(order.memory_bytes)
        helper.run(HelperEnd(socket.socket(fileno=_CHANNEL_FD)))

    def _tell(self, notice: Notice) -> None:
        try:
            self._control.send(_encoder.encode(notice))
        except OSError:
            self.connected = False


def _take_no_notice(_number: int, _frame: object) -> None:
    """Handle a signal by nothing. Unlike SIG_IGN this is not inherited by programs that a collector runs."""


def _kill(pid: int) -> None:
    for kill in (os.killpg, os.kill):  # the group first: it may not have become one yet
        with contextlib.suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def _set_title(title: str) -> None:
    """Name the process for `ps` and `top`, in the 15 characters that the kernel keeps."""
    with contextlib.suppress(OSError):
        comm = os.open("/proc/self/comm", os.O_WRONLY)
        os.write(comm, title.encode()[:15])
        os.close(comm)


def _limit_memory(size: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    limit = size if hard == resource.RLIM_INFINITY else min(size, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
