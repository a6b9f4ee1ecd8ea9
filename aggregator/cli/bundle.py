"""The support bundle: what somebody needs who is to find out what is wrong, and no secret."""

import io
import os
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import msgspec

from aggregator.cli.checks import Check
from aggregator.cli.client import Client, ServerError
from aggregator.cli.effective import as_toml, effective_options
from aggregator.cli.probing import Found
from aggregator.cli.secrets import scrubbed, without_secrets
from aggregator.cli.version import versions
from schemas.errors import ConfigError, MusterError

LOG_BYTES: Final = 256 << 10
"""The tail of each log."""
_ROUTES: Final = (
    ("status.json", "/v1/status"),
    ("nodes.json", "/v1/nodes"),
    ("collectors.json", "/v1/collectors"),
    ("balance.json", "/v1/balance"),
    ("verbosity.json", "/v1/verbosity"),
    ("quarantine.json", "/v1/quarantine"),
    ("measurements.json", "/v1/measurements"),
    ("events.json", "/v1/query?measurement=event&since=1d&limit=1000"),
)
"""What is asked of the aggregator: no tokens or lists of them, no rows but events, no quarantined bytes."""


class BundleError(MusterError):
    """The bundle cannot be written."""

    code = "cli.bundle"


class Packed(msgspec.Struct, frozen=True):
    """One file of the bundle."""

    name: str
    bytes: int
    what: str


class Materials(msgspec.Struct, frozen=True):
    """What the bundle is made of, besides the aggregator's answers."""

    config: Path | None
    data_dir: Path
    checks: Sequence[Check]
    found: Sequence[Found]


Part = tuple[str, str, Callable[[], bytes]]
"""Name, what it is, and what makes it."""


def parts(materials: Materials, client: Client | None) -> Iterator[Part]:
    """Give what goes in; nothing is made before it is asked for. `client` None: no aggregator answers."""
    yield "versions.json", "versions of Muster, Python and packages", lambda: _json(versions())
    yield "checks.json", "what the doctor found", lambda: _json(materials.checks)
    yield "installed.json", "collectors installed here, and what their probes say", lambda: _json(materials.found)
    yield "configuration.toml", "options in force and where they come from, secrets hidden", lambda: _options(materials)
    for name, path in _ROUTES if client is not None else ():
        yield name, f"the aggregator's answer to {path.partition('?')[0]}", _asking(client, path)
    if client is not None:
        yield "metrics.txt", "Muster's own metrics", _asking(client, "/metrics")
    for log in sorted((materials.data_dir / "logs").glob("*.log")):
        yield f"logs/{log.name}", "the end of a log, tokens removed", partial(_tail, log)
    yield "files.txt", "names and sizes of the files in the data folder", lambda: _files(materials.data_dir)


def pack(target: Path, made: Sequence[Part], told: Callable[[int, str], None]) -> list[Packed]:
    """Write the bundle, readable by its owner alone; give what is in it. `told` hears of each part before it is made.

    A part that cannot be made has the reason in its place. Raises BundleError when the file cannot be written.
    """
    packed: list[Packed] = []
    folder = target.name.removesuffix(".tar.gz").removesuffix(".tgz")
    unfinished = target.with_name(target.name + ".part")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for number, (name, what, make) in enumerate(made):
                told(number, name)
                try:
                    data = make()
                except (MusterError, OSError) as error:
                    data = f"not available: {scrubbed(str(error))}\n".encode()
                entry = tarfile.TarInfo(f"{folder}/{name}")
                entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
                archive.addfile(entry, io.BytesIO(data))
                packed.append(Packed(name, len(data), what))
        unfinished.replace(target)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise BundleError(f"{target}: cannot be written: {error.strerror}. Name another file with --bundle") from None
    return packed


def _json(value: object) -> bytes:
    plain = without_secrets(msgspec.to_builtins(value))
    return msgspec.json.format(msgspec.json.encode(plain), indent=2) + b"\n"


def _options(materials: Materials) -> bytes:
    try:
        return scrubbed(as_toml(effective_options(materials.config, os.environ), origin=True)).encode()
    except ConfigError as error:
        return f"# cannot be read: {scrubbed(str(error))}\n".encode()


def _asking(client: Client | None, path: str) -> Callable[[], bytes]:
    def ask() -> bytes:
        assert client is not None
        answer = client.raw("GET", path)
        if answer.status != 200:
            raise ServerError(f"{answer.status}: {answer.problem().get('detail', '')}")
        try:
            return _json(msgspec.json.decode(answer.body))
        except msgspec.DecodeError:
            return scrubbed(answer.body.decode("utf-8", "replace")).encode()

    return ask


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - LOG_BYTES))
        data = file.read(LOG_BYTES)
    if size > LOG_BYTES:  # begin with a whole line
        data = data.partition(b"\n")[2]
    return scrubbed(data.decode("utf-8", "replace")).encode()


def _files(folder: Path) -> bytes:
    lines = []
    for path in sorted(folder.rglob("*")):
        try:
            status = path.lstat()
        except OSError:
            continue
        lines.append(f"{status.st_mode:06o} {status.st_size:>12} {path.relative_to(folder)}\n")
    return "".join(lines).encode()
