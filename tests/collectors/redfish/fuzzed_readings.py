"""What makes rows of what a BMC sends, as it is fuzzed: answers of HTTP, sensors, parts, reports; and sound seeds."""

import math
import socket
from typing import Any, Final, cast

import msgspec

from collectors.http_client import Connection
from collectors.redfish import reports
from collectors.redfish.errors import Faults
from collectors.redfish.heard_reports import HeardReports
from collectors.redfish.readings import Seen, quotes, quotes_all, read_sensor, rows_of
from collectors.redfish.readings_board import board_row
from collectors.redfish.readings_metrics import memory_fields, port_fields, processor_fields
from collectors.redfish.readings_metrics import rows as rows_of_part
from collectors.redfish.readings_parts import METRIC_FIELDS, fan_row, old_fans, old_sensors, old_supplies, supply_row
from collectors.redfish.resource import decode, member, objects, uri
from collectors.redfish.units import sense_of
from schemas.rows import Reading


class _Wire:
    """A connection over which these bytes come, some at a time."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def recv(self, size: int) -> bytes:
        taken, self._data = self._data[: min(size, 97)], self._data[min(size, 97) :]
        return taken

    def sendall(self, _: bytes) -> None:
        pass

    def close(self) -> None:
        pass


def read_answer(data: bytes) -> object:
    """Read an answer of HTTP, and what may follow it on the connection. Raises OSError."""
    connection = Connection(cast("socket.socket", _Wire(data)), "bmc")
    answers = []
    for _ in range(2):
        answer = connection.request("GET", "/redfish/v1/", None, {})
        answers.append((answer.status, answer.headers, answer.read(limit=10_000)))
        assert len(answers[-1][2]) <= 10_000
    return answers


def read_rows(data: bytes) -> object:
    """Make all rows that there can be of a machine; each of them can be sent. Raises UnreadableError."""
    told, _ = decode(data)
    faults, seen = Faults(), dict[str, Seen]()
    rows: list[Reading] = list(rows_of("b", objects(told, "sensors"), faults, seen))
    for name in ("thermal", "power"):
        rows += old_sensors("b", member(told, name), {"inlet"}, faults, seen)
    rows += [row for one in objects(told, "fans") if (row := fan_row("b", one, seen)) is not None]
    metrics = member(told, "metrics")
    supplies = [row for one in objects(told, "supplies") if (row := supply_row("b", one, metrics, seen)) is not None]
    rows += [*supplies, *old_fans("b", member(told, "thermal")), *old_supplies("b", member(told, "power"))]
    quotes_all(quotes(metrics), METRIC_FIELDS, seen)
    environment, summary = member(told, "environment"), member(told, "summary")
    rows.append(board_row("b", member(told, "system"), environment, summary, member(told, "power"), seen, supplies))
    processor, memory, port = (member(told, name) for name in ("processor", "memory", "port"))
    rows += rows_of_part("bmc_processor", processor_fields(processor, environment, seen), "b", "processor", "s/p")
    rows += rows_of_part("bmc_memory", memory_fields(memory), "b", "module", "s/m")
    rows += rows_of_part("bmc_port", port_fields(port), "b", "port", "s/p/1")
    heard = HeardReports("b", 60.0)
    heard.hear({})
    heard.learn(seen)
    rows += heard.hear(member(told, "report"))
    for row in rows:
        _check(row)
    senses = {uri(one): sense_of(one) for one in objects(told, "sensors") if read_sensor(one, faults)}
    return rows, reports.values(member(told, "report"), senses)


def _check(row: Reading) -> None:
    for value in (*row.fields.values(), *row.attributes.values()):
        assert value is not None
        assert not isinstance(value, float) or math.isfinite(value)
        assert not isinstance(value, str) or value.encode().decode().isprintable(), value
    assert row.device.encode()


def _at(path: str, **told: Any) -> dict[str, Any]:
    return {"@odata.id": f"/redfish/v1/Chassis/1/{path}", "Status": {"State": "Enabled", "Health": "OK"}, **told}


_INLET: Final = "/redfish/v1/Chassis/1/Sensors/Inlet"
_BODY: Final = b'{"@odata.id": "/redfish/v1"}'
ANSWERS: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 28\r\nETag: W/1\r\n\r\n" + _BODY
    + b"HTTP/1.1 304 Not Modified\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1c;x=y\r\n" + _BODY + b"\r\n0\r\nA: b\r\n\r\n"
    b"HTTP/1.1 503 Busy\r\nRetry-After: 5\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n\r\nto the end",
)  # fmt: skip
MACHINES: Final = (
    msgspec.json.encode({
        "sensors": [
            _at("Sensors/Inlet", Reading=24.5, ReadingUnits="Cel", ReadingType="Temperature", PhysicalContext="Intake"),
            _at("Sensors/Fan", Reading="8400.0", ReadingUnits="RPM"),
            _at("Sensors/Power", Reading=612, ReadingType="Power"),
            _at("Sensors/None", Reading=None, ReadingUnits=""),
        ],
        "fans": [_at("ThermalSubsystem/Fans/1", SpeedPercent={"Reading": 42, "SpeedRPM": 8400})],
        "supplies": [_at("PowerSubsystem/PowerSupplies/1", Metrics={"@odata.id": "/redfish/v1/Chassis/1/M"})],
        "metrics": {"InputPowerWatts": {"Reading": 310.5}, "InputVoltage": {"DataSourceUri": _INLET, "Reading": 230}},
        "environment": {"PowerWatts": {"Reading": 612.5}},
        "summary": {"TemperatureSummaryCelsius": {"Intake": {"Reading": 24.5, "DataSourceUri": _INLET}}},
        "processor": {"BandwidthPercent": 25, "OperatingSpeedMHz": 345, "PCIeErrors": {"ReplayCount": 4294967295},
            "ThermalLimitThrottleDuration": "PT0.5S", "Oem": {"Nvidia": {"ThrottleReasons": ["SWPowerCap", "NA"]}}},
        "memory": {"LifeTime": {"CorrectableECCErrorCount": 3}, "HealthData": {"AlarmTrips": {"Temperature": False}}},
        "port": {"RXBytes": 2782390205, "Oem": {"Nvidia": {"NVLinkErrors": {"RecoveryCount": 505}}}},
        "system": {"PowerState": "On", "Status": {"HealthRollup": "OK"}},
        "report": {"MetricValues": [
            {"MetricId": "Inlet", "MetricProperty": f"{_INLET}#/Reading", "MetricValue": "24.5", "Timestamp": "2026"},
            {"MetricProperty": _INLET, "MetricValue": "nan", "Oem": {"Nvidia": {"MetricValueStale": True}}},
        ]},
    }),
    msgspec.json.encode({
        "thermal": _at("Thermal", Temperatures=[{"Name": "CPU 1 / VR", "MemberId": "0", "ReadingCelsius": 37}],
            Fans=[{"MemberId": "0", "Reading": 6400, "ReadingUnits": "RPM"}, {"Reading": 40, "ReadingUnits": "%"}]),
        "power": _at("Power", Voltages=[{"Name": "12V", "ReadingVolts": 12.1, "Status": {"State": "Enabled"}}],
            PowerControl=[{"PowerConsumedWatts": 614}], PowerSupplies=[{"MemberId": "0", "PowerInputWatts": 303.0}]),
    }),
)  # fmt: skip
