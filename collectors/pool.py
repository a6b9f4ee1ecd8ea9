"""The helper processes as the agent sees them: which group each serves, when one must go, which could not be ended."""

import logging
import os
import selectors
import signal
from collections.abc import Callable
from typing import Final

from collectors.channel import AgentEnd, ChannelClosedError, Reply, Request
from collectors.zygote import Exited, Forked, ForkFailed, ZygoteLike, ZygoteLostError
from schemas.errors import MalformedError

_log = logging.getLogger("muster.scheduler")
KILL_SECONDS: Final = 2.0
"""A helper that SIGKILL has not ended after so long is left where it is: it hangs in the kernel."""
EXIT_SECONDS: Final = 0.1
"""After the end of its channel a helper has so long to end itself."""
LEFT_LIMIT: Final = 3
"""After so many that were left, their cause is `unavailable`."""
_RESPAWN_SECONDS: Final = 5.0
"""The least time between two zygotes."""


class Process:
    """One helper process."""

    def __init__(self, token: int, group: str, channel: AgentEnd) -> None:
        self.token = token
        self.group = group
        self.channel = channel
        self.pid: int | None = None
        """None until the zygote has told it."""
        self.loaded: set[str] = set()
        """The collectors that it holds."""
        self.going = False
        """It is to end, or did."""
        self.readable = True
        """Its channel is open."""
        self.awaits_room = False
        """The selector is to say when its channel takes more."""
        self.give_up_at: float | None = None
        """When to stop waiting for its end."""
        self.killed = False
        self.culprit = ""
        """The collector on whose account it was killed."""

    def send(self, request: Request) -> None:
        """Send without waiting."""
        if not self.going:
            self.channel.send(request)


class Pool:
    """Makes, feeds, reads and ends helper processes. All on the scheduler's thread.

    `on_reply` is called for every message; `on_gone(process, kind, how)` once for each process that went
    without being told; `kind` is `crash`, `garbage`, or `zygote` when it had to go with the zygote; `on_left(process,
    names)` once for each that not even SIGKILL ended, with the collectors on whose account that is;
    `on_zygote_lost(why, helpers)` before the helpers that had to go with it.
    """

    def __init__(
        self,
        zygote: ZygoteLike,
        selector: selectors.BaseSelector,
        *,
        clock: Callable[[], float],
        memory_bytes: int,
        on_reply: Callable[[Process, Reply], None],
        on_gone: Callable[[Process, str, str], None],
        on_left: Callable[[Process, list[str]], None] = lambda _process, _names: None,
        on_zygote_lost: Callable[[str, int], None] = lambda _why, _helpers: None,
    ) -> None:
        self._zygote: ZygoteLike = zygote
        self._selector = selector
        self._clock = clock
        self._memory_bytes = memory_bytes
        self._on_reply = on_reply
        self._on_gone = on_gone
        self._on_left = on_left
        self._on_zygote_lost = on_zygote_lost
        self._processes: dict[int, Process] = {}
        self._groups: dict[str, Process] = {}
        self._tokens = 0
        self._lost_until: float | None = None
        self.left: dict[str, int] = {}
        """By collector, how many helpers were left behind on its account."""
        self.zygotes_lost = 0
        selector.register(zygote.fileno(), selectors.EVENT_READ, self._read_zygote)

    def get(self, group: str) -> Process | None:
        """Give the group's helper, a new one if need be; None when none can be made now."""
        process = self._groups.get(group)
        if process is not None:
            return process
        if self._lost_until is not None:
            return None
        self._tokens += 1
        try:
            sock = self._zygote.fork(self._tokens, f"muster:{group.removeprefix('own:')}", self._memory_bytes)
        except ZygoteLostError as error:
            self._lose_zygote(str(error))
            return None
        except OSError as error:
            _log.error("helper_not_made group=%s error=%s", group, error)
            return None
        process = Process(self._tokens, group, AgentEnd(sock))
        self._processes[process.token] = process
        self._groups[group] = process
        self._watch(process)
        return process

    def regroup(self, process: Process, group: str) -> bool:
        """Let a helper serve another group; False when that one has a helper already."""
        if group in self._groups:
            return self._groups[group] is process
        self._groups.pop(process.group, None)
        process.group = group
        self._groups[group] = process
        return True

    def kill(self, process: Process, culprit: str) -> None:
        """End a helper at once; its group gets another one at the next `get`."""
        if process.killed:
            return
        self._detach(process)
        process.killed = True
        process.culprit = culprit
        process.give_up_at = self._clock() + KILL_SECONDS
        if process.pid is None:
            return  # told as soon as the zygote says who it is
        try:
            self._zygote.kill(process.pid)
        except ZygoteLostError as error:
            self._lose_zygote(str(error))

    def is_killing_for(self, collector: str) -> bool:
        """Whether a helper that was killed on its account has neither ended nor been given up yet."""
        return any(process.killed and process.culprit == collector for process in self._processes.values())

    def leave(self, process: Process, collector: str) -> None:
        """Take a collector out of a helper, which ends when it was the last."""
        process.loaded.discard(collector)
        if not process.loaded and not process.going:
            self.retire(process)

    def retire(self, process: Process) -> None:
        """Let a helper end by itself; kill it when it does not."""
        if not process.going:
            self._detach(process)
            process.give_up_at = self._clock() + KILL_SECONDS + 1.0

    def next_due(self) -> float:
        """When `tick` has something to do, monotonic seconds; infinity when nothing is planned."""
        times = [process.give_up_at for process in self._processes.values() if process.give_up_at is not None]
        if self._lost_until is not None:
            times.append(self._lost_until)
        return min(times, default=float("inf"))

    def tick(self, now: float) -> None:
        """Do what has come due: kill what did not end, give up what cannot be killed, replace a lost zygote."""
        if self._lost_until is not None and now >= self._lost_until:
            self._replace_zygote(now)
        for process in list(self._processes.values()):
            if process.give_up_at is None or now < process.give_up_at:
                continue
            if not process.going:
                self._gone(process, "crash", "closed its channel")
            elif not process.killed:
                self.kill(process, process.culprit)
            else:
                del self._processes[process.token]
                names = [process.culprit] if process.culprit else sorted(process.loaded)
                for name in names:
                    self.left[name] = self.left.get(name, 0) + 1
                _log.error("helper_left pid=%s group=%s collectors=%s", process.pid, process.group, ",".join(names))
                self._on_left(process, names)

    def close(self) -> None:
        """Let every helper end, and the zygote, which kills those that do not."""
        for process in list(self._processes.values()):
            if not process.going:
                self._detach(process)
        if self._lost_until is None:
            self._selector.unregister(self._zygote.fileno())
        self._zygote.close()

    @property
    def alive(self) -> int:
        """How many helpers there are, those that are ending included."""
        return len(self._processes)

    # --- reading -----------------------------------------------------------------------------------------------------

    def _watch(self, process: Process) -> None:
        self._selector.register(process.channel, selectors.EVENT_READ, lambda mask: self._serve(process, mask))

    def _serve(self, process: Process, mask: int) -> None:
        if mask & selectors.EVENT_WRITE:
            process.channel.flush()
        if mask & selectors.EVENT_READ:
            try:
                for reply in process.channel.receive():
                    if process.going:
                        return
                    self._on_reply(process, reply)
            except ChannelClosedError:
                self._stop_reading(process)
                process.give_up_at = self._clock() + EXIT_SECONDS  # how it ended is worth the wait
            except MalformedError as error:
                self._gone(process, "garbage", str(error))

    def await_writable(self) -> None:
        """Have the selector say when a helper reads that did not."""
        for process in self._groups.values():
            unsent = bool(process.channel.unsent)
            if process.readable and process.awaits_room != unsent:
                process.awaits_room = unsent
                mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if unsent else 0)
                self._selector.modify(process.channel, mask, self._selector.get_key(process.channel).data)

    def _gone(self, process: Process, kind: str, how: str) -> None:
        """A helper went, or cannot be used any more, by itself."""
        if process.going:
            return
        self.kill(process, "")
        self._on_gone(process, kind, how)

    def _detach(self, process: Process) -> None:
        process.going = True
        if self._groups.get(process.group) is process:
            del self._groups[process.group]
        self._stop_reading(process)
        process.channel.close()

    def _stop_reading(self, process: Process) -> None:
        if process.readable:
            process.readable = False
            self._selector.unregister(process.channel)

    # --- the zygote --------------------------------------------------------------------------------------------------

    def _read_zygote(self, _mask: int) -> None:
        try:
            for notice in self._zygote.notices():
                self._note(notice)
        except ZygoteLostError as error:
            self._lose_zygote(str(error))

    def _note(self, notice: Forked | ForkFailed | Exited) -> None:
        if isinstance(notice, Forked):
            process = self._processes.get(notice.token)
            if process is not None:
                process.pid = notice.pid
                if process.killed:
                    self._zygote.kill(notice.pid)
        elif isinstance(notice, ForkFailed):
            process = self._processes.pop(notice.token, None)
            if process is not None and not process.going:
                self._detach(process)
                self._on_gone(process, "crash", f"could not be forked: {notice.reason}")
        else:
            for process in [each for each in self._processes.values() if each.pid == notice.pid]:
                del self._processes[process.token]
                if not process.going:
                    self._detach(process)
                    self._on_gone(process, "crash", notice.how)

    def _lose_zygote(self, why: str) -> None:
        """The zygote is gone, and nobody tells any more which helpers are: end them all, begin anew."""
        if self._lost_until is not None:
            return
        now = self._clock()
        self.zygotes_lost += 1
        self._lost_until = now if self.zygotes_lost == 1 else now + _RESPAWN_SECONDS
        _log.error("zygote_lost error=%s helpers=%d", why, len(self._processes))
        self._on_zygote_lost(why, len(self._processes))
        self._selector.unregister(self._zygote.fileno())
        processes, self._processes = list(self._processes.values()), {}
        for process in processes:
            if process.pid is not None:
                _kill_group(process.pid)
            if not process.going:
                self._detach(process)
                process.killed = True
                self._on_gone(process, "zygote", "it had to go with the zygote")

    def _replace_zygote(self, now: float) -> None:
        try:
            self._zygote = self._zygote.again()
        except OSError as error:
            _log.error("zygote_not_started error=%s", error)
            self._lost_until = now + _RESPAWN_SECONDS
            return
        self._lost_until = None
        self._selector.register(self._zygote.fileno(), selectors.EVENT_READ, self._read_zygote)


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
