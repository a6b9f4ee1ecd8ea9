"""Whether the machine is powered, how far it has booted, when it and its BMC were reset: told as it changes (R001-16).

What was seen last is kept as a position, so that a change while nobody looked is told by the next look. That the
machine is off goes with its proof, as the ledger takes it: nothing of it is in use then.

Source: Redfish ComputerSystem 1.22 (PowerState, BootProgress, LastResetTime), Manager 1.19 (LastResetTime).
"""

import time
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from collectors._dmi import usable, usable_uuid
from collectors._values import plain
from collectors.redfish.alerts import time_ns
from collectors.redfish.resource import Resource, member, text
from schemas.device import Value
from schemas.events import EventSpec
from schemas.evidence import PowerReadback
from schemas.rows import Event, FieldValue, Item, Position, Severity

BOOT_SECONDS: Final = 900.0
"""A machine that is on and says how it boots has its operating system running by then."""
_STATES: Final = {
    "on": "On",
    "off": "Off",
    "poweringon": "PoweringOn",
    "poweringoff": "PoweringOff",
    "paused": "Paused",
}
"""As Redfish writes them, whatever a BMC makes of the case."""
_RUNNING: Final = frozenset({"osrunning", "osisrunning"})
_UNSTEADY_NS: Final = 30_000_000_000
"""Some BMCs reckon the time of a reset anew each time they are asked, from a clock that is put right now and then."""
_CLOCK_SET_NS: Final = 1_262_304_000_000_000_000
"""2010: what a BMC says happened earlier, its clock did not know."""

POWER_EVENTS: Final = (
    EventSpec(
        "redfish.power",
        "The machine's power was switched. `evidence` proves that it is off, for `muster nodes fence`.",
        (Severity.WARNING, Severity.NOTICE),
        ("power_state", "power_state_before", "system_uuid", "evidence"),
    ),
    EventSpec(
        "redfish.boot",
        "The machine boots: how far it has come.",
        (Severity.NOTICE,),
        ("boot_progress", "boot_progress_before"),
    ),
    EventSpec(
        "redfish.boot.stuck",
        "The machine is on, and its operating system still does not run.",
        (Severity.ERROR,),
        ("boot_progress", "seconds"),
    ),
    EventSpec(
        "redfish.machine_reset",
        "The machine was reset; the cause as far as the BMC shows it: `host-reset`, `host-power-cycle`.",
        (Severity.WARNING,),
        ("reset_cause", "reset_time_ns"),
    ),
    EventSpec("redfish.bmc.reset", "The BMC itself was reset, or crashed.", (Severity.WARNING,), ("reset_time_ns",)),
)


class Powered(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was seen at one look; what the BMC does not say is "" or None."""

    state: str = ""
    """`On`, `Off`, `PoweringOn`, `PoweringOff`, `Paused`."""
    boot: str = ""
    """BootProgress.LastState, or what stands for it where that is `OEM`."""
    reset_ns: int | None = None
    bmc_reset_ns: int | None = None
    off_seen: bool = False
    """Whether the machine was seen off since its last reset."""
    reset_cause: str = ""


def powered(system: Resource, manager: Resource) -> Powered:
    """Read what two resources say."""
    progress = member(system, "BootProgress")
    boot = text(progress, "LastState")
    if boot.lower() == "oem":
        boot = text(progress, "OemLastState") or boot
    if boot.lower() == "none":
        boot = ""
    return Powered(
        _STATES.get(text(system, "PowerState").lower(), ""),
        plain(usable(boot)[:64]),
        _set_time(text(system, "LastResetTime")),
        _set_time(text(manager, "LastResetTime")),
    )


def _set_time(written: str) -> int | None:
    found = time_ns(written)
    return found if found is not None and found >= _CLOCK_SET_NS else None


class PowerWatch:
    """Compares looks at one machine. For one thread at a time."""

    def __init__(
        self,
        label: str,
        board: str,
        subject: str = "",
        position: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Go on from what was seen last. `board`: the BMC's id. `clock`: monotonic seconds."""
        self._label = label
        self._board = board
        self._subject = subject
        self._clock = clock
        self._seen: Powered | None = None
        if position:
            try:
                self._seen = msgspec.json.decode(position, type=Powered)
            except msgspec.MsgspecError:
                self._seen = None
        self._booting_since: float | None = None
        self._stuck_told = False

    @property
    def words(self) -> dict[str, Value]:
        """What of it stands in the BMC's document."""
        seen = self._seen or Powered()
        told = {"power_state": seen.state.lower(), "boot_progress": seen.boot, "reset_cause": seen.reset_cause}
        return {name: value for name, value in told.items() if value}

    def look(self, system: Resource, manager: Resource, read_ns: int) -> Iterator[Item]:
        """Yield what changed, and where it was seen. `read_ns`: when the BMC was asked, by our clock."""
        before, found = self._seen, powered(system, manager)
        if before is None:
            now = msgspec.structs.replace(found, off_seen=found.state == "Off")
        else:
            now = _joined(before, found)
            yield from self._power(before, now, usable_uuid(text(system, "UUID")), read_ns)
            yield from self._resets(before, now)
            yield from self._boot(before, now)
        yield from self._stuck(now)
        self._seen = now
        if now != before:
            yield Position(f"{self._label} power", msgspec.json.encode(now).decode())

    def _power(self, before: Powered, now: Powered, uuid: str, read_ns: int) -> Iterator[Event]:
        if now.state == before.state or not now.state:
            return
        detail: dict[str, FieldValue] = {"power_state": now.state.lower()}
        if before.state:
            detail["power_state_before"] = before.state.lower()
        if uuid:
            detail["system_uuid"] = uuid
        if now.state == "Off" and uuid:
            detail["evidence"] = msgspec.json.encode(PowerReadback(uuid, now.state, read_ns)).decode()
        severity = Severity.WARNING if now.state == "Off" else Severity.NOTICE
        yield self._event("redfish.power", f"the machine is {_WORDS.get(now.state, now.state)}", severity, detail)

    def _resets(self, before: Powered, now: Powered) -> Iterator[Event]:
        if _later(before.reset_ns, now.reset_ns):
            how = "its power was cycled" if now.reset_cause == "host-power-cycle" else "without its power going off"
            detail: dict[str, FieldValue] = {"reset_cause": now.reset_cause, "reset_time_ns": now.reset_ns}
            message = f"the machine was reset, {how}"
            yield self._event("redfish.machine_reset", message, Severity.WARNING, detail, now.reset_ns)
        if _later(before.bmc_reset_ns, now.bmc_reset_ns):
            yield self._event("redfish.bmc.reset", "the BMC was reset", Severity.WARNING,
                              {"reset_time_ns": now.bmc_reset_ns}, now.bmc_reset_ns)  # fmt: skip

    def _boot(self, before: Powered, now: Powered) -> Iterator[Event]:
        if now.boot == before.boot or not now.boot:
            return
        detail: dict[str, FieldValue] = {"boot_progress": now.boot}
        if before.boot:
            detail["boot_progress_before"] = before.boot
        yield self._event("redfish.boot", f"the machine has booted as far as {now.boot}", Severity.NOTICE, detail)

    def _stuck(self, now: Powered) -> Iterator[Event]:
        if now.state != "On" or not now.boot or now.boot.lower() in _RUNNING:
            self._booting_since, self._stuck_told = None, False
            return
        if self._booting_since is None:
            self._booting_since = self._clock()
        seconds = self._clock() - self._booting_since
        if seconds >= BOOT_SECONDS and not self._stuck_told:
            self._stuck_told = True
            message = f"the machine is on and has not come beyond {now.boot} for {seconds:.0f} s"
            detail: dict[str, FieldValue] = {"boot_progress": now.boot, "seconds": round(seconds)}
            yield self._event("redfish.boot.stuck", message, Severity.ERROR, detail)

    def _event(
        self, kind: str, message: str, severity: Severity, detail: dict[str, FieldValue], at_ns: int | None = None
    ) -> Event:
        return Event(kind, message, severity, self._board, detail, at_ns, self._subject)


_WORDS: Final = {
    "On": "on",
    "Off": "off",
    "PoweringOn": "powering on",
    "PoweringOff": "powering off",
    "Paused": "paused",
}


def _joined(before: Powered, found: Powered) -> Powered:
    """Give what is known after a look: what it does not say stays as it was."""
    off_seen = before.off_seen or found.state == "Off"
    cause = before.reset_cause
    if _later(before.reset_ns, found.reset_ns):
        cause = "host-power-cycle" if off_seen else "host-reset"
        off_seen = found.state == "Off"
    return Powered(
        found.state or before.state,
        found.boot if found.boot or found.state == "Off" else before.boot,
        found.reset_ns if found.reset_ns is not None else before.reset_ns,
        found.bmc_reset_ns if found.bmc_reset_ns is not None else before.bmc_reset_ns,
        off_seen,
        cause,
    )


def _later(before: int | None, now: int | None) -> bool:
    return before is not None and now is not None and now > before + _UNSTEADY_NS
