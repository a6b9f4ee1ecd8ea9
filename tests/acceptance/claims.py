"""Checkpoint 3 of the inventory: claims end to end, over a simulated fleet, by the command line and the API.

Requirements: R003-2, R004-2; invariants 1, 6, 7, 11, 12, 13, 15.
"""

import socket
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from collectors.transport import Transport
from tests.acceptance.stage import FailedError, Muster, check, main, stage, until
from tests.faults.rig import ask
from tests.hammer.reader import Reader

CONFIG = "[claiming]\nprovision_seconds = 20.0\n"


def script(folder: Path) -> None:
    """A fleet of two nodes, two tenants, and everything that can happen to a claim."""
    with stage(folder, CONFIG) as muster:
        muster.start("aggregator")
        muster.ready()
        muster.start("fleet", "--nodes", "2", "--interval", "0.5", "--claim-speed", "20",
                     program="collectors.fleet_main")  # fmt: skip
        ids = adopted(muster)
        life(muster, ids)
        gang(muster, ids)
        doomed = dying_node(muster, ids)
        evidence(muster, ids)
        tenants(muster, ids)
        writes(muster, ids)
        dead_node(muster, ids, doomed)
        muster.stop()
    reader = Reader().read(folder / "data" / "aggregator" / "ledger.db")
    check(reader.grants >= 5 and reader.problems == [], f"an independent reader of {reader.grants} grants: none twice")


def call(muster: Muster, method: str, path: str, body: object = None, token: str = "") -> tuple[int, Any]:
    """Ask the API: as this machine's operator by the socket, or over the network with a token."""
    address = muster.address if token else f"unix://{muster.data_dir / 'muster.sock'}"
    data = None if body is None else msgspec.json.encode(body)
    answer = ask(address, method, path, data, token=token, content_type="application/json")
    return answer.status, msgspec.json.decode(answer.body) if answer.body else None


def state(muster: Muster, claim: str) -> str:
    """Give what a claim is."""
    return str(call(muster, "GET", f"/v1/claims/{claim}")[1]["state"])


def lifecycle(muster: Muster, device: str) -> str:
    """Give what a device is."""
    return str(call(muster, "GET", f"/v1/devices/{device}")[1]["device"]["lifecycle"])


def adopted(muster: Muster) -> dict[str, list[str]]:
    """Nothing is free at first sight; an operator's word makes it so. Gives GPUs, functions and drives by node."""
    found: dict[str, list[str]] = {}

    def known() -> bool:
        found.clear()
        for kind in ("gpu", "vf", "nvme"):
            for one in muster.ask("devices", "--kind", kind):
                if one["reach"] == "live":
                    found.setdefault(f"{one['node_name']}/{kind}", []).append(one["id"])
        return len(found) == 6 and all(len(found[f"sim-000{node}/gpu"]) == 8 for node in (1, 2))

    until("two nodes and their devices", known)
    first = [found[name][0] for name in sorted(found)]
    check({lifecycle(muster, one) for one in first} == {"dirty"}, "what is first seen is nobody's, and not free")
    for names in found.values():
        muster.ask("clean", *names[:4], "--attest", "--statement", "new from the factory")
    check({lifecycle(muster, one) for one in first} == {"free"}, "an operator's recorded word makes it free")
    return found


def life(muster: Muster, ids: dict[str, list[str]]) -> None:
    """One GPU, two functions and a drive: claimed, made ready, given back, cleaned with evidence of each kind."""
    wanted = [ids["sim-0001/gpu"][0], *ids["sim-0001/vf"][:2], ids["sim-0001/nvme"][0]]
    claim = muster.ask("claims", "create", *wanted, "--tenant", "blue", "--for", "worker-1")
    check(claim["state"] == "reserved", "a GPU, two virtual functions and a drive are one worker's")
    second = muster.run("claims", "create", wanted[0], "--tenant", "red", "--for", "worker-2")
    check(second.returncode != 0 and "reserved" in second.stderr, "the second worker is refused, and told why")
    muster.ask("claims", "provision", claim["id"])
    until("the node's word", lambda: state(muster, claim["id"]) == "active")
    check({lifecycle(muster, one) for one in wanted} == {"assigned"}, "the node confirmed part, group and epoch")
    muster.ask("claims", "release", claim["id"], "--yes")
    until("clean devices", lambda: {lifecycle(muster, one) for one in wanted} == {"free"})
    proofs = [call(muster, "GET", f"/v1/devices/{one}")[1]["device"]["evidence"] for one in wanted]
    kinds = {proof["readback"]["kind"] for proof in proofs}
    check(kinds == {"gpu", "vf", "nvme"}, "each is free by its own readback: a document of its kind")
    used = call(muster, "GET", f"/v1/usage?claim={claim['id']}&energy=true")[1][0]
    check(used["tenant"] == "blue" and len(used["devices"]) == 4 and used["seconds"] > 0, "and its use is recorded")


def gang(muster: Muster, ids: dict[str, list[str]]) -> None:
    """All or nothing over two nodes."""
    wanted = [ids["sim-0001/gpu"][1], ids["sim-0002/gpu"][1]]
    fault(muster, "sim-0002", "prepare_fails")
    claim = muster.ask("claims", "create", *wanted, "--tenant", "blue", "--for", "gang")
    muster.ask("claims", "provision", claim["id"])
    until("the undo", lambda: state(muster, claim["id"]) == "failed")
    fault(muster, "sim-0002", "prepare_fails", "--clear")
    until("clean devices", lambda: {lifecycle(muster, one) for one in wanted} == {"free"})
    check(True, "one node's hook failed: the other's device was taken back, both were cleaned")


def evidence(muster: Muster, ids: dict[str, list[str]]) -> None:
    """Forged or missing evidence frees nothing."""
    gpu = ids["sim-0001/gpu"][2]
    for lie in ("evidence_other_part", "evidence_old", "evidence_missing", "evidence_bad"):
        claim = muster.ask("claims", "create", gpu, "--tenant", "blue", "--for", lie)
        muster.ask("claims", "provision", claim["id"])
        until("the claim", lambda claim=claim: state(muster, claim["id"]) == "active")  # type: ignore[misc]
        fault(muster, "sim-0001", lie)
        muster.ask("claims", "release", claim["id"], "--yes")
        until(f"quarantine by {lie}", lambda: lifecycle(muster, gpu) == "quarantined")
        fault(muster, "sim-0001", lie, "--clear")
        muster.ask("clean", gpu)
        until("a true clean", lambda: lifecycle(muster, gpu) == "free")
        check(True, f"{lie}: quarantined; cleaned again with true evidence, it is free")


def dying_node(muster: Muster, ids: dict[str, list[str]]) -> str:
    """A node falls silent, and force frees nothing. Gives the claim: it takes a while until the node counts as dead."""
    gpu = ids["sim-0002/gpu"][2]
    claim = muster.ask("claims", "create", gpu, "--tenant", "blue", "--for", "doomed")
    muster.ask("claims", "provision", claim["id"])
    until("the claim", lambda: state(muster, claim["id"]) == "active")
    fault(muster, "sim-0002", "node_silent")
    muster.ask("claims", "release", claim["id"], "--yes")
    check(state(muster, claim["id"]) == "releasing", "a release without the node's word frees nothing")
    return str(claim["id"])


def dead_node(muster: Muster, ids: dict[str, list[str]], claim: str) -> None:
    """A dead node: its BMC's word ends the claim, and what it had is cleaned first."""
    gpu = ids["sim-0002/gpu"][2]
    check(state(muster, claim) == "releasing", "nor does it after a while")
    until("a stale node", lambda: call(muster, "GET", f"/v1/devices/{gpu}")[1]["device"]["reach"] == "stale")
    muster.ask("nodes", "fence", "sim-0002", "--power", "Off", "--yes")
    check((state(muster, claim), lifecycle(muster, gpu)) == ("released", "dirty"), "powered off: over, and dirty")
    fault(muster, "sim-0002", "node_silent", "--clear")
    until("the clean of the node that is back", lambda: lifecycle(muster, gpu) == "free")
    check(True, "the node is back, and cleaned what it had")


def tenants(muster: Muster, ids: dict[str, list[str]]) -> None:
    """A tenant sees its own, and there is nothing else to see."""
    gpu = ids["sim-0001/gpu"][3]
    claim = muster.ask("claims", "create", gpu, "--tenant", "blue", "--for", "secret")
    red = muster.ask("token", "create", "red-scheduler", "--scope", "claims:red")["secret"]
    theirs = f"/v1/claims/{claim['id']}"
    seen = [call(muster, method, theirs + more, None, red)[0] for method, more in
            (("GET", ""), ("DELETE", ""), ("POST", "/provision"), ("POST", "/renew"))]  # fmt: skip
    check(seen == [404] * 4, "for another tenant there is no such claim")
    check(call(muster, "GET", "/v1/claims", None, red)[1] == [], "its list is empty")
    check(call(muster, "GET", "/v1/usage", None, red)[1] == [], "and so is its usage")
    check(call(muster, "GET", "/v1/devices", None, red)[0] == 403, "device ids are not for it to read")


def writes(muster: Muster, ids: dict[str, list[str]]) -> None:
    """Repetitions, conditional writes, leases, quotas and amounts."""
    gpu = ids["sim-0001/gpu"][1]
    body = {"tenant": "green", "consumer": "job", "devices": [{"device": gpu}], "lease_seconds": 60.0}
    first = sent(muster, "POST", "/v1/claims", body, {"Idempotency-Key": "k-1"})
    again = sent(muster, "POST", "/v1/claims", body, {"Idempotency-Key": "k-1"})
    check(first[1]["id"] == again[1]["id"], "a request that comes again with its Idempotency-Key is the same claim")
    status, _ = sent(muster, "POST", "/v1/claims", {**body, "consumer": "other"}, {"Idempotency-Key": "k-1"})
    check(status == 409, "another request under that key is refused")
    path, read = f"/v1/claims/{first[1]['id']}", {"If-Match": f'"{first[1]["version"]}"'}
    status, renewed = sent(muster, "POST", f"{path}/renew", {"lease_seconds": 7200.0}, read)
    check(
        status == 200 and renewed["left_seconds"] > 7000,
        f"a lease is renewed: {renewed['left_seconds']:.0f} s",
    )
    status, _ = sent(muster, "DELETE", path, None, read)
    check(status in (409, 412), "who has read an older claim changes nothing")
    check(renewed["epoch"] == first[1]["epoch"], "a renewal leaves the epoch of the grant")
    muster.ask("claims", "release", first[1]["id"], "--yes")
    later = sent(muster, "POST", "/v1/claims", body, {})[1]
    check(epoch(later) > epoch(first[1]), "a later grant of the same device has a higher one")
    muster.ask("quota", "set", "green", "claims=1")
    status, told = sent(muster, "POST", "/v1/place", {"tenant": "green", "consumer": "x", "amounts": {"vcpus": 1}}, {})
    check(status == 409, f"no more than its quota: {told['detail']}")
    muster.ask("quota", "set", "*", "vcpus=4")
    status, told = sent(muster, "POST", "/v1/place", {"tenant": "lila", "consumer": "x", "amounts": {"vcpus": 5}}, {})
    check(status == 409, f"nor than everybody's: {told['detail']}")
    status, told = sent(muster, "POST", "/v1/place", {"tenant": "lila", "consumer": "x", "amounts": {"vcpus": 4}}, {})
    check(status == 201 and [*told["amounts"].values()] == [{"vcpus": 4}], "amounts alone are a claim too")
    for claim in (later["id"], told["id"]):
        muster.ask("claims", "release", claim, "--yes")


def epoch(claim: dict[str, Any]) -> tuple[int, ...]:
    """Give the epoch of a claim: generation and sequence of its grant."""
    return tuple(int(number) for number in claim["epoch"].split("."))


def sent(muster: Muster, method: str, path: str, body: object, headers: dict[str, str]) -> tuple[int, Any]:
    """Ask over the local socket, with headers."""
    transport = Transport([f"unix://{muster.data_dir / 'muster.sock'}"])
    data = None if body is None else msgspec.json.encode(body)
    try:
        answer = transport.request(method, path, data, {"Content-Type": "application/json", **headers})
    finally:
        transport.close()
    return answer.status, msgspec.json.decode(answer.body) if answer.body else None


def fault(muster: Muster, node: str, name: str, *more: str) -> None:
    """Let something go wrong with a node's claims, or end it, and wait until it is so."""
    words = {"do": "clear" if more else "fault", "fault": name, "node": node}
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(20.0)
        sock.connect(str(muster.data_dir / "fleet" / "control.sock"))
        sock.sendall(msgspec.json.encode(words) + b"\n")
        answer = msgspec.json.decode(sock.makefile("rb").readline())
    if "error" in answer:
        raise FailedError(f"{name}: {answer['error']}")
    time.sleep(1.2)  # faults begin and end with a step of the simulation, of which there are two a second


if __name__ == "__main__":
    sys.exit(main(script))
