"""Feeds: nova's configuration for six V100 in four IOMMU groups, a check of a hand-written one, Triton, CSV.

Requirements: R002-1, R002-3, R004-3, R004-4, R004-6.
"""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

from tests.acceptance.stage import FailedError, Muster, check, main, stage, until

FLEET = """
[[nodes]]
type = "v100-shared"
count = 1
"""
CONFIG = """
[agent]
only = ["host"]
"""
GROUPS = {19: ["0000:27:00.0", "0000:28:00.0"], 32: ["0000:44:00.0"], 75: ["0000:a3:00.0"],
          87: ["0000:c3:00.0", "0000:c4:00.0"]}  # fmt: skip
ONE_OF_EACH = ["0000:27:00.0", "0000:44:00.0", "0000:a3:00.0", "0000:c3:00.0"]
ALL_OF_THEM = '[pci]\ndevice_spec = {"vendor_id": "10de", "product_id": "1db4"}\n'


def script(folder: Path) -> None:
    """Start the server, vouch for its GPUs, and hand them on."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fleet.toml").write_text(FLEET)
    with stage(folder, CONFIG) as muster:
        muster.start("up", "--fleet", str(folder / "fleet.toml"), "--quiet")
        muster.ready()
        gpus = until("six GPUs in the ledger", lambda: six(muster))
        groups: dict[int, list[str]] = {}
        for one in gpus:
            groups.setdefault(one["capabilities"]["iommu_group"], []).append(one["slot"]["address"])
        check(
            {group: sorted(found) for group, found in groups.items()} == GROUPS,
            f"the machine of the requirement: {groups}",
        )
        node = gpus[0]["node_name"]
        muster.ask("variants", "set", "tesla-v100", "--kind", "gpu", "--vendor", "10de", "--device", "1db4")
        check(not specs(muster, node), "nothing is handed on that nobody vouched for")
        muster.ask("adopt", "--attest", "--statement", "new, from the factory", "--kind", "gpu", "--yes")
        nova(muster, folder, node)
        claimed(muster, node, gpus)
        flat(muster)


def six(muster: Muster) -> list[dict[str, Any]] | None:
    """Give the GPUs once all are there."""
    found: list[dict[str, Any]] = muster.ask("devices", "--kind", "gpu")
    return found if len(found) == 6 else None


def specs(muster: Muster, node: str, *more: str) -> list[str]:
    """Give the addresses of the device_spec."""
    found = muster.ask("export", "nova", "--node", node, *more)
    return [spec["address"] for one in found["nodes"] for spec in one["device_spec"]]


def nova(muster: Muster, folder: Path, node: str) -> None:
    """One of each group, an alias, and what a hand-written one would break."""
    check(specs(muster, node) == ONE_OF_EACH, f"device_spec names one of each group: {', '.join(ONE_OF_EACH)}")
    found = muster.ask("export", "nova", "--node", node)
    check(
        [(one["name"], one["vendor_id"], one["product_id"], one["device_type"]) for one in found["alias"]]
        == [("tesla-v100", "10de", "1db4", "type-PCI")],
        "the alias tesla-v100",
    )
    whole = specs(muster, node, "--policy", "whole-groups")
    check(whole == sorted(address for members in GROUPS.values() for address in members), "whole groups, by policy")
    made = folder / "made.conf"
    made.write_text(muster.run("export", "nova", "--node", node).stdout)
    sound = muster.run("export", "nova", "--check", str(made), "--node", node)
    check(sound.returncode == 0, f"the checker finds nothing in it: {sound.stdout.strip()}")
    wrong = folder / "wrong.conf"
    wrong.write_text(ALL_OF_THEM)
    done = muster.run("export", "nova", "--check", str(wrong), "--node", node, "-o", "json")
    findings = json.loads(done.stdout)["findings"]
    broken = sorted(one["group"] for one in findings if one["severity"] == "broken")
    check(
        done.returncode == 1 and broken == [19, 87], "a device_spec of all six is found to share out groups 19 and 87"
    )
    check(all("list one of them" in one["remedy"] for one in findings), f"with what to do: {findings[0]['remedy']}")


def claimed(muster: Muster, node: str, gpus: list[dict[str, Any]]) -> None:
    """A claim shows in every feed."""
    second = next(one for one in gpus if one["slot"]["address"] == "0000:28:00.0")
    status, claim = post(
        muster, "/v1/claims", {"tenant": "t1", "consumer": "vm-7", "devices": [{"device": second["id"]}]}
    )
    check(status == 201, f"the second GPU of group 19 is claimed: {claim['id']}")
    check(specs(muster, node) == ONE_OF_EACH[1:], "its whole group is out of device_spec now")
    check(
        specs(muster, node, "--held") == ["0000:28:00.0", *ONE_OF_EACH[1:]],
        "it stands for its group where claims are nova's machines",
    )
    found = muster.ask("export", "triton", "--node", node)
    (server,) = found["servers"]
    states = sorted(one["state"] for one in server["assignable_devices"])
    check(states == ["provisioning", *["unassigned"] * 4], f"Triton's assignable_devices: {states}")
    (skipped,) = server["skipped"]
    check(skipped["address"] == "0000:27:00.0", f"and whom nobody can be given now: {skipped['reason']}")
    check([one["variant"] for one in found["vms"]["vm-7"]] == ["tesla-v100"], "and assigned_devices of the machine")


def post(muster: Muster, path: str, body: object) -> tuple[int, Any]:
    """Ask over the local socket."""
    from collectors.transport import Transport

    transport = Transport([f"unix://{muster.data_dir / 'muster.sock'}"])
    try:
        answer = transport.request("POST", path, json.dumps(body).encode(), {"Content-Type": "application/json"})
    finally:
        transport.close()
    if answer.status >= 500:
        raise FailedError(f"{path}: {answer.status} {answer.body!r}")
    return answer.status, json.loads(answer.body)


def flat(muster: Muster) -> None:
    """CSV and JSON say the same."""
    rows = muster.ask("export", "json", "--variant", "tesla-v100")
    read = list(csv.DictReader(io.StringIO(muster.run("export", "csv", "--variant", "tesla-v100").stdout)))
    check([one["id"] for one in rows] == [one["id"] for one in read], f"CSV and JSON list the same {len(rows)} devices")
    check(sum(one["lifecycle"] == "reserved" for one in read) == 1, "and how each fares")


if __name__ == "__main__":
    sys.exit(main(script))
