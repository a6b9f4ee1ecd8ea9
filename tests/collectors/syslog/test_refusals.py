"""Who is turned away is told, and cannot fill the log by insisting."""

from typing import Any

import pytest

from collectors.syslog_certificates import names_of
from collectors.syslog_refusals import Refusals
from schemas.rows import Event, Severity

HOUR = 3600.0


def told(refusals: Refusals, now: float, peer: str = "10.0.0.1", reason: str = "it does not speak TLS") -> int | None:
    """Refuse once more, and give how often that was as an event says; None when nothing is told."""
    event = refusals.tell("tls::6514", peer, reason, now)
    return None if event is None else int(str(event.detail["times"]))


def test_event_says_who_was_turned_away_where_and_why() -> None:
    expected = Event(
        type="syslog.client.refused",
        message="tls::6514 turned 10.0.0.1 away: it does not speak TLS",
        severity=Severity.WARNING,
        detail={"listener": "tls::6514", "peer": "10.0.0.1", "reason": "it does not speak TLS", "times": 1},
    )
    assert expected == Refusals().tell("tls::6514", "10.0.0.1", "it does not speak TLS", 0.0)


def test_same_is_told_again_after_an_hour_with_how_often_it_was() -> None:
    refusals = Refusals()
    assert [1, None, None, 3, None] == [told(refusals, now) for now in (0.0, 1.0, HOUR - 1, HOUR, HOUR + 1)]


def test_other_peer_and_other_reason_are_told_by_themselves() -> None:
    refusals = Refusals()
    assert [1, 1, 1, None] == [
        told(refusals, 0.0),
        told(refusals, 0.0, peer="10.0.0.2"),
        told(refusals, 0.0, reason="it showed no certificate"),
        told(refusals, 0.0),
    ]


def test_flood_from_many_addresses_tells_so_many_an_hour_and_no_more() -> None:
    refusals = Refusals()
    events = [told(refusals, 0.0, peer=f"10.0.{number >> 8}.{number & 255}") for number in range(1000)]
    assert 64 == sum(event is not None for event in events)
    assert 64 >= len(refusals._told)
    assert 1 == told(refusals, HOUR, peer="10.9.9.9")


@pytest.mark.parametrize(
    ("certificate", "names"),
    [
        ({"subjectAltName": (("DNS", "a.b"), ("DNS", "c.d")), "subject": ((("commonName", "e"),),)}, ["a.b", "c.d"]),
        ({"subject": ((("countryName", "CH"),), (("commonName", "e"),))}, ["e"]),
        ({"subjectAltName": (("IP Address", "10.0.0.1"),), "subject": ((("commonName", "e"),),)}, ["10.0.0.1", "e"]),
        ({"subjectAltName": (("IP Address", "10.0.0.1"), ("DNS", "a.b"))}, ["a.b", "10.0.0.1"]),
        ({"subjectAltName": (("DirName", "x"),)}, []),
        ({}, []),
    ],
)
def test_names_of_a_certificate_are_host_names_first_and_the_common_name_only_without(
    certificate: dict[str, Any], names: list[str]
) -> None:
    assert names == list(names_of(certificate))
