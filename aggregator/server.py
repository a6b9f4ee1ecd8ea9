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
from typing import Any, Final, NoReturn

from aggregator.config import AggregatorConfig, AggregatorSection, load_aggregator_config
from aggregator.control import ControlOpenError
from aggregator.log import LogOpenError
from aggregator.reloading import Reloader, set_log_level
from collectors.config import socket_path
from collectors.lifeline import watch_lifeline
from collectors.process import EXIT_CONFIG, EXIT_DEFECT, EXIT_FAILED, start_logging
from collectors.service_notify import say_ready
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
        path = options.config or config_from_env()
        config = load_aggregator_config(path)
        set_log_level(config)
        return _run(config, path)
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


def _run(config: AggregatorConfig, path: Path | None) -> int:
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(config, path))


def _allow_connections() -> None:
    """Take as many open files as the system grants: every agent keeps two connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _serve(config: AggregatorConfig, path: Path | None) -> int:
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
    listener = _Listener(make_served(service), config)
    loop.add_signal_handler(signal.SIGHUP, Reloader(service, path, listener.take_certificate).begin)
    watch_lifeline(lambda: _from_thread(loop, stop.set), ask=lambda call: _from_thread(loop, call))
    await service.start()
    gc.collect()
    gc.freeze()  # what is there now stays: no collection need look at it again
    gc.set_threshold(50_000, 20, 50)  # rows in flight are many and hold no cycles: 6 to 20 % of ingest's time
    gc.enable()
    try:
        await listener.run(service.close_streams, stop)
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


class _Listener:
    """Serves on the local socket without TLS, and on the address with it when there is a certificate."""

    def __init__(self, app: object, config: AggregatorConfig) -> None:
        import uvicorn

        from aggregator.local_peer import LocalProtocol

        class Server(uvicorn.Server):
            """Leaves signals to us: there are two of these."""

            @contextlib.contextmanager
            def capture_signals(self) -> Iterator[None]:
                yield

        self._config = config
        section = config.aggregator
        shared: dict[str, Any] = {
            "log_config": None,
            "log_level": "warning",  # that it starts, listens and ends we say ourselves, and once
            "access_log": False,
            "lifespan": "off",
            "timeout_keep_alive": 75,
            "timeout_graceful_shutdown": SHUTDOWN_SECONDS,
            "server_header": False,
            "proxy_headers": False,  # who asks is known by token or socket, never by address
        }
        pair = {"ssl_certfile": section.tls_certificate, "ssl_keyfile": section.tls_key}
        self._local = Server(uvicorn.Config(app, http=LocalProtocol, **shared))  # type: ignore[arg-type]
        self._remote = Server(uvicorn.Config(app, **shared, **(pair if section.tls_certificate else {})))  # type: ignore[arg-type]

    def take_certificate(self, section: AggregatorSection) -> None:
        """Show what is in these files to whoever connects from now on. Raises OSError when they cannot be used."""
        remote = self._remote.config
        remote.ssl_certfile, remote.ssl_keyfile = section.tls_certificate, section.tls_key  # if it is yet to be loaded
        if remote.loaded and remote.ssl is not None:
            remote.ssl.load_cert_chain(section.tls_certificate, section.tls_key)

    async def run(self, close_streams: Callable[[], None], stop: asyncio.Event) -> None:
        """Serve until `stop`, or until a server ends; then have streams closed, and end in order."""
        local_path = socket_path(self._config.data_dir)
        section = self._config.aggregator
        with _unix_socket(local_path) as local, _tcp_socket(section.host, section.port) as remote:
            tasks = [asyncio.create_task(self._local.serve([local])), asyncio.create_task(self._remote.serve([remote]))]
            host, port = remote.getsockname()[:2]
            tls = bool(section.tls_certificate)
            loop = asyncio.get_running_loop()
            say_ready(lambda call: _from_thread(loop, call))
            _log.info("listening address=%s port=%d tls=%s socket=%s", host, port, tls, local_path)
            await asyncio.wait([asyncio.create_task(stop.wait()), *tasks], return_when=asyncio.FIRST_COMPLETED)
            close_streams()
            for server in (self._local, self._remote):
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
