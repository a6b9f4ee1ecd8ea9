"""`muster-agent`: the agent's process, and its other ways to run: `--test`, `--once`, `validate`, `collectors`.

The zygote is forked before anything heavy is imported, so imports stand inside functions here; that is also why the
configuration is checked in a child, which may import every collector and takes the memory with it when it ends.
"""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from collectors.process import EXIT_CONFIG, EXIT_FAILED

if TYPE_CHECKING:
    import argparse
    from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Run the agent. Returns the exit status."""
    import_msgspec()
    given = list(sys.argv[1:] if argv is None else argv)
    words = set(given)
    if given[:1] == ["claim"]:
        from collectors.claims.command import main as claim

        return claim(given[1:])
    if words & {"validate", "collectors", "-h", "--help"}:
        options = _parser().parse_args(argv)
        return _list_collectors() if options.command == "collectors" else _validate(options.config)
    from collectors.zygote import start_zygote

    zygote = start_zygote()  # before argparse too: what is imported first is in every process
    options = _parser().parse_args(argv)
    if not options.checked and (status := check_in_child(options.config)) != 0:
        zygote.close()
        return status
    from collectors.agent import run_agent
    from schemas.errors import ConfigError, MusterError

    try:
        return run_agent(zygote, options)
    except ConfigError as error:
        sys.stderr.write(f"muster-agent: {error}\n")
        return EXIT_CONFIG
    except MusterError as error:
        sys.stderr.write(f"muster-agent: {error}\n")
        return EXIT_FAILED


def import_msgspec() -> None:
    """Import msgspec without `typing_extensions`, which it takes where it finds it: 2 MB in each process, for nothing.

    Without it msgspec uses `typing`, as on a machine where nothing else brought it.
    """
    if "msgspec" in sys.modules or "typing_extensions" in sys.modules:
        return
    sys.modules["typing_extensions"] = None  # type: ignore[assignment]  # importing it now raises ImportError
    try:
        import msgspec  # noqa: F401
    finally:
        del sys.modules["typing_extensions"]


def _parser() -> "argparse.ArgumentParser":
    import argparse
    from pathlib import Path

    parser = argparse.ArgumentParser(
        prog="muster-agent", description="Read this node's devices and logs, and publish what is seen."
    )
    default = os.environ.get("MUSTER_CONFIG")
    parser.add_argument("--config", type=Path, default=Path(default) if default else None, metavar="FILE",
                        help="a TOML file (default: MUSTER_CONFIG); conf.d/*.toml beside it are read too")  # fmt: skip
    parser.add_argument("--test", action="store_true", help="collect once, print what was read, keep and send nothing")
    parser.add_argument("--test-wait", type=float, default=1.0, metavar="SECONDS",
                        help="with --test: how long to listen to what comes by itself")  # fmt: skip
    parser.add_argument("--once", action="store_true", help="collect once, publish, and leave")
    parser.add_argument(
        "--only", action="append", default=[], metavar="COLLECTOR", help="just this one; may be repeated"
    )
    parser.add_argument(
        "--checked", action="store_true", help="the configuration was just checked by whoever starts this"
    )
    parser.add_argument("command", nargs="?", choices=("run", "validate", "collectors", "claim"), default="run",
                        help="run (default), validate the configuration, list installed collectors, or see and confirm"
                        " what claims ask of this node (claim --help)")  # fmt: skip
    return parser


def check_in_child(config: "Path | None") -> int:
    """Check the whole configuration, options of collectors included, in a process of its own; give its status."""
    return end_check(begin_check(config))


def begin_check(config: "Path | None") -> int:
    """Begin `check_in_child`, and give the number of the process that does it."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        status = EXIT_FAILED
        try:
            status = _validate(config, quiet=True)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return pid


def end_check(pid: int) -> int:
    """Wait for the end of a check, and give its status."""
    _, state = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(state)


def _validate(config: "Path | None", *, quiet: bool = False) -> int:
    from collectors.checking import check_agent
    from collectors.config import load_agent_config
    from collectors.registry import discover, load_factory
    from collectors.settings import load_settings
    from schemas.errors import ConfigError

    known: dict[str, type[Any] | None] = {}
    classes: dict[str, type[Any]] = {}
    for name, entry in discover().items():
        try:
            classes[name] = load_factory(entry.factory)
            known[name] = classes[name].Config
        except Exception as error:  # noqa: BLE001 - a broken plugin is told when it is asked for; it stops nobody
            known[name] = None
            if not quiet:
                sys.stderr.write(f"muster-agent: {name} ({entry.distribution}): {type(error).__name__}: {error}\n")
    try:
        read = load_agent_config(config, known)
        if not quiet and (problems := check_agent(read, load_settings(config), classes, attempt=False)):
            raise ConfigError(*problems)
    except ConfigError as error:
        sys.stderr.write("".join(f"muster-agent: {place}\n" for place in error.places))
        return EXIT_CONFIG
    if not quiet:
        sys.stdout.write(f"{config or 'defaults'}: the agent's configuration is good\n")
    return 0


def _list_collectors() -> int:
    from collectors.registry import discover

    for name, entry in discover().items():
        sys.stdout.write(f"{name:<12} {entry.distribution} {entry.version}  {entry.factory}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
