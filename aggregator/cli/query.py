"""`muster query`: ask for telemetry, logs and events."""

import argparse
import datetime
import json
from collections.abc import Mapping
from typing import Any, Final

from aggregator.cli import add_examples, add_output_option, add_server_options
from aggregator.cli.client import Client, client_of
from aggregator.cli.names import host_names
from aggregator.cli.render import TABLES, Table, number, screen_width, show
from schemas.rows import LOG, Severity
from schemas.structured_data import decode_structured_data

_EPILOG = """examples:
  muster query                        what there is to ask for
  muster query gpu --list             its fields, with unit and meaning
  muster query cpu --last             newest values of every field
  muster query capability --last      what every device says it can do
  muster query cpu usage_ratio --since 15m --every 1m
  muster query disk read_bytes_total:rate --every 10s --where 'disk=nvme*'
  muster query log --severity warning --contains nvme --since 1d
  muster query log --by source        in the order of the senders' own clocks
  muster query log --decode           with RFC 5424 structured data taken apart
  muster query log --copies apart     a storm's records as they are stored
  muster query event --limit 20

times of logs and events: 'time' is when Muster read the row, by the node's
clock; 'source_time_ns' (in tables 'source_time') is what the record says of
itself, by the clock of whoever wrote it. --since and --until go by 'time'.

storms: nodes fold copies of a log record beyond the first ones into records
that count them. Tables show all copies of one text as one row, the newest,
with 'copies' and 'first_time'; JSON and YAML have the records as they are
stored, unless asked with --copies folded."""
_READABLE: Final = ("type", "severity", "app", "copies", "first_time_ns", "message")
"""What a table shows of a log or event besides time and labels; `-o wide` and JSON have everything."""
_STRUCTURED: Final = "structured_data"
FEW_ROWS: Final = 4
"""So many rows may be shown upright when they are too wide for the screen."""
MANY_COLUMNS: Final = 8
"""So many columns are too many for one line."""
SOURCE_TIME: Final = "source_time_ns"
SEVERITIES: Final = {one.value: one.name.lower() for one in Severity}


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    add_server_options(parser)
    add_output_option(parser)
    parser.add_argument("measurement", nargs="?", default="", help="the table; left out: list them")
    parser.add_argument("fields", nargs="?", default="", help="field[:aggregate],...; left out: all")
    parser.add_argument("--list", action="store_true", help="list the fields of the measurement")
    parser.add_argument("--where", default="", metavar="SELECTOR", help="node=n1|n2,device=gpu*,cpu!=0")
    parser.add_argument("--since", default="", help="how long ago (15m, 2d) or a time (RFC 3339); default 1h")
    parser.add_argument("--until", default="", help="likewise; default: now")
    parser.add_argument("--every", default="", metavar="DURATION", help="a value for each bucket of time")
    parser.add_argument("--aggregate", default="", help="avg, min, max, sum, count, last, first, rate, p50, p95, p99")
    parser.add_argument("--group", default=None, help="group by these (node, device, attributes), or all")
    parser.add_argument("--last", action="store_true", help="the newest value of every field; of logs, events and"
                        " capability documents the newest row")  # fmt: skip
    parser.add_argument("--limit", type=int, default=None, help="at most so many rows (default: 1000)")
    parser.add_argument("--order", choices=("oldest", "newest"), default="", help="which rows come first, and stay when"
                        " there are too many (default: the newest; logs are shown as they are read)")  # fmt: skip
    parser.add_argument("--by", choices=("read", "source"), default="", help="the time by which logs and events are"
                        " ordered: read (default), or source, the record's own (read where it has none)")  # fmt: skip
    parser.add_argument("--copies", choices=("folded", "apart"), default="", help="storms of logs: folded, one row a"
                        " text with the count of all (tables), or apart, as they are stored (JSON, YAML)")  # fmt: skip
    parser.add_argument("--decode", action="store_true", help="take structured data of logs (RFC 5424) apart: in JSON"
                        " a list of elements with id and parameters, each parameter a list of values")  # fmt: skip
    parser.add_argument("--contains", default="", metavar="TEXT", help="logs and events with this in their message")
    parser.add_argument("--matches", default="", metavar="REGEX", help="logs and events whose message matches")
    parser.add_argument("--severity", default="", help="logs and events at least this bad: error, warning, 0 to 7")


def run(options: argparse.Namespace) -> int:
    """Ask and print."""
    client = client_of(options)
    if not options.measurement or options.list:
        return _list(client, options)
    result = client.get(
        "/v1/query",
        measurement=options.measurement,
        fields=options.fields,
        where=options.where,
        since=options.since,
        until=options.until,
        every=options.every,
        aggregate=options.aggregate,
        group=options.group,
        last="true" if options.last else "",
        limit=1000 if options.limit is None else options.limit,
        order=options.order,
        by=options.by,
        copies=options.copies or _copies(options),
        contains=options.contains,
        matches=options.matches,
        severity=options.severity,
    )
    written = options.measurement in ("log", "event")
    newest_last = written and not (options.order or options.last)  # as a log is read
    names = host_names(client) if options.output in TABLES else {}
    storms = _storms(result)
    if options.decode:
        result = _decoded(result, as_text=options.output in TABLES)
    if options.output == "table" and written and not options.fields:
        result = _readable(result, by_source=options.by == "source", decoded=options.decode)
    elif options.wide:
        result = _with_ids(result)
    show(result, options.output, result_table(result, names, newest_last=newest_last, empty=_nothing(options)))
    if options.output in TABLES and result.get("truncated"):
        Table([], empty=f"... cut at {result['rows']} rows: ask for less, or with --limit for more").print()
    if options.output in TABLES and storms:
        Table([], empty=storms).print()
    return 0


def _copies(options: argparse.Namespace) -> str:
    """Give what becomes of storms where nobody said: people want them as one, programs each record."""
    raw = not (options.every or options.aggregate or options.last or options.fields or options.group is not None)
    return "folded" if raw and options.measurement == LOG and options.output in TABLES else ""


def _storms(result: dict[str, Any]) -> str:
    """Say how many rows stand for how many records; "" for none."""
    places = {column["name"]: at for at, column in enumerate(result["columns"]) if column["role"] == "value"}
    counts: list[int | None] = result["data"][places["copies"]] if "copies" in places else []
    counted = [count for count in counts if count]
    rows = "1 row stands" if len(counted) == 1 else f"{len(counted):,} rows stand"
    return f"({rows} for {sum(counted):,} records)" if counted else ""


def _decoded(result: dict[str, Any], *, as_text: bool) -> dict[str, Any]:
    """Take structured data apart; what is none stays as it is."""
    columns, data = [], []
    for column, values in zip(result["columns"], result["data"], strict=True):
        structured = column["name"] == _STRUCTURED and column["role"] == "value"
        columns.append({**column, "type": "elements"} if structured and not as_text else column)
        data.append([_elements(value, as_text=as_text) for value in values] if structured else values)
    return {**result, "columns": columns, "data": data}


def _elements(text: str | None, *, as_text: bool) -> Any:
    """Give the elements of structured data: as text `id name=value`, else by id and the values of each name."""
    try:
        elements = decode_structured_data(text or "")
    except ValueError:
        return text
    if as_text:
        told = (" ".join((one.id, *(f"{name}={_word(value)}" for name, value in one.parameters))) for one in elements)
        return "; ".join(told) or None
    found = []
    for one in elements:
        values: dict[str, list[str]] = {}
        for name, value in one.parameters:
            values.setdefault(name, []).append(value)
        found.append({"id": one.id, "parameters": values})
    return found or None


def _word(value: str) -> str:
    """Give a value as it is, or quoted where its end could not be seen."""
    plain = value and not any(character.isspace() or character in '";' for character in value)
    return value if plain else json.dumps(value, ensure_ascii=False)


def _readable(result: dict[str, Any], *, by_source: bool, decoded: bool) -> dict[str, Any]:
    """Leave of logs and events what people read, the message last: it is as long as it likes."""
    places = {column["name"]: at for at, column in enumerate(result["columns"])}
    labels = [column["name"] for column in result["columns"] if column["role"] != "value"]
    if by_source:
        labels.insert(1, SOURCE_TIME)
    *shown, message = _READABLE
    values = (*shown, _STRUCTURED, message) if decoded else _READABLE
    kept = [places[name] for name in (*labels, *values) if name in places]
    return {**result, "columns": [result["columns"][at] for at in kept], "data": [result["data"][at] for at in kept]}


def _with_ids(result: dict[str, Any]) -> dict[str, Any]:
    """Add beside each node, which tables show by host name, its id."""
    columns, data = [], []
    for column, values in zip(result["columns"], result["data"], strict=True):
        columns.append(column)
        data.append(values)
        if column["role"] == "label" and column["name"] in ("node", "publisher"):
            columns.append({**column, "name": f"{column['name']}_id"})
            data.append(values)
    return {**result, "columns": columns, "data": data}


def _nothing(options: argparse.Namespace) -> str:
    """Say what an empty answer means, and what may have one."""
    if options.measurement == "capability" and not options.last:
        return "no rows: no document changed in that time; --last gives the newest of every device"
    further = "" if options.since else "; look further back with --since"
    return f"no rows: nothing matches in that time{further}"


def result_table(
    result: dict[str, Any], names: Mapping[str, str], *, newest_last: bool = False, empty: str = "no rows"
) -> Table:
    """Make the table of a query's answer, nodes by `names`, without the columns that are empty throughout."""
    columns = result["columns"]
    kept = [at for at, values in enumerate(result["data"]) if any(value not in (None, "") for value in values)]
    shown = [columns[at]["name"].replace("_time_ns", "_time") for at in kept]
    values = [name for at, name in zip(kept, shown, strict=True) if columns[at]["role"] == "value"]
    table = Table(shown, empty=empty, spare=values[:0:-1])  # of what is read, one column at least stays
    order = range(result["rows"])
    for row in reversed(order) if newest_last else order:
        table.add(*(_cell(columns[at], result["data"][at][row], names) for at in kept))
    if not 0 < len(table.rows) <= FEW_ROWS or len(table.columns) <= MANY_COLUMNS or table.width <= screen_width():
        return table
    upright = _upright(table)
    return upright if len(table.rows) == 1 or upright.width <= screen_width() else table


def _upright(table: Table) -> Table:
    """Turn a table of few rows that is too wide: a line for each column, a column for each row."""
    turned = Table(
        ["field", *(["value"] if len(table.rows) == 1 else [f"row {at + 1}" for at in range(len(table.rows))])]
    )
    for at, name in enumerate(table.columns):
        turned.add(name, *(row[at] for row in table.rows))
    return turned


def _cell(column: dict[str, Any], value: Any, names: Mapping[str, str]) -> Any:
    if value is None:
        return None
    if column["role"] == "label":
        return names.get(value, value) if column["name"] in ("node", "publisher") else value
    if column["name"] == "severity" and value in SEVERITIES:
        return SEVERITIES[value]
    if column["role"] == "time" or column["name"].endswith("_time_ns"):
        return clock_time(value)
    if column["role"] == "value" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return number(value, column.get("unit", ""))
    return value


def clock_time(time_ns: int) -> str:
    """Give a time as people at this machine read it, to the millisecond."""
    moment = datetime.datetime.fromtimestamp(time_ns / 1e9).astimezone()
    today = datetime.datetime.now().astimezone().date()
    text = moment.strftime("%H:%M:%S.") + f"{time_ns % 1_000_000_000 // 1_000_000:03d}"
    return text if moment.date() == today else moment.strftime("%Y-%m-%d ") + text


def _list(client: Client, options: argparse.Namespace) -> int:
    found = client.get("/v1/measurements", measurement=options.measurement)
    if options.measurement:
        table = Table(["field", "type", "kind", "unit", "level", "meaning"], spare=("kind", "type", "level", "unit"))
        for field in found[0]["fields"]:
            table.add(field["name"], field["type"], field["kind"], field.get("unit") or None, field.get("level"),
                      field.get("meaning"))  # fmt: skip
        more = f"attributes: {', '.join(found[0]['attributes'])}" if found[0]["attributes"] else ""
        show(found, options.output, [table, Table([], empty=more)] if more else table)
        return 0
    table = Table(["measurement", "series", "rows", "fields"], empty="no measurement yet: nothing has arrived")
    for one in found:
        if one["rows"]:
            table.add(one["name"], one["series"], one["rows"], len(one["fields"]))
    show(found, options.output, table)
    return 0
