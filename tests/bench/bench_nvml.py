"""What eight GPUs cost this agent's own code: CPU of one collection, from the driver's library to packed rows.

    python -m tests.bench.bench_nvml [--rounds 300]

The library is the fake of `tests/fakes/nvml`, which answers from memory: measured are the collector, the binding,
the packing, and the little that the fake takes, but no driver. Bar: at most 2 ms a batch beside the library's own time.
The median of the rounds counts.
"""

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from collectors.blocks import Packer
from collectors.contract import Context
from collectors.nvml import NvmlCollector
from collectors.nvml.collector import NvmlConfig
from schemas.verbosity import Level
from tests.bench.measuring import Line, show
from tests.fakes.nvml import FakeNvml

BAR_MS = 2.0
_COUNTED = ("nvmlDeviceGetFieldValues", "nvmlDeviceGetClockInfo", "nvmlDeviceGetUtilizationRates")


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _median_ms(work: Callable[[], object], rounds: int) -> float:
    taken = []
    for _ in range(rounds):
        before = time.thread_time()
        work()
        taken.append(time.thread_time() - before)
    return statistics.median(taken) * 1e3


def lines(rounds: int = 300) -> list[Line]:
    """Measure each tier, at the level that is in force by default and at the next one."""
    found = []
    with tempfile.TemporaryDirectory() as folder, FakeNvml.build(Path(folder)) as fake, fake.binding() as pynvml:
        level, clock = [Level.STANDARD], _Clock()
        context = Context(
            subject="bench", log=logging.getLogger("bench"), root=Path(folder) / "none", state_dir=Path(folder),
            level=lambda: level[0],
        )  # fmt: skip
        collector = NvmlCollector(
            NvmlConfig(library=str(fake.library)), context, clock=clock, binding=lambda _path: pynvml
        )
        collector.start()
        packer = Packer(collector.METRICS, "bench")

        def collect(step: float) -> bytes:
            clock.now += step
            packer.reset()
            for item in collector.collect():
                packer.add(item)
            return packer.pack()

        collect(0.0)
        for name, step in (("fast tier", 0.0), ("and every 15 s", 15.0), ("and every 60 s", 60.0)):
            for level[0] in (Level.STANDARD, Level.DETAILED):
                ours = _median_ms(lambda step=step: collect(step), rounds if not step else rounds // 5)  # type: ignore[misc]
                bar = BAR_MS if not step else None
                found.append(
                    Line(f"nvml, 8 GPUs, {name}, {level[0].word}", ours, "ms", bar, note=_note(fake, collect, step))
                )
        found.append(
            Line("nvml, 8 GPUs, documents", _median_ms(lambda: list(collector.describe()), rounds // 20 or 1), "ms")
        )
        collector.stop()
    return found


def _note(fake: FakeNvml, collect: Callable[[float], bytes], step: float) -> str:
    fake.forget_calls()
    collect(step)
    return f"{sum(fake.calls(name) for name in _COUNTED)} calls of {', '.join(name[10:] for name in _COUNTED)}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300)
    show(lines(parser.parse_args().rounds))


if __name__ == "__main__":
    main()
