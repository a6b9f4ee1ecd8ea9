"""The page that a script and all processes with the fake library share: sequence, events, counts of calls.

The layout is that of `struct control` in `c/state.c`.
"""

import mmap
import os
import platform
import struct
from ctypes import CDLL, byref, c_int, c_long, c_uint32
from pathlib import Path

_RING = 256
_COUNTERS = 65536
_EVENT = struct.Struct("=QQIIII")
_WORD = struct.Struct("=Q")
_RING_AT = 2 * _WORD.size
_COUNTS_AT = _RING_AT + _RING * _EVENT.size
_MOVED_AT = _COUNTS_AT + _COUNTERS * _WORD.size
_FUTEX = {"x86_64": 202, "aarch64": 98}
"""The number of the call, by machine. Where it is another one, waits notice a little later what has changed."""
_FUTEX_WAKE = 1
_EVERYBODY = 0x7FFFFFFF
_LIBC = CDLL(None)
SIZE = _MOVED_AT + _WORD.size
"""Bytes of the page."""


def counter_of(function: str) -> int:
    """Give the number of the counter of a function: FNV-1a of its name. Two functions must not share one."""
    value = 2166136261
    for byte in function.encode():
        value = (value ^ byte) * 16777619 & 0xFFFFFFFF
    return value % _COUNTERS


class Control:
    """The control page, mapped. One script writes it; any number of libraries read it and count."""

    def __init__(self, path: Path) -> None:
        path.touch()
        os.truncate(path, SIZE)
        with path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), SIZE)

    def close(self) -> None:
        """Unmap the page."""
        self._page.close()

    def _get(self, at: int) -> int:
        return int(_WORD.unpack_from(self._page, at)[0])

    def _set(self, at: int, value: int) -> None:
        self._page[at : at + _WORD.size] = _WORD.pack(value)

    def state_replaced(self) -> None:
        """Tell that the state file is a new one."""
        self._set(0, self._get(0) + 1)
        self._moved()

    def tell(self, *, kind: int, data: int, slot: int, gi: int, ci: int) -> None:
        """Put an event where all event sets look for it."""
        head = self._get(_WORD.size)
        at = _RING_AT + head % _RING * _EVENT.size
        self._page[at : at + _EVENT.size] = _EVENT.pack(kind, data, slot, gi, ci, 0)
        self._set(_WORD.size, head + 1)
        self._moved()

    def calls(self, function: str) -> int:
        """Give how often a function has been called, by all processes together."""
        return self._get(_COUNTS_AT + counter_of(function) * _WORD.size)

    def forget_calls(self) -> None:
        """Begin to count anew."""
        self._page[_COUNTS_AT:_MOVED_AT] = bytes(_MOVED_AT - _COUNTS_AT)

    def _moved(self) -> None:
        """Wake those that wait for something to change."""
        word = c_uint32.from_buffer(self._page, _MOVED_AT)
        word.value += 1
        number = _FUTEX.get(platform.machine())
        if number is not None:
            _LIBC.syscall(c_long(number), byref(word), c_int(_FUTEX_WAKE), c_int(_EVERYBODY), None, None, c_int(0))
