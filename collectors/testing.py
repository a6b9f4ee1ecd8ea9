"""The contract test kit: what every collector must keep, as functions that a plugin's own tests call.

    from collectors.testing import CHECKS, Case

    @pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
    def test_contract(check):
        check(Case(FanCollector, config={"path": "fans"}, root=Path("tests/cases/fan/one")))

or `check_contract(case)` for all of them at once. A check raises AssertionError with a sentence that says what is wrong
and why it matters. Nothing here needs pytest, a helper process, or hardware: where there is nothing to read, a
collector says so (NoDataError, StartupError), and that is kept to the contract as well.
"""

import gc
import logging
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import msgspec

from collectors.blocks import Packer
from collectors.contract import ChecksOptions, Context, DescribesDevices, Probes, Watches
from collectors.delivery import Delivery
from collectors.registry import ContractError, build_config, check_class, config_help
from schemas.codec import check_block
from schemas.device import Document, decode_document, encode_document, pci_address
from schemas.errors import NoDataError, PartialCollectError, StartupError
from schemas.events import check_events
from schemas.rows import Event

WATCH_SECONDS: Final = 0.2
"""So long a watch is let run."""
STOP_SECONDS: Final = 1.0
"""So long it may take to notice that it is to stop."""
_ROWS: Final = 100_000
_MERGE_KEY: Final = re.compile(r"[a-z][a-z0-9_-]*:.+\Z")
_CODE: Final = (".py", ".pyc", ".so", ".pth")
_IO: Final = ("open", "os.listdir", "os.scandir", "os.mkdir", "os.remove", "os.rename", "os.fork", "os.posix_spawn")
_IO_PREFIXES: Final = ("socket.", "subprocess.", "ctypes.dlopen", "sqlite3.", "os.system", "os.exec")


class Case(msgspec.Struct, kw_only=False):
    """A collector and what it is to read."""

    collector: type[Any]
    config: Mapping[str, Any] = {}
    """As in the configuration file."""
    root: Path = Path("/")
    """A recorded machine, or this one."""
    reads_root: bool = True
    """Whether all it reads is below `root`: then an empty root gives no rows. False for sockets and drivers."""

    def context(self, root: Path | None = None, state_dir: Path | None = None) -> Context:
        """Give a context as the host would."""
        return Context(
            subject="contract-test",
            log=logging.getLogger(f"muster.collector.{self.collector.name}"),
            root=self.root if root is None else root,
            state_dir=state_dir,
        )

    def make(self, root: Path | None = None, state_dir: Path | None = None) -> Any:
        """Construct the collector."""
        config = build_config(self.collector.name, self.collector, self.config)
        return self.collector(config, self.context(root, state_dir))


def check_contract(case: Case) -> None:
    """Check everything. Raises AssertionError."""
    for check in CHECKS:
        check(case)


def check_declaration(case: Case) -> None:
    """The class says what it is: name, metrics without contradiction, configuration, methods."""
    try:
        check_class(case.collector)
    except ContractError as error:
        raise AssertionError(str(error)) from None
    for spec in case.collector.METRICS:
        assert spec.meaning.strip(), f"{spec.name}: `meaning` is for people who do not know it: one sentence"
        assert spec.source, f"{spec.name}: `source` says where it is read"
    assert (case.collector.__doc__ or "").strip(), f"{case.collector.__name__} has no docstring: it becomes its help"


def check_config(case: Case) -> None:
    """The configuration is frozen, has a default for every field, a help for every field, and refuses unknown keys."""
    config = case.collector.Config
    assert config.__struct_config__.frozen, "Config must be frozen: it is read once"
    missing = [field.name for field in msgspec.structs.fields(config) if field.required]
    assert not missing, f"Config fields without a default: {missing}; a collector runs without being configured"
    config()
    silent = [field for field, text in config_help(config).items() if not text.strip()]
    assert not silent, f"Config fields without an attribute docstring: {silent}; it becomes their help"
    build_config(case.collector.name, case.collector, case.config)
    collector = case.make()
    if isinstance(collector, ChecksOptions):
        options = {"", *config.__struct_fields__}
        for objection in collector.check_options(attempt=False):
            assert objection.option in options, f"an objection to {objection.option!r}, which is no option"
            assert objection.text.strip(), "an objection without a text"


def check_construction_does_no_io(case: Case) -> None:
    """`__init__` opens nothing, so that configuration can be checked anywhere."""
    case.make()  # once, so that modules which it imports lazily are there
    with _watched_io() as seen:
        case.make()
    assert not seen, f"__init__ does I/O: {seen[:3]}; do it in `start`"


def check_stop_without_start(case: Case) -> None:
    """`stop` is safe without `start`, and twice."""
    collector = case.make()
    collector.stop()
    collector.stop()


def check_lifecycle(case: Case) -> None:
    """Start, collect twice, stop, stop again: nothing but the deliberate errors is raised."""
    with _state_dir() as state_dir:
        collector = case.make(state_dir=state_dir)
        try:
            if _starts(collector):
                _items(collector)
                _items(collector)
        finally:
            collector.stop()
            collector.stop()


def check_restart(case: Case) -> None:
    """Start, stop, start again, on the same object, gives what the first start gave."""
    with _state_dir() as state_dir:
        collector = case.make(state_dir=state_dir)
        try:
            first = _starts(collector)
            before = _measurements(_items(collector)) if first else set()
            collector.stop()
            assert _starts(collector) == first, "the second `start` on the same object does not do what the first did"
            after = _measurements(_items(collector)) if first else set()
            assert before <= after, f"after stop and start nothing is yielded any more for {sorted(before - after)}"
        finally:
            collector.stop()


def check_emissions(case: Case) -> None:
    """What is yielded is declared, of the declared types, with exactly the declared attributes, and travels."""
    with _state_dir() as state_dir:
        collector = case.make(state_dir=state_dir)
        try:
            if not _starts(collector):
                return
            for _ in range(2):  # counters that need a reading before them appear with the second
                packer = Packer(case.collector.METRICS, "contract-test")
                for item in _items(collector):
                    packer.add(item)
                assert not packer.faults, f"refused: {packer.faults}; the first: {packer.note}"
                _check_travels(packer.pack())
        finally:
            collector.stop()


def check_events_are_declared(case: Case) -> None:
    """`EVENTS` can be told apart, and has what a collection yields on this machine."""
    declared = check_events(getattr(case.collector, "EVENTS", ()))
    with _state_dir() as state_dir:
        collector = case.make(state_dir=state_dir)
        try:
            told = {item.type for item in _items(collector) if isinstance(item, Event)} if _starts(collector) else set()
        finally:
            collector.stop()
    assert not told - declared.keys(), f"events that EVENTS does not declare: {sorted(told - declared.keys())}"


def check_documents(case: Case) -> None:
    """Documents name their devices once, can be encoded, and have identities that others can merge by."""
    if not issubclass(case.collector, DescribesDevices):
        return
    with _state_dir() as state_dir:
        collector = case.make(state_dir=state_dir)
        try:
            if _starts(collector):
                documents = list(_described(collector))
                for document in documents:
                    _check_document(document)
                devices = [document.device for document in documents]
                assert len(set(devices)) == len(devices), f"described twice: {sorted(devices)}"
        finally:
            collector.stop()


def check_watch(case: Case) -> None:
    """A watch emits what is declared, and ends within a second of being told."""
    if not issubclass(case.collector, Watches):
        return
    with _state_dir() as state_dir:
        collector = case.make(state_dir=state_dir)
        packer = Packer(case.make().METRICS, "contract-test")
        stopping, raised = threading.Event(), list[BaseException]()

        def emit(items: Iterable[Any]) -> None:
            for item in items:
                packer.add(item)

        def work() -> None:
            try:
                collector.watch(emit, stopping)
            except BaseException as error:  # noqa: BLE001  # it is told below
                raised.append(error)

        try:
            if not _starts(collector):
                return
            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            thread.join(WATCH_SECONDS)
            assert thread.is_alive(), f"the watch ended though nobody asked: {raised or 'it returned'}"
            stopping.set()
            thread.join(STOP_SECONDS)
            assert not thread.is_alive(), f"the watch did not end within {STOP_SECONDS} s of being told"
            assert not raised, f"the watch raised {raised[0]!r} when it was told to stop"
            assert not packer.faults, f"refused: {packer.faults}; the first: {packer.note}"
            _check_travels(packer.pack())
        finally:
            stopping.set()
            collector.stop()


def check_empty_root(case: Case) -> None:
    """On a machine where nothing is, it says so; it does not crash, and makes nothing up."""
    with tempfile.TemporaryDirectory() as empty, _state_dir() as state_dir:
        collector = case.make(root=Path(empty), state_dir=state_dir)
        try:
            if isinstance(collector, Probes):
                assert isinstance(collector.probe(), str), "`probe` gives a sentence, or '' when all is well"
            if not _starts(collector):
                return
            items = _items(collector)
            if isinstance(collector, DescribesDevices):
                list(_described(collector))
            if case.reads_root:
                made_up = _measurements(items)
                assert not made_up, f"an empty root has rows of {sorted(made_up)}: it reads beside `context.root`"
        finally:
            collector.stop()


def check_leaves_nothing(case: Case) -> None:
    """After `stop` no thread and no descriptor is left."""
    with _state_dir() as state_dir:
        collector = case.make(state_dir=state_dir)
        if _starts(collector):
            _items(collector)
        collector.stop()  # once, so that what is kept for the life of the process is there
        threads, files = _threads(), _descriptors()
        if _starts(collector):
            _items(collector)
        collector.stop()
        gc.collect()
        end = time.monotonic() + STOP_SECONDS
        while (_threads() - threads or _descriptors() - files) and time.monotonic() < end:
            time.sleep(0.02)
        assert not _threads() - threads, f"threads are left after `stop`: {_threads() - threads}"
        assert len(_descriptors() - files) == 0, f"descriptors are left open after `stop`: {_descriptors() - files}"


CHECKS: Final[tuple[Callable[[Case], None], ...]] = (
    check_declaration,
    check_config,
    check_construction_does_no_io,
    check_stop_without_start,
    check_lifecycle,
    check_restart,
    check_emissions,
    check_events_are_declared,
    check_documents,
    check_watch,
    check_empty_root,
    check_leaves_nothing,
)
"""Every check, for a parametrised test."""


def _starts(collector: Any) -> bool:
    """Start; False when it says in so many words that it cannot."""
    try:
        collector.start()
    except (StartupError, NoDataError):
        return False
    return True


def _items(collector: Any) -> list[Any]:
    items: list[Any] = []
    try:
        for item in collector.collect() or ():
            items.append(item)  # what was yielded before an exception stands
            assert len(items) <= _ROWS, f"more than {_ROWS} rows at once"
    except (NoDataError, PartialCollectError):
        pass
    return items


def _described(collector: Any) -> Iterator[Any]:
    try:
        yield from collector.describe() or ()
    except (NoDataError, PartialCollectError):
        return


def _measurements(items: Iterable[Any]) -> set[str]:
    found = {getattr(item, "measurement", "") for item in items}
    found |= {item.block.measurement for item in items if hasattr(item, "block")}
    return found - {""}


def _check_travels(delivery: bytes) -> None:
    if delivery:
        for parcel in msgspec.msgpack.decode(delivery, type=Delivery).parcels:
            check_block(parcel.block)


def _check_document(document: object) -> None:
    assert isinstance(document, Document), f"`describe` gives Documents, not a {type(document).__name__}"
    assert document.device, "a document names no device"
    assert decode_document(encode_document(document)) == document, f"{document.device}: does not survive its encoding"
    for key in document.merge_keys:
        assert _MERGE_KEY.match(key), f"{document.device}: merge key {key!r} is not `<namespace>:<value>`"
        if key.startswith("pci:"):
            assert pci_address(key[4:]) == key[4:], f"{document.device}: {key!r} is not in normal form"
    if document.slot.address:
        assert pci_address(document.slot.address) == document.slot.address, f"{document.device}: address not normal"


@contextmanager
def _state_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _threads() -> set[threading.Thread]:
    return set(threading.enumerate())


def _descriptors() -> set[str]:
    """What is open, by number and name; names alone would miss a second socket."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found.add(f"{entry.name}={entry.readlink()}")
        except OSError:  # the descriptor that lists them
            continue
    return found


class _Recorder:
    """The audit hook, installed once for the process: hooks cannot be taken out."""

    installed = False
    seen: list[str] | None = None
    thread = 0


@contextmanager
def _watched_io() -> Iterator[list[str]]:
    if not _Recorder.installed:
        _Recorder.installed = True
        sys.addaudithook(_audit)
    seen: list[str] = []
    _Recorder.seen, _Recorder.thread = seen, threading.get_ident()
    try:
        yield seen
    finally:
        _Recorder.seen = None


def _audit(event: str, args: tuple[Any, ...]) -> None:
    seen = _Recorder.seen
    if seen is None or threading.get_ident() != _Recorder.thread:
        return
    if event not in _IO and not event.startswith(_IO_PREFIXES):
        return
    what = str(args[0]) if args else ""
    if not what.endswith(_CODE):
        seen.append(f"{event} {what}")
