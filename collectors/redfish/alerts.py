"""What a BMC reports (an entry of a log, or an event that it sends) becomes a typed event.

What it is about is told by the registry that its message is of, by the IPMI type of the sensor, and only then by the
words: vendors write the same in a hundred ways, and the registries' names are what they keep.

Source: DMTF registries ResourceEvent, Environmental, Power, StorageDevice, NetworkDevice, Platform, Update,
ThermalEvent and MemoryEvent (DSP8011, 2024.3); IPMI 2.0, table 42-3; Dell "Event and Error Message Reference"; Lenovo
"XCC messages".
"""

import re
from datetime import datetime
from typing import Final

import msgspec

from collectors._dmi import usable
from collectors._values import plain
from collectors.redfish.resource import Resource, canonical, link, member, text, uri
from collectors.xids import xid
from schemas.events import EventSpec
from schemas.rows import Event, FieldValue, LogRecord, Severity

MAX_MESSAGE: Final = 2048
"""Characters of a message that are kept."""
_CRITICAL, _ERROR, _WARNING, _NOTICE = Severity.CRITICAL, Severity.ERROR, Severity.WARNING, Severity.NOTICE
_SEVERITIES: Final = {"critical": Severity.CRITICAL, "warning": Severity.WARNING, "ok": Severity.INFORMATIONAL}
_DETAIL: Final = ("message_id", "origin", "log", "entry", "state", "resolution")
_BAD: Final = (_CRITICAL, _WARNING, _NOTICE)


class Area(msgspec.Struct, frozen=True):
    """What an alert may be about."""

    type: str
    meaning: str
    registries: str
    """A pattern of the registry's prefix and message: `Power.PowerSupplyFailed`, `IDRAC.PSU0001`, `FQXSPPW0001I`."""
    sensors: str
    """A pattern of the sensor's IPMI type, without blanks."""
    words: str
    """A pattern of the message."""
    always: bool = False
    """Worth an event even when its severity is OK."""


AREAS: Final = (
    Area(
        "redfish.xid", "A GPU's or NVSwitch's driver reported an error by its number, as the baseboard's BMC heard it.",
        r"(?!)", r"(?!)", r"\bS?XID [1-9]\d*\b",
    ),
    Area(
        "redfish.reset", "The machine was reset, or its power switched; `message_id` tells how.",
        r"OpenBMC\.\w*(?:DCPower|PowerButton|ResetButton|SystemPower|ChassisPower|PowerRestore)"
        r"|ResourceEvent\.ResourcePower|IDRAC\.(?:SYS10\d\d|RAC070[1-4]|PWR2)",
        r"SystemBootRestartInitiated|SystemBoot/RestartInitiated|OSStop/Shutdown|OSBoot",
        r"\b(?:system|server|host|chassis) (?:was |has been |is )?(?:reset|power(?:ed)?[ -](?:cycle|on|off|down|up))",
        always=True,
    ),
    Area(
        "redfish.firmware", "Firmware was changed, or could not be.",
        r"Update\.(?:UpdateSuccessful|\w*Failed|Verification\w*)|UpdateManager\.\w*(?:Completed|Failed)"
        r"|OpenBMC\.\w*Firmware|IDRAC\.(?:RED|SUP)\d|FQXSP(?:UP|FW)",
        r"VersionChange", r"\bfirmware (?:was |has been )?(?:successfully )?(?:updated|activated|update failed)",
        always=True,
    ),
    Area(
        "redfish.log_cleared", "A log of the BMC was cleared, as it tells itself.",
        r"IDRAC\.(?:LOG006|SEL9901|UEFI0286)|LogService\.LogCleared", r"(?!)",
        r"Log Area Reset|\blog (?:was |has been )?cleared|ClearLog|Log clear", always=True,
    ),
    Area(
        "redfish.leak", "Coolant leaks, or a leak detector fails.",
        r"\w*\.\w*Leak", r"Leak", r"\bleak(?:age|ing)?\b|moisture",
    ),
    Area(
        "redfish.supply", "A power supply failed, lost its input, or supplies are no longer redundant.",
        r"Power\.|OpenBMC\.\w*PowerSupply|IDRAC\.(?:PSU|PWR|RDU|PST)\d|FQXSP(?:PW|UN)",
        r"PowerSupply|PowerUnit|Battery", r"\bpower suppl|\bPSU|\bAC lost|\bpower redundancy|input lost",
    ),
    Area(
        "redfish.fan", "A fan failed, is missing, or turns too slowly.",
        r"Environmental\.Fan|OpenBMC\.\w*Fan|IDRAC\.FAN\d", r"Fan|CoolingDevice", r"\bfan\b|\btach|cooling redundancy",
    ),
    Area(
        "redfish.temperature", "Something is too hot or too cold for its limits.",
        r"Environmental\.(?:Temperature|Humidity)|ThermalEvent\.|OpenBMC\.\w*(?:Thermal|Temp)|IDRAC\.TMP\d|FQXSPCA",
        r"Temperature", r"\btemperature|\bthermal|overheat|\bprochot",
    ),
    Area(
        "redfish.memory", "A memory module reports errors, or fails.",
        r"MemoryEvent\.|OpenBMC\.\w*(?:Memory|ADDDC|CECount|DIMM)|IDRAC\.MEM\d|FQXS(?:P|F)MA", r"Memory",
        r"\bDIMM|\bmemory\b.*(?:error|fail|correct)|\bECC\b",
    ),
    Area(
        "redfish.processor", "A processor reports errors, or fails.",
        r"OpenBMC\.\w*(?:CPU|MCERR|IERR|CATERR)|IDRAC\.CPU\d|FQXSPPU|Platform\.", r"Processor",
        r"\bCPU\s?\d*\b.*(?:error|fail|internal|machine check)|\bIERR|\bCATERR|machine check",
    ),
    Area(
        "redfish.pcie", "The PCI bus, or what is on it, reports errors.",
        r"OpenBMC\.\w*PCIe|IDRAC\.PCI\d|FQXS(?:P|F)IO", r"CriticalInterrupt|Slot/Connector|SlotOrConnector",
        r"\bPCIe?\b.*(?:error|fail|PERR|SERR|degrad)|\bbus (?:fatal|uncorrectable)|\bfallen off",
    ),
    Area(
        "redfish.drive", "A drive failed, is expected to fail, came or went.",
        r"StorageDevice\.|OpenBMC\.\w*Drive|IDRAC\.(?:PDR|VDR|STOR|ENC|SSD)\d|FQXS(?:P|F)SD", r"DriveSlot|Drive",
        r"\bdrive\b.*(?:fail|fault|remov|insert|predict)|\bphysical disk",
    ),
    Area(
        "redfish.link", "A network or fabric link went down, or flaps.",
        r"NetworkDevice\.|OpenBMC\.\w*Lan|IDRAC\.NIC\d|Fabric\.", r"LAN", r"\blink\b.*(?:down|flap|lost|degrad)",
    ),
    Area(
        "redfish.watchdog", "A watchdog ran out: what should have spoken did not.",
        r"OpenBMC\.\w*(?:Watchdog|IPMIWatchdog)|IDRAC\.ASR\d", r"Watchdog", r"\bwatchdog",
    ),
    Area(
        "redfish.security", "Somebody opened the machine, or tried to get in.",
        r"OpenBMC\.\w*(?:Intrusion|InvalidLogin)|IDRAC\.(?:SEC|USR00(?:31|34))|FQXSPSE",
        r"PhysicalChassisSecurity|PlatformSecurity",
        r"\bintrusion|\bchassis (?:is |was )?open|login (?:failed|failure)|certificate (?:expired|invalid)",
    ),
    Area(
        "redfish.sensor", "A sensor reads beyond a limit of its own, or is back within.",
        r"SensorEvent\.", r"(?!)", r"(?!)",
    ),
    Area(
        "redfish.voltage", "A voltage or current is outside its limits.",
        r"OpenBMC\.\w*Voltage|IDRAC\.(?:VLT|AMP|BAT)\d", r"Voltage|Current", r"\bvolt(?:age|s)\b|\bovercurrent",
    ),
)  # fmt: skip
"""The first that fits is the one."""
OTHER: Final = "redfish.alert"
EVENTS: Final = (
    *(
        EventSpec(one.type, one.meaning, _BAD, (*_DETAIL, "xid", "cause") if one.type == "redfish.xid" else _DETAIL)
        for one in AREAS
    ),
    EventSpec(OTHER, "The BMC warns of something else; see `message_id` and the message.", _BAD, _DETAIL),
)

_XID: Final = re.compile(r"\b(S?)XID ([1-9]\d{0,5})\b", re.ASCII)
_VERSION: Final = re.compile(r"\.\d+(?:\.\d+)*(?=\.)", re.ASCII)
_SAFE: Final = re.compile(r"\s+")


class _Compiled(msgspec.Struct):
    area: Area
    registries: re.Pattern[str]
    sensors: re.Pattern[str]
    words: re.Pattern[str]


_compiled: Final[list[_Compiled]] = []


def _table() -> list[_Compiled]:
    """Give the table; compiled for the first alert, which most machines never send."""
    if not _compiled:
        flags = re.ASCII | re.IGNORECASE
        _compiled.extend(
            _Compiled(one, re.compile(one.registries), re.compile(one.sensors), re.compile(one.words, flags))
            for one in AREAS
        )
    return _compiled


class Alert(msgspec.Struct, frozen=True):
    """What a BMC reported, in one form for logs and events."""

    message: str
    severity: Severity
    message_id: str = ""
    created_ns: int | None = None
    """When, by the BMC's clock, which may never have been set; None when it does not say."""
    origin: str = ""
    """Path of what it is about; "" when it does not say."""
    sensor: str = ""
    """IPMI type of the sensor."""
    state: str = ""
    """`assert` or `deassert`, of a log of the IPMI kind."""
    log: str = ""
    """Path of the log that it is an entry of, or that tells more; "" for none."""
    entry: str = ""
    """Its id there."""
    resolution: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """What is the same when a log and the stream of events tell of one happening."""
        return (self.message_id, self.message, str(self.created_ns))


def alert_of(told: Resource) -> Alert:
    """Read an entry of a log, or one of the events that a BMC sends; what it does not say is absent."""
    place = _entry_place(told)
    log, _, entry = place.rpartition("/Entries/")
    message = text(told, "Message") or text(told, "Name") or text(told, "MessageId")
    origin = link(member(told, "Links"), "OriginOfCondition") or link(told, "OriginOfCondition")
    return Alert(
        message=plain(_SAFE.sub(" ", message)[:MAX_MESSAGE]),
        severity=severity_of(told),
        message_id=plain((text(told, "MessageId") or _own_id(told))[:128]),
        created_ns=time_ns(text(told, "EventTimestamp") or text(told, "Created")),
        origin=origin or canonical(told.get("OriginOfCondition")),
        sensor=_SAFE.sub("", text(told, "SensorType"))[:64],
        state=text(told, "EntryCode").lower()[:32],
        log=log,
        entry=plain((text(told, "Id") if log and _is_entry(told) else entry)[:64]),
        resolution=plain(usable(text(told, "Resolution")[:512])),
    )


def _own_id(told: Resource) -> str:
    """Give what Lenovo numbers its messages by; its entries name no registry."""
    return text(member(member(told, "Oem"), "Lenovo"), "CommonEventID")


def _is_entry(told: Resource) -> bool:
    return "/Entries/" in uri(told)


def _entry_place(told: Resource) -> str:
    if _is_entry(told):
        return uri(told)
    return link(told, "LogEntry")


def severity_of(told: Resource) -> Severity:
    """Give how bad it is; what says nothing, or what nobody knows, is informational."""
    word = (text(told, "MessageSeverity") or text(told, "Severity")).lower()
    return _SEVERITIES.get(word, Severity.INFORMATIONAL)


def time_ns(written: str) -> int | None:
    """Give a time with offset as nanoseconds since 1970; None for none, and for one without offset or before 1970."""
    try:
        moment = datetime.fromisoformat(written[:40].strip())
        if moment.tzinfo is None:
            return None
        since = moment - _EPOCH
    except (ValueError, OverflowError):
        return None
    found = (since.days * 86400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000
    return found if 0 <= found < 1 << 63 else None


_EPOCH: Final = datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def event_of(alert: Alert, device: str, subject: str = "") -> Event | None:
    """Give the typed event of an alert; None for what is only said.

    `device`: what it is about, in our names.
    """
    bad = alert.severity <= Severity.WARNING
    area = area_of(alert)
    if not (bad or (area is not None and (area.always or alert.state == "deassert"))):
        return None
    kind = OTHER if area is None else area.type
    detail: dict[str, FieldValue] = {
        "message_id": alert.message_id or None,
        "origin": alert.origin or None,
        "log": alert.log or None,
        "entry": alert.entry or None,
        "state": alert.state or None,
        "resolution": alert.resolution or None,
    }
    severity = alert.severity if bad else Severity.NOTICE
    if kind == "redfish.xid":
        severity = _of_driver(alert, detail) or severity
    told = {name: value for name, value in detail.items() if value is not None}
    return Event(kind, alert.message or "the BMC says nothing more", severity, device, told, alert.created_ns, subject)


def _of_driver(alert: Alert, detail: dict[str, FieldValue]) -> Severity | None:
    """Add what the number of a GPU's error means; an NVSwitch's numbers are others."""
    match = _XID.search(alert.message.upper())
    if match is None:
        return None
    detail["xid"] = int(match[2])
    if match[1]:
        return None
    known = xid(int(match[2]))
    detail["cause"] = known.cause.value
    return Severity(min(known.severity, Severity.NOTICE))


def area_of(alert: Alert) -> Area | None:
    """Say what an alert is about; None when no rule knows."""
    registry = _VERSION.sub("", alert.message_id, count=1).removeprefix("EventRegistry.")
    for one in _table():
        if one.area.type == "redfish.xid" and one.words.search(alert.message):
            return one.area
    for rule in ("registries", "sensors", "words"):
        said = {"registries": registry, "sensors": alert.sensor, "words": alert.message}[rule]
        if said:
            for one in _table():
                pattern: re.Pattern[str] = getattr(one, rule)
                if pattern.match(said) if rule != "words" else pattern.search(said):
                    return one.area
    return None


def record_of(alert: Alert, device: str, subject: str = "") -> LogRecord:
    """Give the log record of an entry. A number that is one is its sequence; which log it was of is its `app`."""
    sequence = int(alert.entry) if alert.entry.isdecimal() and len(alert.entry) <= 18 else None
    return LogRecord(
        alert.message,
        alert.severity,
        "redfish",
        app=log_name(alert.log) or None,
        message_id=alert.message_id or None,
        source_time_ns=alert.created_ns,
        device=device,
        sequence=sequence,
        subject=subject,
    )


def log_name(path: str) -> str:
    """Name a log by its path: `/redfish/v1/Managers/BMC/LogServices/SEL` is `BMC/SEL`."""
    steps = path.split("/")[4::2]
    return "/".join(steps)[:128]
