"""Checkpoint 2 of the inventory, the ledger: facts and decisions, what they add up to, and that none of it gets lost.

Two nodes are real agents whose cards the script swaps; a third is simulated, and works for claims.

Requirements: R000-1, R001-1, R004-1, R004-8; invariants 1, 3, 5, 16 to 20.
"""

import asyncio
import http.client
import json
import os
import pwd
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

from aggregator.control_sqlite import SqliteControl
from aggregator.ledger import journal, snapshots
from aggregator.ledger.apply import apply
from aggregator.ledger.keeping import Keeping
from aggregator.ledger.ledger import Ledger
from aggregator.ledger.state import State
from aggregator.ledger.transitions import FIRST_SIGHT, TRANSITIONS
from aggregator.log import Entry, partition_of
from aggregator.log_sqlite import SqliteLog
from aggregator.migrate import LEDGER
from schemas.alerts import AlertTransition, encode_alert
from tests.acceptance.claims import call, lifecycle
from tests.acceptance.rack import Rack
from tests.acceptance.stage import Muster, check, main, stage, until

CONFIG = "[claiming]\nprovision_seconds = 20.0\n"
FLEET = ("--nodes", "1", "--interval", "0.5", "--claim-speed", "20")
DESCRIBED: Final = 3.0
"""Seconds in which each card is described six times."""


def script(folder: Path) -> None:
    """Swap cards, decide about them, and lose the ledger in every way that it may be lost."""
    with stage(folder, CONFIG) as muster:
        left, right = racks(muster)
        sequence = facts(muster, left)
        relations(muster)
        decisions(muster)
        axes(muster, left)
        replaced(muster, left)
        contradicted(muster, left, right)
        marked(muster)
        alerts(muster)
        watched(muster)
        past(muster, sequence)
        small(muster)
        table(muster)
        rebuilt(muster)
        claim, gpu = claimed(muster)
        saved(muster, claim, gpu, [left, right])
        lost(muster, claim, gpu)


def racks(muster: Muster) -> tuple[Rack, Rack]:
    """Start the server and two nodes."""
    muster.start("aggregator")
    muster.ready()
    left, right = Rack(muster, "left"), Rack(muster, "right")
    left.put(1, "gpu", "A1", group=19)
    left.put(2, "gpu", "A2", group=19)
    left.put(3, "gpu", "A3")
    left.put(4, "nic", "N1")
    vf: dict[str, Any] = {"parent": "pci:0000:04:00.0", "capabilities": {"vf_index": 0, "pci_device_id": "101e"}}
    left.put(5, "vf", group=50, **vf)
    right.put(1, "gpu", "B1")
    for rack in (left, right):
        rack.start()
    until("both nodes and their cards", lambda: len(serials(muster)) == 5 and len(muster.ask("devices")) == 6)
    return left, right


def listed(muster: Muster, more: str = "") -> list[dict[str, Any]]:
    """List devices over HTTP: asked again and again, a command line each time would take too long."""
    found: list[dict[str, Any]] = call(muster, "GET", f"/v1/devices?limit=10000{more}")[1]["devices"]
    return found


def serials(muster: Muster) -> dict[str, str]:
    """Give the device of each serial number; of two the one that is there."""
    found = [one for one in listed(muster) if one["part"].get("model", "").startswith("ACME")]
    found.sort(key=lambda one: one["reach"] != "absent")
    return {one["part"]["serial"]: one["id"] for one in found if one["part"].get("serial")}


def shown(muster: Muster, device: str) -> dict[str, Any]:
    """Give one device."""
    found: dict[str, Any] = call(muster, "GET", f"/v1/devices/{device}")[1]["device"]
    return found


def head(muster: Muster) -> tuple[int, int]:
    """Give the ledger's generation and sequence."""
    answer = call(muster, "GET", "/v1/devices?limit=1")[1]
    return answer["generation"], answer["sequence"]


def quiet(muster: Muster) -> tuple[int, int]:
    """Wait until what was begun is told, and give the ledger's generation and sequence."""

    def still() -> tuple[int, int] | None:
        before = head(muster)
        time.sleep(1.0)
        return before if head(muster) == before else None

    return until("a ledger to which nothing is added", still)


def entries(muster: Muster, device: str) -> list[dict[str, Any]]:
    """Give everything that happened to a device."""
    found: list[dict[str, Any]] = call(muster, "GET", f"/v1/devices/{device}/history")[1]["entries"]
    return found


def kinds(muster: Muster, device: str) -> list[str]:
    """Give what it was, in words."""
    return [one["kind"] for one in entries(muster, device)]


def facts(muster: Muster, rack: Rack) -> int:
    """What nodes say becomes entries of one sequence; what they say again becomes nothing."""
    device = serials(muster)["A3"]
    told = [one["kind"] for one in muster.ask("devices", device, "--history")]
    check(told[:2] == ["device.seen", "viewed"], f"a card that is described is two facts: {', '.join(told)}")
    before = quiet(muster)
    time.sleep(DESCRIBED)
    check(head(muster) == before, f"described again and again for {DESCRIBED:g} s, it is not one entry more")
    rack.put(3, "gpu", "A3", capabilities={"driver": "vfio-pci"})
    until("the change", lambda: shown(muster, device)["capabilities"].get("driver") == "vfio-pci")
    (last,) = entries(muster, device)[2:]
    size = len(json.dumps(last["data"]))
    check(
        last["kind"] == "view.changed" and "A3" not in json.dumps(last["data"]),
        f"one word that changes is one entry of {size} bytes, with that word alone: {last['data'].get('own')}",
    )
    return int(last["sequence"]) - 1


def relations(muster: Muster) -> None:
    """Which devices go only together, and which exclude each other, is derived."""
    ids = serials(muster)
    check(shown(muster, ids["A1"])["together"] == [ids["A2"]], "two GPUs of one IOMMU group are told to go together")
    (vf,) = [one["id"] for one in muster.ask("devices", "--kind", "vf")]
    port = shown(muster, ids["N1"])
    check(port["excludes"] == [vf] and shown(muster, vf)["excludes"] == [port["id"]], "a port excludes its function")
    for one in (ids["A1"], ids["A2"], ids["N1"], vf):
        muster.ask("clean", one, "--attest", "--statement", "new from the factory")
    claim = muster.ask("claims", "create", ids["A1"], vf, "--tenant", "blue", "--for", "vm-1")
    for device, why in ((ids["A2"], "group"), (ids["N1"], "part of it")):
        done = muster.run("claims", "create", device, "--tenant", "red", "--for", "vm-2")
        check(
            done.returncode == 1 and "blue" not in done.stderr,
            f"{why}: refused to another tenant: {_last(done.stderr)}",
        )
    muster.ask("claims", "release", claim["id"], "--yes")
    for device in (ids["A2"], ids["N1"]):
        given = muster.ask("claims", "create", device, "--tenant", "red", "--for", "vm-2")
        muster.ask("claims", "release", given["id"], "--yes")
    check(True, "once they are given back, the others can be had")


def _last(text: str) -> str:
    return text.strip().splitlines()[-1]


def decisions(muster: Muster) -> None:
    """Decisions stand in the same sequence, with who decided."""
    told = entries(muster, serials(muster)["A1"])
    words = [one["kind"] for one in told]
    check(
        "proved" in words and "granted" in words,
        f"facts and decisions are one history: {', '.join(words)}",
    )
    sequences = [one["sequence"] for one in told]
    check(sequences == sorted(set(sequences)), "in one order, each with its number")
    proof = shown(muster, serials(muster)["A1"])["evidence"]
    check(proof["statement"] == "new from the factory", f"and with who decided, and why: {proof['who']}")


def axes(muster: Muster, rack: Rack) -> None:
    """Whose it is, how it fares and whether it is there are three things."""
    device = serials(muster)["A2"]

    def axes_of() -> tuple[str, str, list[str]]:
        one = shown(muster, device)
        return one["lifecycle"], one["reach"], [mark["rule"] for mark in one["taints"]]

    check(axes_of() == ("free", "live", []), "a device is free, live, and unmarked")
    muster.ask("taint", device, "flaky", "--evidence", "falls off the bus")
    check(axes_of() == ("free", "live", ["flaky"]), "a mark is health: it is as free, and as live")
    rack.take(2)
    until("its absence", lambda: axes_of()[1] == "absent")
    check(axes_of() == ("free", "absent", ["flaky"]), "pulled it is absent: neither owner nor mark is forgotten")
    done = muster.run("claims", "create", device, "--tenant", "red", "--for", "vm-3")
    check(done.returncode == 1, f"and nobody gets it: {_last(done.stderr)}")
    rack.put(2, "gpu", "A2", group=19)
    until("its return", lambda: axes_of()[1] == "live")
    muster.ask("untaint", device, "flaky", "--why", "reseated")
    check(axes_of() == ("free", "live", []), "put back and unmarked it is what it was")
    (end,) = [one for one in entries(muster, device) if one["kind"] == "untainted"]
    check(end["data"]["why"].endswith("reseated"), f"the end of the mark is an entry, with why: {end['data']['why']}")


def replaced(muster: Muster, rack: Rack) -> None:
    """A new part in an old slot is a new device; part and slot have a history each; no claim passes over."""
    old = serials(muster)["A3"]
    muster.ask("clean", old, "--attest", "--statement", "new from the factory")
    claim = muster.ask("claims", "create", old, "--tenant", "blue", "--for", "vm-4")
    rack.put(3, "gpu", "A9")
    new = until("the new card", lambda: serials(muster).get("A9"))
    until("the old one's absence", lambda: shown(muster, old)["reach"] == "absent")
    one = shown(muster, new)
    check(
        new != old and one["lifecycle"] == "dirty" and not one["claim"],
        "a replaced card is a new device: dirty, nobody's",
    )
    state = call(muster, "GET", f"/v1/claims/{claim['id']}")[1]
    check(state["state"] == "invalid", f"the claim on the old one did not pass to it: {state['reason']}")
    slot = muster.ask("devices", new)["history"]["slot"]
    stays = [(stay["device"], stay["until"] is None) for stay in slot]
    check(stays == [(old, False), (new, True)], "the slot's history has both, one after the other")
    rack.put(6, "gpu", "A3")
    until("the old card in its new slot", lambda: shown(muster, old)["reach"] == "live")
    stays = [(stay["path"], stay["until"] is None) for stay in muster.ask("devices", old)["history"]["sights"]]
    check(stays == [("pci0000:00/03.0", False), ("pci0000:00/06.0", True)], "the part's history has both of its slots")
    out = muster.run("devices", new).stdout
    check(out.count("in this slot") == 2 and "(ledger " in out, "and 'muster devices ID' shows when")


def contradicted(muster: Muster, left: Rack, right: Rack) -> None:
    """One part in two places: both are marked, with both views, and an event says so; in one node and over two."""
    for rack, slot, serial, where in ((left, 7, "A9", "two slots"), (right, 2, "A1", "two nodes")):
        rack.put(slot, "gpu", serial)
        twins = until(f"a part in {where}", lambda serial=serial: _twins(muster, serial))  # type: ignore[misc]
        marks = {mark["rule"]: mark["evidence"] for one in twins for mark in one["taints"]}
        both = [one for one in twins if [mark["rule"] for mark in one["taints"]] == ["conflict"]]
        check(len(both) == 2, f"one part in {where}: both are marked: {marks['conflict']}")
        check(all(one["id"] in marks["conflict"] for one in twins), "with both views")
        done = muster.run("untaint", twins[0]["id"], "conflict")
        check(done.returncode == 1, f"nobody takes that off by hand: {_last(done.stderr)}")
        until("the event", lambda twins=twins: _events(muster, twins[1]["id"]))  # type: ignore[misc]
        check(True, f"and an event tells both views: {_events(muster, twins[1]['id'])[0]}")
        rack.take(slot)
        until("the end of it", lambda serial=serial: not _twins(muster, serial))  # type: ignore[misc]
        check(not [one for one in twins if shown(muster, one["id"])["taints"]], "once one is gone, neither is marked")


def _twins(muster: Muster, serial: str) -> list[dict[str, Any]]:
    found = [one for one in listed(muster, "&kind=gpu") if one["part"].get("serial") == serial]
    return [one for one in found if one["taints"]] if len(found) == 2 else []


def _events(muster: Muster, device: str) -> list[str]:
    rows = muster.rows("event", "type,message", "--limit", "5000")
    return [row["message"] for row in rows if row["type"] == "divergence.began" and device in row["message"]]


def marked(muster: Muster) -> None:
    """A mark has rule, effect, evidence, who and an end; it keeps claims away from what does not tolerate it."""
    device = serials(muster)["B1"]
    muster.ask("clean", device, "--attest", "--statement", "new from the factory")
    body = {"rule": "ecc", "effect": "Drain", "evidence": "row remapping failed", "seconds": 2.0}
    status, told = call(muster, "POST", f"/v1/devices/{device}/taints", body)
    check(status == 201 and told["expires_ns"] - told["since_ns"] == 2 * 10**9, "by API: a mark for two seconds")
    check((told["rule"], told["evidence"]) == ("ecc", "row remapping failed"), "rule and evidence")
    check(told["who"].startswith(f"local:{pwd.getpwuid(os.getuid()).pw_name}"), f"and who, by name: {told['who']}")
    claim = {"tenant": "t1", "consumer": "vm-5", "devices": [{"device": device}]}
    status, refused = call(muster, "POST", "/v1/claims", claim)
    check(status == 409 and refused["objections"][0]["reason"] == "taint.ecc", f"it is not given: {refused['detail']}")
    until("its end", lambda: not shown(muster, device)["taints"])
    (end,) = [one for one in entries(muster, device) if one["kind"] == "untainted"]
    check(end["data"]["why"] == "its time is up", "its end is recorded, not recomputed")
    muster.ask("taint", "--node", "right", "fan-swap", "--for", "1h")
    status, refused = call(muster, "POST", "/v1/claims", claim)
    check(status == 409 and refused["objections"][0]["reason"] == "taint.fan-swap", "a node's mark is on all of it")
    status, told = call(muster, "POST", "/v1/claims", claim | {"tolerations": ["fan-swap"]})
    check(status == 201, "who tolerates it gets the device")
    muster.ask("claims", "release", told["id"], "--yes")
    muster.ask("untaint", "--node", "right", "fan-swap")
    done = muster.run("untaint", "--node", "right", "fan-swap")
    check(done.returncode == 1, f"what is not there is not taken off: {_last(done.stderr)}")


def alerts(muster: Muster) -> None:
    """Alerts mark by the topic `alert`; each mark ends with its own alert, though the rule is the same."""
    device = serials(muster)["B1"]

    def rules() -> list[str]:
        return sorted(mark["alert"] for mark in shown(muster, device)["taints"])

    def say(*told: tuple[str, int, bool]) -> None:
        made = [AlertTransition(fingerprint, number, time.time_ns(), firing, "nvml.xid", "critical", "right",
                                "pci:0000:01:00.0", "Xid 79" if firing else "over", "NoSchedule")
                for fingerprint, number, firing in told]  # fmt: skip
        muster.stop("aggregator")
        asyncio.run(_append(muster, [encode_alert(one) for one in made]))
        muster.start("aggregator")
        muster.ready()

    say(("f-79", 1, True), ("f-48", 1, True))
    until("both marks", lambda: rules() == ["f-48", "f-79"])
    check(True, "two alerts of one rule, published in the topic 'alert', are two marks")
    say(("f-79", 1, True), ("f-79", 2, False))
    until("the end of one", lambda: rules() == ["f-48"])
    check(True, "one that is over takes off its own, whatever is published again")
    say(("f-48", 2, False))
    until("the end of both", lambda: rules() == [])
    whys = [one["data"]["why"] for one in entries(muster, device) if one["kind"] == "untainted"]
    check(whys[-2:] == ["over", "over"], "both ends are in its history")


async def _append(muster: Muster, records: list[bytes]) -> None:
    """Publish what the alert rules will conclude."""
    log = SqliteLog(muster.data_dir / "aggregator" / "log.db")
    await log.append([Entry("alert", partition_of("right", log.partitions), record) for record in records])
    await log.close()


class Told(NamedTuple):
    """A server-sent event."""

    id: str
    kind: str
    data: Any


@contextmanager
def stream(muster: Muster, token: str, after: str = "", last: str = "") -> Iterator[Iterator[Told]]:
    """Watch over the network, from a place."""
    connection = http.client.HTTPConnection("127.0.0.1", muster.port, timeout=30)
    headers = {"Authorization": f"Bearer {token}"} | ({"Last-Event-ID": last} if last else {})
    with closing(connection):
        connection.request("GET", f"/v1/watch?after={after}", headers=headers)
        answer = connection.getresponse()
        yield (
            _told(answer)
            if answer.status == 200
            else iter([Told("", str(answer.status), json.loads(answer.read())["code"])])
        )


def _told(answer: http.client.HTTPResponse) -> Iterator[Told]:
    id_ = kind = ""
    for line in answer:
        name, _, value = line.decode().strip().partition(": ")
        id_ = value if name == "id" else id_
        kind = value if name == "event" else kind
        if name == "data":
            yield Told(id_, kind, json.loads(value))


def watched(muster: Muster) -> None:
    """List, then watch from there; who comes back misses nothing and gets nothing twice; who cannot is told."""
    token = muster.ask("token", "create", "watcher", "--scope", "read")["secret"]
    device = serials(muster)["A1"]
    generation, sequence = head(muster)

    def change(number: int) -> None:
        muster.ask("taint", device, f"watched-{number}")

    for number in (1, 2):
        change(number)
    with stream(muster, token, f"{generation}.{sequence}") as events:
        first = next(events)
    check(
        first.data["data"]["taint"]["rule"] == "watched-1",
        "a list says where to watch from, and nothing in between is missed",
    )
    check(first.data["views"][0]["id"] == device, "an event has the entry, and the device as it is now")
    muster.stop("aggregator", signal.SIGKILL)
    muster.start("aggregator")
    muster.ready()
    change(3)
    with stream(muster, token, last=first.id) as events:
        rest = [next(events) for _ in range(2)]
    numbers = [first.data["sequence"], *(one.data["sequence"] for one in rest)]
    check(
        numbers == list(range(sequence + 1, sequence + 4)),
        "after a SIGKILL it goes on behind the last: none missed, none twice",
    )
    for place, why in (
        (f"{generation}.{sequence + 999}", "not written yet"),
        (f"{generation + 7}.1", "another ledger's"),
    ):
        with stream(muster, token, place) as events:
            refused = next(events)
        check((refused.kind, refused.data) == ("410", "ledger.gone"), f"a place that is {why} is refused: list again")
    for number in (1, 2, 3):
        muster.ask("untaint", device, f"watched-{number}")


def past(muster: Muster, sequence: int) -> None:
    """Any past is what it was."""
    then = muster.ask("devices", "--all", "--as-of", str(sequence))
    again = muster.ask("devices", "--all", "--as-of", str(sequence))
    a3 = next(one for one in then if one["part"].get("serial") == "A3")
    check(
        a3["lifecycle"] == "dirty" and "driver" not in a3["capabilities"],
        f"--as-of {sequence}: the fleet before all this",
    )
    check(then == again and len(then) == 6, "the same each time")
    times = muster.ask("devices", a3["id"])["times_ns"]
    began = min(times.values())
    moment = call(muster, "GET", f"/v1/devices?as_of={began}")[1]
    check(0 < moment["sequence"] <= sequence, "a time does as well as a sequence")
    early = muster.run("devices", "--as-of", "1h")
    check(early.returncode == 1 and "begins at" in early.stderr, "an hour ago there was no ledger, and it says so")
    wrong = muster.run("devices", "--as-of", "tuesday")
    check(wrong.returncode == 1, f"what is no time is refused: {_last(wrong.stderr)}")


def small(muster: Muster) -> None:
    """Only changes are stored."""
    before = quiet(muster)
    time.sleep(DESCRIBED)
    check(head(muster) == before, "while nothing changes, nothing is written")


def table(muster: Muster) -> None:
    """Every way on that any device has gone is a line of the table, and what is not there is refused."""
    allowed = {(line.source.value, line.target.value) for line in TRANSITIONS}
    steps: set[tuple[str, str]] = set()
    for device in [one["id"] for one in muster.ask("devices", "--kind", "gpu")]:
        lives = [
            call(muster, "GET", f"/v1/devices/{device}?as_of={one['sequence']}")[1]["device"]["lifecycle"]
            for one in entries(muster, device)
        ]
        check(lives[0] in {one.value for one in FIRST_SIGHT.values()}, f"{device}: {' -> '.join(_runs(lives))}")
        steps |= {(one, other) for one, other in pairwise(lives) if one != other}
    check(steps <= allowed and len(steps) >= 4, f"all of it by the table of {len(TRANSITIONS)} transitions")
    device = serials(muster)["A1"]
    status, problem = call(muster, "POST", f"/v1/devices/{device}/clean", {})
    check(
        (status, problem["code"]) == (409, "ledger.transition"),
        f"what is not in it does not happen: {problem['detail']}",
    )


def _runs(words: list[str]) -> list[str]:
    return [word for at, word in enumerate(words) if at == 0 or words[at - 1] != word]


def rebuilt(muster: Muster) -> None:
    """From the entries alone, and from a snapshot and the entries after it: the same state, by its hash."""
    before = muster.ask("devices", "--all")
    muster.stop("aggregator", signal.SIGKILL)
    path = muster.data_dir / "aggregator" / "ledger.db"
    snapshot, loaded, replayed, prefixes = asyncio.run(_digests(path))
    check(
        loaded == replayed,
        f"replayed from its {prefixes} entries, the ledger has the hash that it starts with: {loaded}",
    )
    check(snapshot == replayed, "and so has what a snapshot gives")
    muster.start("aggregator")
    muster.ready()

    def settled(devices: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{key: value for key, value in one.items() if key not in ("changed", "reach")} for one in devices]

    check(settled(muster.ask("devices", "--all")) == settled(before), "started again, it lists what it listed")


async def _digests(path: Path) -> tuple[str, str, str, int]:
    """Give the hash by a snapshot, as the ledger opens, and by replaying each entry; and how many there are."""
    database = SqliteControl(path, schema=LEDGER)
    database.open()
    try:
        every = await database.read(lambda connection: list(journal.read(connection, 0)))
        replayed = State()
        for one in every:
            apply(replayed, one.sequence, one.time_ns, one.entry)
        ledger = Ledger(database, "acceptance")
        await ledger.open()
        opened = ledger.peek().digest()
        keeping = Keeping(ledger)
        await keeping.snapshot()
        await ledger.close()
        loaded = await database.read(lambda connection: snapshots.load(connection, until=every[-1].sequence))
        return loaded.digest(), opened, replayed.digest(), len(every)
    finally:
        await database.close()


def claimed(muster: Muster) -> tuple[str, str]:
    """A simulated node is given a claim. Gives the claim and its GPU."""
    muster.start("fleet", *FLEET, program="collectors.fleet_main")

    def gpus() -> list[dict[str, Any]]:
        found = [one for one in listed(muster, "&kind=gpu") if one["part"]["vendor"] == "Simulated"]
        return found if len(found) == 8 else []

    gpu = until("a simulated node", gpus)[0]
    muster.ask("clean", gpu["id"], "--attest", "--statement", "new from the factory")
    claim = muster.ask("claims", "create", gpu["id"], "--tenant", "blue", "--for", "vm-6")
    return str(claim["id"]), str(gpu["id"])


def saved(muster: Muster, claim: str, gpu: str, racks_: list[Rack]) -> None:
    """A backup beside a working server; restored it is a new generation, which learns what it does not know."""
    archive = muster.folder / "muster.tar"
    made = muster.ask("backup", str(archive))
    check(made["sequence"] == head(muster)[1], f"a backup, while everything works, up to sequence {made['sequence']}")
    again = muster.run("backup", str(archive))
    check(again.returncode == 1, f"never over a file: {_last(again.stderr)}")
    generation, _ = head(muster)
    muster.ask("claims", "provision", claim)
    until("the node's word", lambda: call(muster, "GET", f"/v1/claims/{claim}")[1]["state"] == "active")
    running = muster.run("restore", "--force", str(archive))
    check(running.returncode != 0, f"not into a server that runs: {_last(running.stderr)}")
    muster.stop("aggregator")
    kept = muster.run("restore", str(archive))
    check(kept.returncode == 1, f"nor over what is there, unless told: {_last(kept.stderr)}")
    for rack in racks_:
        muster.stop(f"agent-{rack.name}")
    muster.ask("restore", "--force", str(archive))
    muster.start("aggregator")
    muster.ready()
    check(head(muster)[0] > generation, f"restored, it is generation {head(muster)[0]}")
    silent = shown(muster, serials(muster)["B1"])
    check(silent["reach"] in ("unverified", "stale"), f"a device whose node has not spoken since is {silent['reach']}")
    until("the checkpoint of the other", lambda: lifecycle(muster, gpu) == "assigned")
    one = call(muster, "GET", f"/v1/claims/{claim}")[1]
    check(one["state"] == "active", "the node's checkpoint tells what the backup did not know: the claim is active")
    for rack in racks_:
        rack.start()
    until("their word", lambda: shown(muster, serials(muster)["B1"])["reach"] == "live")
    check(True, "who speaks again is live again")


def lost(muster: Muster, claim: str, gpu: str) -> None:
    """The file is gone, without any backup: the nodes' checkpoints bring back who has what."""
    muster.stop("aggregator", signal.SIGKILL)
    for path in (muster.data_dir / "aggregator").glob("ledger.db*"):
        path.unlink()
    muster.start("aggregator")
    muster.ready()
    until("the claim", lambda: call(muster, "GET", f"/v1/claims/{claim}")[0] == 200)
    until("its device", lambda: lifecycle(muster, gpu) == "assigned")
    one = call(muster, "GET", f"/v1/claims/{claim}")[1]
    check(
        (one["tenant"], one["consumer"], one["state"]) == ("blue", "vm-6", "active"),
        "the ledger is lost: the claim is back from its node's checkpoint, with tenant, consumer and device",
    )
    done = muster.run("claims", "create", gpu, "--tenant", "red", "--for", "vm-7")
    check(done.returncode == 1, f"and nobody else gets it: {_last(done.stderr)}")
    muster.ask("claims", "release", claim, "--yes")
    until("a clean device", lambda: lifecycle(muster, gpu) == "free")
    check(True, "given back it is cleaned by its node, and free by its own readback")


if __name__ == "__main__":
    sys.exit(main(script))
