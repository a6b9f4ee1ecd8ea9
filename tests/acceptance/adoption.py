"""Adoption and node life: what is in use already, whose word counts, where views differ, and nodes that come and go.

Requirements: R002-5, R004-1, R004-6; checkpoint 4 of the inventory.
"""

import sys
from pathlib import Path
from typing import Any

from tests.acceptance.feeds import CONFIG, FLEET, post, six
from tests.acceptance.stage import Muster, check, main, stage, until

DOMAIN = """<domain type='kvm' id='1'><name>{name}</name><devices><hostdev mode='subsystem' type='pci'><source>
<address domain='0x0000' bus='{bus}' slot='0x00' function='0x0'/></source></hostdev></devices></domain>
"""
FIRST, OTHER, CLAIMED = "0000:a3:00.0", "0000:44:00.0", "0000:27:00.0"


def script(folder: Path) -> None:
    """Bring a server under Muster that others use already."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fleet.toml").write_text(FLEET)
    with stage(folder, CONFIG) as muster:
        muster.start("up", "--fleet", str(folder / "fleet.toml"), "--quiet")
        muster.ready()
        gpus = until("six GPUs in the ledger", lambda: six(muster))
        node, id_ = gpus[0]["node_name"], gpus[0]["node"]
        waits(muster, node)
        records(muster, folder, node)
        attested(muster, node)
        claim = claimed(muster, folder, node)
        drained(muster, node, claim)
        named(muster, node, id_)
        gone(muster, id_)


def at(muster: Muster, address: str) -> dict[str, Any]:
    """Give the GPU at an address."""
    (found,) = [one for one in muster.ask("devices", "--kind", "gpu") if one["slot"]["address"] == address]
    return dict(found)


def waits(muster: Muster, node: str) -> None:
    """Nothing is free before somebody says so."""
    found = muster.ask("adopt", "--node", node, "--kind", "gpu")
    reasons = {one["why"] for one in found}
    check(len(found) == 6 and {one["lifecycle"] for one in found} == {"dirty"}, f"six GPUs wait: {', '.join(reasons)}")


def records(muster: Muster, folder: Path, node: str) -> None:
    """libvirt's domains make devices foreign, and let them go."""
    path = folder / "domains.xml"
    path.write_text(DOMAIN.format(name="old-1", bus="0xa3") + DOMAIN.format(name="old-2", bus="0x44"))
    taken = muster.ask("adopt", "--records", str(path), "--node", node)
    check((taken["uses"], taken["unknown"]) == (2, 0), f"two domains of libvirt are recorded as {taken['source']}")
    gpu = at(muster, FIRST)
    check(gpu["lifecycle"] == "foreign", "what a domain has is foreign, whatever the node sees")
    why = next(one["why"] for one in muster.ask("adopt", "--node", node) if one["device"] == gpu["id"])
    check("old-1" in why and taken["source"] in why, f"and it says who has it: {why}")
    before = muster.ask("devices", gpu["id"])["device"]["changed"]
    muster.ask("adopt", "--records", str(path), "--node", node)
    check(muster.ask("devices", gpu["id"])["device"]["changed"] == before, "the same again changes nothing")
    path.write_text(DOMAIN.format(name="old-1", bus="0xa3"))
    muster.ask("adopt", "--records", str(path), "--node", node)
    check(at(muster, OTHER)["lifecycle"] == "dirty", "what is named no more is let go, and dirty")


def attested(muster: Muster, node: str) -> None:
    """An operator's word makes free what nobody uses, all or none."""
    refused = muster.run("adopt", "--attest", "--node", node, "--kind", "gpu", "--yes")
    check(refused.returncode == 1 and "statement" in refused.stderr, "no attestation without a statement")
    wrong = muster.run("adopt", "--attest", at(muster, FIRST)["id"], "--statement", "sure", "--yes")
    check(wrong.returncode == 1 and at(muster, FIRST)["lifecycle"] == "foreign", "nobody vouches for what is in use")
    told = ("--attest", "--statement", "reset and looked through", "--node", node)
    done = muster.ask("adopt", *told, "--where", "device.kind == 'gpu'", "--yes")
    check(len(done["attested"]) == 5, "one word frees the five GPUs that nobody uses")
    evidence = muster.ask("devices", done["attested"][0])["device"]["evidence"]
    recorded = evidence["ground"] == "attestation" and "looked through" in evidence["statement"]
    check(recorded, f"recorded with each: by {evidence['who']}")
    check(at(muster, FIRST)["lifecycle"] == "foreign", "and not the one in use")


def claimed(muster: Muster, folder: Path, node: str) -> str:
    """A promise of what somebody has is taken back; what a node was told of is told with both views, and kept."""
    gpu = at(muster, CLAIMED)
    body = {"tenant": "t1", "consumer": "vm-7", "devices": [{"device": gpu["id"]}]}
    status, claim = post(muster, "/v1/claims", body)
    check(status == 201, f"a free GPU is claimed: {claim['id']}")
    path = folder / "more.xml"
    path.write_text(DOMAIN.format(name="stray", bus="0x27"))
    muster.ask("adopt", "--records", str(path), "--node", node, "--source", "by-hand")
    promise = muster.ask("claims", "show", claim["id"])
    check(promise["state"] == "invalid", f"a record names it, and the promise is taken back: {promise['reason']}")
    check(at(muster, CLAIMED)["lifecycle"] == "foreign", "the GPU is who has it's")
    muster.ask("adopt", "--drop-record", "by-hand", "--yes")
    muster.ask("adopt", "--attest", gpu["id"], "--statement", "looked through again", "--yes")
    _, claim = post(muster, "/v1/claims", body)
    muster.ask("claims", "provision", claim["id"])
    until("the claim", lambda: muster.ask("claims", "show", claim["id"])["state"] == "active")
    muster.ask("adopt", "--records", str(path), "--node", node, "--source", "by-hand")
    found = until("the divergence", lambda: divergences(muster))
    seen = {(one["kind"], one["device"], one["claim"]) for one in found}
    check(("claim.foreign", gpu["id"], claim["id"]) in seen, f"both views: {found[0]['ledger']} / {found[0]['seen']}")
    check(at(muster, CLAIMED)["lifecycle"] == "assigned", "and the claim keeps its device")
    muster.ask("adopt", "--drop-record", "by-hand", "--yes")
    until("its end", lambda: not divergences(muster))
    events = until("both events", lambda: told(muster, "divergence.ended"))
    check(len(told(muster, "divergence.began")) == len(events) == 1, "its beginning and its end are one event each")
    return str(claim["id"])


def divergences(muster: Muster) -> list[dict[str, Any]]:
    """Give what does not agree: status 1 when there is something."""
    import json

    found: list[dict[str, Any]] = json.loads(muster.run("reconcile", "-o", "json").stdout)
    return found


def told(muster: Muster, type_: str) -> list[dict[str, Any]]:
    """Give the events of a type."""
    return [row for row in muster.rows("event", "type,message", "--limit", "5000") if row["type"] == type_]


def drained(muster: Muster, node: str, claim: str) -> None:
    """A drain tells who must leave, and ends when they have left."""
    decided = muster.ask("nodes", "drain", node, "--why", "new kernel")
    check([one["claim"] for one in decided["claims"]] == [claim], "a drain lists the claims that must leave")
    until("the word to its consumer", lambda: told(muster, "claim.must_leave"))
    waited = muster.run("nodes", "drain", node, "--why", "new kernel", "--wait", "1s")
    check(waited.returncode == 1 and claim in waited.stdout, "--wait says who is left when the time is up")
    status, _ = delete(muster, f"/v1/claims/{claim}")
    done = muster.run("nodes", "drain", node, "--why", "new kernel", "--wait", "30s")
    check(status == 200 and done.returncode == 0, f"and ends once they have left: {done.stdout.strip()}")
    until("the end of the drain", lambda: told(muster, "node.drained"))
    muster.ask("nodes", "uncordon", node)
    muster.ask("nodes", "maintenance", node, "--for", "2s", "--why", "new fans")
    check(state(muster, node) == "maintenance", "maintenance shows")
    until("its end", lambda: state(muster, node) is None)
    check(len(told(muster, "node.maintenance_ended")) <= 1, "and runs out by itself")


def state(muster: Muster, node: str) -> str | None:
    """Give what was ordered of a node."""
    (life,) = [one["life"] for one in muster.ask("nodes") if one["node"]["host_name"] == node]
    if life["maintenance_until_ns"]:
        return "maintenance"
    return life["draining"] or life["cordoned"] or None


def named(muster: Muster, node: str, id_: str) -> None:
    """A node is called what its operator says."""
    muster.ask("nodes", "rename", node, "rack4-top")
    names = {one["node"]["id"]: one["node"]["host_name"] for one in muster.ask("nodes")}
    check(names[id_] == "rack4-top", "a node has its operator's name")
    check(len(muster.ask("devices", "--node", "rack4-top", "--kind", "gpu")) == 6, "with all its devices")
    muster.ask("nodes", "rename", "rack4-top", "")
    names = {one["node"]["id"]: one["node"]["host_name"] for one in muster.ask("nodes")}
    check(names[id_] == node, "until that is taken back")


def gone(muster: Muster, id_: str) -> None:
    """What holds something of a node that is let go is an orphan; a successor takes over devices and claims."""
    until("the end of its clean", lambda: at(muster, CLAIMED)["lifecycle"] == "free")
    gpu = at(muster, CLAIMED)
    status, claim = post(muster, "/v1/claims", {"tenant": "t1", "consumer": "vm-8", "devices": [{"device": gpu["id"]}]})
    check(status == 201, "another claim")
    decided = muster.ask("nodes", "decommission", id_, "--yes")
    check([one["claim"] for one in decided["claims"]] == [claim["id"]], "letting a node go says whose claims are there")
    orphans = muster.ask("nodes", "orphans")
    check([(one["claim"], one["why"]) for one in orphans] == [(claim["id"], "decommissioned")], "they are orphans")
    muster.ask("nodes", "replace", id_, "new-board", "--yes")
    (moved,) = [one for one in muster.ask("devices", "--kind", "gpu") if one["id"] == gpu["id"]]
    check((moved["node"], moved["claim"]) == ("new-board", claim["id"]), "a swapped board keeps devices and claims")
    check(moved["reach"] != "live", "which are not there before the new board says so")


def delete(muster: Muster, path: str) -> tuple[int, bytes]:
    """Ask over the local socket."""
    from collectors.transport import Transport

    transport = Transport([f"unix://{muster.data_dir / 'muster.sock'}"])
    try:
        answer = transport.request("DELETE", path, None)
    finally:
        transport.close()
    return answer.status, answer.body


if __name__ == "__main__":
    sys.exit(main(script))
