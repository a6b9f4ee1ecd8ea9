"""Bytes through the whole of `push`, without a socket's other end: what comes of them can be sent."""

import logging
import socket
from pathlib import Path

from collectors.blocks import Packer
from collectors.push.connection import Connection
from collectors.push.counts import Pushers
from collectors.push.devices import Devices
from collectors.push.names import Names
from collectors.push.objects import DeviceWords, EventWords, parse_object
from collectors.push.refusal import RefusedError
from collectors.push.tables import Budget, Tables
from collectors.received import open_delivery


def pushed_lines(data: bytes) -> bytes:
    """Push bytes twice over, as lines; give the answers. Raises nothing, whatever they are."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        pusher = Pushers(lambda: Budget(1e6, 1e6, 10, lambda: 0.0)).of("service:x", "root")
        connection = Connection(ours, pusher, 4096, 0.0)
        devices = Devices(Path("/nonexistent/devices.json"), lambda: 10**18, logging.getLogger("fuzz"))
        devices.describe("service:x", "root", DeviceWords("roof"))
        tables = Tables(Names(), devices, {}, clock=lambda: 0.0, wall_ns=lambda: 10**18)
        theirs.sendall((data + b"\n" + data)[:32_000])
        theirs.shutdown(socket.SHUT_WR)
        while not connection.ended:
            for number, text in connection.read():
                try:
                    _take(text, tables, devices)
                except RefusedError as error:
                    connection.refuse(error, number)
        packer = Packer((), "node-1", undeclared=True)
        for parcel in tables.take():
            packer.add(parcel)
        delivery = packer.pack()
        assert not packer.faults, packer.note
        assert not delivery or open_delivery(delivery)[1:] == (0, "")
        connection.close_with_answer()
        connection.write()
        return theirs.recv(1 << 16)


def _take(text: str, tables: Tables, devices: Devices) -> None:
    if not text.startswith("{"):
        tables.add("service:x", Budget(1e6, 1e6, 10, lambda: 0.0), text)
        return
    said = parse_object(text)
    if isinstance(said, DeviceWords):
        devices.describe("service:x", "root", said)
    elif isinstance(said, EventWords):
        Names().event(said.type)
    else:
        devices.withdraw("service:x", said)
