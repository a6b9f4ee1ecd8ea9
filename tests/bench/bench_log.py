"""What the embedded log does, and what its promise costs: appends with and without durability, and reading.

    python -m tests.bench.bench_log [--seconds 2] [--folder DIR]

Prints appends a second at 1 and 100 callers, the ratio of not durable to durable (DESIGN part 9, price of durability:
at most 1.5 over the whole ingest path at 100 connections; here the log alone), and the time of one fsync beside it,
because every durable figure is one over it. Folder: on the disk that counts; /tmp may be memory.
"""

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles

from aggregator.log import Entry
from aggregator.log_sqlite import SqliteLog

VALUE = os.urandom(2400)  # a batch of 80 rows x 10 fields of changing floats, compressed


def fsync_seconds(folder: Path, size: int = 4096) -> list[float]:
    """Time 200 appends of `size` bytes, each with fdatasync."""
    times = []
    path = folder / "fsync"
    with path.open("wb", buffering=0) as file:
        for _ in range(200):
            file.write(VALUE[:size])
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    path.unlink()
    return times


async def appends_per_second(folder: Path, callers: int, seconds: float, synchronous: str) -> tuple[float, float]:
    """Append one batch a call from so many callers; give appends a second and the median latency in seconds."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        log = SqliteLog(Path(place) / "log.sqlite", synchronous=synchronous)
        latencies: list[float] = []
        deadline = time.perf_counter() + seconds

        async def caller(number: int) -> None:
            entry = [Entry("telemetry", number % 8, VALUE)]
            while (started := time.perf_counter()) < deadline:
                await log.append(entry)
                latencies.append(time.perf_counter() - started)

        started = time.perf_counter()
        await asyncio.gather(*(caller(number) for number in range(callers)))
        rate = len(latencies) / (time.perf_counter() - started)
        await log.close()
    return rate, median(latencies)


async def reads_per_second(folder: Path, tail_bytes: int) -> tuple[float, float]:
    """Read 40,000 batches, a megabyte at a time; give records a second and records a second of CPU."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        log = SqliteLog(Path(place) / "log.sqlite", synchronous="OFF", tail_bytes=tail_bytes)
        for _ in range(400):
            await log.append([Entry("telemetry", 0, VALUE) for _ in range(100)])
        started, used, offset = time.perf_counter(), time.process_time(), 0
        while records := await log.read("telemetry", 0, offset, 1 << 20):
            offset = records[-1].offset + 1
        rate = offset / (time.perf_counter() - started), offset / (time.process_time() - used)
        await log.close()
    return rate


async def main(folder: Path, seconds: float) -> None:
    """Run everything, print a table."""
    fsyncs = fsync_seconds(folder)
    print(f"fdatasync of one page: p50 {median(fsyncs) * 1e3:.2f} ms, p90 {quantiles(fsyncs, n=10)[-1] * 1e3:.2f} ms")
    for callers in (1, 100):
        rates = {}
        for synchronous in ("FULL", "OFF"):
            rate, latency = await appends_per_second(folder, callers, seconds, synchronous)
            rates[synchronous] = rate
            print(
                f"{callers:4} callers, synchronous={synchronous:4}: {rate:8.0f} appends/s, p50 {latency * 1e3:.2f} ms"
            )
        print(f"{callers:4} callers, price of durability: {rates['OFF'] / rates['FULL']:.2f}x")
    for name, tail_bytes in (("from memory", 1 << 30), ("from the file", 0)):
        wall, cpu = await reads_per_second(folder, tail_bytes)
        print(f"reading {name}: {wall:,.0f} batches/s, {cpu:,.0f} per core-second")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--folder", type=Path, default=Path.cwd() / ".cache")
    options = parser.parse_args()
    options.folder.mkdir(exist_ok=True)
    asyncio.run(main(options.folder, options.seconds))
