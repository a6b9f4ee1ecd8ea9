"""Prometheus scrapes, and its promtool judges names and types of metrics. Source: prometheus.io/docs."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port
from tests.services.process import Running, answers, running


def faults_of_metrics(promtool: Path, exposition: str) -> list[str]:
    """Say what `promtool check metrics` finds wrong with a page of `/metrics`; [] when nothing."""
    done = subprocess.run(
        [promtool, "check", "metrics"], input=exposition, capture_output=True, text=True, timeout=60, check=False
    )
    found = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    if done.returncode and not found:
        found = [f"promtool ended with {done.returncode}"]
    return found


@contextmanager
def prometheus(binary: Path, folder: Path, targets: Sequence[str], *, interval: str = "1s") -> Iterator[Running]:
    """Run a Prometheus that scrapes `targets` (host:port); one given by TEST_SERVICE_PROMETHEUS is used as it is."""
    given = os.environ.get("TEST_SERVICE_PROMETHEUS")
    if given:
        yield Running(given, 0, Path(os.devnull))
        return
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    config = folder / "prometheus.yml"
    config.write_text(
        f"global: {{scrape_interval: {interval}}}\n"
        f"scrape_configs: [{{job_name: muster, static_configs: [{{targets: {list(targets)!r}}}]}}]\n"
    )
    command = (
        binary,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    )
    address = f"http://127.0.0.1:{port}"
    with running(command, folder, address=address, healthy=lambda: answers(f"{address}/-/ready")) as server:
        yield server
