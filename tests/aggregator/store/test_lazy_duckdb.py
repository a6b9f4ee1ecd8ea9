"""DuckDB costs 70 ms and 30 MB: who does not store with it does not load it."""

import subprocess
import sys

from tests.needs import REPOSITORY


def test_the_query_model_and_the_store_interface_load_no_duckdb() -> None:
    modules = "aggregator.store, aggregator.query, aggregator.query_plan, aggregator.query_text, aggregator.last_values"
    script = f"import sys, {modules}; sys.exit(any(name in sys.modules for name in ('duckdb', 'arro3', 'arro3.core')))"
    assert 0 == subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, check=False).returncode
