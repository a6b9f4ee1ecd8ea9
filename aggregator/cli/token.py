"""`muster token`: who may do what over the network."""

import argparse
import sys
import time
from collections.abc import Sequence
from typing import Any

from aggregator.cli import add_examples, add_output_option, add_server_options, add_word
from aggregator.cli.asking import add_yes_option, confirm
from aggregator.cli.client import Client, client_of
from aggregator.cli.render import TABLES, Table, show
from aggregator.cli.words import age, ago_ns, seconds_of, shorten
from collectors.process import EXIT_FAILED

_EPILOG = """examples:
  muster token create grafana --scope read
  muster token create relay --scope 'ingest:rack7-*' --expires 30d
  muster token enrol --subject 'gpu-*' --uses 50 --expires 1d
  muster token list
  muster token rotate ID
  muster token revoke ID

scopes: read, admin, ingest:SUBJECT (a name or pattern), claims:TENANT
Secrets go to standard output alone, words about them to standard error."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    add_examples(parser, _EPILOG)
    add_server_options(parser)
    add_output_option(parser)
    deeds = parser.add_subparsers(dest="deed", metavar="{create,list,rotate,revoke,enrol,enrolments}", required=True)
    new = add_word(deeds, "create", "make a token; its secret is shown once",
                   "TOKEN=$(muster token create grafana --scope read)")  # fmt: skip
    new.add_argument("name", help="what it is for")
    new.add_argument("--scope", dest="scopes", action="append", required=True, metavar="SCOPE",
                     help="read, admin, ingest:SUBJECT or claims:TENANT; may be repeated")  # fmt: skip
    new.add_argument("--expires", default="", metavar="DURATION", help="how long it lives: 30d (default: for ever)")
    listed = add_word(deeds, "list", "list tokens, never their secrets", "muster token list --dead")
    listed.add_argument("--dead", action="store_true", help="expired and revoked ones as well")
    rotate = add_word(deeds, "rotate", "make the successor of a token; the old one stays good for a while",
                      "muster token rotate ID --grace 1h")  # fmt: skip
    rotate.add_argument("id", metavar="ID", help="of the token, as 'muster token list' shows it")
    rotate.add_argument("--grace", default="1d", metavar="DURATION",
                        help="how long the old one stays good (default: 1d)")  # fmt: skip
    revoke = add_word(deeds, "revoke", "end a token at once, or an enrolment token", "muster token revoke ID")
    revoke.add_argument("id", metavar="ID", help="of the token, as 'list' or 'enrolments' shows it")
    add_yes_option(revoke)
    enrol = add_word(deeds, "enrol", "make an enrolment token, which nodes trade for tokens of their own",
                     "muster token enrol --subject 'gpu-*' --uses 50 --expires 1d")  # fmt: skip
    enrol.add_argument("--name", default="", help="what it is for")
    enrol.add_argument("--subject", dest="subjects", action="append", metavar="PATTERN",
                       help="names or patterns of nodes that it may enrol; may be repeated (default: any)")  # fmt: skip
    enrol.add_argument("--uses", type=int, default=1, help="how many nodes it may enrol (default: 1)")
    enrol.add_argument("--expires", default="1h", metavar="DURATION", help="how long it lives (default: 1h)")
    add_word(deeds, "enrolments", "list enrolment tokens", "muster token enrolments")


def run(options: argparse.Namespace) -> int:
    """Do what the word says."""
    deeds = {"create": _create, "list": _list, "rotate": _rotate, "revoke": _revoke, "enrol": _enrol,
             "enrolments": _enrolments}  # fmt: skip
    return deeds[options.deed](client_of(options), options)


def _create(client: Client, options: argparse.Namespace) -> int:
    expires = seconds_of(options.expires) if options.expires else None
    made = client.post("/v1/tokens", {"name": options.name, "scopes": options.scopes, "expires_seconds": expires})
    token = made["token"]
    return _issued(made, options, f"token {token['id']} for {', '.join(token['scopes'])}, {_ends(token)}")


def _rotate(client: Client, options: argparse.Namespace) -> int:
    made = client.call("POST", f"/v1/tokens/{options.id}/rotate", None, {"grace_seconds": seconds_of(options.grace)})
    return _issued(made, options, f"token {made['token']['id']} takes the place of {options.id}, which stays good for"
                   f" {options.grace}{_handed(made)}")  # fmt: skip


def _handed(made: dict[str, Any]) -> str:
    """Say whether a node's own token is on its way to it."""
    node = made["token"]["node"]
    if node is None:
        return ""
    if made["handed"]:
        return f". It is handed to {node} now, which needs nothing from you"
    return f". {node} is not connected: write it there to publish.token before the old one ends"


def _enrol(client: Client, options: argparse.Namespace) -> int:
    subjects = options.subjects or ["*"]
    name = options.name or f"enrol {' '.join(subjects)}"[:255]
    body = {"name": name, "subjects": subjects, "uses": options.uses, "expires_seconds": seconds_of(options.expires)}
    made = client.post("/v1/enrolments", body)
    enrolment = made["enrolment"]
    told = (f"enrolment token {enrolment['id']} for {enrolment['uses']} node(s) like {', '.join(subjects)},"
            f" {_ends(enrolment)}; give it to the agent as MUSTER_PUBLISH__ENROLMENT_TOKEN or"
            f" publish.enrolment_token. {_whom(made['authority_sha256'])}")  # fmt: skip
    return _issued(made, options, told)


def _whom(pin: str | None) -> str:
    if pin is None:
        return ("It names no authority: nodes go by publish.ca_file or their system's, unless aggregator.tls_authority"
                " is set here")  # fmt: skip
    return f"It names the authority sha256:{pin}, and goes to nobody whom that does not vouch for"


def _issued(made: dict[str, Any], options: argparse.Namespace, told: str) -> int:
    """Print the secret alone on standard output, for `TOKEN=$(muster token create ...)`; the words beside it."""
    if options.output in TABLES:
        sys.stderr.write(f"{told}. This is the only time that it is shown:\n")
        sys.stdout.write(made["secret"] + "\n")
    else:
        show(made, options.output, Table([]))
    return 0


def _ends(token: dict[str, Any]) -> str:
    if token["expires_ns"] is None:
        return "good until it is revoked"
    return f"good for {age((token['expires_ns'] - time.time_ns()) / 1e9)}"


def _list(client: Client, options: argparse.Namespace) -> int:
    tokens = client.get("/v1/tokens", dead="true" if options.dead else "")
    show(tokens, options.output, tokens_table(tokens, time.time_ns()))
    return 0


def tokens_table(tokens: Sequence[dict[str, Any]], now_ns: int) -> Table:
    """Make the table of an answer of `/v1/tokens`."""
    table = Table(
        ["id", "name", "scopes", "used", "ends in"],
        empty="no tokens: 'muster token create' makes one; 'muster token enrolments' lists those for new nodes",
    )
    for token in tokens:
        table.add(token["id"], shorten(token["name"], 20), shorten(" ".join(token["scopes"]), 26),
                  ago_ns(token["used_ns"], now_ns), _rest(token, now_ns))  # fmt: skip
    return table


def _rest(token: dict[str, Any], now_ns: int) -> str:
    if token["revoked_ns"] is not None:
        return "revoked"
    if token["expires_ns"] is None:
        return "never"
    left = (token["expires_ns"] - now_ns) / 1e9
    return age(left) if left > 0 else "expired"


def _enrolments(client: Client, options: argparse.Namespace) -> int:
    enrolments = client.get("/v1/enrolments")
    now_ns = time.time_ns()
    table = Table(["id", "name", "nodes", "used", "of", "ends in"],
                  empty="no enrolment tokens: 'muster token enrol' makes one")  # fmt: skip
    for one in enrolments:
        table.add(one["id"], shorten(one["name"], 20), shorten(" ".join(one["subjects"]), 20), one["used"], one["uses"],
                  _rest(one, now_ns))  # fmt: skip
    show(enrolments, options.output, table)
    return 0


def _revoke(client: Client, options: argparse.Namespace) -> int:
    if not confirm(f"Whoever uses {options.id} is refused from now on. Go on?", yes=options.yes):
        return EXIT_FAILED
    enrolments = {one["id"] for one in client.get("/v1/enrolments")}
    kind = "enrolments" if options.id in enrolments else "tokens"
    answer = client.delete(f"/v1/{kind}/{options.id}")
    ended = ", ".join(answer["revoked"]) or f"nothing: {options.id} had ended"
    show(answer, options.output, Table([], empty=f"revoked {ended}"))
    return 0
