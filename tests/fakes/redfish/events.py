"""What a BMC tells by itself: a stream of server-sent events, and posts to who has subscribed.

Source: DSP0266 1.20, 13.5 (eventing), 13.6 (server-sent events).
"""

import datetime
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from tests.fakes.redfish.message import Answer, Request, answer, refusal
from tests.fakes.redfish.tree import ROOT, Resource, encode

if TYPE_CHECKING:
    from tests.fakes.redfish.bmc import Bmc

SERVICE: Final = f"{ROOT}/EventService"
SUBSCRIPTIONS: Final = f"{SERVICE}/Subscriptions"
TEST: Final = f"{SERVICE}/Actions/EventService.SubmitTestEvent"

Write = Callable[[bytes | None], None]
"""Takes the bytes of an event, or None when the stream ends."""
Post = Callable[[str, dict[str, str], bytes], None]
"""Posts a body with headers to an address, some time."""


class Events:
    """The event service of one BMC."""

    def __init__(self, bmc: "Bmc") -> None:
        self._bmc = bmc
        self._numbers = itertools.count(1)
        self._streams: list[Write] = []
        self._subscriptions: dict[str, Resource] = {}
        self._waiting = 0
        self.post: Post | None = None
        """How events leave; set by the simulator."""
        self.delivered: list[tuple[str, int | None]] = []
        """Destination and status of each attempt to post; None: nobody answered."""

    @property
    def uri(self) -> str | None:
        """Where the stream is; None: there is none."""
        told: str | None = (self._bmc.resource(SERVICE) or {}).get("ServerSentEventUri")
        return told

    @property
    def streams(self) -> int:
        """How many listen to the stream."""
        return len(self._streams)

    @property
    def subscriptions(self) -> list[Resource]:
        """Who has subscribed."""
        return list(self._subscriptions.values())

    # ------------------------------------------------------------------------------------------ what is told

    def emit(
        self,
        message_id: str = "ResourceEvent.1.0.ResourceChanged",
        message: str = "One or more resource properties have changed.",
        severity: str = "OK",
        origin: str | None = None,
        **more: Any,
    ) -> Resource:
        """Tell an event to all that listen, and give it."""
        number = str(next(self._numbers))
        event: Resource = {
            "EventId": number,
            "EventType": "Alert",
            "EventTimestamp": now(),
            "MemberId": "0",
            "MessageId": message_id,
            "Message": message,
            "MessageArgs": [],
            "MessageSeverity": severity,
            "Severity": severity,
            **({"OriginOfCondition": {"@odata.id": origin}} if origin else {}),
            **more,
        }
        told = {"@odata.type": "#Event.v1_7_0.Event", "Id": number, "Name": "Event Array", "Events": [event]}
        self._tell(number, told)
        return event

    def report(self, path: str) -> None:
        """Tell a metric report as it is now to all that listen."""
        resource = self._bmc.resource(path)
        assert resource is not None, f"there is no report {path}"
        self._tell(str(next(self._numbers)), resource)

    def send(self, data: bytes) -> None:
        """Write bytes to all streams, whatever they are."""
        with self._bmc.lock:
            for write in list(self._streams):
                write(data)

    def cut(self) -> None:
        """End all streams."""
        with self._bmc.lock:
            for write in self._streams[:]:
                write(None)
            self._streams.clear()

    def _tell(self, number: str, told: Resource) -> None:
        self.send(f"id: {number}\ndata: ".encode() + encode(told) + b"\n\n")
        for one in self.subscriptions:
            if self.post is not None:
                headers = {key: value for pair in one.get("HttpHeaders", []) for key, value in pair.items()}
                self.post(one["Destination"], headers, encode({**told, "Context": one.get("Context")}))

    # ------------------------------------------------------------------------------------------ who listens

    def listen(self, write: Write) -> Callable[[], None]:
        """Let a connection hear the stream that its answer began; give what ends it."""
        with self._bmc.lock:
            self._waiting = max(0, self._waiting - 1)
            self._streams.append(write)

        def leave() -> None:
            with self._bmc.lock:
                if write in self._streams:
                    self._streams.remove(write)

        return leave

    def answer(self, request: Request) -> Answer | None:
        """Answer what concerns this service; None: the request does not."""
        if request.method == "GET" and self.uri is not None and request.path == self.uri.partition("?")[0]:
            return self._stream()
        if request.path == TEST and request.method == "POST":
            told = request.decoded()
            self.emit(told.get("MessageId", "Base.1.8.Success"), told.get("Message", "This is a test."))
            return Answer(204)
        if request.path == SUBSCRIPTIONS or request.path.startswith(SUBSCRIPTIONS + "/"):
            return self._subscription(request, request.path.removeprefix(SUBSCRIPTIONS).strip("/"))
        return None

    def _stream(self) -> Answer:
        if not (self._bmc.resource(SERVICE) or {}).get("ServiceEnabled", True):
            return refusal(503, "The event service is disabled.", "Base.1.8.ServiceDisabled")
        if len(self._streams) + self._waiting >= self._bmc.options.stream_limit:
            return refusal(503, "Too many streams.", "Base.1.8.EventSubscriptionLimitExceeded", Retry_After="30")
        self._waiting += 1
        return Answer(200, b": welcome\n\n", {"Content-Type": "text/event-stream"}, stream=True)

    def _subscription(self, request: Request, number: str) -> Answer | None:
        if number and number in self._subscriptions:
            if request.method == "DELETE":
                del self._subscriptions[number]
                return Answer(204)
            return answer(self._subscriptions[number])
        if request.method == "POST" and not number:
            return self._subscribe(request.decoded())
        if request.method == "GET" and not number:
            recorded = (self._bmc.resource(SUBSCRIPTIONS) or {"Members": []})["Members"]
            members = [*recorded, *({"@odata.id": one["@odata.id"]} for one in self.subscriptions)]
            return answer({"@odata.id": SUBSCRIPTIONS, "Members": members, "Members@odata.count": len(members)})
        if request.method == "DELETE" and self._bmc.raw(request.path) is not None:
            self._bmc.remove(request.path)
            return Answer(204)
        return None

    def _subscribe(self, told: Resource) -> Answer:
        if (
            not str(told.get("Destination", "")).startswith(("http://", "https://"))
            or told.get("Protocol") != "Redfish"
        ):
            return refusal(400, "Destination and Protocol are needed.", "Base.1.8.PropertyMissing")
        if len(self._subscriptions) >= self._bmc.options.subscription_limit:
            return refusal(503, "Too many subscriptions.", "Base.1.8.EventSubscriptionLimitExceeded")
        number = str(next(self._numbers))
        path = f"{SUBSCRIPTIONS}/{number}"
        self._subscriptions[number] = {
            "@odata.id": path, "@odata.type": "#EventDestination.v1_13_0.EventDestination", "Id": number, **told
        }  # fmt: skip
        return answer(self._subscriptions[number], 201, Location=path)


def now() -> str:
    """Give the time as Redfish writes it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
