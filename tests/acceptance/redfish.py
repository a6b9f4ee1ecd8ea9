"""Issue 5, checkpoint 5: BMCs read over the network by a real poller: rows, devices, events, and what goes wrong.

Every BMC is simulated (`tests/fakes/redfish`): one made for tests, over TLS with a certificate that is pinned; one that
says nothing; one that lets nobody in; one that shows another certificate; and the recorded machines, where the
recordings are. Requirements: R000-4, R001-13, R001-16.
"""

import hashlib
import json
import ssl
import sys
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import pytest

from schemas.batch import Block, Envelope
from schemas.codec import encode_batch, encode_body
from schemas.device import DeviceKind, Document, Part, encode_document
from schemas.publish import encode_request
from schemas.rows import Severity
from schemas.verbosity import Level, RowClass
from tests.acceptance.log_ingest_control import call
from tests.acceptance.stage import PATIENCE, Muster, check, main, say, stage, until
from tests.certificates import Authority
from tests.fakes.redfish import RECORDED, Bmc, Garbage, Options, Simulator, Stall, Status, made, recorded

AGENT: Final = """
[agent]
node_id = "poller"
only = ["redfish"]
level = "detailed"

[publish]
aggregators = ["{address}"]
token = "{token}"

[collectors.redfish]
every_seconds = 2
logs_every_seconds = 1
inventory_every_seconds = 600
answer_seconds = 2
user = "{user}"
password = "{password}"
"""
ONE: Final = """
[[collectors.redfish.bmcs]]
name = "{name}"
address = "{url}"
fingerprint = "{fingerprint}"
"""
SYSTEM: Final = "/redfish/v1/Systems/System"
SENSORS: Final = "/redfish/v1/Chassis/Box/Sensors"
ENTRIES: Final = f"{SYSTEM}/LogServices/EventLog/Entries"
UUID: Final = "6d757374-6572-4000-8000-000000000001"
COUNTS: Final = {"dell": 33, "lenovo": 229, "nvidia_dpu": 18, "nvidia_viking": 473}
"""Sensors of the recorded machines that read a number, as `test_truth` counts them."""


def script(folder: Path) -> None:
    """Show BMCs from their bytes to the ledger."""
    with ExitStack() as stack:
        simulator = stack.enter_context(Simulator())
        muster = stack.enter_context(stage(folder / "up"))
        authority = Authority(folder / "authority")
        certificate = authority.certificate()
        bmc = simulator.add(made("made"), Options(session_limit=3), certificate=certificate)
        locked = simulator.add(made("made"), Options(password="another"))
        machines = recorded_machines(simulator)
        where = {"made-1": (bmc.url, _fingerprint(certificate[0])), "locked": (locked.url, "")}
        where |= {"silent": (simulator.silent(), ""), "impostor": (bmc.url, "00" * 32)}
        where |= {name: (one.url, "") for name, one in machines.items()}
        muster.start("aggregator")
        muster.ready()
        machine(muster)
        poll(muster, bmc, where)
        rows(muster, machines)
        devices(muster)
        others(muster, locked)
        happenings(muster, bmc)
        sessions(muster, bmc)
        faults(muster, bmc)
        muster.stop("agent")
        check(muster.balance(wait=PATIENCE)["closed"], "the balance closes over the poller and all its BMCs")


def recorded_machines(simulator: Simulator) -> dict[str, Bmc]:
    """Start the recorded machines; {} where there are no recordings."""
    try:
        return {name: simulator.add(recorded(name)) for name in RECORDED}
    except pytest.skip.Exception as error:
        say(f"{error}: the recorded machines are not shown")
        return {}


def poll(muster: Muster, bmc: Bmc, where: dict[str, tuple[str, str]]) -> None:
    """Start an agent that may speak for BMCs, and for itself."""
    token = muster.ask("token", "create", "poller", "--scope", "ingest:poller", "--scope", "ingest:bmc:*")["secret"]
    text = AGENT.format(address=muster.address, token=token, user=bmc.user, password=bmc.password)
    for name, (url, fingerprint) in where.items():
        text += ONE.format(name=name, url=url, fingerprint=fingerprint)
    config = muster.folder / "agent.toml"
    config.write_text(text)
    own = {"MUSTER_CONFIG": str(config), "MUSTER_DATA_DIR": str(muster.folder / "agent")}
    done = muster.run("validate", str(config))
    check(done.returncode == 0, "the poller's configuration is valid")
    muster.start("agent", env=own)


def rows(muster: Muster, machines: dict[str, Bmc]) -> None:
    """Each sensor is there, in base units, under the BMC's own name."""
    until("sensors of the made machine", lambda: _sensors(muster, "made-1"))
    found = _sensors(muster, "made-1")
    check(len(found) == 18, f"18 of 20 sensors read a number, and none else has a row: {len(found)}")
    check(
        (found["Box/Inlet"], found["Box/CPU_Usage"], found["Box/Ambient_Pressure"]) == (24.5, 0.0, 100_200.0),
        "in base units: 24.5 degrees, a share of 0, 100.2 kPa as pascals",
    )
    [row] = muster.rows("bmc", "--where", "device=bmc:made-1", "--last")
    check(
        (row["node"], row["power_state"], row["health"]) == ("bmc:made-1", "on", "ok"),
        f"the BMC is a subject of its own: {row['node']}",
    )
    for name in machines:
        _all_sensors(muster, name)


def devices(muster: Muster) -> None:
    """The machine's parts are devices, once each, joined by the UUID of its system."""
    board = until("the BMC as a device", lambda: _board_device(muster))
    check(
        (board["capabilities"]["system_uuid"], board["node"]) == (UUID, UUID),
        f"the BMC is a device of its machine, found by the UUID of the system: {board['node']}",
    )
    wanted = {"psu": 2, "fan": 2, "cpu": 2, "memory-module": 2}
    kinds = Counter(one["kind"] for one in muster.ask("devices", "--all") if one["node"] in {UUID, "bmc:made-1"})
    found = {kind: kinds[kind] for kind in (*wanted, "gpu")}
    check(found == wanted | {"gpu": 0}, f"so are the board's parts that are there, not the third fan: {found}")
    drive = until("the drive as both see it", lambda: _drive(muster))
    check(
        (drive["node"], drive["slot"]["location"]) == (UUID, "Bay 0"),
        "what can be given to somebody is its machine's to tell; the BMC adds to a drive where it sits: Bay 0",
    )


def machine(muster: Muster) -> None:
    """Let the machine of a BMC speak, which knows its own UUID and a drive."""
    part = Part(vendor="Muster", model="Made NVMe 3840", serial="NVME0001")
    documents = [
        Document("node", DeviceKind.NODE, merge_keys=[f"uuid:{UUID}"], capabilities={"host_name": "made-1"}),
        Document("nvme:NVME0001", DeviceKind.NVME, merge_keys=["nvme:NVME0001", "serial:NVME0001"], part=part),
    ]
    token = muster.ask("token", "create", "made-1", "--scope", f"ingest:{UUID}")["secret"]
    block = Block(
        "capability", UUID, ["collector"], [[one.device, "nvme"] for one in documents], [0, 1], time.time_ns(), [0, 1],
        strings={"document": [encode_document(one) for one in documents]},
    )  # fmt: skip
    batch = encode_batch(
        Envelope(UUID, "e1", RowClass.CAPABILITY, Level.ESSENTIAL, 0, len(documents), 0), encode_body([block])
    )
    status, _, _ = call(muster, "POST", "/v1/publish", encode_request(UUID, "e1", "boot", [], "h", [batch]), token)
    check(status == 200, "the machine itself speaks: of its drive it knows the serial number, not the bay")


def _drive(muster: Muster) -> dict[str, Any] | None:
    found: list[dict[str, Any]] = muster.ask("devices", "--all", "--kind", "nvme")
    return next((one for one in found if one["slot"].get("location")), None)


def others(muster: Muster, locked: Bmc) -> None:
    """Who cannot be read harms only himself, and is told once."""
    denied = until("the event of a refusal", lambda: _event(muster, "redfish.bmc.denied", "locked"))
    untrusted = until("the event of a wrong certificate", lambda: _event(muster, "redfish.bmc.untrusted", "impostor"))
    lost = until("the event of a loss", lambda: _event(muster, "redfish.bmc.lost", "silent"))
    say(f"one that refuses the password: {denied['message']}")
    say(f"one that shows another certificate: {untrusted['message']}")
    say(f"one that says nothing: {lost['message']}")
    logins = [path for method, path, _ in locked.requests if method == "POST"]
    check(len(logins) <= 3, f"a wrong password is not tried until the account is locked: {len(logins)} attempts")


def happenings(muster: Muster, bmc: Bmc) -> None:
    """Power, start, a log that grows, an event of the stream."""
    bmc.machine.power("Off")
    event = until("the event of the power", lambda: _event(muster, "redfish.power", "made-1"))
    evidence = json.loads(event["detail"]["evidence"])
    check(
        (event["detail"]["power_state"], UUID in evidence.values()) == ("off", True),
        "a machine that is switched off: an event, with what the ledger takes as proof",
    )
    until("the row of the power", lambda: _board(muster)["power_state"] == "off")
    until("the machine to be fenced", lambda: muster.run("nodes", "fence", UUID, "--bmc", "--yes").returncode == 0)
    say("its node is silent, and its BMC's word is taken that nothing runs there: `muster nodes fence --bmc`")
    bmc.machine.power("On")
    bmc.machine.boot("MemoryInitializationStarted")
    boot = until("the event of the start", lambda: _event(muster, "redfish.boot", "made-1"))
    say(f"how far it has started: {boot['message']}")
    bmc.machine.log(ENTRIES, "Fan 2 has failed.", Severity="Critical", MessageId="Environmental.1.0.FanFailed")
    failed = until("the event of the log", lambda: _event(muster, "redfish.fan", "made-1"))
    check(failed["severity"] == Severity.CRITICAL, f"an entry of the log: {failed['message']}")
    record = until("the record of the log", lambda: _record(muster, "Fan 2 has failed."))
    say(f"and a record of its log: {record['app']}: {record['message']}")
    until("the stream to be heard", lambda: bmc.events.streams)
    bmc.events.emit("StorageDevice.1.1.DriveFailure", "The drive in bay 1 has failed.", "Critical", origin=SYSTEM)
    heard = until("the event of the stream", lambda: _event(muster, "redfish.drive", "made-1"))
    say(f"an event of the stream: {heard['message']}")


def sessions(muster: Muster, bmc: Bmc) -> None:
    """One session is kept, and made again when it is over."""
    made_before = bmc.sessions.made
    check(made_before <= 3, f"a BMC has given {made_before} sessions after {bmc.answered} answers")
    bmc.sessions.expire()
    bmc.change(f"{SENSORS}/Inlet", Reading=26.75)
    until("a reading after the session was over", lambda: _inlet(muster) == 26.75)
    check(bmc.sessions.made == made_before + 1, "a session that is over is made again, and the readings go on")


def faults(muster: Muster, bmc: Bmc) -> None:
    """Garbage, an error, and silence: counted, and over when they are over."""
    before = _reader(muster)["faults_total"]
    for skip, fault in enumerate((Garbage(), Status(500), Garbage(b'{"Members": 7, "Reading": {}}'))):
        bmc.faults.add(fault, f"{SENSORS}*", skip=skip, times=1)
    until("faults to be counted", lambda: _reader(muster)["faults_total"] >= before + 2)
    say("garbage is counted, and harms nothing else")
    end = bmc.faults.add(Stall())
    until("the event of the loss", lambda: _event(muster, "redfish.bmc.lost", "made-1"))
    end()
    bmc.change(f"{SENSORS}/Inlet", Reading=27.25)
    until("the event of the return", lambda: _event(muster, "redfish.bmc.back", "made-1"))
    until("readings to go on", lambda: _inlet(muster) == 27.25)
    say("a BMC that falls silent is lost, and back when it speaks: each is an event")


def _fingerprint(certificate: Path) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text())).hexdigest()


def _inlet(muster: Muster) -> float | None:
    return _sensors(muster, "made-1", "bmc_temperature").get("Box/Inlet")


def _sensors(muster: Muster, name: str, *measurements: str) -> dict[str, float]:
    """Give the newest reading of each sensor of a BMC."""
    found = {}
    for measurement in measurements or ("bmc_temperature", "bmc_sensor"):
        where = f"device=bmc:{name}"
        for row in muster.rows(measurement, "--where", where, "--last", "--group", "sensor", "--limit", "1000"):
            values = [row[key] for key in row if key.endswith(UNITS) and row[key] is not None]
            if values:
                found[row["sensor"]] = values[0]
    return found


UNITS: Final = (
    "celsius", "watts", "volts", "amperes", "joules", "hertz", "rpm", "ratio", "pascals", "second", "value"
)  # fmt: skip


def _all_sensors(muster: Muster, name: str) -> None:
    def complete() -> dict[str, float] | None:
        found = _sensors(muster, name)
        return found if len(found) >= COUNTS[name] else None

    found = until(f"all sensors of {name}", complete)
    check(len(found) == COUNTS[name], f"a recorded machine, {name}: {len(found)} sensors")


def _board_device(muster: Muster) -> dict[str, Any] | None:
    found: list[dict[str, Any]] = muster.ask("devices", "--all", "--kind", "bmc")
    return next((one for one in found if one["capabilities"].get("machine_serial") == "MADE0001"), None)


def _event(muster: Muster, kind: str, bmc: str) -> dict[str, Any] | None:
    """Give the newest event of a type of a BMC."""
    rows = [row for row in muster.rows("event") if row["type"] == kind]
    found = next((row for row in reversed(rows) if f"bmc:{bmc}" in {row["node"], row["device"]}), None)
    return found and found | {"detail": json.loads(found["detail"])}


def _record(muster: Muster, text: str) -> dict[str, Any] | None:
    return next((row for row in muster.rows("log", "--contains", text)), None)


def _board(muster: Muster) -> dict[str, Any]:
    return muster.rows("bmc", "--where", "device=bmc:made-1", "--last")[0]


def _reader(muster: Muster) -> dict[str, Any]:
    return muster.rows("bmc_reader", "--where", "device=bmc:made-1", "--last")[0]


if __name__ == "__main__":
    sys.exit(main(script))
