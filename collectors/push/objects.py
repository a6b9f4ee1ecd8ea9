"""Events and devices as JSON, one object a line: `{"event": {...}}`, `{"device": {...}}`, `{"withdraw": "id"}`."""

import math
import re
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from collectors.push.names import check_form
from collectors.push.refusal import NAME, SYNTAX, VALUE, RefusedError
from schemas.device import DeviceKind, Value

_ID: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")
_BYTE: Final = re.compile(r"\(byte (\d+)\)\Z")
_PLACE: Final = re.compile(r"(.*?)(?: - at `\$\.?(.*)`)?\Z", re.DOTALL)
_INT64: Final = 1 << 63
_UINT64: Final = 1 << 64

Short = Annotated[str, Meta(max_length=128)]
Text = Annotated[str, Meta(max_length=1024)]
KINDS: Final = (DeviceKind.SENSOR_HUB, DeviceKind.PSU, DeviceKind.FAN)
"""What may be pushed: nothing that claims are given, or that Muster reads by itself."""


class EventWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pushed event."""

    type: Annotated[str, Meta(max_length=200)]
    message: Annotated[str, Meta(min_length=1, max_length=4096)]
    severity: Literal["emergency", "alert", "critical", "error", "warning", "notice", "informational", "debug"] = (
        "notice"
    )
    detail: Annotated[dict[str, str | int | float | bool | None], Meta(max_length=64)] = {}
    device: str = ""
    """One that the pusher has described; "" for itself."""
    time_ns: Annotated[int, Meta(ge=0, le=_INT64 - 1)] | None = None


class PartWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a pushed device is."""

    vendor: Short = ""
    model: Short = ""
    part_number: Short = ""
    serial: Short = ""
    revision: Short = ""
    firmware: Short = ""


class DeviceWords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pushed device: all that is to be known of it, each time."""

    id: str
    kind: Literal["sensor-hub", "psu", "fan"] = "sensor-hub"
    part: PartWords = PartWords()
    location: Short = ""
    capabilities: Annotated[dict[str, bool | int | float | Text | list[Text]], Meta(max_length=64)] = {}
    expires_seconds: Annotated[float, Meta(ge=1, le=30 * 86400)] | None = None
    """After how long without another word it counts as withdrawn; None: never."""


class _Object(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    event: EventWords | None = None
    device: DeviceWords | None = None
    withdraw: str | None = None


_decoder: Final = msgspec.json.Decoder(_Object, strict=True)
Said = EventWords | DeviceWords | str


def parse_object(text: str) -> Said:
    """Read one line; a str is the id of a device that is withdrawn. Raises RefusedError with the place."""
    try:
        found = _decoder.decode(text)
    except msgspec.ValidationError as error:
        why, place = _PLACE.match(str(error)).groups()  # type: ignore[union-attr]  # it matches every text
        raise RefusedError(VALUE, f"{place or 'the object'}: {why}", _column(text, place)) from None
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        byte = _BYTE.search(str(error))
        at = len(text.encode("utf-8", "replace")[: int(byte[1])].decode("utf-8", "ignore")) if byte else 0
        raise RefusedError(SYNTAX, f"no JSON: {str(error)[:200]}", at + 1) from None
    said = [one for one in (found.event, found.device, found.withdraw) if one is not None]
    if len(said) != 1:
        raise RefusedError(SYNTAX, "an object is one of: an event, a device, a withdrawal")
    _check(said[0], text)
    return said[0]


def _check(said: Said, text: str) -> None:
    """Check what types do not say."""
    if isinstance(said, EventWords):
        for name, value in said.detail.items():
            check_form(name, "fact", _column(text, name))
            if not _fits(value):
                raise RefusedError(VALUE, f"event.detail.{name}: out of range", _column(text, name))
    else:
        id_ = said if isinstance(said, str) else said.id
        if not _ID.match(id_):
            raise RefusedError(
                NAME,
                f"{id_[:80]!r} is no id: small letters, digits and . _ -, 63 at most",
                _column(text, "id" if isinstance(said, DeviceWords) else "withdraw"),
            )
    if isinstance(said, DeviceWords):
        for name, capability in said.capabilities.items():
            check_form(name, "capability", _column(text, name))
            if not _fits(capability):
                raise RefusedError(VALUE, f"device.capabilities.{name}: out of range", _column(text, name))


def _fits(value: Value | None) -> bool:
    if isinstance(value, list):
        return len(value) <= 64 and all(_fits(one) for one in value)
    if isinstance(value, bool) or value is None:
        return True
    if isinstance(value, str):
        return len(value) <= 4096
    return -_INT64 <= value < _UINT64 if isinstance(value, int) else math.isfinite(value)


def _column(text: str, place: str | None) -> int:
    """Give where the last name of a path stands first in a line: a hint; 1 where it does not."""
    name = (place or "").replace("[...]", "").rpartition(".")[2].split("[")[0]
    return text.find(f'"{name}"') + 1 or 1 if name else 1
