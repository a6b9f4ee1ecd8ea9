"""The machine behind a BMC: its power, how far it has started, and logs that grow."""

import heapq
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from tests.fakes.redfish.events import now
from tests.fakes.redfish.message import Answer, Request, refusal
from tests.fakes.redfish.tree import ROOT, Resource, normal

if TYPE_CHECKING:
    from tests.fakes.redfish.bmc import Bmc

BOOT: Final = (
    "None",
    "PrimaryProcessorInitializationStarted",
    "MemoryInitializationStarted",
    "PCIResourceConfigStarted",
    "SystemHardwareInitializationComplete",
    "OSBootStarted",
    "OSRunning",
)
"""How a start goes on. Source: DSP0268, ComputerSystem, BootProgress.LastState."""
_RESET: Final = "ComputerSystem.Reset"
_OFF: Final = {"ForceOff", "GracefulShutdown"}
_AGAIN: Final = {"ForceRestart", "GracefulRestart", "PowerCycle", "FullPowerCycle"}


class Machine:
    """What happens to one machine, at once or as its BMC's clock goes on."""

    def __init__(self, bmc: "Bmc") -> None:
        self._bmc = bmc
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.boot_seconds = 0.0
        """What each step of a start takes."""
        self.acts: list[tuple[str, Resource]] = []
        """The actions that were asked for: path and body."""

    def later(self, seconds: float, change: Callable[[], None]) -> None:
        """Let something happen in a while; it is seen by the next request, or by `advance`."""
        heapq.heappush(self._due, (self._bmc.clock() + seconds, next(self._order), change))

    def advance(self) -> None:
        """Let happen what is due."""
        with self._bmc.lock:
            while self._due and self._due[0][0] <= self._bmc.clock():
                heapq.heappop(self._due)[2]()

    # ------------------------------------------------------------------------------------------ power

    def systems(self) -> list[str]:
        """Give the paths of the systems."""
        return [one["@odata.id"] for one in (self._bmc.resource(f"{ROOT}/Systems") or {}).get("Members", [])]

    def power(self, state: str, system: str | None = None) -> None:
        """Set the power state of a system (the first), and tell it."""
        path = system or self.systems()[0]
        self._bmc.change(path, PowerState=state)
        self._bmc.events.emit("ResourceEvent.1.0.ResourceChanged", f"The power state is {state}.", origin=path)

    def boot(self, state: str, system: str | None = None) -> None:
        """Set how far a system (the first) has started, and tell it."""
        path = system or self.systems()[0]
        told = (self._bmc.resource(path) or {}).get("BootProgress") or {}
        self._bmc.change(path, BootProgress={**told, "LastState": state, "LastStateTime": now()})
        self._bmc.events.emit("ResourceEvent.1.0.ResourceChanged", f"The start has reached {state}.", origin=path)

    def _turn_on(self, path: str, after: float) -> None:
        self.later(after, lambda: self.power("On", path))
        for step, state in enumerate(BOOT):
            self.later(after + step * self.boot_seconds, lambda state=state: self.boot(state, path))  # type: ignore[misc]

    def _turn_off(self, path: str, after: float) -> None:
        self.later(after, lambda: self.power("Off", path))
        self.later(after, lambda: self.boot("None", path))

    def _reset(self, path: str, kind: str) -> Answer:
        if kind in _OFF | _AGAIN:
            self._turn_off(path, self.boot_seconds)
        if kind in {"On", "ForceOn"} | _AGAIN:
            self._turn_on(path, self.boot_seconds * (2 if kind in _AGAIN else 1))
        elif kind not in _OFF:
            return refusal(400, f"ResetType {kind} is unknown.", "Base.1.8.ActionParameterNotSupported")
        self.advance()
        return Answer(204)

    # ------------------------------------------------------------------------------------------ logs

    def log(self, entries: str, message: str = "Something happened.", **values: Any) -> Resource:
        """Add an entry to the collection of entries of a log, in the form of its others, and give it."""
        with self._bmc.lock:
            collection = self._bmc.resource(entries) or {"@odata.id": entries, "Members": []}
            members = collection["Members"]
            number = str(1 + max((self._number(one) for one in members), default=0))
            path = f"{normal(entries)}/{number}"
            entry: Resource = {
                "@odata.id": path,
                "@odata.type": "#LogEntry.v1_9_0.LogEntry",
                "Id": number,
                "Name": f"Log Entry {number}",
                "Created": now(),
                "EntryType": "Event",
                "Severity": "Warning",
                "Message": message,
                **values,
            }
            self._bmc.put(path, entry)
            # an expanded collection holds its entries, others refer to them
            whole = bool(members) and "Message" in members[0]
            members = [*members, entry if whole else {"@odata.id": path}]
            count = max(len(members), 1 + int(collection.get("Members@odata.count", 0)))
            self._bmc.put(entries, {**collection, "Members": members, "Members@odata.count": count})
            return entry

    def clear(self, entries: str) -> None:
        """Let all entries of a log vanish."""
        with self._bmc.lock:
            for one in (self._bmc.resource(entries) or {}).get("Members", []):
                self._bmc.remove(one["@odata.id"])
            collection = {**(self._bmc.resource(entries) or {}), "Members": [], "Members@odata.count": 0}
            collection.pop("Members@odata.nextLink", None)
            self._bmc.put(entries, collection)

    @staticmethod
    def _number(member: Resource) -> int:
        last = str(member.get("@odata.id", "")).rpartition("/")[2]
        return int(last) if last.isdecimal() else 0

    # ------------------------------------------------------------------------------------------ actions

    def act(self, request: Request) -> Answer:
        """Do what a POST asks for."""
        target, _, action = request.path.partition("/Actions/")
        body = request.decoded()
        self.acts.append((request.path, body))
        if action == _RESET and self._bmc.raw(target) is not None:
            return self._reset(target, str(body.get("ResetType", "")))
        if action == "LogService.ClearLog" and self._bmc.raw(target) is not None:
            entries = (self._bmc.resource(target) or {}).get("Entries", {}).get("@odata.id", f"{target}/Entries")
            self.clear(entries)
            return Answer(204)
        if action == "Manager.Reset":
            self._bmc.sessions.expire()
            self._bmc.events.cut()
            return Answer(204)
        return refusal(404, f"There is no action {request.path}.", "Base.1.8.ActionNotSupported")
