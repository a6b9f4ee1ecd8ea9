"""`python -m collectors.claims.runner`: does one step for one device in a process of its own, and says what it saw.

The order comes on standard input, which stays open: when it closes, the agent is gone, and so is the hook. The report
goes to standard output. Whatever hangs or crashes in here takes nobody along.
"""

import os
import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from collectors._lending import lent
from collectors.claims.hooks import run_hook
from collectors.claims.order import Order, environment, wrong_with
from collectors.claims.proof import evidence_of, note
from collectors.claims.readback import Reading, keeps_for_others, read_device
from collectors.pci_use import host_needs
from schemas.claims import DeviceReport, Step
from schemas.device import DeviceKind
from schemas.evidence import encode_readback

_LOOKS: Final = 4
_LOOK_SECONDS: Final = 0.25
_ATTENDANTS: Final = ("nvidia-persiste", "nv-hostengine")
"""Programs that keep a GPU open for its driver's sake, and use none of it. Source: docs.nvidia.com, "Driver
Persistence" and "DCGM"; proc(5), comm: 15 characters.
"""


def main() -> int:
    """Do what standard input asks for. Returns the exit status."""
    size = int.from_bytes(_read(4), "big")
    order = msgspec.msgpack.decode(_read(size), type=Order)
    report = perform(order, lifeline=0)
    data = msgspec.msgpack.encode(report)
    os.write(1, len(data).to_bytes(4, "big") + data)
    return 0


def _read(size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = os.read(0, size - len(data))
        if not more:
            raise SystemExit(1)
        data += more
    return data


def perform(order: Order, *, lifeline: int = -1) -> DeviceReport:
    """Do one step for one device: its hook, then what the device itself shows."""
    wrong = wrong_with(order)
    if wrong:
        return _failed(order, wrong)
    with lent(order.lender if order.device.kind == DeviceKind.GPU.value else "") as refused:
        return _failed(order, refused) if refused else _perform(order, lifeline)


def _perform(order: Order, lifeline: int) -> DeviceReport:
    root = Path(order.root)
    noted: object = None
    taken = _taken(root, order) if order.step is Step.PREPARE and not order.again else ""
    if taken:
        return _failed(order, f"{taken}: nothing was done", read_device(root, order.device))
    if order.step is Step.CLEAN:
        before = read_device(root, order.device)
        if before.in_use:
            return _failed(order, f"it is in use by {', '.join(before.users)}: nothing was done", before)
        noted = note(root, order)
    if order.hook is not None:
        outcome = run_hook(order.hook, environment(order), order.output_bytes, lifeline=lifeline)
        if outcome.problem:
            return _failed(order, f"hook {order.name}: {outcome.problem}")
    if order.step is Step.CLEAN:
        reading, document = evidence_of(root, order, before=noted)
        if reading.problem:
            return _failed(order, reading.problem)
        return _report(order, reading, evidence=encode_readback(document))
    reading = read_device(root, order.device)
    problem = reading.problem or (_not_ready if order.step is Step.PREPARE else _not_left)(order, reading)
    return _failed(order, problem, reading) if problem else _report(order, reading)


def _taken(root: Path, order: Order) -> str:
    """Say who has a device, or what the host needs of its group, before it is prepared for the first time; "" if free.

    Nobody was told yet that it is the claim's, so whoever has it has it by other ways.
    """
    device = order.device
    if not device.address or device.profile:
        return ""  # a partition is made on what others use
    before = read_device(root, device)
    passed = device.mode == "passthrough"
    needs = host_needs(root)
    for address in dict.fromkeys((device.address, *(before.members if passed else ()))):
        if needs.get(address):
            return f"the host needs {address}: {', '.join(needs[address])}"
    if order.beside:
        return ""  # the tenant may have their group open already
    users = _lasting_users(root, order)
    return f"it is in use by {', '.join(users)}" if users else ""


def _lasting_users(root: Path, order: Order) -> tuple[str, ...]:
    """Give who has a device open and keeps it so: who reads its state, as our own collectors do, closes it again."""
    users: tuple[str, ...] = ()
    for look in range(_LOOKS):
        found = [user for user in read_device(root, order.device).users if user.rpartition("/")[0] not in _ATTENDANTS]
        users = tuple(user for user in found if user in users or not look)
        if not users:
            break
        time.sleep(_LOOK_SECONDS)
    return users


def _not_ready(order: Order, reading: Reading) -> str:
    """Say why a device cannot be used by the claim as it is; "" when it can."""
    device = order.device
    if reading.part != device.part:
        return f"the part {reading.part} is there, not {device.part}"
    if device.group >= 0 and reading.group != device.group:
        return f"it is in IOMMU group {reading.group}, not {device.group}"
    if device.mode == "driver":
        return "" if not keeps_for_others(reading.driver) else f"no driver of the host has it ({reading.driver or '-'})"
    if reading.group < 0:
        return "it is in no IOMMU group: it cannot be passed through safely"
    held = {address: driver for address, driver in reading.members.items() if not keeps_for_others(driver)}
    if held:
        return "drivers of the host have " + ", ".join(f"{address} ({driver})" for address, driver in held.items())
    if reading.in_use and not (order.again or order.beside):
        return f"it is in use by {', '.join(reading.users)}"
    return ""


def _not_left(_order: Order, reading: Reading) -> str:
    """Say why a device may still be in use; "" when nothing uses it."""
    if reading.in_use is None:
        return "whether anything uses it cannot be told here"
    return f"it is in use by {', '.join(reading.users)}" if reading.in_use else ""


def _report(order: Order, reading: Reading, evidence: str = "") -> DeviceReport:
    return DeviceReport(
        order.device.device,
        done=True,
        part=reading.part,
        group=reading.group,
        driver=reading.driver,
        evidence=evidence,
    )


def _failed(order: Order, problem: str, reading: Reading | None = None) -> DeviceReport:
    reading = reading or Reading()
    return DeviceReport(
        order.device.device,
        done=False,
        problem=problem[:2000],
        part=reading.part,
        group=reading.group,
        driver=reading.driver,
    )


if __name__ == "__main__":
    sys.exit(main())
