"""An event that was found is kept until it was handed on, over the end of the process, and forgotten then."""

from pathlib import Path

import msgspec
import pytest

from collectors._untold import Untold
from schemas.rows import Event, Item, Severity

FOUND = Event(
    "x.changed", "it is other", Severity.WARNING, "gpu:1", {"count": 2, "ratio": 2.0, "who": None, "up": True}
)
NOW_NS = 1_700_000_000_000_000_000


def _process(folder: Path | None) -> Untold:
    untold = Untold(folder, lambda: NOW_NS)
    untold.load()
    return untold


def _told(untold: Untold) -> list[Item]:
    items: list[Item] = []
    untold.hand_on(items.extend)
    return items


def test_event_of_this_process_is_handed_on_as_it_is_and_once(tmp_path: Path) -> None:
    untold = _process(tmp_path)
    untold.append(FOUND)
    assert [FOUND] == _told(untold)
    assert [] == _told(untold)
    assert [] == _told(_process(tmp_path))


def test_event_that_an_earlier_process_found_says_when(tmp_path: Path) -> None:
    first = _process(tmp_path)
    first.extend([FOUND, msgspec.structs.replace(FOUND, source_time_ns=5)])
    assert first.save()
    assert [NOW_NS, 5] == [getattr(item, "source_time_ns", 0) for item in _told(_process(tmp_path))]
    assert [] == _told(_process(tmp_path))


def test_event_that_could_not_be_handed_on_waits_and_is_on_disk_before_it_is_tried(tmp_path: Path) -> None:
    untold = _process(tmp_path)
    untold.append(FOUND)
    during: list[Item] = []

    def refused(_items: object) -> None:
        during.extend(_process(tmp_path).take())
        raise RuntimeError("stopping")

    with pytest.raises(RuntimeError):
        untold.hand_on(refused)
    assert [msgspec.structs.replace(FOUND, source_time_ns=NOW_NS)] == during
    assert [FOUND] == _told(untold)


def test_event_that_comes_while_others_are_handed_on_waits_for_its_own_turn(tmp_path: Path) -> None:
    untold = _process(tmp_path)
    untold.append(FOUND)
    untold.hand_on(lambda _items: untold.append(msgspec.structs.replace(FOUND, device="gpu:2")))
    assert ["gpu:2"] == [getattr(item, "device", "") for item in _told(_process(tmp_path))]


def test_disk_that_takes_nothing_is_told_to_who_would_write_what_follows(tmp_path: Path) -> None:
    untold = _process(tmp_path / "nowhere")
    untold.append(FOUND)
    assert not untold.save()
    assert [FOUND] == _told(untold), "it is handed on all the same"
    assert _process(None).save(), "without a folder there is nothing to wait for"


def test_file_that_is_damaged_harms_nobody(tmp_path: Path) -> None:
    (tmp_path / "untold.json").write_text('[[1, {"type"')
    untold = _process(tmp_path)
    untold.append(FOUND)
    assert [FOUND] == _told(untold)
