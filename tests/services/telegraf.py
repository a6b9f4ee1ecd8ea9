"""Telegraf, the peer that the agent is measured against. Source: docs.influxdata.com/telegraf/v1."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.ports import free_port
from tests.services.process import Running, answers, running

HOST_INPUTS = """
[[inputs.cpu]]
  percpu = true
[[inputs.mem]]
[[inputs.disk]]
[[inputs.diskio]]
[[inputs.net]]
[[inputs.system]]
[[inputs.processes]]
[[inputs.kernel]]
[[inputs.swap]]
"""
"""What the agent's `host` collector reads as well."""


@contextmanager
def telegraf(
    binary: Path, folder: Path, config: str, *, interval: str = "1s", flush: str = "", health: bool = True
) -> Iterator[Running]:
    """Run Telegraf with the plugins of `config`, written every `flush` or `interval`.

    `health` false leaves out the HTTP server that tells when it is up: the start is not waited for, no memory spent.
    """
    folder.mkdir(parents=True, exist_ok=True)
    address = f"http://127.0.0.1:{free_port()}" if health else ""
    text = f'[agent]\n  interval = "{interval}"\n  flush_interval = "{flush or interval}"\n'
    text += f"  omit_hostname = false\n{config}"
    if health:
        text += f'\n[[outputs.health]]\n  service_address = "{address}"\n'
    path = folder / "telegraf.conf"
    path.write_text(text)
    command = (binary, "--config", path)
    with running(command, folder, address=address, healthy=lambda: not health or answers(address)) as server:
        yield server
