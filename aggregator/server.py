"""The aggregator's process: reads its configuration, opens its service, and serves it on the socket and the address."""

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NoReturn

from aggregator.config import AggregatorConfig, load_aggregator_config
from aggregator.control import ControlOpenError
from aggregator.log import LogOpenError
from collectors.config import socket_path
from collectors.lifeline import watch_lifeline
from collectors.process import EXIT_CONFIG, EXIT_DEFECT, EXIT_FAILED, start_logging
from schemas.errors import ConfigError, MusterError

_log = logging.getLogger("muster.aggregator")
SHUTDOWN_SECONDS: Final = 3


def main(argv: list[str] | None = None) -> int:
    """Run an aggregator until SIGTERM or SIGINT. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="muster aggregator", description="Run an aggregator.")
    arguments(parser)
    return run(parser.parse_args(argv))


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command takes."""
    parser.add_argument("--config", type=Path, metavar="FILE", help="a TOML file; conf.d/*.toml beside it are read too")


def run(options: argparse.Namespace) -> int:
    """Run it."""
    gc.disable()  # while all the modules come in there is nothing to collect
    start_logging()
    try:
        config = load_aggregator_config(options.config or config_from_env())
        return _run(config)
    except (ConfigError, LogOpenError, ControlOpenError) as error:  # starting again would not help
        sys.stderr.write(f"muster aggregator: {error}\n")
        return EXIT_CONFIG
    except MusterError as error:
        sys.stderr.write(f"muster aggregator: {error}\n")
        return EXIT_FAILED


def config_from_env() -> Path | None:
    """Give the file that MUSTER_CONFIG names; None when it names none."""
    return Path(os.environ["MUSTER_CONFIG"]) if os.environ.get("MUSTER_CONFIG") else None


def _loop_factory() -> "type[asyncio.AbstractEventLoop]":
    import uvloop

    return uvloop.Loop


def _run(config: AggregatorConfig) -> int:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(config))


def _allow_connections() -> None:
    """Take as many open files as the system grants: every agent keeps two connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(config: AggregatorConfig) -> int:
    from aggregator.app import make_served
    from aggregator.catalogue import installed_catalogue
    from aggregator.service import Service

    _allow_connections()
    threading.excepthook = _thread_died
    service = Service(config, installed_catalogue(), broken=lambda: leave(EXIT_DEFECT))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    watch_lifeline(lambda: _from_thread(loop, stop.set), ask=lambda call: _from_thread(loop, call))
    await service.start()
    gc.collect()
    gc.freeze()  # what is there now stays: no collection need look at it again
    gc.set_threshold(50_000, 20, 50)  # rows in flight are many and hold no cycles: 6 to 20 % of ingest's time
    gc.enable()
    try:
        await _listen(config, make_served(service), service.close_streams, stop)
    finally:
        await service.stop()
    return 0


def _thread_died(died: threading.ExceptHookArgs) -> None:
    """End the process when one of its threads ends by a defect: half of it would be ready, and keep everybody waiting.

    At once, as by a crash, for which everything is made: what is to be closed in order might wait for what died.
    """
    name = died.thread.name if died.thread else "?"
    _log.critical("thread_died name=%s", name, exc_info=died.exc_value)
    leave(EXIT_DEFECT)


def _from_thread(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # it ended just now
        loop.call_soon_threadsafe(call)


async def _listen(config: AggregatorConfig, app: object, close_streams: object, stop: asyncio.Event) -> None:
    """Serve on the local socket without TLS, and on the address with it when there is a certificate."""
    import uvicorn

    class Server(uvicorn.Server):
        """Leaves signals to us: there are two of these."""

        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

    section = config.aggregator
    shared = {
        "log_config": None,
        "access_log": False,
        "lifespan": "off",
        "timeout_keep_alive": 75,
        "timeout_graceful_shutdown": SHUTDOWN_SECONDS,
        "server_header": False,
        "proxy_headers": False,  # who asks is known by token or socket, never by address
    }
    tls = {"ssl_certfile": section.tls_certificate, "ssl_keyfile": section.tls_key} if section.tls_certificate else {}
    with _unix_socket(socket_path(config.data_dir)) as local, _tcp_socket(section.host, section.port) as remote:
        servers = [
            (Server(uvicorn.Config(app, **shared)), local),  # type: ignore[arg-type]
            (Server(uvicorn.Config(app, **shared, **tls)), remote),  # type: ignore[arg-type]
        ]
        tasks = [asyncio.create_task(server.serve([sock])) for server, sock in servers]
        host, port = remote.getsockname()[:2]
        _log.info("listening address=%s port=%d tls=%s socket=%s", host, port, bool(tls), socket_path(config.data_dir))
        await asyncio.wait([asyncio.create_task(stop.wait()), *tasks], return_when=asyncio.FIRST_COMPLETED)
        if callable(close_streams):
            close_streams()
        for server, _ in servers:
            server.should_exit = True
        await asyncio.gather(*tasks)


@contextlib.contextmanager
def _unix_socket(path: Path) -> Iterator[socket.socket]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()  # the folder's lock is ours: whoever left it is gone
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    old = os.umask(0o177)
    try:
        sock.bind(str(path))
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot listen there: {error.strerror or error}; a shorter MUSTER_DATA_DIR may help"
        ) from None
    finally:
        os.umask(old)
    try:
        yield sock
    finally:
        sock.close()
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


@contextlib.contextmanager
def _tcp_socket(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"aggregator.listen: cannot listen on {host}:{port}: {error.strerror}."
                " Stop what listens there, or choose another address with MUSTER_LISTEN"
            ) from None
        yield sock


def leave(status: int) -> NoReturn:
    """End the process. Everything is closed by now; DuckDB's binding would print a page about leaks on the long way."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    leave(main())
