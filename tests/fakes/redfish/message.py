"""What is asked and what is answered, before and after it is bytes."""

import dataclasses
from typing import Any
from urllib.parse import unquote

import msgspec

from tests.fakes.redfish.faults import Fault
from tests.fakes.redfish.tree import encode, normal


@dataclasses.dataclass(frozen=True)
class Request:
    """One request."""

    method: str
    target: str
    """As it was sent, with its query."""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    """By their names in small letters."""
    body: bytes = b""
    faults: tuple[Fault, ...] = ()
    """What goes wrong with its answer."""

    @property
    def path(self) -> str:
        """The path, without query and without a slash at its end."""
        return normal(self.target.partition("#")[0].partition("?")[0])

    @property
    def query(self) -> dict[str, str]:
        """What follows the question mark, decoded. A plus sign stays one, since times have it."""
        pairs = (pair.partition("=") for pair in self.target.partition("?")[2].split("&") if pair)
        return {unquote(key): unquote(value) for key, _, value in pairs}

    def decoded(self) -> dict[str, Any]:
        """Give the body as an object, empty when it is none."""
        try:
            told = msgspec.json.decode(self.body)
        except msgspec.DecodeError:
            return {}
        return told if isinstance(told, dict) else {}


@dataclasses.dataclass
class Answer:
    """One answer."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    stream: bool = False
    """The body has no end: events follow for as long as the connection lasts."""


def answer(resource: object, status: int = 200, **headers: str) -> Answer:
    """Answer with a resource; an underscore in a header's name stands for a hyphen."""
    return Answer(status, encode(resource), {key.replace("_", "-"): value for key, value in headers.items()})


def refusal(status: int, message: str, identifier: str = "Base.1.8.GeneralError", **headers: str) -> Answer:
    """Answer with an error as DSP0266 9.9 has it."""
    told = {"@odata.type": "#Message.v1_1_1.Message", "MessageId": identifier, "Message": message, "MessageArgs": []}
    error = {"code": identifier, "message": message, "@Message.ExtendedInfo": [told]}
    return answer({"error": error}, status, **headers)
