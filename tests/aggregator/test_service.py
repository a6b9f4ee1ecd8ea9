"""An aggregator's parts together: whatever fails at the end, the files are let go of."""

from pathlib import Path

from aggregator.config import AggregatorConfig
from aggregator.service import Service
from schemas.metrics import Catalogue


async def test_a_part_that_fails_at_the_end_does_not_keep_the_others_from_closing(tmp_path: Path) -> None:
    config = AggregatorConfig(data_dir=tmp_path)
    service = Service(config, Catalogue(()))
    await service.start()

    async def flush() -> None:
        raise OSError("input/output error")

    service.fleet.flush = flush  # type: ignore[method-assign]
    failed = False
    try:
        await service.stop()
    except OSError:
        failed = True

    assert failed
    again = Service(config, Catalogue(()))  # the lock, the log and the control database are free
    await again.start()
    await again.stop()
