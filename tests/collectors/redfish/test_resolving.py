"""Names are looked up in bounded time, whatever the resolver does, and by few threads."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from collectors.redfish.connection import connect_tcp
from collectors.redfish.resolving import AT_ONCE, Address, Resolver

PATIENCE = 30.0
HERE: Address = (socket.AF_INET, ("127.0.0.1", 1))


class Dead:
    """A resolver that says nothing until the test is over."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.over = threading.Event()

    def __call__(self, host: str, port: int) -> list[Address]:
        self.asked.append(host)
        self.over.wait(PATIENCE)
        return [HERE]


@pytest.fixture
def dead() -> Iterator[Dead]:
    before = threading.active_count()
    dead = Dead()
    yield dead
    dead.over.set()
    deadline = time.monotonic() + PATIENCE
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_who_asks_a_dead_resolver_waits_no_longer_than_he_may(dead: Dead) -> None:
    resolver = Resolver(dead)
    began = time.monotonic()
    for _ in range(2):
        with pytest.raises(TimeoutError, match="rack7"):
            connect_tcp("rack7", 443, 0.1, resolver)
    assert time.monotonic() - began < 5.0
    assert ["rack7"] == dead.asked, "one search for one name"


def test_a_dead_resolver_holds_a_few_threads_however_many_names_are_asked_for(dead: Dead) -> None:
    resolver, before = Resolver(dead), threading.active_count()
    for number in range(AT_ONCE + 5):
        with pytest.raises(TimeoutError):
            resolver.addresses(f"b{number}", 443, 0.05)
    assert AT_ONCE == len(dead.asked) == threading.active_count() - before


def test_what_is_known_late_is_for_all_who_wait_and_then_others_have_their_turn(dead: Dead) -> None:
    resolver = Resolver(dead)
    found: list[list[Address]] = []
    waiting = [
        threading.Thread(target=lambda name=name: found.append(resolver.addresses(name, 443, PATIENCE)))
        for name in [*(f"b{number}" for number in range(AT_ONCE)), "b0", "last"]
    ]
    for thread in waiting:
        thread.start()
    dead.over.set()
    for thread in waiting:
        thread.join(PATIENCE)
    assert [[HERE]] * (AT_ONCE + 2) == found


def test_an_address_needs_no_resolver(dead: Dead) -> None:
    resolver = Resolver(dead)
    assert [(socket.AF_INET, ("127.0.0.1", 80))] == resolver.addresses("127.0.0.1", 80, 0.0)
    assert socket.AF_INET6 == resolver.addresses("::1", 80, 0.0)[0][0]
    assert [] == dead.asked


def test_a_name_that_nobody_has_is_said_to_be_none() -> None:
    def nobody(host: str, port: int) -> list[Address]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with pytest.raises(OSError, match="not known"):
        Resolver(nobody).addresses("nobody", 443, PATIENCE)


def test_an_address_that_refuses_leaves_the_next_one_its_turn() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        there: Address = (socket.AF_INET, ("127.0.0.1", port))
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            refuses: Address = (socket.AF_INET, closed.getsockname())
            connect_tcp("two", port, PATIENCE, Resolver(lambda host, port: [refuses, there])).close()
            with pytest.raises(ConnectionRefusedError):
                connect_tcp("one", port, PATIENCE, Resolver(lambda host, port: [refuses]))
