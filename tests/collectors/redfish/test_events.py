"""Alerts of a BMC become typed events, whether a log or a stream tells them; a stream can be of any length or shape."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.redfish.alerts import AREAS, EVENTS, OTHER, Alert, alert_of, area_of, event_of, time_ns
from collectors.redfish.events import MAX_ALERTS, MAX_EVENT, Heard, Stream, Told, filtered, is_of_parts, stream_of
from schemas.events import check_events
from schemas.rows import Severity


def event(message_id: str = "Power.1.0.PowerSupplyFailed", severity: str = "Critical", **more: Any) -> dict[str, Any]:
    """Make one event as a BMC sends it."""
    return {
        "EventId": "7", "EventType": "Alert", "EventTimestamp": "2024-08-08T18:48:07-05:00", "MessageId": message_id,
        "Message": "It happened.", "MessageSeverity": severity, **more,
    }  # fmt: skip


def sent(*events: dict[str, Any], number: str = "7") -> bytes:
    """Make what comes over a stream."""
    body = {"@odata.type": "#Event.v1_7_0.Event", "Id": number, "Events": list(events)}
    return f"id: {number}\ndata: {json.dumps(body)}\n\n".encode()


# --- typing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message_id", "message", "sensor", "type_"),
    [
        ("Power.1.0.PowerSupplyFailed", "", "", "redfish.supply"),
        ("IDRAC.2.7.PSU0003", "The power input for power supply 1 is lost.", "", "redfish.supply"),
        ("EventRegistry.1.0.FQXSPPW0035M", "Non-redundant:Insufficient Resources has asserted.", "", "redfish.supply"),
        ("OpenBMC.0.4.PowerSupplyFanFailed", "", "", "redfish.supply"),
        ("Environmental.1.0.FanFailed", "", "", "redfish.fan"),
        ("IDRAC.2.7.FAN0001", "Fan 1 RPM is less than the lower critical threshold.", "", "redfish.fan"),
        ("ThermalEvent.1.0.OverTemperature", "", "", "redfish.temperature"),
        ("OpenBMC.0.4.CPUThermalTrip", "", "", "redfish.temperature"),
        ("IDRAC.2.7.MEM0001", "Multi-bit memory errors detected on DIMM A1.", "", "redfish.memory"),
        ("IDRAC.2.7.PCI1308", "A PCI parity error was detected.", "", "redfish.pcie"),
        ("OpenBMC.0.4.PCIeFatalUncorrectableInternal", "", "", "redfish.pcie"),
        ("StorageDevice.1.1.DriveFailure", "", "", "redfish.drive"),
        ("NetworkDevice.1.0.LinkFlapDetected", "", "", "redfish.link"),
        ("SensorEvent.1.0.ReadingAboveUpperCautionThreshold", "", "", "redfish.sensor"),
        ("Update.1.0.UpdateSuccessful", "", "", "redfish.firmware"),
        ("OpenBMC.0.4.DCPowerOff", "", "", "redfish.reset"),
        ("IDRAC.2.7.LOG006", "", "", "redfish.log_cleared"),
        ("0x00FFFF", "Event_Type : Drive Presence", "Drive Slot/Bay", "redfish.drive"),
        ("", "Upper Critical going high", "Temperature", "redfish.temperature"),
        ("", "Watchdog timer expired", "", "redfish.watchdog"),
        ("", "Leak detected at the manifold", "", "redfish.leak"),
        ("", "Something that nobody knows", "", OTHER),
    ],
)
def test_registry_then_sensor_then_words_say_what_an_alert_is_about(
    message_id: str, message: str, sensor: str, type_: str
) -> None:
    told = alert_of(event(message_id, "Critical", Message=message, SensorType=sensor))
    made = event_of(told, "bmc:b1")
    assert made is not None
    assert (type_, Severity.CRITICAL) == (made.type, made.severity)


def test_every_type_is_declared_with_all_that_it_may_carry() -> None:
    declared = check_events(EVENTS)
    assert {OTHER, *(one.type for one in AREAS)} == declared.keys()
    made = event_of(
        Alert("x", Severity.CRITICAL, "A.1.0.B", 1, "/redfish/v1/Systems/1", "Fan", "assert", "/log", "1", "do"), ""
    )
    assert made is not None
    assert made.detail.keys() <= set(declared[made.type].detail)


def test_xid_has_the_meaning_of_its_number() -> None:
    message = "GPU_SXM_4 Driver Event Message has detected errors of type '[Wed Dec 6][1][00] XID 79 GPU fell off'."
    made = event_of(alert_of(event("ResourceEvent.1.0.ResourceErrorsDetected", "Critical", Message=message)), "gpu:4")
    assert made is not None
    assert ("redfish.xid", 79, "hardware", Severity.CRITICAL) == (
        made.type, made.detail["xid"], made.detail["cause"], made.severity
    )  # fmt: skip
    program = event_of(alert_of(event("", "Critical", Message="XID 31 MMU Fault")), "gpu:4")
    assert program is not None
    assert Severity.NOTICE == program.severity


def test_number_of_an_nvswitch_is_not_read_as_a_gpus() -> None:
    made = event_of(alert_of(event("", "Warning", Message="SXID 79 something")), "")
    assert made is not None
    assert (79, False) == (made.detail["xid"], "cause" in made.detail)


def test_what_is_only_said_makes_no_event() -> None:
    assert event_of(alert_of(event("IDRAC.2.7.USR0030", "OK", Message="Successfully logged in")), "") is None
    assert event_of(alert_of({}), "") is None


def test_what_is_over_is_a_notice() -> None:
    made = event_of(
        alert_of({"Message": "ok again", "SensorType": "Fan", "EntryCode": "Deassert", "Severity": "OK"}), ""
    )
    assert made is not None
    assert ("redfish.fan", Severity.NOTICE, "deassert") == (made.type, made.severity, made.detail["state"])


@pytest.mark.parametrize(
    ("written", "ns"),
    [
        ("2024-08-08T18:48:07-05:00", 1723160887 * 10**9),
        ("2024-07-19T20:44:26.000+00:00", 1721421866 * 10**9),
        ("2024-07-18T22:01:36Z", 1721340096 * 10**9),
        ("1970-01-01T00:00:20+00:00", 20 * 10**9),
        ("2024-08-08T18:48:07", None),
        ("1969-12-31T23:59:59+00:00", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_time_without_offset_is_no_time(written: str, ns: int | None) -> None:
    assert ns == time_ns(written)


@given(
    st.dictionaries(
        st.sampled_from(
            ["Message", "MessageId", "Severity", "Created", "Id", "@odata.id", "Links", "SensorType", "Oem"]
        ),
        st.none() | st.integers() | st.text(max_size=40) | st.dictionaries(st.text(max_size=9), st.text(max_size=9)),
    )
)
def test_any_entry_can_be_read(told: dict[str, Any]) -> None:
    alert = alert_of(told)
    area_of(alert)
    event_of(alert, "")


# --- the stream -------------------------------------------------------------------------------------------------------


def test_events_come_as_soon_as_they_are_whole_however_they_are_cut() -> None:
    data = b": hello\r\n\r\n" + sent(event()).replace(b"\n", b"\r\n") + sent(event(severity="OK"), event(), number="8")
    for size in (1, 2, 7, 64, len(data)):
        stream = Stream()
        found = [told for at in range(0, len(data), size) for told in stream.feed(data[at : at + size])]
        assert [("7", 1), ("8", 2)] == [(told.id, len(told.alerts)) for told in found], size


def test_data_of_several_lines_is_one_event() -> None:
    body = json.dumps({"Events": [event()]}, indent=1)
    lines = "".join(f"data: {line}\n" for line in body.split("\n"))
    [told] = Stream().feed(f"{lines}\n".encode())
    assert "Power.1.0.PowerSupplyFailed" == told.alerts[0].message_id


def test_event_without_end_costs_no_more_than_its_limit_and_the_next_is_read() -> None:
    stream = Stream()
    for _ in range(40):
        assert [] == list(stream.feed(b"data: " + b"x" * (MAX_EVENT // 10)))
    assert [] == list(stream.feed(b"\ndata: {}\n\n"))
    for _ in range(40):
        assert [] == list(stream.feed(b"data: " + b"y" * (MAX_EVENT // 10) + b"\n"))
    assert [] == list(stream.feed(b"\n"))
    assert 2 == stream.too_long
    assert 1 == len(list(stream.feed(sent(event()))))


def test_garbage_is_counted_and_passed_over() -> None:
    stream = Stream()
    for junk in (b"data: <html>\n\n", b"data: [1]\n\n", b'data: {"a": 1}\n\n', b"data: \xff\xfe\n\n"):
        assert [] == list(stream.feed(junk))
    assert 4 == stream.unreadable
    assert 1 == len(list(stream.feed(sent(event()))))


def test_metric_report_on_the_stream_is_handed_on_as_one() -> None:
    report = {"@odata.type": "#MetricReport.v1_4_2.MetricReport", "MetricValues": []}
    [told] = Stream().feed(f"data: {json.dumps(report)}\n\n".encode())
    assert (report, ()) == (told.report, told.alerts)


def test_bmc_that_could_not_send_all_says_so_and_a_flood_is_cut() -> None:
    [told] = Stream().feed(sent(event("EventService.1.0.EventBufferExceeded")))
    assert told.lost
    [flood] = Stream().feed(sent(*[event()] * (MAX_ALERTS + 9)))
    assert MAX_ALERTS == len(flood.alerts)


@given(st.binary(max_size=400), st.integers(1, 50))
def test_any_bytes_can_be_fed(data: bytes, size: int) -> None:
    stream = Stream()
    for at in range(0, len(data), size):
        for told in stream.feed(data[at : at + size]):
            assert isinstance(told, Told)


def test_what_a_stream_told_is_known_when_the_log_tells_it() -> None:
    heard = Heard()
    log = "/redfish/v1/Managers/BMC/LogServices/SEL"
    entry = {
        "@odata.id": f"{log}/Entries/9", "Id": "9", "Message": "It happened.", "Created": "2024-08-08T18:48:07-05:00",
        "MessageId": "Power.1.0.PowerSupplyFailed", "Severity": "Critical",
    }  # fmt: skip
    assert alert_of(entry) not in heard
    heard.add(alert_of(event()))
    assert alert_of(entry) in heard
    assert alert_of({**entry, "Created": "2024-08-08T18:48:08-05:00"}) not in heard
    heard.add(alert_of(event(LogEntry={"@odata.id": f"{log}/Entries/10"}, EventTimestamp="2024-08-09T18:48:07Z")))
    assert alert_of({**entry, "@odata.id": f"{log}/Entries/10", "Id": "10", "Created": None}) in heard


def test_what_is_delivered_or_streamed_again_is_no_second_event() -> None:
    heard, fan, other = Heard(), event(), event(OriginOfCondition={"@odata.id": "/redfish/v1/Chassis/2"})
    assert [True, False] == [heard.add(alert_of(fan)) for _ in range(2)]
    assert heard.add(alert_of(other)), "the same of another part at the same time"
    untimed = alert_of(event(EventTimestamp=None))
    assert [True, True] == [heard.add(untimed) for _ in range(2)], "nobody knows whether it happened again"


def test_what_a_log_told_is_known_when_the_stream_tells_it_and_only_once() -> None:
    heard = Heard()
    entry = {
        "@odata.id": "/redfish/v1/Managers/BMC/LogServices/SEL/Entries/9", "Id": "9", "Message": "It happened.",
        "Created": "2024-08-08T18:48:07-05:00", "MessageId": "Power.1.0.PowerSupplyFailed", "Severity": "Critical",
    }  # fmt: skip
    assert not heard.by_log(alert_of(entry))
    assert not heard.add(alert_of(event()))
    assert heard.add(alert_of(event(OriginOfCondition={"@odata.id": "/redfish/v1/Chassis/2"})))
    assert heard.by_log(alert_of(entry))


def test_stream_is_where_the_service_says_unless_it_is_off() -> None:
    service = {"ServerSentEventUri": "/redfish/v1/SSE", "SSEFilterPropertiesSupported": {"EventFormatType": True}}
    assert "/redfish/v1/SSE" == stream_of(service)
    assert "" == stream_of({**service, "ServiceEnabled": False})
    assert "" == stream_of({"ServerSentEventUri": "https://elsewhere/"})
    assert "/redfish/v1/SSE?$filter=EventFormatType%20eq%20Event" == filtered("/redfish/v1/SSE", service)
    assert "/redfish/v1/SSE" == filtered("/redfish/v1/SSE", {})


@pytest.mark.parametrize(
    ("message_id", "origin", "parts"),
    [
        ("ResourceEvent.1.2.ResourceRemoved", "/redfish/v1/Chassis/1/Drives/3", True),
        ("StorageDevice.1.1.DriveInserted", "", True),
        ("Update.1.0.UpdateSuccessful", "/redfish/v1/UpdateService/FirmwareInventory/BIOS", True),
        ("EventLog.1.0.ResourceRemoved", "/redfish/v1/SessionService/Sessions/05d0", False),
        ("ResourceEvent.1.2.ResourceChanged", "/redfish/v1/Chassis/1", False),
        ("Power.1.0.PowerSupplyFailed", "/redfish/v1/Chassis/1", False),
    ],
)
def test_an_event_of_parts_is_told_from_others(message_id: str, origin: str, parts: bool) -> None:
    told = event(message_id, "OK", OriginOfCondition={"@odata.id": origin})
    assert parts is is_of_parts(alert_of(told))
