"""PostgreSQL, what Placement keeps its state in. Source: www.postgresql.org/docs/15, initdb and postgres."""

import os
import pwd
import secrets
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from tests.ports import free_port
from tests.services.process import DidNotStartError, running

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "on",
    "synchronous_commit": "on",
    "max_connections": "200",
}
"""What is durable stays durable: it is measured beside what is."""


class Postgres(msgspec.Struct, frozen=True):
    """A server that answers, with a password of its own."""

    binary: Path
    port: int
    password: str
    pid: int

    def address(self, database: str) -> str:
        """Give the URL of one of its databases, over loopback, as SQLAlchemy reads it."""
        return f"postgresql+psycopg2://muster:{self.password}@127.0.0.1:{self.port}/{database}"

    def execute(self, statements: str, database: str = "postgres") -> str:
        """Run statements, each on its own; give what they print, unaligned. Raises AssertionError when one fails."""
        done = subprocess.run(
            [self.binary.with_name("psql"), "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1",
             "-p", str(self.port), "-U", "muster", "-d", database],
            input=statements, env={**os.environ, "PGPASSWORD": self.password},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@contextmanager
def postgresql(binary: Path) -> Iterator[Postgres]:
    """Run a server on a new, empty folder. Raises DidNotStartError.

    `binary` is `postgres`, which will not run as root: root starts it as the user `postgres`, who must be able to
    reach the folder. So it is made where temporary files are, not in pytest's, which only its owner may enter.
    """
    binary = binary.resolve()  # its other programs lie beside it
    with tempfile.TemporaryDirectory(prefix="muster-postgresql-") as name:
        folder, data = Path(name), Path(name) / "data"
        as_user = _become(folder)
        password = secrets.token_hex(16)
        (folder / "password").write_text(password)
        _make(
            [*as_user, binary.with_name("initdb"), "--pgdata", data, "--username", "muster", "--pwfile",
             folder / "password", "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync"],
            folder,
        )  # fmt: skip
        port = free_port()
        settings = {**SETTINGS, "port": str(port), "unix_socket_directories": str(folder)}
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]

        def healthy() -> bool:
            command = [str(binary.with_name("pg_isready")), "-q", "-h", "127.0.0.1", "-p", str(port)]
            return subprocess.run(command, check=False, timeout=30).returncode == 0

        # SIGINT is its fast shutdown; at SIGTERM it would wait for its clients
        with running(
            [*as_user, binary, "-D", data, *options], folder / "run", healthy=healthy, stop=signal.SIGINT
        ) as server:
            yield Postgres(binary, port, password, server.pid)


def _become(folder: Path) -> list[str]:
    """Give what runs a command as a user that PostgreSQL will run as, and let that user have `folder`."""
    if os.geteuid() != 0:
        return []
    try:
        user = pwd.getpwnam("postgres")
    except KeyError as error:
        raise DidNotStartError("PostgreSQL will not run as root, and there is no user `postgres`") from error
    os.chown(folder, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]


def _make(command: list[str | Path], folder: Path) -> None:
    done = subprocess.run(
        command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        raise DidNotStartError(f"{command!r} ended with {done.returncode}:\n{done.stderr[-2000:]}")
