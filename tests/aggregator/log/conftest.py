import pytest

pytest.register_assert_rewrite("tests.contract.log_conformance")
