"""What pushers describe, kept over restarts: a device is there until it is withdrawn, or its pusher silent too long."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from collectors._durable import replace_file
from collectors.push.objects import DeviceWords
from collectors.push.refusal import CARDINALITY, NAME, RefusedError
from schemas.device import DeviceKind, Document, Part, Slot
from schemas.events import EventSpec
from schemas.rows import Event, Severity

MOST: Final = 64
"""Devices of one pusher."""
MOST_BYTES: Final = 2 << 20
"""Of all documents together."""
_FACTS: Final = ("pusher", "user")
DESCRIBED: Final = EventSpec(
    "push.device.described", "A program described a device anew, or otherwise than before.", (Severity.NOTICE,), _FACTS
)
WITHDRAWN: Final = EventSpec("push.device.withdrawn", "A program withdrew a device.", (Severity.NOTICE,), _FACTS)
EXPIRED: Final = EventSpec(
    "push.device.expired",
    "A device was withdrawn because its program was silent for longer than the `expires_seconds` that it gave.",
    (Severity.WARNING,),
    _FACTS,
)
EVENTS: Final = (DESCRIBED, WITHDRAWN, EXPIRED)


class _Kept(msgspec.Struct):
    pusher: str
    user: str
    document: Document
    size: int
    expires_ns: int | None = None
    """By the wall clock, so that it holds over a restart; None for never."""


_decoder: Final = msgspec.json.Decoder(list[_Kept])


class Devices:
    """Written by one thread; `documents` and `count` may be asked by others."""

    def __init__(self, file: Path, wall_ns: Callable[[], int], log: logging.Logger) -> None:
        self._file = file
        self._wall_ns = wall_ns
        self._log = log
        self._kept: dict[tuple[str, str], _Kept] = {}
        self._unsaved = False
        self._failing = False

    def load(self) -> None:
        """Take what the last run kept; a file that cannot be read is as none: pushers will say it again."""
        try:
            kept = _decoder.decode(self._file.read_bytes())
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            self._log.warning("the devices that were pushed before cannot be read: %s", error)
            return
        self._kept = {(one.pusher, one.document.device.rpartition("/")[2]): one for one in kept}

    def documents(self) -> list[Document]:
        """Give the documents of all devices there are."""
        return [one.document for one in list(self._kept.values())]

    def count(self, pusher: str) -> int:
        """Tell how many devices a pusher has."""
        return sum(name == pusher for name, _ in list(self._kept))

    def id_of(self, pusher: str, name: str, column: int = 1) -> str:
        """Give the id of a device that a pusher calls by its own name. Raises RefusedError when it has none such."""
        kept = self._kept.get((pusher, name))
        if kept is None:
            raise RefusedError(NAME, f"{pusher} has described no device {name[:80]!r}: push its document first", column)
        return kept.document.device

    def describe(self, pusher: str, user: str, words: DeviceWords) -> Event | None:
        """Keep a device; give the event that tells it when that is news. Raises RefusedError for one too many."""
        document = _document(pusher, words)
        before = self._kept.get((pusher, words.id))
        size = len(msgspec.json.encode(document))
        others = sum(one.size for one in self._kept.values()) - (before.size if before else 0)
        if before is None and self.count(pusher) >= MOST:
            raise RefusedError(CARDINALITY, f"{pusher} has {MOST} devices already: withdraw one")
        if others + size > MOST_BYTES:
            raise RefusedError(CARDINALITY, f"the documents of all devices take {MOST_BYTES} bytes already")
        seconds = words.expires_seconds
        expires = None if seconds is None else self._wall_ns() + int(seconds * 1e9)
        self._kept[pusher, words.id] = _Kept(pusher, user, document, size, expires)
        self._unsaved = True
        if before is not None and before.document == document:
            return None
        return _event(DESCRIBED, self._kept[pusher, words.id], "is" if before is None else "is now", Severity.NOTICE)

    def withdraw(self, pusher: str, name: str) -> Event:
        """Let a device go; give the event that tells it. Raises RefusedError when the pusher has none such."""
        self.id_of(pusher, name)
        self._unsaved = True
        return _event(WITHDRAWN, self._kept.pop((pusher, name)), "was withdrawn", Severity.NOTICE)

    def expire(self) -> list[Event]:
        """Let those go whose time is over; give the events that tell it."""
        now = self._wall_ns()
        over = [key for key, one in self._kept.items() if one.expires_ns is not None and one.expires_ns <= now]
        self._unsaved = self._unsaved or bool(over)
        return [_event(EXPIRED, self._kept.pop(key), "was withdrawn: no word for too long", Severity.WARNING)
                for key in over]  # fmt: skip

    def save(self) -> bool:
        """Have what changed since the last call on disk; tell whether it is."""
        if not self._unsaved:
            return True
        try:
            replace_file(self._file, msgspec.json.encode(list(self._kept.values())), mode=0o644)
        except OSError as error:
            if not self._failing:
                self._log.error("the devices that were pushed cannot be kept, trying again: %s", error)
            self._failing = True
            return False
        self._unsaved = self._failing = False
        return True


def _document(pusher: str, words: DeviceWords) -> Document:
    part = words.part
    return Document(
        device=f"{words.kind}:{pusher}/{words.id}",
        kind=DeviceKind(words.kind),
        merge_keys=[f"push:{pusher}/{words.id}"],
        slot=Slot(location=words.location),
        part=Part(
            vendor=part.vendor,
            model=part.model,
            part_number=part.part_number,
            serial=part.serial,
            revision=part.revision,
            firmware=part.firmware,
        ),
        capabilities=dict(words.capabilities),
    )


def _event(spec: EventSpec, kept: _Kept, word: str, severity: Severity) -> Event:
    device = kept.document.device
    text = f"{device} {word}" + (f" described by {kept.pusher}" if spec is DESCRIBED else "")
    return Event(spec.type, text, severity, device, {"pusher": kept.pusher, "user": kept.user})
