import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from aggregator.cli.secrets import HIDDEN, is_secret, scrubbed, without_secrets

_LETTERS = "abcdefghijklmnopqrstuvwxyz234567"


@given(st.text(), st.text(_LETTERS, min_size=12, max_size=12), st.text(_LETTERS, min_size=52, max_size=52), st.text())
def test_no_token_survives_wherever_it_stands(before: str, public: str, secret: str, after: str) -> None:
    assume(secret not in before + after)
    for kind in ("mst", "mse"):
        assert secret not in scrubbed(f"{before}{kind}_{public}_{secret}{after}")


def test_public_id_of_a_token_stays_so_that_it_can_be_revoked() -> None:
    assert scrubbed("refused mst_k3v9aaaaaaaa_" + "b" * 52) == "refused mst_k3v9aaaaaaaa_..."


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("Authorization: Bearer abc.def-123", f"Authorization: Bearer {HIDDEN}"),
        ("https://admin:hunter2@bmc7/redfish", f"https://{HIDDEN}@bmc7/redfish"),
        ('password = "hunter2", user = "x"', f'password = {HIDDEN}, user = "x"'),
        ("nothing to hide: 12 rows", "nothing to hide: 12 rows"),
    ],
)
def test_passwords_and_headers_are_taken_out(text: str, clean: str) -> None:
    assert clean == scrubbed(text)


def test_nested_secrets_are_hidden_and_empty_ones_stay_empty() -> None:
    tree = {"targets": [{"host": "bmc7", "password": "hunter2"}], "token": "", "tls_key": "/etc/key.pem"}
    hidden = {"targets": [{"host": "bmc7", "password": HIDDEN}], "token": "", "tls_key": "/etc/key.pem"}
    assert hidden == without_secrets(tree)


def test_a_path_to_a_secret_is_none() -> None:
    names = ("token", "snmp_community", "bmc_password", "tls_key", "ca_file", "author")
    assert [True, True, True, False, False, False] == [is_secret(name) for name in names]


def test_a_long_line_is_scrubbed_in_no_time() -> None:
    begun = time.monotonic()
    scrubbed("a" * 300_000 + " " + "https://" * 20_000 + "password" * 20_000)
    assert time.monotonic() - begun < 5
