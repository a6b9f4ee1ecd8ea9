"""`muster clean`, `attest`, `retire` and `reinstate`: what operators decide about single devices."""

import argparse
import sys
from typing import Any, Final
from urllib.parse import quote

from aggregator.cli import add_examples, add_output_option, add_server_options
from aggregator.cli.asking import add_yes_option, confirm
from aggregator.cli.client import ServerError, client_of
from aggregator.cli.render import Table, error_object, show
from collectors.process import EXIT_FAILED

_DEEDS: Final = {
    "clean": "have their node clean devices; they are free once the evidence holds",
    "attest": "vouch that devices are clean: they are free by your word, which is recorded",
    "retire": "take devices out for good",
    "reinstate": "put retired devices back; they are dirty then",
}
_EPILOG = """examples:
  muster clean gpu-7f3k2ma
  muster clean gpu-7f3k2ma --attest --statement "reset, memory checked"
  muster clean nvme-2xk4hqd --retire --why "worn out"
  muster clean nvme-2xk4hqd --reinstate"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    add_server_options(parser)
    add_output_option(parser)
    parser.add_argument("devices", nargs="+", metavar="DEVICE", help="ids of devices")
    which = parser.add_mutually_exclusive_group()
    for name in ("attest", "retire", "reinstate"):
        which.add_argument(f"--{name}", action="store_const", const=name, dest="deed", help=_DEEDS[name])
    parser.add_argument("--statement", default="", help="with --attest: what was done, and how it is known")
    parser.add_argument("--why", default="", help="with --retire and --reinstate")
    add_yes_option(parser)


def run(options: argparse.Namespace) -> int:
    """Do it to each device."""
    return do(options, options.deed or "clean", options.devices)


def do(options: argparse.Namespace, deed: str, devices: list[str]) -> int:
    """Do one thing to each device, and say what it is then, or why not: one that is refused leaves the others alone."""
    client = client_of(options)
    if deed == "retire" and not confirm(f"{', '.join(devices)}: nobody gets them any more. Go on?", yes=options.yes):
        return EXIT_FAILED
    body = {"statement": options.statement} if deed == "attest" else None if deed == "clean" else {"why": options.why}
    paths = [f"/v1/devices/{quote(device, safe='')}" for device in devices]
    found: list[dict[str, Any]] = []
    for device, path in zip(devices, paths, strict=True):
        try:
            seen = {"If-Match": str(client.get(path)["sequence"])} if deed == "attest" else {}
            found.append(client.call("POST", f"{path}/{deed}", body, {}, seen))
        except ServerError as error:
            if error.passing or len(devices) == 1:
                raise
            found.append({"id": device, **error_object(error)})
            sys.stderr.write(f"muster: {device}: {error}\n")
    table = Table(["device", "state"], empty="nothing was changed")
    refused = [one for one in found if "error" in one]
    for one in found:
        if one not in refused:
            table.add(one["id"], one["lifecycle"])
    show(found, options.output, table)
    return EXIT_FAILED if refused else 0
