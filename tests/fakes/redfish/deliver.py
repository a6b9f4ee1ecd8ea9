"""How events reach who has subscribed: by POST, with attempts that are repeated."""

import asyncio
import ssl
from typing import Final
from urllib.parse import urlsplit

from tests.fakes.redfish.events import Events

ATTEMPTS: Final = 3
SECONDS: Final = 5.0


class Deliverer:
    """Posts on an event loop, asked by any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tasks: set[asyncio.Task[None]] = set()
        self.pause_seconds = 0.05
        """Between attempts; real BMCs take 30 s and more."""

    def deliver(self, events: Events, url: str, headers: dict[str, str], body: bytes) -> None:
        """Post a body some time."""

        def begin() -> None:
            task = self._loop.create_task(self._attempts(events, url, headers, body))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._loop.call_soon_threadsafe(begin)

    async def _attempts(self, events: Events, url: str, headers: dict[str, str], body: bytes) -> None:
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(self.pause_seconds)
            try:
                status = await asyncio.wait_for(_post(url, headers, body), SECONDS)
            except (OSError, TimeoutError, ValueError, EOFError):
                status = None
            events.delivered.append((url, status))
            if status is not None and 200 <= status < 300:
                return


async def _post(url: str, headers: dict[str, str], body: bytes) -> int:
    """Post, and give the status. The certificate is whatever it is: so do BMCs, until told otherwise."""
    parts = urlsplit(url)
    context = None
    if parts.scheme == "https":
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    port = parts.port or (443 if context else 80)
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=context)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        lines = {"Host": parts.netloc, "Content-Type": "application/json", "Content-Length": str(len(body))}
        lines |= {"Connection": "close", **headers}
        head = "".join(f"{key}: {value}\r\n" for key, value in lines.items())
        writer.write(f"POST {target} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)
        await writer.drain()
        return int((await reader.readline()).split()[1])
    finally:
        writer.close()
