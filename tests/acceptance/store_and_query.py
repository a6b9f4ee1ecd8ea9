"""Checkpoint 7, store and query: what a collector declares is what a query knows; ranges, buckets, aggregates, text.

Requirements: R001-9, R001-10, R001-13.
"""

import json
import sys
import time
import urllib.request
from pathlib import Path

from tests.acceptance.stage import PATIENCE, Muster, check, main, stage, until

CONFIG = """
[agent]
level = "debug"
[collectors.host]
interval_seconds = 0.5
[retention]
telemetry_days = 7
"""


def declared(muster: Muster) -> None:
    """The catalogue comes from MetricSpec."""
    [cpu] = muster.ask("query", "cpu", "--list")
    usage = next(field for field in cpu["fields"] if field["name"] == "usage_ratio")
    check((usage["unit"], usage["type"], usage["kind"]) == ("ratio", "float", "gauge"), "units and kinds are declared")
    check(len(usage["meaning"]) > 10, "and so is what a field means")


def telemetry(muster: Muster) -> None:
    """Ranges, buckets, aggregates, selectors, last values."""
    until("a few rows", lambda: len(muster.rows("cpu", "usage_ratio", "--limit", "100")) >= 12)
    raw = muster.rows("cpu", "usage_ratio", "--limit", "5", "--order", "newest")
    check(len(raw) == 5 and raw[0]["time"] > raw[-1]["time"], "raw rows come newest first, at most as many as asked")
    made = muster.ask("query", "cpu", "usage_ratio:avg,usage_ratio:max,usage_ratio:count", "--every", "1s")
    rows = [dict(zip([one["name"] for one in made["columns"]], row, strict=True))
            for row in zip(*made["data"], strict=True)]  # fmt: skip
    check(all(row["usage_ratio:avg"] <= row["usage_ratio:max"] for row in rows), "in each bucket avg <= max")
    check(all(row["time"] % 1_000_000_000 == 0 for row in rows), "buckets are aligned")
    cores = muster.rows("cpu_core", "user_seconds_total", "--last")
    check({row["cpu"] for row in cores} >= {"0", "1"}, "attributes tell rows apart")
    one = muster.rows("cpu_core", "user_seconds_total", "--last", "--where", "cpu=1")
    check([row["cpu"] for row in one] == ["1"], "a selector picks by attribute")
    rates = muster.rows("cpu_core", "user_seconds_total:rate", "--since", "10s", "--every", "5s")
    check(all(row["user_seconds_total:rate"] is None or row["user_seconds_total:rate"] >= 0 for row in rates),
          "the rate of a counter is never negative")  # fmt: skip
    old = muster.rows("cpu", "usage_ratio", "--since", "2020-01-01T00:00:00Z", "--until", "2020-01-02T00:00:00Z")
    check(old == [], "a range without rows has no rows")


def texts(muster: Muster) -> None:
    """Logs and events, with filters over their text."""
    message = f"acceptance {time.time_ns()}"
    with Path("/dev/kmsg").open("w") as kernel_log:
        kernel_log.write(f"<3>{message}\n")
    found = until("the line", lambda: muster.rows("log", "message,severity", "--contains", message.upper()))
    check(found[0]["message"].endswith(message), "a line of the kernel's log is found by its text")
    check(found[0]["severity"] == 3, "with its severity")
    check(not muster.rows("log", "--contains", message, "--severity", "alert"), "and not among worse ones")
    check(bool(muster.rows("log", "--matches", "^acceptance [0-9]+$")), "a regular expression finds it too")
    events = muster.rows("event", "type,message")
    check(any(row["type"] == "node.new" for row in events), "events can be asked for")


def errors(muster: Muster) -> None:
    """Questions that cannot be answered say what would be."""
    for arguments, wanted in (
        (("memroy",), "'memory'"),
        (("cpu", "usage_ration"), "'usage_ratio'"),
        (("cpu_core", "--where", "cpuu=1"), "'cpu'"),
        (("cpu", "--since", "yesterday"), "15m"),
        (("cpu", "usage_ratio:median"), "p50"),
    ):
        done = muster.run("query", *arguments)
        check(
            done.returncode == 1 and wanted in done.stderr, f"muster query {' '.join(arguments)}: {done.stderr.strip()}"
        )


def over_http(muster: Muster) -> None:
    """The API is for programs; it describes itself."""
    token = muster.ask("token", "create", "dashboards", "--scope", "read")["secret"]
    request = urllib.request.Request(
        f"{muster.address}/v1/query?measurement=cpu&fields=usage_ratio&last=true",
        headers={"Authorization": f"Bearer {token}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        result = json.load(answer)
    check(result["rows"] == 1 and result["columns"][0]["role"] == "time", "a program with a token reads over HTTP")
    with urllib.request.urlopen(f"{muster.address}/openapi.json", timeout=10) as answer:
        paths = json.load(answer)["paths"]
    check("/v1/query" in paths and "/v1/balance" in paths, "the API has an OpenAPI document")
    with urllib.request.urlopen(f"{muster.address}/docs", timeout=10) as answer:
        page = answer.read().decode()
    check("/v1/query" in page and "<script" not in page, "and a page for people, without scripts")


def script(folder: Path) -> None:
    """Go through all of it on one Muster."""
    with stage(folder, CONFIG) as muster:
        muster.start("up")
        muster.ready()
        declared(muster)
        telemetry(muster)
        texts(muster)
        errors(muster)
        over_http(muster)
        check(muster.balance(wait=PATIENCE)["closed"], "the balance closes")


if __name__ == "__main__":
    sys.exit(main(script))
