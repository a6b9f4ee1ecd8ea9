"""How the command line talks to an aggregator: over this machine's socket, or over the network with a token."""

import argparse
import os
from collections.abc import Generator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NoReturn
from urllib.parse import urlencode

import msgspec

from collectors.config import INSECURE_WORDS, default_data_dir, in_clear, socket_path
from collectors.transport import Answer, Transport, TransportError
from schemas.errors import MusterError


class ServerError(MusterError):
    """The aggregator refused, or did not answer."""

    code = "cli.server"

    def __init__(self, text: str, *, passing: bool = False, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(text)
        self.passing = passing
        """Whether it may answer a moment later: it is not there yet, starts, or has too much to do."""
        self.details = {} if details is None else details
        """What a refusal says to programs: `code`, `status`, `objections` ...; {} where nobody answered."""


_SAID: Final = frozenset({"type", "title", "detail"})
"""Members of problem details that code and text of an error tell already."""
TIMEOUT_SECONDS: Final = 15.0
"""A little more than the longest query may take."""


class Client:
    """Asks one aggregator. Raises ServerError rather than send a token in clear over the network."""

    def __init__(
        self, server: str = "", token: str = "", ca_file: Path | None = None, timeout: float = TIMEOUT_SECONDS
    ) -> None:
        self.address = server or os.environ.get("MUSTER_SERVER", "") or _local_address()
        self._token = token or os.environ.get("MUSTER_TOKEN", "")
        if self._token and in_clear(self.address) and os.environ.get("MUSTER_INSECURE", "") != INSECURE_WORDS:
            raise ServerError(
                f"{self.address} would let everybody on the network read the token: name an https:// address with"
                f" --server, or set MUSTER_INSECURE='{INSECURE_WORDS}'"
            )
        self._transport = Transport([self.address], ca_file=ca_file, timeout=timeout)

    def get(self, path: str, **parameters: object) -> Any:
        """Ask; give the decoded answer. Raises ServerError."""
        return self.call("GET", path, None, parameters)

    def post(self, path: str, body: object) -> Any:
        """Send a JSON body; give the decoded answer. Raises ServerError."""
        return self.call("POST", path, body, {})

    def delete(self, path: str) -> Any:
        """Delete; give the decoded answer. Raises ServerError."""
        return self.call("DELETE", path, None, {})

    def call(
        self,
        method: str,
        path: str,
        body: object,
        parameters: Mapping[str, object],
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """Ask anything; give the decoded answer, None when it is empty. Raises ServerError."""
        answer = self.raw(method, path, body, parameters, headers)
        if answer.status >= 400:
            self.fail(answer)
        if not answer.body:
            return None
        try:
            return msgspec.json.decode(answer.body)
        except msgspec.DecodeError:  # a web server that has a page for everything
            raise self._stranger(answer) from None

    def text(self, path: str) -> str:
        """Ask for what is text; give it. Raises ServerError."""
        answer = self.raw("GET", path)
        if answer.status >= 400:
            self.fail(answer)
        return answer.body.decode()

    def raw(
        self,
        method: str,
        path: str,
        body: object = None,
        parameters: Mapping[str, object] | None = None,
        more: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask anything; give the answer as it is. Raises ServerError when there is none."""
        data = None if body is None else msgspec.json.encode(body)
        headers = {**self._headers(), **(more or {})}
        if data is not None:
            headers["Content-Type"] = "application/json"
        try:
            return self._transport.request(method, _url(path, parameters or {}), data, headers)
        except TransportError as error:
            raise _no_answer(str(error)) from None

    def stream(self, path: str, parameters: Mapping[str, object]) -> Generator[bytes, None, None]:
        """Ask for something endless; give its lines without their ends. Raises ServerError when it is refused."""
        try:
            response = self._transport.open_stream("GET", _url(path, parameters), self._headers())
        except TransportError as error:
            raise _no_answer(str(error)) from None
        with closing(response):
            if response.status >= 400:
                self.fail(Answer(response.status, {}, response.read()))
            buffered = b""
            while chunk := response.read1(65536):
                *lines, buffered = (buffered + chunk).split(b"\n")
                yield from (line for line in lines if line)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def fail(self, answer: Answer) -> NoReturn:
        """Raise ServerError for a refusal, with the aggregator's own words."""
        problem = answer.problem()
        detail = problem.get("detail") or problem.get("title")
        if not detail:
            raise self._stranger(answer)
        hint = _access_hint(self.address) if answer.status in (401, 403) else ""
        raise ServerError(
            f"{str(detail).rstrip('.')}.{hint}" if hint else str(detail),
            passing=answer.status in (429, 503),
            details={name: value for name, value in problem.items() if name not in _SAID},
        )

    def _stranger(self, answer: Answer) -> ServerError:
        return ServerError(f"{self.address} answered {answer.status}: is it a Muster aggregator?")


def _url(path: str, parameters: Mapping[str, object]) -> str:
    query = [
        (name, str(value))
        for name, values in parameters.items()
        for value in (values if isinstance(values, (list, tuple)) else [values])
        if value is not None and value != ""
    ]
    return path + ("?" + urlencode(query) if query else "")


def _local_address() -> str:
    socket = socket_path(default_data_dir())
    if socket.exists():
        return f"unix://{socket}"
    listen = os.environ.get("MUSTER_LISTEN", "127.0.0.1:8420")
    return f"http://{listen}"


def _no_answer(error: str) -> ServerError:
    """Say what to do about a request that was not answered."""
    if "CERTIFICATE_VERIFY_FAILED" in error:
        return ServerError(f"the aggregator's certificate is not trusted: {error}. Name its authority with --ca-file")
    if "does not speak TLS" in error or "other side closed" in error:
        return ServerError(
            f"it does not speak as the address says: {error}",
            passing="other side closed" in error,  # so does one that is just being killed
        )
    if "timed out" in error:
        told = f"no answer within {TIMEOUT_SECONDS:g} s from {error}. It runs but hangs or is overloaded: see its log"
    else:
        told = f"no aggregator answers at {error}. Start one with 'muster up', or name one with --server"
    return ServerError(told, passing=True)


def _access_hint(address: str) -> str:
    if address.startswith("unix:"):
        return ""
    return " Give a token with --token or MUSTER_TOKEN ('muster token create' on the aggregator's machine makes one)."


def client_of(options: argparse.Namespace) -> Client:
    """Make the client that `--server`, `--token` and `--ca-file` ask for."""
    if options.ca_file and not Path(options.ca_file).is_file():
        raise ServerError(f"--ca-file: there is no file {options.ca_file!r}")
    return Client(options.server, options.token, Path(options.ca_file) if options.ca_file else None)
