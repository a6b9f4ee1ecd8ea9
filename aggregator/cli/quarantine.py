"""`muster quarantine`: batches that could not be taken, and why."""

import argparse
import base64
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aggregator.cli import add_examples, add_output_option, add_server_options, add_word
from aggregator.cli.asking import add_yes_option, confirm
from aggregator.cli.client import Client, client_of
from aggregator.cli.names import host_names
from aggregator.cli.render import TABLES, Table, number, show
from aggregator.cli.words import ago_ns, shorten
from collectors.process import EXIT_FAILED
from schemas.verbosity import Level, RowClass

_EPILOG = """examples:
  muster quarantine
  muster quarantine list --stage ingest --class log
  muster quarantine show 7 --save batch.bin
  muster quarantine delete 7 --yes

A batch that nobody could ever take counts as acknowledged, and is kept here
with the reason; the balance counts its rows as quarantined."""
_SHOWN_BYTES = 256


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    add_server_options(parser)
    add_output_option(parser)
    deeds = parser.add_subparsers(dest="deed", metavar="{list,show,delete}")
    listed = add_word(deeds, "list", "list them, newest first (default)", "muster quarantine list --stage ingest")
    listed.add_argument("--publisher", default="", help="only what this publisher sent")
    listed.add_argument("--stage", default="", help="only what was set aside here: ingest, or a consumer's name")
    listed.add_argument("--class", dest="row_class", default=None, choices=[one.word for one in RowClass],
                        help="only batches of this class")  # fmt: skip
    listed.add_argument("--level", default=None, choices=[one.word for one in Level],
                        help="only batches of this level")  # fmt: skip
    listed.add_argument("--before", type=int, default=None, metavar="ID", help="the page after this entry")
    listed.add_argument("--limit", type=int, default=100, help="at most so many (default: 100)")
    shown = add_word(deeds, "show", "show one, with the beginning of its bytes",
                     "muster quarantine show 7 --save batch.bin")  # fmt: skip
    shown.add_argument("id", type=int, metavar="ID", help="its number in the list")
    shown.add_argument("--save", type=Path, default=None, metavar="FILE", help="write its bytes to a file")
    delete = add_word(deeds, "delete", "forget one and its bytes; its rows stay counted",
                      "muster quarantine delete 7")  # fmt: skip
    delete.add_argument("id", type=int, metavar="ID", help="its number in the list")
    add_yes_option(delete)


def run(options: argparse.Namespace) -> int:
    """List, show or delete."""
    client = client_of(options)
    if options.deed == "show":
        return _show(client, options)
    if options.deed == "delete":
        if not confirm(f"Batch {options.id} and its bytes are forgotten. Go on?", yes=options.yes):
            return EXIT_FAILED
        answer = client.delete(f"/v1/quarantine/{options.id}")
        told = f"forgot batch {options.id}; its rows stay counted as quarantined"
        show(answer, options.output, Table([], empty=told))
        return 0
    asked = {name: getattr(options, name, None) for name in ("publisher", "stage", "level", "before", "limit")}
    entries = client.get("/v1/quarantine", **asked, **{"class": getattr(options, "row_class", None)})
    names = host_names(client) if options.output in TABLES and entries else {}
    show(entries, options.output, entries_table(entries, time.time_ns(), names, wide=options.wide))
    return 0


def entries_table(
    entries: Sequence[dict[str, Any]], now_ns: int, names: Mapping[str, str], *, wide: bool = False
) -> Table:
    """Make the table of an answer of `/v1/quarantine`; `wide` adds level, epoch, reason and the publisher's id."""
    more = ("level", "epoch", "publisher id", "reason") if wide else ()
    table = Table(["id", "publisher", "stage", "code", "class", "rows", "size", "times", "last", *more],
                  empty="nothing is quarantined: every batch could be taken",
                  spare=("size", "times", "stage", "class"))  # fmt: skip
    for entry in entries:
        stream = entry["stream"] or {}
        also = (stream.get("level"), stream.get("epoch"), entry["publisher"], entry["reason"]) if wide else ()
        name = names.get(entry["publisher"], entry["publisher"])
        table.add(str(entry["id"]), name if wide else shorten(name, 16), entry["stage"], entry["code"],
                  stream.get("row_class"), entry["rows"], number(entry["size"], "bytes"), entry["times"],
                  ago_ns(entry["last_ns"], now_ns), *also)  # fmt: skip
    return table


def _show(client: Client, options: argparse.Namespace) -> int:
    entry = client.get(f"/v1/quarantine/{options.id}")
    body = base64.b64decode(entry["body"]) if entry["body"] else b""
    if options.save is not None:
        options.save.write_bytes(body)
        sys.stderr.write(f"muster: wrote {len(body)} of {entry['size']} bytes to {options.save}\n")
    show(entry, options.output, _details(entry, body))
    return 0


def _details(entry: dict[str, Any], body: bytes) -> list[Table]:
    now_ns, stream = time.time_ns(), entry["stream"]
    facts = Table(["batch", str(entry["id"])])
    facts.add("reason", entry["reason"])
    facts.add("publisher", entry["publisher"])
    if stream is None:
        facts.add("rows", "not known: not even the envelope could be read")
    else:
        facts.add("stream", f"{stream['row_class']}, {stream['level']}, epoch {stream['epoch']}")
        facts.add("rows", f"{entry['rows']} from number {entry['first']}")
    facts.add("set aside by", entry["stage"])
    facts.add("came", f"{entry['times']} times, first {ago_ns(entry['first_ns'], now_ns)} ago,"
              f" last {ago_ns(entry['last_ns'], now_ns)} ago")  # fmt: skip
    facts.add("size", f"{entry['size']} bytes, of which {len(body)} are kept")
    dump = hex_dump(body[:_SHOWN_BYTES])
    if len(body) > _SHOWN_BYTES:
        dump.append(f"... {len(body) - _SHOWN_BYTES} more: --save FILE writes them all")
    return [facts, Table([], empty="\n" + "\n".join(dump))] if body else [facts]


def hex_dump(data: bytes) -> list[str]:
    """Give lines of offset, 16 bytes in hexadecimal, and what of them is ASCII."""
    lines = []
    for at in range(0, len(data), 16):
        part = data[at : at + 16]
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{at:08x}  {part.hex(' '):<47}  {text}")
    return lines
