"""Checkpoint 6 of the inventory: placement over a simulated fleet, and why not.

Requirements: R002-1 to R002-4, R004-3, R004-5; invariants 8 to 10, 14.
"""

import sys
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any, Final

from tests.acceptance.claims import call
from tests.acceptance.rack import Rack
from tests.acceptance.stage import Muster, check, main, stage, until

FLEET: Final = """
[types.mesh]
switches = 0
gpu = { model = "V100-SXM2", count = 8, links = "cube-mesh" }
nvme = { count = 2 }
nic = { ports = 2, vfs = 8 }
[[nodes]]
type = "hgx-h100"
count = 3
prefix = "hgx"
[[nodes]]
type = "mesh"
prefix = "mesh"
[[nodes]]
type = "v100-shared"
prefix = "shared"
"""
GIB: Final = 1 << 30
LINKED: Final = {"nvlink": "require"}


def script(folder: Path) -> None:
    """Ask for everything that can be asked for."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fleet.toml").write_text(FLEET)
    with stage(folder) as muster:
        muster.start("aggregator")
        muster.ready()
        muster.start("fleet", "--fleet", str(folder / "fleet.toml"), "--interval", "0.5", "--claim-speed", "20",
                     program="collectors.fleet_main")  # fmt: skip
        for rack in switched(muster):
            rack.start()
        until("the fleet", lambda: len(live(muster, "gpu")) == 38 + 12)
        before = names(muster)
        packages(muster)
        amounts(muster)
        isolation(muster)
        nearness(muster)
        links(muster)
        partitions(muster)
        functions(muster)
        strategies(muster)
        gangs(muster)
        refusals(muster)
        whatif(muster, before)
        wrong(muster)
        tenants(muster)
        mig(muster)
        over(muster)


def switched(muster: Muster) -> list[Rack]:
    """Make a node of eight GPUs behind an NVSwitch that divides them, and one of four with a bridge for each pair."""
    fabric, bridged = Rack(muster, "fabric"), Rack(muster, "bridged")
    for slot in range(1, 9):
        half, pair = "a" if slot < 5 else "b", f"p{(slot + 1) // 2}"
        told: dict[str, Any] = {"pci_device_id": "26b9", "nvswitch_partitions": ["all", half, pair, f"one{slot}"]}
        fabric.put(slot, "gpu", f"F{slot}", capabilities=told)
    for slot in range(1, 5):
        peer = f"pci:0000:{slot + 1 if slot % 2 else slot - 1:02x}:00.0=4"
        bridged.put(slot, "gpu", f"P{slot}", capabilities={"pci_device_id": "20b5", "nvlink_peers": [peer]})
    return [fabric, bridged]


def live(muster: Muster, *kinds: str) -> list[dict[str, Any]]:
    """Give the devices of some kinds that are there."""
    words = [word for kind in kinds for word in ("--kind", kind)]
    return [one for one in muster.ask("devices", *words) if one["reach"] == "live"]


def place(muster: Muster, **wanted: Any) -> tuple[int, Any]:
    """Ask for a place; give status and answer."""
    return call(muster, "POST", "/v1/place", {"tenant": "blue", "consumer": "vm", **wanted})


def dry(muster: Muster, **wanted: Any) -> list[dict[str, Any]]:
    """Ask what would be claimed; give the devices, with what the inventory says of each. Fails when refused."""
    status, told = place(muster, dry_run=True, **wanted)
    check(status == 200 and told["placed"], f"a place: {told}") if status != 200 or not told["placed"] else None
    known = {one["id"]: one for one in live(muster, "gpu", "nvme", "vf", "nic")}
    return [known[pick["device"]] for instance in told["instances"] for pick in instance["devices"]]


def release(muster: Muster, *claims: str) -> None:
    """Give claims back that no node was told of."""
    for claim in claims:
        muster.ask("claims", "release", claim, "--yes")


def names(muster: Muster) -> int:
    """Variants, by command line and API; then the operator vouches for all. Gives the sequence before that."""
    for name, ids in {"V100": "1db4", "V100-SXM2": "1db1", "H100": "2330", "FABRIC": "26b9", "PAIR": "20b5"}.items():
        muster.ask("variants", "set", name, "--kind", "gpu", "--vendor", "10de", "--device", ids)
    status, told = call(muster, "PUT", "/v1/variants/VF", {"kind": "vf", "vendor": "15b3", "device": "101e"})
    check(status == 200 and told["devices"] > 0, f"a variant by the API: {told['devices']} devices go by VF")
    call(muster, "PUT", "/v1/variants/PF", {"kind": "nic", "vendor": "15b3", "device": "1021"})
    found = {one["name"]: one["devices"] for one in muster.ask("variants")}
    check((found["V100"], found["V100-SXM2"], found["H100"]) == (6, 8, 24), f"each names its devices: {found}")
    kinds = ("gpu", "vf", "nvme", "nic")
    words = [word for kind in kinds for word in ("--kind", kind)]
    status, told = place(muster, needs=[{"variant": "V100"}], dry_run=True)
    check(not told["placed"], f"nothing is given that nobody vouched for: {told['message']}")
    before = call(muster, "GET", "/v1/devices?limit=1")[1]["sequence"]
    muster.ask("adopt", "--attest", "--statement", "new from the factory", *words, "--yes")
    return int(before)


def packages(muster: Muster) -> None:
    """A package, or needs; never both."""
    muster.ask("packages", "set", "gpu_large", "--amount", "vcpus=4", "--amount", f"memory_bytes={16 * GIB}",
               "--devices", "V100=1")  # fmt: skip
    claim = muster.ask("place", "--tenant", "blue", "--for", "vm-1", "--package", "gpu_large")["claim"]
    check(len(claim["devices"]) == 1 and claim["state"] == "reserved", f"a package becomes a claim: {claim['id']}")
    amounts_ = next(iter(claim["amounts"].values()))
    check(amounts_ == {"vcpus": 4, "memory_bytes": 16 * GIB}, f"with its amounts on one node: {amounts_}")
    status, told = place(muster, package="gpu_large", needs=[{"variant": "V100"}])
    check((status, told["code"]) == (400, "placement.contradiction"), f"never both: {told['detail']}")
    status, told = place(muster)
    check(status == 400, f"nor neither: {told['detail']}")
    told = muster.ask("place", "--tenant", "blue", "--for", "vm-2", "--need", "V100:1", "--amount", "vcpus=4")
    claim2 = told["claim"]
    check(len(claim2["devices"]) == 1, "or explicit needs")
    release(muster, claim["id"], claim2["id"])


def amounts(muster: Muster) -> None:
    """What a node has not, is not given; over-commit only where it was said."""
    wanted = {"needs": [{"variant": "V100"}], "amounts": {"vcpus": 2000}}
    status, told = place(muster, **wanted)
    removed = {one["condition"]: one["removed"] for one in told["conditions"]}
    check(status == 409 and removed.get("amount.vcpus"), f"more vCPUs than there are: {told['detail']}")
    muster.ask("quota", "overcommit", "vcpus", "100")
    check(place(muster, **wanted, dry_run=True)[1]["placed"], "given all the same once over-commit is the policy")
    muster.ask("quota", "overcommit", "vcpus", "1")


def isolation(muster: Muster) -> None:
    """What happens to the rest of an IOMMU group, by policy."""
    where = "node.name.startsWith('shared')"

    def groups(**more: Any) -> Counter[int]:
        return Counter(one["capabilities"]["iommu_group"] for one in dry(muster, where=where, **more))

    alone = groups(needs=[{"variant": "V100", "count": 2}], isolation="singleton")
    check(alone == {32: 1, 75: 1}, f"singleton: only GPUs that are alone in their group: {dict(alone)}")
    status, told = place(muster, where=where, needs=[{"variant": "V100", "count": 3}], isolation="singleton")
    check(status == 409, f"  and there are but two: {told['detail']}")
    whole = groups(needs=[{"variant": "V100", "count": 3}], isolation="whole-group")
    check(
        all(number == {19: 2, 87: 2}.get(group, 1) for group, number in whole.items()),
        f"whole-group: all of each: {dict(whole)}",
    )
    one = groups(needs=[{"variant": "V100"}], isolation="own-group")
    check(set(one) <= {32, 75}, f"own-group: what strands nobody comes first: {dict(one)}")
    claims = [place(muster, where=where, tenant=f"t{at}", needs=[{"variant": "V100"}])[1] for at in range(4)]
    status, told = place(muster, where=where, tenant="t4", needs=[{"variant": "V100"}])
    removed = {one["condition"]: one["removed"] for one in told["conditions"]}
    check(
        (status, removed.get("relation")) == (409, 2),
        f"four tenants, and two GPUs that nobody else can have: {removed}",
    )
    release(muster, *(claim["id"] for claim in claims))


def nearness(muster: Muster) -> None:
    """NUMA nodes and PCIe roots."""
    four = dry(muster, needs=[{"variant": "H100", "count": 4}], affinity={"numa": "require"})
    nodes = {one["capabilities"]["numa_node"] for one in four}
    check(len(nodes) == 1, f"four GPUs of one NUMA node: {nodes}")
    status, told = place(muster, needs=[{"variant": "H100", "count": 5}], affinity={"numa": "require"})
    check(status == 409 and "nearness" in told["detail"], f"five there are not: {told['detail']}")
    status, told = place(muster, needs=[{"variant": "H100", "count": 5}], affinity={"numa": "prefer"}, dry_run=True)
    check(told["placed"], "preferred only, they are given")
    two = dry(muster, needs=[{"variant": "H100", "count": 2}], affinity={"pcie_root": "require"})
    roots = {one["capabilities"]["pcie_root"] for one in two}
    check(len(roots) == 1, f"two GPUs below one PCIe root: {roots}")
    near = dry(muster, needs=[{"variant": "H100"}, {"variant": "VF"}], affinity={"pcie_root": "require"})
    roots = {one["capabilities"]["pcie_root"] for one in near}
    check(len(roots) == 1 and {one["kind"] for one in near} == {"gpu", "vf"}, f"a GPU and a function near it: {roots}")


def links(muster: Muster) -> None:
    """NVLink graphs that are no equivalence: the cube mesh of eight V100, and pairs of GPUs with a bridge each."""
    mesh = [one for one in live(muster, "gpu") if one["node_name"].startswith("mesh")]
    graph = graph_of(muster, mesh)
    check(
        {len(found) for found in graph.values()} == {4}, "in a cube mesh each GPU is linked to four of the other seven"
    )
    chain = next(
        (one, middle, other)
        for one, other in combinations(graph, 2)
        for middle in graph[one] & graph[other]
        if other not in graph[one]
    )
    check(
        True, f"linked is no equivalence: {chain[1]} is linked to {chain[0]} and {chain[2]}, they are not to each other"
    )
    for count in (2, 4):
        found = {one["id"] for one in dry(muster, needs=[{"variant": "V100-SXM2", "count": count}], affinity=LINKED)}
        full = all(other in graph[one] for one, other in combinations(found, 2))
        check(full, f"{count} GPUs, each linked to each other: {', '.join(sorted(found))}")
    pairs = {one["id"] for one in dry(muster, needs=[{"variant": "PAIR", "count": 2}], affinity=LINKED)}
    bridged = graph_of(muster, [one for one in live(muster, "gpu") if one["id"] in pairs])
    check(all(bridged.values()), "of four GPUs with a bridge for each pair, a pair is given")
    status, told = place(muster, needs=[{"variant": "PAIR", "count": 3}], affinity=LINKED)
    check(status == 409 and "nearness" in told["detail"], f"three of them are no island: {told['detail']}")


def graph_of(muster: Muster, gpus: list[dict[str, Any]]) -> dict[str, set[str]]:
    """Give the GPUs that each is linked to, of some on one node: a document names its peers as its collector does."""
    names_ = {view["document"]: one["id"] for one in gpus for view in muster.ask("devices", one["id"])["views"]}
    peers = {one["id"]: [text.partition("=")[0] for text in one["capabilities"]["nvlink_peers"]] for one in gpus}
    return {name: {names_[peer] for peer in told if peer in names_} for name, told in peers.items()}


def conditions(told: dict[str, Any]) -> dict[str, int]:
    """Give how much each condition of a refusal removed."""
    return {one["condition"]: one["removed"] for one in told["conditions"] if one["removed"]}


def partitions(muster: Muster) -> None:
    """NVSwitch partitions are given whole: they are no graph but a constraint."""
    for count, fits in ((2, True), (3, False), (4, True)):
        told = place(muster, needs=[{"variant": "FABRIC", "count": count}], dry_run=True)[1]
        claims = f"{count} GPUs of an NVSwitch with partitions of 1, 2 and 4"
        check(told["placed"] is fits, f"{claims}: {'given' if fits else told['message']}")
    four = dry(muster, needs=[{"variant": "FABRIC", "count": 4}])
    shared = set.intersection(*(set(one["capabilities"]["nvswitch_partitions"]) for one in four))
    check(len(shared & {"a", "b"}) == 1, f"the four are one whole partition: {', '.join(sorted(shared))}")


def mig(muster: Muster) -> None:
    """MIG partitions that are not made yet, by possible placements, where they leave the most to others."""
    where = "node.name == 'hgx-0003'"
    wanted = {"needs": [{"variant": "H100", "profile": "1g.10gb"}], "where": where}
    made = [place(muster, **wanted)[1] for _ in range(2)]
    held = [claim["devices"][0] for claim in made]
    profiles = {one["profile"].partition(":")[0] for one in held}
    check(len({one["profile"] for one in held}) == 2, f"two MIG partitions of {profiles} have places of their own: "
          f"{', '.join(one['profile'] for one in held)}")  # fmt: skip
    parents = {one.get("parent") or one["device"] for one in held}
    check(len(parents) == 1, "on one GPU, so that the others stay whole")
    (whole,) = dry(muster, needs=[{"variant": "H100"}], where=where)
    check(whole["id"] not in parents, "which nobody gets whole meanwhile")
    for claim in made:
        muster.ask("claims", "release", claim["id"], "--yes")


def functions(muster: Muster) -> None:
    """A port and its functions exclude each other, and a port that the host keeps leaves its functions."""
    where = "node.name == 'mesh-0001'"
    (function,) = dry(muster, needs=[{"variant": "VF"}], where=where)
    claim = place(muster, needs=[{"variant": "VF"}], where=where)[1]
    status, told = place(muster, tenant="red", needs=[{"variant": "PF", "count": 2}], where=where)
    check(
        status == 409 and "relation" in conditions(told), f"with one function given, not both ports: {told['detail']}"
    )
    release(muster, claim["id"])
    port = function["parent"]
    claim = muster.ask("claims", "create", port, "--tenant", "red", "--for", "vm-9")
    status, told = place(muster, needs=[{"variant": "VF", "count": 5}], where=where)
    check(
        status == 409 and conditions(told)["relation"] == 4,
        f"with a port given, its four functions are not: {conditions(told)}",
    )
    check(len(dry(muster, needs=[{"variant": "VF", "count": 4}], where=where)) == 4, "those of the other port are")
    release(muster, claim["id"])


def strategies(muster: Muster) -> None:
    """Pack, spread, least stranded."""
    first = place(muster, needs=[{"variant": "H100", "count": 4}], where="node.name == 'hgx-0001'")[1]
    busy = first["devices"][0]["node"]
    for strategy, there in (("pack", True), ("spread", False)):
        (chosen,) = dry(muster, needs=[{"variant": "H100"}], strategy=strategy)
        check((chosen["node"] == busy) is there, f"{strategy}: {'the fuller' if there else 'an emptier'} node")
    release(muster, first["id"])
    where = "node.name.startsWith('shared')"
    (chosen,) = dry(muster, needs=[{"variant": "V100"}], where=where)
    check(chosen["together"] == [], "least stranded, the default: a GPU that is alone in its group goes first")


def gangs(muster: Muster) -> None:
    """A gang: all or none, and one claim."""
    status, told = place(muster, needs=[{"variant": "H100", "count": 8}], instances=4)
    check(status == 409, f"four times eight GPUs there are not: {told['detail']}")
    left = {one["lifecycle"] for one in live(muster, "gpu") if one["node_name"].startswith("hgx")}
    check(left == {"free"}, "all or none: nothing is taken")
    status, told = place(muster, needs=[{"variant": "H100", "count": 8}], instances=3)
    nodes = Counter(one["node"] for one in told["devices"])
    check(status == 201 and list(nodes.values()) == [8, 8, 8], f"three times eight are one claim: {told['id']}")
    release(muster, told["id"])


def refusals(muster: Muster) -> None:
    """A "no" is counted and explained: its blockers are enough, none is superfluous; a dry run says the same."""
    gpus = [one for one in live(muster, "gpu") if one["node_name"] == "shared-0001"]
    alone = [one["id"] for one in gpus if not one["together"]]
    muster.ask("taint", alone[0], "xid", "--evidence", "Xid 79")
    held = muster.ask("claims", "create", alone[1], "--tenant", "red", "--for", "vm-8")
    wanted: dict[str, Any] = {"needs": [{"variant": "V100", "count": 6}], "where": "node.name == 'shared-0001'"}
    status, told = place(muster, **wanted, explain=True)
    removed = conditions(told)
    check(status == 409 and removed["lifecycle.reserved"] == removed["taint.xid"] == 1, f"six of six: {removed}")
    check(told["nearest"]["node"] == gpus[0]["node"], f"the nearest miss: {told['nearest']}")
    blockers = told["blockers"]
    check(sorted(one["reason"] for one in blockers) == ["lifecycle.reserved", "taint.xid"],
          f"in the way: {'; '.join(one['message'] for one in blockers)}")  # fmt: skip
    edits = [one["edit"] for one in blockers]
    request = {"tenant": "blue", "consumer": "vm", **wanted}
    outcome = [
        call(muster, "POST", "/v1/whatif", {"request": request, "edits": some})[1]["after"]["placed"]
        for some in (edits, edits[:1], edits[1:])
    ]
    check(outcome == [True, False, False], "with all of them gone it succeeds, with any of them left it does not")
    same = place(muster, **wanted, explain=True, dry_run=True)[1]
    check(
        (same["placed"], same["conditions"], same["blockers"]) == (False, told["conditions"], blockers),
        "a dry run says the same",
    )
    done = muster.run("place", "--tenant", "blue", "--for", "vm", "--need", "V100:6", "--dry-run", "--explain")
    check(done.returncode == 1 and "in the way" in done.stdout, "the command line shows it as a table:")
    sys.stdout.write("".join(f"      {line}\n" for line in done.stdout.splitlines()))
    check(max(map(len, done.stdout.splitlines())) <= 80, "which fits a terminal")
    muster.ask("untaint", alone[0], "xid")
    release(muster, held["id"])
    before = call(muster, "GET", "/v1/devices?limit=1")[1]["sequence"]
    would = {one["id"] for one in dry(muster, **wanted)}
    check(call(muster, "GET", "/v1/devices?limit=1")[1]["sequence"] == before, "a dry run writes nothing")
    claim = place(muster, **wanted)[1]
    check({one["device"] for one in claim["devices"]} == would, "and what is claimed then is what it said")
    release(muster, claim["id"])


def whatif(muster: Muster, before: int) -> None:
    """What if: nodes added, drained, cleaned; and as it was."""
    wanted = ("--tenant", "blue", "--for", "plan", "--need", "H100:8", "--instances")
    sequence = call(muster, "GET", "/v1/devices?limit=1")[1]["sequence"]
    told = muster.ask("whatif", *wanted, "4", "--add-node", "hgx-0001")
    check(
        (told["before"]["placed"], told["after"]["placed"]) == (False, True),
        "one node more like hgx-0001, and it fits",
    )
    check((told["before"]["fits"], told["after"]["fits"]) == (3, 4), "three instances have room, then four")
    told = muster.ask("whatif", *wanted, "3", "--drain", "hgx-0002")
    check((told["before"]["placed"], told["after"]["placed"]) == (True, False), "with hgx-0002 drained it would not")
    told = muster.ask("whatif", *wanted, "3", "--as-of", str(before), "--clean")
    check(
        (told["before"]["placed"], told["after"]["placed"]) == (False, True),
        f"as of {before} all was dirty; cleaned, it fits",
    )
    check(call(muster, "GET", "/v1/devices?limit=1")[1]["sequence"] == sequence, "and nothing was changed")


def wrong(muster: Muster) -> None:
    """Unknown names are told with their like, contradictions with both parts."""
    for body, word in (
        ({"needs": [{"variant": "V10"}]}, "V100"),
        ({"package": "gpu_larg"}, "gpu_large"),
        ({"needs": [{"variant": "V100", "cuont": 2}]}, "count"),
        ({"needs": [{"variant": "V100"}], "strateggy": "pack"}, "strategy"),
        ({"needs": [{"variant": "V100"}], "amounts": {"vcpu": 1}}, "vcpus"),
        ({"needs": [{"where": "device.lifecycel == 'free'"}]}, "lifecycle"),
    ):
        status, told = place(muster, **body)
        check(status == 400 and f"'{word}'" in told["detail"], f"{told['code']}: {told['detail'].splitlines()[0]}")
    contradictions: tuple[dict[str, Any], ...] = (
        {"package": "gpu_large", "amounts": {"vcpus": 1}},
        {"needs": [{"variant": "H100", "profile": "1g.10gb", "mode": "passthrough"}]},
        {"needs": [{"variant": "V100"}], "instances": 2, "per_node": 3},
        {"needs": [{"variant": "V100", "mode": "driver"}], "isolation": "whole-group"},
    )
    for asked in contradictions:
        status, told = place(muster, **asked)
        check((status, told["code"]) == (400, "placement.contradiction"), f"contradiction: {told['detail']}")


def tenants(muster: Muster) -> None:
    """A tenant learns of others nothing but counts; its quota is told."""
    muster.ask("quota", "set", "red", "devices:H100=1")
    status, told = place(muster, tenant="red", needs=[{"variant": "H100", "count": 2}])
    check(
        status == 409 and any(name.startswith("quota") for name in conditions(told)),
        f"over the quota: {told['detail']}",
    )
    held = place(muster, needs=[{"variant": "V100", "count": 6}])[1]
    token = muster.ask("token", "create", "red", "--scope", "claims:red")["secret"]
    body = {"tenant": "red", "consumer": "vm", "needs": [{"variant": "V100"}], "explain": True}
    status, told = call(muster, "POST", "/v1/place", body, token)
    text = str(told)
    others = [
        held["id"],
        "blue",
        *(one["device"] for one in held["devices"]),
        *(one["node"] for one in held["devices"]),
    ]
    check(
        status == 409 and not [word for word in others if word in text], f"a tenant is told counts: {conditions(told)}"
    )
    status, _ = call(muster, "POST", "/v1/place", {**body, "tenant": "blue"}, token)
    check(status == 403, "and asks for nobody else")
    release(muster, held["id"])
    muster.ask("quota", "remove", "red")


def over(muster: Muster) -> None:
    """Nothing is left taken."""
    check(muster.ask("claims") == [], "no claim is left")
    taken = {one["lifecycle"] for one in live(muster, "gpu", "vf", "nvme", "nic")} - {"free", "host"}
    check(not taken, "and every device is free")


if __name__ == "__main__":
    sys.exit(main(script))
