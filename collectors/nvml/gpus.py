"""Which GPUs the driver shows, and who each of them is. The library's own numbers for them are never kept."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from collectors._dmi import usable
from collectors.nvml.library import Asker, GpuLostError, Missing, Nvml, Outcome, driver_gone, outcome_of
from collectors.nvml.readings import GpuReader
from schemas.device import pci_address
from schemas.errors import NewProcessError

_HANDLE: Final = "nvmlDeviceGetHandleByIndex"


class Identity(msgspec.Struct, frozen=True):
    """Who a GPU says it is. Texts are "" when it does not say."""

    uuid: str
    """`GPU-` and a UUID."""
    address: str
    """In normal form; "" when the driver does not say."""
    name: str = ""
    serial: str = ""
    part_number: str = ""
    vbios: str = ""
    vendor_id: str = ""
    device_id: str = ""
    subsystem_vendor_id: str = ""
    subsystem_id: str = ""

    @property
    def device(self) -> str:
        """The id under which this collector knows it."""
        return f"gpu:{self.uuid}"


class Gpu:
    """One GPU: who it is, how it is asked, and whether it answers."""

    def __init__(self, identity: Identity, asker: Asker) -> None:
        self.identity = identity
        self.asker = asker
        self.reader = GpuReader(asker, identity.device)
        self.lost = ""
        """Why it answers no more; "" while it does."""
        self.reset_required = False
        self.surveyed = False
        """Whether everything was asked once, so that what it cannot tell is known."""
        self.divided: bool | None = None
        """Whether MIG is on; None before it was asked, or where there is none."""
        self.urgent = True
        """Something happened to it: everything is read at the next turn."""

    @property
    def device(self) -> str:
        """The id under which this collector knows it."""
        return self.identity.device

    @property
    def words(self) -> str:
        """Its name for people."""
        identity = self.identity
        return f"{identity.uuid} at {identity.address or 'an unknown place'}"

    def renew(self) -> None:
        """Forget what it could not tell: it is in another mode now."""
        self.asker.unsupported.clear()
        self.reader = GpuReader(self.asker, self.identity.device)
        self.surveyed, self.urgent = False, True

    def answers(self) -> bool:
        """Ask it for its name. Raises NewProcessError."""
        try:
            return bool(self.asker.ask("nvmlDeviceGetUUID") == self.identity.uuid)
        except GpuLostError:
            return False


class Found(msgspec.Struct):
    """What an enumeration gave."""

    gpus: list[Gpu] = []
    problems: list[str] = []
    """One sentence for each GPU that is counted and cannot be asked."""


def enumerate_gpus(nvml: Nvml, missing: Missing) -> Found:
    """Give the GPUs that the driver shows. Raises NewProcessError when it is gone."""
    found = Found()
    for index in range(_count(nvml)):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError as error:
            if outcome_of(error.value) is Outcome.DRIVER:
                raise NewProcessError(driver_gone(error)) from error
            found.problems.append(f"GPU {index} cannot be asked: {error}")
            continue
        asker = Asker(nvml, handle, missing)
        try:
            identity = _identity(asker)
        except GpuLostError as error:
            found.problems.append(f"GPU {index} cannot be asked: {error}")
            continue
        if identity is None:
            found.problems.append(f"GPU {index} does not say who it is")
        else:
            found.gpus.append(Gpu(identity, asker))
    return found


def _count(nvml: Nvml) -> int:
    try:
        return int(nvml.nvmlDeviceGetCount())
    except nvml.NVMLError as error:
        if outcome_of(error.value) is Outcome.DRIVER:
            raise NewProcessError(driver_gone(error)) from error
        return 0


def _identity(asker: Asker) -> Identity | None:
    uuid = asker.ask("nvmlDeviceGetUUID")
    if not uuid:
        return None
    pci = asker.first(("nvmlDeviceGetPciInfo_v3",), ("nvmlDeviceGetPciInfo",))
    words: dict[str, str] = {}
    if pci is not None:
        words = dict(zip(("device_id", "vendor_id"), _halves(pci.pciDeviceId), strict=True))
        if pci.pciSubSystemId:
            words |= dict(zip(("subsystem_id", "subsystem_vendor_id"), _halves(pci.pciSubSystemId), strict=True))
    return Identity(
        uuid=uuid,
        address=_address(pci),
        name=asker.ask("nvmlDeviceGetName") or "",
        serial=usable(asker.ask("nvmlDeviceGetSerial") or ""),
        part_number=asker.ask("nvmlDeviceGetBoardPartNumber") or "",
        vbios=asker.ask("nvmlDeviceGetVbiosVersion") or "",
        **words,
    )


def _address(pci: Any) -> str:
    if pci is None:
        return ""
    text = pci.busId.decode("ascii", "replace") if isinstance(pci.busId, bytes) else str(pci.busId)
    try:
        return pci_address(text)
    except ValueError:
        return ""


def _halves(number: int) -> Iterator[str]:
    """Give the upper and the lower half of an id, 4 hexadecimal digits each."""
    yield f"{number >> 16 & 0xFFFF:04x}"
    yield f"{number & 0xFFFF:04x}"
