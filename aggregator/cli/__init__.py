"""The command line `muster`: one module a group of commands, imported only when it is asked for."""

import argparse
import errno
import importlib
import os
import re
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Final, NamedTuple, NoReturn

from collectors.process import EXIT_CONFIG, EXIT_FAILED

EXIT_USAGE: Final = 2

_FEW: Final = 16
"""Words that are listed when none is like the one that was written; of more, --help has them."""
WIDE: Final = "wide"
"""The output that is a table with nothing left out."""
_EXITS: Final = """exit status:
  0    it is done
  1    it could not be done, or something is wrong: the message says what
  2    the command line cannot be understood
  78   the configuration cannot be used: 'muster validate' lists why
  130  interrupted by Ctrl-C

'muster COMMAND --help' has examples."""

EXIT_INTERRUPTED: Final = 130
"""As shells tell SIGINT."""
_PROGRAMS: Final = ("json", "yaml")
"""Outputs for programs: they get an object for an error too."""
_OURS: Final = frozenset(("schemas", "collectors", "aggregator", "dashboards"))


class Command(NamedTuple):
    """A command: its help, and the module that adds its arguments (`arguments`) and does it (`run`)."""

    help: str
    module: str


COMMANDS: Final[dict[str, Command]] = {
    "up": Command("run everything on this machine: aggregator and agent, supervised", "aggregator.cli.up"),
    "aggregator": Command("run an aggregator alone", "aggregator.cli.server"),
    "simulate": Command("let something go wrong on a simulated node", "aggregator.cli.simulate"),
    "demo": Command("play a scenario on simulated nodes, from end to end", "aggregator.cli.demo"),
    "query": Command("ask for telemetry, logs and events", "aggregator.cli.query"),
    "balance": Command("show where every row is", "aggregator.cli.balance"),
    "devices": Command("list devices: what there is, whose it is, how it fares", "aggregator.cli.devices"),
    "taint": Command("mark a device or a node: nothing new goes there", "aggregator.cli.taint"),
    "untaint": Command("take a mark off a device or a node", "aggregator.cli.untaint"),
    "claims": Command("list claims; ask for devices, provision, renew, release", "aggregator.cli.claims"),
    "clean": Command("clean devices, vouch for them, retire them", "aggregator.cli.clean"),
    "nodes": Command("list nodes; cordon, drain, maintain, name, replace them, let one go", "aggregator.cli.nodes"),
    "drain": Command("tell what is on a node to leave; nothing new goes there", "aggregator.cli.drain"),
    "adopt": Command("bring devices that are in use already under Muster", "aggregator.cli.adopt"),
    "reconcile": Command("show where two views of the fleet do not agree", "aggregator.cli.reconcile"),
    "export": Command("hand the inventory on: nova, Triton, CSV, JSON; check a nova.conf", "aggregator.cli.export"),
    "place": Command("claim devices by what they are; see why there is no place", "aggregator.cli.place"),
    "whatif": Command("ask what becomes of a request once something changes", "aggregator.cli.whatif"),
    "variants": Command("list, set and remove names for devices of one make", "aggregator.cli.variants"),
    "packages": Command("list, set and remove bundles of amounts and devices", "aggregator.cli.packages"),
    "quota": Command("list and set the most that tenants may hold", "aggregator.cli.quota"),
    "top": Command("watch the fleet, or one node", "aggregator.cli.top"),
    "tap": Command("print rows as they pass", "aggregator.cli.tap"),
    "verbosity": Command("raise the verbosity of nodes for a while", "aggregator.cli.verbosity"),
    "collectors": Command("list collectors, and how they fare", "aggregator.cli.collectors"),
    "quarantine": Command("look at batches that could not be taken", "aggregator.cli.quarantine"),
    "token": Command("make, list, rotate and revoke tokens; enrol nodes", "aggregator.cli.token"),
    "backup": Command("save what cannot be collected again, while everything works", "aggregator.cli.backup"),
    "restore": Command("put a backup in the place of what is there", "aggregator.cli.restore"),
    "validate": Command("check the configuration", "aggregator.cli.validate"),
    "config": Command("show the effective configuration, and where it comes from", "aggregator.cli.config_show"),
    "doctor": Command("check what this machine has and lacks; pack a support bundle", "aggregator.cli.doctor"),
    "completion": Command("print the completion script of a shell", "aggregator.cli.completion"),
    "version": Command("print the versions of Muster and of what it stands on", "aggregator.cli.version"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit status: 0 for success, 78 for a bad configuration."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if sys.stdout is None:  # closed by whoever started this
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  # for the life of the process
    try:
        parser = _parser(_named(arguments))
        options, left = parser.parse_known_args(arguments)
        if left:
            _refuse(parser, options, left)
        if options.command is None:
            parser.print_help()
            return EXIT_USAGE
        return _run(options)
    except _NotUnderstood as error:
        sys.stderr.write(f"{error.prog}: {error}\n'{error.prog} --help' has the words and examples\n")
        if (output := _output_of(arguments)) in _PROGRAMS:
            from aggregator.cli.render import show_error
            from aggregator.cli.words import UsageError

            show_error(UsageError(str(error)), output)
        raise SystemExit(EXIT_USAGE) from None
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in _OURS:  # not an extra that was left out, but a mistake of ours
            raise
        sys.stderr.write(f"muster: this needs the module {missing}, which the base install leaves out:"
                         " pip install 'rackmuster[aggregator]'\n")  # fmt: skip
        return EXIT_FAILED


def _refuse(parser: argparse.ArgumentParser, options: argparse.Namespace, left: Sequence[str]) -> NoReturn:
    """Refuse words that nothing takes, by the command that they were meant for; options with near ones."""
    from schemas.errors import near_names

    near = ""
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way to be read
        if isinstance(action, argparse._SubParsersAction) and options.command in action.choices:  # noqa: SLF001
            parser = action.choices[options.command]
            near = near_names(left[0], set(parser._option_string_actions)) if left[0].startswith("-") else ""  # noqa: SLF001
    parser.error(f"{' '.join(left)}: nothing takes this.{near}")


def _run(options: argparse.Namespace) -> int:
    module = importlib.import_module(COMMANDS[options.command].module)
    try:
        status = _status(module, options)
        sys.stdout.flush()  # what cannot be written is told here, not by the interpreter as it ends
        return status
    except BrokenPipeError:  # `muster tap | head`
        _write_no_more()
        return 0
    except OSError as error:  # a full disk behind standard output, a file that cannot be written
        _write_no_more()
        unnamed = "the output cannot be written: " if error.errno == errno.ENOSPC else ""
        what = f"{error.filename}: " if error.filename else unnamed
        sys.stderr.write(f"muster: {what}{error.strerror or error}\n")
        return EXIT_FAILED


def _status(module: ModuleType, options: argparse.Namespace) -> int:
    """Run a command. An error is a sentence on standard error, and an object for who wanted JSON or YAML."""
    from schemas.errors import ConfigError, MusterError

    try:
        return int(module.run(options) or 0)
    except MusterError as error:
        sys.stderr.write(f"muster: {error}\n")
        if getattr(options, "output", "") in _PROGRAMS:
            from aggregator.cli.render import show_error

            show_error(error, options.output)
        return EXIT_CONFIG if isinstance(error, ConfigError) else EXIT_FAILED


def _write_no_more() -> None:
    """Let what is still buffered go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _named(arguments: list[str]) -> str:
    """Give the command that is asked for: only its module is imported."""
    return next((argument for argument in arguments if not argument.startswith("-")), "")


def _parser(named: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="muster",
        description="Telemetry and capability inventory for fleets of GPUs, DPUs, SR-IOV NICs\nand NVMe drives.",
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and leave")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, help=command.help, description=_sentence(command.help))
        if name == named:
            importlib.import_module(command.module).arguments(sub)
    return parser


def _sentence(told: str) -> str:
    return told[:1].upper() + told[1:] + "."


class _Parser(argparse.ArgumentParser):
    """Its words below are of its kind too; a word that is none is answered with the nearest."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line. Raises _NotUnderstood."""
        wrong = re.search(r"invalid choice: '(.*)' \(choose from (.*)\)$", message)
        if wrong is not None:
            from schemas.errors import near_names

            known = re.findall(r"'([^']+)'", wrong[2])
            near = near_names(wrong[1], known)
            told = near if near or len(known) > _FEW else f" There is: {', '.join(known)}."
            place = message[: wrong.start()]
            message = f"{place if '-' in place else ''}there is no {wrong[1]!r}.{told}"
        raise _NotUnderstood(self.prog, message)


class _NotUnderstood(Exception):  # noqa: N818 - an answer to who wrote it, and told as that
    """The command line is none; `prog` is the command that it was meant for."""

    def __init__(self, prog: str, message: str) -> None:
        super().__init__(message)
        self.prog = prog


def _output_of(arguments: Sequence[str]) -> str:
    """Give the output that is asked for in a command line that cannot be understood; "" for none."""
    found, before = "", ""
    for word in arguments:
        if word == "--":
            break
        name, equals, value = word.partition("=")
        if _is_output(before):
            found = word
        elif equals and _is_output(name):
            found = value
        elif re.match("-o[a-z]", word):
            found = word[2:]
        before = word
    return found


def _is_output(word: str) -> bool:
    """Tell whether a word is the option of output, or the beginning of it, as argparse reads it."""
    return word == "-o" or (word.startswith("--o") and "--output".startswith(word))


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from schemas import __version__

        sys.stdout.write(f"muster {__version__}\n")
        parser.exit()


def add_server_options(parser: argparse.ArgumentParser, *, inner: bool = False) -> None:
    """Add what every command that asks an aggregator takes.

    `inner`: the parser belongs to a word below a command (`muster nodes replace`) that takes them too; left out there,
    what stands before the word holds.
    """
    empty = argparse.SUPPRESS if inner else ""
    parser.add_argument("--server", default=empty, metavar="ADDRESS", help="https://host:8420 or unix:///path; default:"
                        " MUSTER_SERVER, else the aggregator of this machine")  # fmt: skip
    parser.add_argument("--token", default=empty, help="a token; default: MUSTER_TOKEN")
    parser.add_argument("--ca-file", default=empty, metavar="FILE",
                        help="the authority of the aggregator's certificate")  # fmt: skip


class _Output(argparse.Action):
    """Sets `output`, and `wide` for who shows more in a wide table."""

    def __call__(self, _: argparse.ArgumentParser, to: argparse.Namespace, values: Any, __: str | None = None) -> None:
        to.wide = values == WIDE
        to.output = values


def add_output_option(parser: argparse.ArgumentParser, *, inner: bool = False) -> None:
    """Add `-o`; for `inner` see `add_server_options`."""
    from aggregator.cli.render import FORMATS

    if not inner:
        parser.set_defaults(wide=False)
    parser.add_argument("-o", "--output", choices=FORMATS, action=_Output, metavar="FORMAT",
                        default=argparse.SUPPRESS if inner else "table",
                        help="table (default), wide (a table with ids and every column), json or yaml")  # fmt: skip


def add_examples(parser: argparse.ArgumentParser, *lines: str) -> None:
    """Put what stands at the end of a help: lines as they are, of at most 80 columns."""
    parser.epilog = "\n".join(lines)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter


def add_word(
    words: "argparse._SubParsersAction[argparse.ArgumentParser]",
    name: str,
    told: str,
    *examples: str,
    server: bool = True,
) -> argparse.ArgumentParser:
    """Add a word below a command, such as `list`; it takes the options of output, and of `server`, too."""
    parser = words.add_parser(name, help=told, description=_sentence(told))
    if server:
        add_server_options(parser, inner=True)
    add_output_option(parser, inner=True)
    if examples:
        add_examples(parser, "example:", *(f"  {line}" for line in examples))
    return parser
