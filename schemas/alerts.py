"""What travels in the topic `alert`: transitions of alerts, each with the taint that it puts on a device, or takes off.

A record is a msgpack array that begins with its version. (fingerprint, transition) is its identity: an alert is one
fingerprint, and its transitions are numbered from 1. Readers drop what they have seen.
"""

from typing import Final

import msgspec

from schemas.errors import MalformedError, UnknownVersionError

ALERT_VERSION: Final = 1


class AlertTransition(msgspec.Struct, array_like=True, frozen=True):
    """An alert that begins, changes or ends."""

    fingerprint: str
    """Of rule, subject and labels: the same whenever this alert comes again."""
    transition: int
    """Counts this alert's transitions, from 1; never used twice."""
    at_ns: int
    firing: bool
    """False: it is over."""
    rule: str
    severity: str
    subject: str
    """The node, as rows name it."""
    device: str = ""
    """The device, as rows or the ledger name it; "" when it is about the node."""
    summary: str = ""
    """For people: what was seen."""
    taint: str = ""
    """The effect while it is firing, `NoSchedule` or `Drain`; "" when the rule taints nothing.

    The taint is this alert's own: two alerts of one rule on one device are two taints, and each ends with its alert.
    """
    taint_seconds: float | None = None
    """How long the taint lasts when nobody takes it off; None: for ever."""


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(tuple[int, msgspec.Raw])
_transition: Final = msgspec.msgpack.Decoder(AlertTransition)


def encode_alert(alert: AlertTransition) -> bytes:
    """Give the record."""
    return _encoder.encode((ALERT_VERSION, alert))


def decode_alert(record: bytes) -> AlertTransition:
    """Read a record. Raises UnknownVersionError, or MalformedError."""
    try:
        version, body = _decoder.decode(record)
        if version != ALERT_VERSION:
            raise UnknownVersionError(version, (ALERT_VERSION,))
        return _transition.decode(body)
    except msgspec.DecodeError as error:
        raise MalformedError(f"not an alert's transition: {error}") from None
