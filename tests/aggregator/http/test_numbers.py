"""Numbers beyond what an entry of the ledger can hold are refused before anything is decided."""

import pytest

from tests.aggregator.http.test_place import V100, Api, api  # noqa: F401  # a fixture

HUGE = 99999999999999999999
AMOUNTS = {"vcpus": HUGE}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/v1/quotas/blue", {"limits": {"claims": HUGE}}),
        ("PUT", "/v1/quotas/blue", {"limits": {"devices:V100": -HUGE}}),
        ("PUT", "/v1/packages/huge", {"amounts": AMOUNTS}),
        ("PUT", "/v1/packages/huge", {"devices": [{"variant": "V100", "count": HUGE}]}),
        ("POST", "/v1/place", {**V100, "amounts": AMOUNTS}),
        ("POST", "/v1/place", {**V100, "needs": [{"variant": "V100", "count": HUGE}]}),
        ("POST", "/v1/place", {**V100, "lease_seconds": HUGE}),
        ("POST", "/v1/claims", {"tenant": "blue", "consumer": "vm", "amounts": {"n1": AMOUNTS}}),
    ],
)
async def test_huge_number_is_a_clear_refusal_and_harms_nothing(
    api: Api,  # noqa: F811
    method: str,
    path: str,
    body: object,
) -> None:
    before = api.ledger.durable
    status, told = await api.ask(method, path, body)
    assert (400, before, 0) == (status, api.ledger.durable, api.ledger.failures)
    assert any(word in told["detail"] for word in (str(HUGE), "1e+20", "<="))
