"""What changed on the PCI bus between two looks, as events. Whoever looks first tells; nobody tells twice."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from collectors._procfs import names
from collectors.pci_documents import device_id
from collectors.pci_sysfs import DEVICES, Function, UnreadableError, answers, read_function
from collectors.pci_use import VfioUse, users, vfio_use
from schemas.device import Document
from schemas.rows import Event, FieldValue, Severity


class Glance(msgspec.Struct, frozen=True):
    """What of a function is compared."""

    function: Function
    answers: bool | None
    users: tuple[str, ...] | None
    """Who holds it through vfio; None when that cannot be told."""


class Changes:
    """Keeps the last look. The first one is where changes are counted from."""

    def __init__(self, root: Path, last_document: Callable[[str], Document | None]) -> None:
        """Prepare. `last_document(address)`: what was last published of a function, for the event that it is gone."""
        self._root = root
        self._last_document = last_document
        self._lock = threading.Lock()
        self._seen: dict[str, Glance] | None = None

    def forget(self) -> None:
        """Let the next look be the first."""
        with self._lock:
            self._seen = None

    def look(self, *, deep: bool = True) -> list[Event]:
        """Look at the bus and give what changed. `deep`: also ask each function whether it still answers.

        A function that cannot be read counts as it was.
        """
        with self._lock:
            before = self._seen
            after = self._glances(before or {}, deep=deep)
            self._seen = after
        return [] if before is None else list(self._compared(before, after))

    def _glances(self, before: dict[str, Glance], *, deep: bool) -> dict[str, Glance]:
        use = vfio_use(self._root)
        found = {}
        for address in names(self._root / DEVICES):
            last = before.get(address)
            try:
                function = read_function(self._root, address)
            except UnreadableError:
                if last is not None:
                    found[address] = last
                continue
            if function is not None:
                found[address] = self._glance(function, last, use, deep=deep)
        return found

    def _glance(self, function: Function, last: Glance | None, use: VfioUse, *, deep: bool) -> Glance:
        return Glance(
            function,
            answers(self._root, function.address) if deep else last.answers if last else None,
            vfio_users(self._root, function, use),
        )

    def _compared(self, before: dict[str, Glance], after: dict[str, Glance]) -> Iterator[Event]:
        for address, last in before.items():
            now = after.get(address)
            if now is None or not _same(last.function, now.function):
                yield self._removed(last.function)
        for address, now in after.items():
            last_one = before.get(address)
            if last_one is None or not _same(last_one.function, now.function):
                yield _added(now.function)
            else:
                yield from _changed(last_one, now)

    def _removed(self, function: Function) -> Event:
        detail = _facts(function)
        words = _words(function)
        document = self._last_document(function.address)
        if document is not None:
            detail |= {"kind": document.kind.value, "serial": document.part.serial, "location": document.slot.location}
            detail |= {"path": document.slot.path}
            words = f"{document.part.vendor} {document.part.model} {words}"
        return Event(
            "device.removed",
            f"{function.address} is gone: {words}",
            Severity.WARNING,
            device_id(function.address),
            {name: value for name, value in detail.items() if value != ""},
        )


def vfio_users(root: Path, function: Function, use: VfioUse) -> tuple[str, ...] | None:
    """Give who holds the function through vfio; None when that cannot be told, or it is not bound to vfio."""
    if not function.driver.startswith("vfio"):
        return None
    return users(use, function.iommu_group, names(root / DEVICES / function.address / "vfio-dev"))


def _same(before: Function, after: Function) -> bool:
    """Whether it is one device: a folder made anew is a device made anew, whatever its address and model."""
    return (before.inode, before.vendor, before.device) == (after.inode, after.vendor, after.device)


def _added(function: Function) -> Event:
    return Event(
        "device.added",
        f"{function.address} was added: {_words(function)}",
        Severity.NOTICE,
        device_id(function.address),
        _facts(function),
    )


def _changed(before: Glance, after: Glance) -> Iterator[Event]:
    function = after.function
    device = device_id(function.address)
    if before.answers is not False and after.answers is False:
        message = f"{function.address} no longer answers on its bus: {_words(function)}"
        yield Event("device.lost", message, Severity.ERROR, device, _facts(function))
    elif before.answers is False and after.answers:
        message = f"{function.address} answers on its bus again: {_words(function)}"
        yield Event("device.found", message, Severity.NOTICE, device, _facts(function))
    pairs: tuple[tuple[str, FieldValue, FieldValue], ...] = (
        ("driver", before.function.driver, function.driver),
        ("sriov_vfs", before.function.vfs, function.vfs),
        ("in_use_by", _joined(before.users), _joined(after.users)),
    )
    for word, one, two in pairs:
        if one != two and None not in (one, two):
            detail = {"address": function.address, "what": word, "before": str(one), "after": str(two)}
            message = f"{function.address} {word}: {one or 'none'} is now {two or 'none'}"
            yield Event("device.changed", message, Severity.NOTICE, device, detail)


def _joined(users_of: tuple[str, ...] | None) -> str | None:
    return None if users_of is None else ", ".join(users_of)


def _words(function: Function) -> str:
    return f"{function.vendor}:{function.device}, class {function.pci_class}, driver {function.driver or 'none'}"


def _facts(function: Function) -> dict[str, FieldValue]:
    return {
        "address": function.address,
        "path": function.path,
        "pci_vendor_id": function.vendor,
        "pci_device_id": function.device,
        "pci_class": function.pci_class,
        "driver": function.driver,
    }
