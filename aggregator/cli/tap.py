"""`muster tap`: rows as they pass, one JSON object a line."""

import argparse
import http.client
import sys
from collections.abc import Iterator
from contextlib import closing

from aggregator.cli import add_examples, add_server_options
from aggregator.cli.client import ServerError, client_of
from aggregator.cli.names import node_id
from schemas.verbosity import Level, RowClass

_EPILOG = """examples:
  muster tap                               everything, until Ctrl-C
  muster tap 'gpu*' --node gpu-17 --level standard
  muster tap --class event --class log | jq .message
  muster tap cpu --count 1

One JSON object a line: time (nanoseconds since 1970), node (its id),
measurement, class, level, labels, values; what was not reported is left out."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    add_server_options(parser)
    parser.add_argument("measurement", nargs="?", default="*", help="a name or pattern: cpu, gpu*, log (default: all)")
    parser.add_argument("--node", default="*", help="host name, id, or a pattern over ids with * and ? (default: all)")
    parser.add_argument("--level", default="debug", choices=[level.word for level in Level], help="at most this level")
    parser.add_argument("--class", dest="classes", action="append", choices=[one.word for one in RowClass],
                        help="only this class; may be repeated")  # fmt: skip
    parser.add_argument("--count", type=int, default=0, help="leave after so many rows")


def run(options: argparse.Namespace) -> int:
    """Print until interrupted."""
    client = client_of(options)
    wild = any(character in options.node for character in "*?")
    parameters = {
        "measurement": options.measurement,
        "node": options.node if wild else node_id(client.get("/v1/nodes"), options.node),
        "level": options.level,
        "class": options.classes,
    }
    printed = 0
    with closing(client.stream("/v1/tap", parameters)) as lines:
        for line in _until_gone(lines):
            sys.stdout.write(line.decode() + "\n")
            sys.stdout.flush()
            printed += 1
            if options.count and printed >= options.count:
                return 0
    return 0


def _until_gone(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Give what the aggregator sends. Raises ServerError when it goes away; what printing raises is not meant."""
    while True:
        try:
            line = next(lines, None)
        except (OSError, http.client.HTTPException) as error:
            raise ServerError(f"the aggregator went away: {error}") from None
        if line is None:
            return
        yield line
