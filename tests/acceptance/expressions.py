"""Checkpoint 5 of the inventory: one expression language, with one meaning wherever it is written.

What the filter answers is compared with plain Python over the API's own JSON, and with Google's CEL.

Requirements: R001-4, R002-2, R004-3.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from cel_expr_python import cel

from aggregator.catalogue import installed_catalogue
from aggregator.expression import Environment, Fault, compile_expression
from aggregator.expression.names import inventory_environment, rows_environment
from tests.acceptance.claims import call
from tests.acceptance.stage import Muster, check, main, say, stage, until
from tests.needs import REPOSITORY

PAGE: Final = (REPOSITORY / "docs" / "expressions.md").read_text(encoding="utf-8")
MEMORY: Final = 80 << 30
ASKED_GROUPS: Final = (5, 6)
"""IOMMU groups of each node from which placement is asked to choose: nothing else is done to their devices."""
Device = dict[str, Any]

FILTERS: Final[dict[str, Callable[[Device], bool]]] = {
    "device.kind == 'gpu'": lambda one: one["kind"] == "gpu",
    "device.kind in ['nvme', 'vf']": lambda one: one["kind"] in ("nvme", "vf"),
    "device.capabilities.memory_bytes >= quantity('80GiB')": lambda one: _number(one, "memory_bytes") >= MEMORY,
    "device.capabilities.memory_bytes / 1024 < 100 * 1024 * 1024 && device.kind != 'cpu'":
        lambda one: "memory_bytes" in one["capabilities"] and _number(one, "memory_bytes") // 1024 < 100 << 20
        and one["kind"] != "cpu",
    "has(device.parent) && !(device.kind == 'gpu')": lambda one: bool(one["parent"]) and one["kind"] != "gpu",
    "device.part.model.startsWith('Simulated') && device.part.model.endsWith('H100')":
        lambda one: one["part"].get("model", "") == "Simulated H100",
    "device.slot.address.matches('^0000:0[5-8]')":
        lambda one: bool(re.search("^0000:0[5-8]", one["slot"].get("address", ""))),
    "device.slot.location.contains('GPU') ? device.kind == 'gpu' : false":
        lambda one: "GPU" in one["slot"].get("location", "") and one["kind"] == "gpu",
    "size(device.taints) > 0": lambda one: len(one["taints"]) > 0,
    "device.taints.exists(mark, mark.rule == 'hot' && mark.effect == 'NoSchedule')":
        lambda one: any(mark["rule"] == "hot" and mark["effect"] == "NoSchedule" for mark in one["taints"]),
    "device.taints.all(mark, mark.rule != 'hot') && device.kind == 'gpu'":
        lambda one: one["kind"] == "gpu" and all(mark["rule"] != "hot" for mark in one["taints"]),
    "device.taints.exists_one(mark, mark.effect == 'Drain')":
        lambda one: [mark["effect"] for mark in one["taints"]].count("Drain") == 1,
    "node.name == 'sim-0002' || device.capabilities.iommu_group == 5":
        lambda one: one["node_name"] == "sim-0002" or one["capabilities"].get("iommu_group") == 5,
    "device.lifecycle == 'reserved' && claim.tenant == 'blue' && claim.until - claim.created > duration('30m')":
        lambda one: one["lifecycle"] == "reserved" and one["tenant"] == "blue",
}  # fmt: skip
"""Expressions that use every construct of the list between them, and what each means."""

WRONG: Final = {
    "device.kind == ": ("expression.syntax", 16, "expected a value"),
    "device.knd == 'gpu'": ("expression.name", 8, "Did you mean 'kind'"),
    "devices.kind == 'gpu'": ("expression.name", 1, "Did you mean 'device'"),
    "device.kind > 5": ("expression.type", 13, "cannot be compared"),
    "device.part.model.matches('(')": ("expression.pattern", 27, "')' is missing"),
    "(" * 40 + "true" + ")" * 40: ("expression.limit", 33, "deeper than 32"),
}
"""What is wrong, its code, the column, and what else the message says."""


def script(folder: Path) -> None:
    """Two simulated nodes, and all that can be asked about them."""
    listed()
    with stage(folder) as muster:
        muster.start("aggregator")
        muster.ready()
        muster.start("fleet", "--nodes", "2", "--interval", "0.5", program="collectors.fleet_main")
        until("two nodes of eight GPUs", lambda: len(muster.ask("devices", "--kind", "gpu")) == 16)
        settle(muster)
        devices = everything(muster, "")["devices"]
        filtered(muster, devices)
        differential(devices)
        absent(muster, devices)
        mistakes(muster)
        elsewhere(muster)
        back_ends(muster)


def listed() -> None:
    """The documentation lists the constructs, and each of its examples compiles."""
    rows = rows_environment(installed_catalogue())
    both = Environment({**rows.roots, **inventory_environment().roots})
    examples = [line for block in re.findall(r"```cel\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    table = PAGE.partition("\n## Functions\n")[2].partition("\n## ")[0]
    examples += re.findall(r"`([a-z!][^`]*\([^`]*\)[^`]*)`", table)
    for example in examples:
        compile_expression(example, both)
    check(len(examples) > 15, f"docs/expressions.md lists the constructs: its {len(examples)} examples compile")
    functions = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
    unused = {name for name in functions if not any(name in text for text in FILTERS)} - {"double", "int", "timestamp"}
    check(not unused, f"and what is asked below uses its functions: {', '.join(sorted(functions))}")


def settle(muster: Muster) -> None:
    """Have marks and a claim to ask about."""
    gpus = [one["id"] for one in muster.ask("devices", "--kind", "gpu")
            if one["capabilities"].get("iommu_group") not in ASKED_GROUPS]  # fmt: skip
    muster.ask("taint", gpus[0], "hot", "--evidence", "91 celsius")
    muster.ask("taint", gpus[1], "ecc", "--effect", "Drain")
    muster.ask("clean", gpus[2], "--attest", "--statement", "new from the factory")
    muster.ask("claims", "create", gpus[2], "--tenant", "blue", "--for", "vm-1")


def everything(muster: Muster, where: str) -> Any:
    """List all devices that an expression fits."""
    status, told = call(muster, "GET", f"/v1/devices?{urlencode({'limit': 10_000, 'where': where})}")
    check(status == 200, where) if status != 200 else None
    return told


def _number(device: Device, name: str) -> int:
    value = device["capabilities"].get(name, -1)
    return value if isinstance(value, int) else -1


def filtered(muster: Muster, devices: list[Device]) -> None:
    """The inventory's filter."""
    for text, meaning in FILTERS.items():
        found = {one["id"] for one in everything(muster, text)["devices"]}
        wanted = {one["id"] for one in devices if meaning(one)}
        check(found == wanted and found, f"{len(found):>3} of {len(devices)}: {text}")
    narrow = muster.ask("devices", "--all", "--where", "device.kind == 'gpu' && node.name == 'sim-0001'")
    check(len(narrow) == 8, "'muster devices --where' takes the same")
    then = muster.ask("devices", "--where", "size(device.taints) > 0", "--as-of", "5")
    check(then == [], "and asks the past as well")


def differential(devices: list[Device]) -> None:
    """Google's CEL gives the same answers about the same devices."""
    environment = cel.NewEnv(variables={"device": cel.Type.Map(cel.Type.STRING, cel.Type.DYN)})
    asked = [text for text in FILTERS if not re.search(r"quantity|node\.|claim\.|taints|has\(", text)]
    compared, different = 0, []
    for text in asked:
        program = environment.compile(text, disable_check=True)
        for one in devices:
            answer = program.eval(data={"device": one})
            if answer.type() != cel.Type.ERROR:  # a key that a map does not hold: an error there, absent here
                compared += 1
                if answer.plain_value() is not FILTERS[text](one):
                    different.append((text, one["id"]))
    check(not different and compared > 500, f"{compared} of these answers are asked of Google's CEL: all are its own")
    say("at random, expressions and values: tests/aggregator/expression/test_cel.py")


def absent(muster: Muster, devices: list[Device]) -> None:
    """What is absent is neither true nor false, and counted."""
    text = "device.capabilities.memory_bytes > 0"
    fits, other = everything(muster, text), everything(muster, f"!({text})")
    silent = sum("memory_bytes" not in one["capabilities"] for one in devices)
    check(
        (len(fits["devices"]) + silent, len(other["devices"])) == (len(devices), 0),
        f"{len(fits['devices'])} devices have memory; neither it nor its negation fits the other {silent}",
    )
    check(fits["untold"] == other["untold"] == silent, "and they are counted")
    done = muster.run("devices", "--where", "device.capabilities.memroy_bytes > 0")
    check(done.returncode == 0 and "do not say" in done.stderr, f"so is a name that nothing has: {done.stderr.strip()}")


def mistakes(muster: Muster) -> None:
    """Errors have a type, a column, a caret below it, and say what to do."""
    for text, (code, column, more) in WRONG.items():
        status, told = call(muster, "GET", f"/v1/devices?{urlencode({'where': text})}")
        first, *excerpt = told["detail"].splitlines()
        check(
            (status, told["code"]) == (400, code) and f"column {column}:" in first and more in first,
            f"{code}: {first}",
        )
        check(excerpt[1].strip() == "^", f"  with the place below it: {excerpt[0].strip()[:60]}")
    done = muster.run("devices", "--where", "device.knd == 'gpu'")
    check(done.returncode == 1 and "Did you mean 'kind'" in done.stderr, "the command line shows the same")


def elsewhere(muster: Muster) -> None:
    """The same words choose devices and nodes in placement, and what is vouched for."""
    wanted = f"device.kind == 'gpu' && device.capabilities.iommu_group in {list(ASKED_GROUPS)}"
    would = muster.ask("adopt", "--attest", "--statement", "new", "--where", wanted, "--dry-run")["would"]
    fits = {one["id"] for one in everything(muster, wanted)["devices"] if one["lifecycle"] == "dirty"}
    check(set(would) == fits and fits, f"'muster adopt --where' chooses the same {len(fits)}")
    muster.ask("adopt", "--attest", "--statement", "new", "--where", wanted, "--yes")
    placed = muster.ask(
        "place", "--tenant", "blue", "--for", "vm-2", "--fitting", f"1:{wanted}",
        "--where", "node.name.endsWith('2')", "--dry-run",
    )  # fmt: skip
    (chosen,) = placed["instances"][0]["devices"]
    (found,) = [one for one in everything(muster, wanted)["devices"] if one["id"] == chosen["device"]]
    check(found["node_name"] == "sim-0002", "'muster place --fitting --where' chooses a device and a node by them")
    done = muster.run("place", "--tenant", "blue", "--for", "vm-2", "--fitting", "1:device.knd == 'gpu'", "--dry-run")
    check(done.returncode == 1 and "column 8" in done.stderr, "with the same errors")


def back_ends(muster: Muster) -> None:
    """One typed tree, two back ends: rows as columns, and one by one."""
    until("telemetry of GPUs", lambda: muster.rows("gpu", "--limit", "16"))
    result = muster.ask("query", "gpu", "power_watts,temperature_celsius,utilization_ratio", "--limit", "2000")
    names = [column["name"] for column in result["columns"]]
    columns = {f"gpu.{name}": values for name, values in zip(names, result["data"], strict=True)}
    rows = [dict(zip(names, values, strict=True)) for values in zip(*result["data"], strict=True)]
    environment = rows_environment(installed_catalogue())
    for text in (
        "gpu.power_watts > 300.0 && gpu.temperature_celsius < 60.0",
        "gpu.utilization_ratio * 100.0 >= 50.0 ? gpu.power_watts > 200.0 : gpu.power_watts <= 500.0",
        "!has(gpu.power_watts) || gpu.power_watts / gpu.utilization_ratio > 1000.0",
    ):
        expression = compile_expression(text, environment)
        mask = expression.on_columns()(len(rows), columns)
        one_by_one = [expression.on_objects("gpu")(row) for row in rows]
        counts = mask.counts
        check(
            list(mask.outcomes) == one_by_one, f"{counts.matched} of {len(rows)} rows, by columns as by objects: {text}"
        )
        total = counts.matched + counts.unmatched + counts.absent + counts.faults
        check(total == len(rows) and set(mask.faults) <= set(Fault), "each row is counted once")


if __name__ == "__main__":
    sys.exit(main(script))
