"""NVIDIA's management library: how it is opened, and what its errors mean.

It is never unloaded (its binding keeps it), so what it says of a driver that was reloaded, or of a GPU that came later,
only a new process can hear. A binding newer than the driver knows calls that the library has not: each is tried once.
Source: NVML API reference, nvmlReturn_t and initialization; nvidia-ml-py.
"""

from enum import Enum
from typing import Any, Final

from schemas.errors import NewProcessError, StartupError

Nvml = Any
"""The binding: the module `pynvml`, or what a test hands in."""
Missing = set[tuple[str, tuple[Any, ...]]]
"""Calls that the library has not, each with its arguments: they choose the version of some."""


class Outcome(Enum):
    """What an error of the library means."""

    UNSUPPORTED = "unsupported"
    """A lasting fact of this device and driver: not asked again."""
    DENIED = "denied"
    """This process may not ask."""
    LOST = "lost"
    """The GPU is gone, or answers no more."""
    RESET = "reset"
    """Nothing works before the GPU is reset."""
    DRIVER = "driver"
    """The driver under the library is gone, or another one."""
    AGAIN = "again"
    """Not now."""


UNINITIALIZED, INVALID_ARGUMENT, NO_PERMISSION, TIMEOUT, UNKNOWN = 1, 2, 4, 10, 999
_OUTCOMES: Final = {
    UNINITIALIZED: Outcome.DRIVER,
    INVALID_ARGUMENT: Outcome.UNSUPPORTED,
    3: Outcome.UNSUPPORTED,  # NOT_SUPPORTED
    NO_PERMISSION: Outcome.DENIED,
    9: Outcome.DRIVER,  # DRIVER_NOT_LOADED
    13: Outcome.UNSUPPORTED,  # FUNCTION_NOT_FOUND
    15: Outcome.LOST,  # GPU_IS_LOST
    16: Outcome.RESET,  # RESET_REQUIRED
    18: Outcome.DRIVER,  # LIB_RM_VERSION_MISMATCH
    22: Outcome.UNSUPPORTED,  # VGPU_ECC_NOT_SUPPORTED
    25: Outcome.UNSUPPORTED,  # ARGUMENT_VERSION_MISMATCH
    26: Outcome.UNSUPPORTED,  # DEPRECATED
    28: Outcome.LOST,  # GPU_NOT_FOUND
}
_INIT_HELP: Final = {
    9: "the kernel module is not loaded, or has no GPU: modprobe nvidia, then look at the kernel log for NVRM",
    12: "libnvidia-ml.so.1 is not here: install the driver's libraries (libnvidia-compute, nvidia-driver-cuda-libs), "
    "or name it in the option `library`",
    4: "no permission for /dev/nvidia*: run the agent as root, or in the group that owns them",
    18: "library and kernel module are of different versions: the driver was upgraded and not reloaded (or the other "
    "way round); reload it or reboot",
    999: "access to /dev/nvidia* was lost (the device rules of a container, after systemctl daemon-reload) or the "
    "driver is broken: restart the container, or look at the kernel log for NVRM",
}


class GpuLostError(Exception):
    """The GPU answers no more."""


class ResetRequiredError(GpuLostError):
    """The GPU answers nothing before it is reset."""


def outcome_of(code: int) -> Outcome:
    """Say what an error code means."""
    return _OUTCOMES.get(code, Outcome.AGAIN)


def load_binding(path: str = "") -> Nvml:
    """Import the binding, and have it use the library at `path` ("": the system's).

    Raises StartupError when binding or library is not there.
    """
    try:
        import pynvml
    except ImportError as error:
        raise StartupError(
            f"the Python package nvidia-ml-py is not installed: pip install nvidia-ml-py ({error})"
        ) from error
    if path and pynvml.nvmlLib is None:
        import ctypes

        try:
            pynvml.nvmlLib = ctypes.CDLL(path)
        except OSError as error:
            raise StartupError(f"{path} cannot be loaded: {error}") from error
    return pynvml


def initialize(nvml: Nvml) -> None:
    """Have the library find the driver. Raises StartupError; NewProcessError when only a new process may do better."""
    try:
        nvml.nvmlInitWithFlags(0)
    except nvml.NVMLError as error:
        text = f"NVML: {_words(error)}: {_INIT_HELP.get(error.value, 'look at the kernel log for NVRM')}"
        if outcome_of(error.value) is Outcome.DRIVER or error.value == UNKNOWN:
            raise NewProcessError(text) from error
        raise StartupError(text) from error


def shut_down(nvml: Nvml) -> None:
    """Let the driver go; the library stays. Whatever the library says to that does not matter."""
    try:
        nvml.nvmlShutdown()
    except nvml.NVMLError:
        pass


def system(nvml: Nvml, name: str) -> Any:
    """Make a call that is about no GPU; None when the library has or gives no answer. Raises NewProcessError."""
    try:
        return getattr(nvml, name)()
    except (nvml.NVMLError, nvml.NVMLLibraryMismatchError, AttributeError, UnicodeDecodeError) as error:
        if outcome_of(getattr(error, "value", 13)) is Outcome.DRIVER:
            raise NewProcessError(driver_gone(error)) from error
        return None


def driver_gone(error: Exception) -> str:
    """Give the sentence for a driver that went away under the library."""
    return f"NVML: {_words(error)}: the driver was unloaded or reloaded"


def _words(error: Exception) -> str:
    return str(error) or type(error).__name__


class Asker:
    """Asks one device, and remembers what it lastingly cannot tell."""

    __slots__ = ("_missing", "denied", "failed", "handle", "nvml", "unsupported")

    def __init__(self, nvml: Nvml, handle: object, missing: Missing) -> None:
        """Ask through `handle`. `missing`: calls that the library has not, one set for all devices."""
        self.nvml = nvml
        self.handle = handle
        self._missing = missing
        self.unsupported: Missing = set()
        self.denied: set[str] = set()
        """Calls that this process may not make; they are made again, for rights may be given."""
        self.failed = 0
        """Calls that got no answer for the moment."""

    def ask(self, name: str, *args: Any) -> Any:
        """Give the answer; None when there is none. Raises GpuLostError, NewProcessError."""
        return self._call(name, args, (name, args))

    def fill(self, name: str, struct: Any) -> Any:
        """Have the library fill a struct, and give it; None when it does not. Raises as `ask`."""
        from ctypes import byref

        return None if self._call(name, (byref(struct),), (name, ())) is None else struct

    def hand(self, name: str, known: tuple[Any, ...], *args: Any) -> Any:
        """Ask with places to be filled among the arguments; `known` are those by which the call is remembered.

        Raises as `ask`.
        """
        return self._call(name, args, (name, known))

    def first(self, *calls: tuple[Any, ...]) -> Any:
        """Give the first answer that there is: a newer name of a call, then older ones. Raises as `ask`."""
        for call in calls:
            answer = self.ask(*call)
            if answer is not None:
                return answer
        return None

    def lacks(self, name: str, *args: Any) -> bool:
        """Whether the library has no such call."""
        return (name, args) in self._missing

    def _call(self, name: str, args: tuple[Any, ...], key: tuple[str, tuple[Any, ...]]) -> Any:
        if key in self._missing or key in self.unsupported:
            return None
        nvml = self.nvml
        try:
            return getattr(nvml, name)(self.handle, *args)
        except nvml.NVMLError as error:
            self.refused(error, key)
        except (nvml.NVMLLibraryMismatchError, AttributeError):
            self._missing.add(key)
        except UnicodeDecodeError:
            self.failed += 1
        return None

    def refused(self, error: Any, key: tuple[str, tuple[Any, ...]]) -> None:
        """Take what an error means. Raises GpuLostError, NewProcessError."""
        code = error.value
        outcome = outcome_of(code)
        if outcome is Outcome.DRIVER:
            raise NewProcessError(driver_gone(error))
        if outcome is Outcome.LOST:
            raise GpuLostError(_words(error))
        if outcome is Outcome.RESET:
            raise ResetRequiredError(_words(error))
        if code == 13:
            self._missing.add(key)
        elif outcome is Outcome.UNSUPPORTED:
            if code == INVALID_ARGUMENT:
                self._must_be_there(key[0])
            self.unsupported.add(key)
        elif outcome is Outcome.DENIED:
            self.denied.add(key[0])
        else:
            self.failed += 1

    def _must_be_there(self, name: str) -> None:
        """Tell an argument that the driver does not know from a handle that it knows no more. Raises GpuLostError."""
        if name == "nvmlDeviceGetUUID":
            raise GpuLostError("the driver does not know it any more")
        try:
            self.nvml.nvmlDeviceGetUUID(self.handle)
        except self.nvml.NVMLError as error:
            if error.value == INVALID_ARGUMENT:
                raise GpuLostError("the driver does not know it any more") from error
