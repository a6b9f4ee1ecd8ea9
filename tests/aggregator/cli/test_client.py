"""How the command line asks: never with a token that everybody on the network could read."""

import pytest

from aggregator.cli.client import Client, ServerError
from collectors.config import INSECURE_WORDS


@pytest.mark.parametrize("address", ["http://10.0.0.1:8420", "http://aggregator", "http://127.0.0.1.example:1"])
def test_a_token_is_not_sent_in_clear(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSTER_INSECURE", "yes")
    with pytest.raises(ServerError, match="https://"):
        Client(address, "mst_x")


@pytest.mark.parametrize(
    ("address", "token", "told"),
    [
        ("http://10.0.0.1:8420", "", ""),
        ("http://10.0.0.1:8420", "mst_x", INSECURE_WORDS),
        ("http://127.0.0.1:8420", "mst_x", ""),
        ("https://10.0.0.1:8420", "mst_x", ""),
        ("unix:///run/muster.sock", "mst_x", ""),
    ],
)
def test_everything_else_is_asked(address: str, token: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUSTER_TOKEN", raising=False)
    monkeypatch.setenv("MUSTER_INSECURE", told)
    assert address == Client(address, token).address
