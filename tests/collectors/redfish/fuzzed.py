"""What reads bytes of a BMC, as it is fuzzed: a stream of events, a log, resources; and sound seeds for each."""

from typing import Any, Final

import msgspec

from collectors.redfish.alerts import event_of
from collectors.redfish.documents import documents
from collectors.redfish.events import Stream
from collectors.redfish.logs import Log, LogReader
from collectors.redfish.power import PowerWatch
from collectors.redfish.resource import decode, objects
from schemas.device import encode_document

_LOG: Final = "/redfish/v1/Systems/1/LogServices/L"
_UUID: Final = "6d757374-6572-4000-8000-000000000001"


def read_stream(data: bytes) -> object:
    """Read a stream, in small pieces."""
    stream = Stream()
    told = [one for at in range(0, len(data), 61) for one in stream.feed(data[at : at + 61])]
    return [event_of(alert, "bmc:b") for one in told for alert in one.alerts]


def read_log(data: bytes) -> object:
    """Read a page of a log that another one follows, twice. Raises UnreadableError."""
    page, _ = decode(data)
    reader = LogReader("b", [(f"b {_LOG}", '{"entry":"1","mark":"0","entries":1}')])
    log = Log(_LOG, f"{_LOG}/Entries", most=9)
    return [list(reader.read(log, lambda _path: page, lambda _alert: "", lambda _alert: False)) for _ in range(2)]


def read_resources(data: bytes) -> object:
    """Make documents of resources, and look at the power of each. Raises UnreadableError."""
    resources = list(objects(decode(data)[0], "all"))
    watch = PowerWatch("b", "bmc:b")
    for one in resources:
        list(watch.look(one, one, 0))
    return [encode_document(one) for one in documents("b", resources, own=True)]


def _at(path: str, schema: str, **told: Any) -> dict[str, Any]:
    return {"@odata.id": f"/redfish/v1/{path}", "@odata.type": f"#{schema}.v1_9_0.{schema}", **told}


def _link(path: str) -> dict[str, str]:
    return {"@odata.id": f"/redfish/v1/{path}"}


_EVENT: Final = {"MessageId": "Power.1.0.PowerSupplyFailed", "MessageSeverity": "Critical",
                 "OriginOfCondition": _link("Chassis/1"), "LogEntry": {"@odata.id": f"{_LOG}/Entries/2"}}  # fmt: skip
_ENTRY: Final = {"@odata.id": f"{_LOG}/Entries/2", "Id": "2", "Created": "2024-08-08T18:48:07-05:00",
                 "Message": "XID 79", "Severity": "Critical", "SensorType": "Fan", "EntryCode": "Assert"}  # fmt: skip

STREAMS: Final = (
    b"id: 7\r\ndata: " + msgspec.json.encode({"Events": [_EVENT]}) + b"\r\n\r\n: ping\r\n\r\n",
    b"data: " + msgspec.json.encode(_at("M", "MetricReport", MetricValues=[])) + b"\n\n",
)
LOGS: Final = (
    msgspec.json.encode({"Members@odata.count": 2, "Members": [{**_ENTRY, "@odata.id": f"{_LOG}/Entries/1", "Id": "1"},
                         _ENTRY], "Members@odata.nextLink": f"{_LOG}/Entries?$skip=2"}),
)  # fmt: skip
RESOURCES: Final = (
    msgspec.json.encode({"all": [
        _at("Systems/1", "ComputerSystem", UUID=_UUID, PowerState="Off", LastResetTime="2024-08-08T18:48:07Z"),
        _at("Managers/1", "Manager", UUID=_UUID, Links={"ManagerForServers": [_link("Systems/1")]}),
        _at("Systems/1/Processors/G", "Processor", ProcessorType="GPU", Links={"PCIeDevice": _link("P")},
            Location={"PartLocation": {"ServiceLabel": "SXM1"}}, SerialNumber="7", Status={"State": "Enabled"}),
        _at("UpdateService/FirmwareInventory/BIOS", "SoftwareInventory", Version="1.2"),
    ]}),
    msgspec.json.encode({"all": [
        _at("Chassis/1/NetworkAdapters/N", "NetworkAdapter", SerialNumber="7", Controllers=[
            {"FirmwarePackageVersion": "1", "Links": {"PCIeDevices": [_link("P")]}}]),
        _at("Chassis/1/Power", "Power", PowerSupplies=[{"MemberId": "0", "PowerCapacityWatts": 9}]),
        _at("Chassis/1/PCIeSlots", "PCIeSlots", Slots=[
            {"Links": {"PCIeDevice": [_link("P")]}, "Location": {"PartLocation": {"ServiceLabel": "3"}}}]),
        _at("Systems/1/Memory/1", "Memory", CapacityMiB=1024, AllowedSpeedsMHz=[3200], BaseModuleType="RDIMM"),
        _at("Systems/1/Storage/1/Drives/1", "Drive", Protocol="NVMe", SerialNumber="9", CapacityBytes=1),
    ]}),
)  # fmt: skip
