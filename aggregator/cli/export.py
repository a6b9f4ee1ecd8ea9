"""`muster export`: the inventory in the words of other schedulers, and what people wrote for those, checked."""

import argparse
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from aggregator.cli import add_examples, add_output_option, add_server_options, add_word
from aggregator.cli.client import Client, client_of
from aggregator.cli.render import TABLES, Table, show
from aggregator.cli.words import WordError, shorten
from aggregator.feeds.isolation import Policy
from collectors.process import EXIT_FAILED

_EPILOG = """examples:
  muster export nova --node gpu-17      lines for nova.conf: device_spec, alias
  muster export nova --check /etc/nova/nova.conf --node gpu-17
                                        what a hand-written one would break
  muster export triton                  assignable_devices, assigned_devices
  muster export csv > devices.csv
  muster export json"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    add_server_options(parser)
    add_output_option(parser)
    forms = parser.add_subparsers(dest="deed", metavar="FORM", title="forms", required=True)
    made = add_word(forms, "nova", "device_spec and alias for nova.conf, or a check of one",
                    "muster export nova --node gpu-17 --variant tesla-v100",
                    "muster export nova --check /etc/nova/nova.conf --node gpu-17")  # fmt: skip
    made.add_argument("--policy", choices=[one.value for one in Policy], default=Policy.ONE_PER_GROUP.value,
                      metavar="POLICY", help="of an IOMMU group of several devices: one-per-group"
                      " (default), or whole-groups")  # fmt: skip
    made.add_argument("--check", type=Path, default=None, metavar="FILE", help="a nova.conf, to be checked;"
                      " exit status 1 when it breaks isolation")  # fmt: skip
    made.add_argument("--held", action="store_true", help="with what claims hold, for who records nova's own machines"
                      " as claims")  # fmt: skip
    triton = add_word(forms, "triton", "devices of servers and of virtual machines, as JSON",
                      "muster export triton")  # fmt: skip
    table = add_word(forms, "csv", "a row for each device, with a head", "muster export csv > devices.csv")
    rows = add_word(forms, "json", "the same rows as JSON", "muster export json --node gpu-17")
    for one in (made, triton, table, rows):
        one.add_argument("--node", default="", help="only of this node, by id or host name")
        one.add_argument("--variant", action="append", default=[], metavar="NAME",
                         help="only of this variant; may be repeated")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    """Print it."""
    client = client_of(options)
    if options.deed == "csv" and options.output not in TABLES:
        raise WordError(f"csv is a format of its own: 'muster export json -o {options.output}' has the same rows")
    if options.deed == "nova" and options.check is not None:
        return _check(client, options)
    asked = [("node", options.node), *(("variant", name) for name in options.variant)]
    if options.deed == "nova":
        asked.append(("policy", options.policy))
        if options.held:
            asked.append(("held", "true"))
        if options.output in TABLES:
            asked.append(("text", "true"))
    path = f"/v1/export/{options.deed}?{urlencode(asked)}"
    if options.deed == "csv" or (options.deed == "nova" and options.output in TABLES):
        sys.stdout.write(client.text(path))
        return 0
    output = "json" if options.output in TABLES else options.output
    show(client.get(path), output, Table([]))
    return 0


def _check(client: Client, options: argparse.Namespace) -> int:
    text = options.check.read_text(encoding="utf-8", errors="replace")
    asked = {"node": options.node, **({"held": "true"} if options.held else {})}
    path = f"/v1/export/nova/check?{urlencode(asked)}"
    found = client.post(path, {"text": text})
    show(found, options.output, findings_tables(found, wide=options.wide))
    return EXIT_FAILED if any(one["severity"] == "broken" for one in found["findings"]) else 0


def findings_tables(found: dict[str, Any], *, wide: bool = False) -> list[Table]:
    """Make the tables of a check: what is wrong, where, and what to do."""
    summary = f"{found['specs']} entries name {found['listed']} devices"
    if not found["findings"]:
        return [Table([], empty=f"{summary}, and no group of them is shared out")]
    tables = [Table([], empty=f"{summary}:")]
    for one in found["findings"]:
        lines = ", ".join(map(str, one["lines"]))
        table = Table(["", f"{one['severity']}: {one['rule']}"])
        table.add("lines", lines)
        table.add("devices", ", ".join(one["addresses"]) or "-")
        table.add("what", one["message"] if wide else shorten(one["message"], 160))
        table.add("remedy", one["remedy"])
        tables.append(table)
    return tables
