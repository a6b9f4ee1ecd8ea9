"""Admin commands that change nothing: identify and get log page, through the kernel's passthrough.

The kernel gives each command a minute (or what `nvme_core.admin_timeout` says). Asking for less would have it abort the
command and, when that fails, reset the drive under its users: so nothing is asked for here, and the caller's own
deadline ends the process instead. Source: linux/nvme_ioctl.h; NVM Express Base Specification 2.0, 5.16 and 5.17.
"""

import errno
import fcntl
import os
import struct
from array import array
from pathlib import Path
from typing import Final, Protocol

from schemas.errors import MusterError

ALL_NAMESPACES: Final = 0xFFFFFFFF
_ADMIN_COMMAND: Final = 0xC0484E41
"""NVME_IOCTL_ADMIN_CMD: _IOWR('N', 0x41, struct nvme_admin_cmd)."""
_COMMAND: Final = struct.Struct("<BBHIIIQQIIIIIIIIII")
"""struct nvme_passthru_cmd, 72 bytes: opcode, flags, -, nsid, cdw2, cdw3, metadata, addr, metadata_len, data_len,
cdw10 to 15, timeout_ms, result."""
_IDENTIFY, _GET_LOG_PAGE = 0x06, 0x02
_RETAIN: Final = 1 << 15
"""Retain Asynchronous Event: what waits for the administrator's own reader is not taken from it."""
_STATUS: Final = 0x7FF
"""Status code type and status code, without More and Do Not Retry."""
_LASTING: Final = frozenset({0x001, 0x002, 0x00B, 0x109})
"""Invalid opcode, invalid field, invalid name space or format, invalid log page."""
_GONE: Final = frozenset({errno.ENODEV, errno.ENXIO, errno.ENOENT, errno.EIO, errno.ESHUTDOWN})
_DENIED: Final = frozenset({errno.EACCES, errno.EPERM})


class AdminError(MusterError):
    """The drive was asked and gave nothing now; another time it may."""

    code = "nvme.unavailable"


class UnsupportedError(AdminError):
    """The drive lastingly does not do this."""

    code = "nvme.unsupported"


class DeniedError(AdminError):
    """This process may not ask. The text says what would let it."""

    code = "nvme.denied"


class DriveLostError(AdminError):
    """The drive is gone, or its controller is dead."""

    code = "nvme.lost"


class Admin(Protocol):
    """What asks one controller."""

    def identify(self, cns: int, nsid: int = 0) -> bytes:
        """Give an identify structure, 4,096 bytes. Raises AdminError."""

    def log_page(self, page: int, size: int, nsid: int = ALL_NAMESPACES) -> bytes:
        """Give the first `size` bytes (a multiple of 4) of a log page. Raises AdminError."""

    def close(self) -> None:
        """Close; safe twice."""


class KernelAdmin:
    """A controller's character device, open."""

    def __init__(self, path: Path) -> None:
        """Open `/dev/nvme0`. Raises DeniedError, DriveLostError, AdminError."""
        self._path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise _told(error, path) from None

    def identify(self, cns: int, nsid: int = 0) -> bytes:
        """Give an identify structure, 4,096 bytes. Raises AdminError."""
        return self._ask(_IDENTIFY, nsid, 4096, cns, 0)

    def log_page(self, page: int, size: int, nsid: int = ALL_NAMESPACES) -> bytes:
        """Give the first `size` bytes (a multiple of 4) of a log page. Raises AdminError."""
        words = size // 4 - 1
        return self._ask(_GET_LOG_PAGE, nsid, size, page | _RETAIN | (words & 0xFFFF) << 16, words >> 16)

    def close(self) -> None:
        """Close; safe twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _ask(self, opcode: int, nsid: int, size: int, word10: int, word11: int) -> bytes:
        data = array("B", bytes(size))
        address, _ = data.buffer_info()
        command = bytearray(
            _COMMAND.pack(opcode, 0, 0, nsid, 0, 0, 0, address, 0, size, word10, word11, 0, 0, 0, 0, 0, 0)
        )
        try:
            status = fcntl.ioctl(self._fd, _ADMIN_COMMAND, command, True)
        except OSError as error:
            raise _told(error, self._path) from None
        if status:
            raise refusal(status, self._path)
        return data.tobytes()


def refusal(status: int, path: Path) -> AdminError:
    """Make the error of a command that the drive refused; `status` as the kernel gives it, without the phase bit."""
    code = status & _STATUS
    kind = UnsupportedError if code in _LASTING else AdminError
    return kind(f"{path.name} answers with status 0x{code:03x}")


def _told(error: OSError, path: Path) -> AdminError:
    why = error.strerror or str(error)
    if error.errno in _DENIED:
        return DeniedError(f"{path}: {why}; run the agent as root, or with CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH")
    if error.errno in _GONE:
        return DriveLostError(f"{path}: {why}")
    if error.errno == errno.ENOTTY:
        return UnsupportedError(f"{path} is no NVMe controller")
    return AdminError(f"{path}: {why}")
