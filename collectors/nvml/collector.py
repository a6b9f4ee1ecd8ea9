"""NVIDIA GPUs, as the host drives them: opened, read in tiers, described, watched.

Whatever the library cannot be brought out of in this process (a driver that was reloaded, a GPU that came later) ends
the process, and the next one goes on. A GPU whose reader never came back is left alone by the next one for a while, so
that one bad GPU does not cost the rows of all others.
"""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Annotated, ClassVar, Final

import msgspec
from msgspec import Meta

from collectors._lending import Lending
from collectors._untold import Untold
from collectors.contract import Context, Emit
from collectors.metrics_gpu import GPU_METRICS, NVLINK_METRICS, NVML_METRICS
from collectors.nvml.changes import Changes
from collectors.nvml.documents import Describer, facts_of
from collectors.nvml.events import EVENTS, event
from collectors.nvml.gpus import Gpu, Identity, enumerate_gpus
from collectors.nvml.keeping import Hung, Keep
from collectors.nvml.library import (
    Asker,
    GpuLostError,
    Missing,
    Nvml,
    ResetRequiredError,
    initialize,
    load_binding,
    shut_down,
)
from collectors.nvml.partitions import Partition, mode_of, partitions_of
from collectors.nvml.presence import driven, look
from collectors.nvml.readings import memory_of
from collectors.nvml.users import User, users_of
from collectors.nvml.watch import Watch
from schemas.device import Document
from schemas.errors import NewProcessError, NoDataError, PartialCollectError, StartupError
from schemas.events import EventSpec
from schemas.metrics import MetricSpec
from schemas.rows import Event, FieldValue, Item, Reading, Severity
from schemas.verbosity import Level

_LENT: Final = "a claim's step has the GPUs; they are read again after it"
_HUNG_S: Final = 60
"""So long a GPU that hung its reader is left alone the first time; then twice as long each time, up to an hour."""
_MOST_HUNG_S: Final = 3600

Seconds = Annotated[float, Meta(gt=0)]


class LentError(NewProcessError):
    """A claim's step wants the GPUs, and gets them when this process has ended."""

    code = "collector.lent"


class NvmlConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What of NVIDIA's GPUs is read, and how often."""

    library: str = ""
    """Path of libnvidia-ml.so.1; empty: where the system finds it. For drivers in a folder of their own."""
    links_every_seconds: Seconds = 15.0
    """How often NVLinks, PCIe errors, throttling times, fans and programs are read."""
    health_every_seconds: Seconds = 60.0
    """How often ECC counts, row remapping, repair, fabric and partitions are read; events have them read at once."""
    name_programs: bool = True
    """Name the programs that use a GPU, `<program>/<process id>`; false: say only how many they are."""


class NvmlCollector:
    """Reads NVIDIA GPUs through NVIDIA's management library. Those that vfio or nobody has are not seen here."""

    name: ClassVar[str] = "nvml"
    METRICS: ClassVar[tuple[MetricSpec, ...]] = (*GPU_METRICS, *NVLINK_METRICS, *NVML_METRICS)
    EVENTS: ClassVar[tuple[EventSpec, ...]] = EVENTS
    Config: ClassVar[type[NvmlConfig]] = NvmlConfig

    def __init__(
        self,
        config: NvmlConfig,
        context: Context,
        clock: Callable[[], float] = time.monotonic,
        wall_ns: Callable[[], int] = time.time_ns,
        binding: Callable[[str], Nvml] = load_binding,
    ) -> None:
        """Prepare. `binding` gives the module that speaks to the library at a path."""
        self._config = config
        self._context = context
        self._clock = clock
        self._wall_ns = wall_ns
        self._binding = binding
        self._lending = Lending(context.state_dir)
        self._nvml: Nvml = None
        self._keep: Keep | None = None
        self._missing: Missing = set()
        self._gpus: list[Gpu] = []
        self._partitions: dict[str, list[Partition]] = {}
        self._users: dict[str, list[User] | None] = {}
        self._problems: list[str] = []
        self._driven: frozenset[str] = frozenset()
        """Addresses of the GPUs that the driver had at the start."""
        self._found = Untold(context.state_dir, wall_ns)
        self._changes = Changes()
        self._medium_due = self._slow_due = float("-inf")

    def probe(self) -> str:
        """Give "" where there is a GPU with its driver, else what is missing."""
        return "" if self._config.library else look(self._context.root).missing

    def start(self) -> None:
        """Open the library and find the GPUs. Raises NoDataError, StartupError, NewProcessError."""
        missing = self.probe()
        if missing:
            raise NoDataError(missing)
        if not self._lending.use():
            raise StartupError(_LENT)
        try:
            self._open()
        except BaseException:
            self.stop()
            raise

    def _open(self) -> None:
        nvml = self._binding(self._config.library)
        initialize(nvml)
        self._nvml = nvml
        self._found.load()
        self._keep = Keep(self._context.state_dir, self._context.root, self._found)
        self._medium_due = self._slow_due = float("-inf")
        self._blame(self._keep)
        self._driven = driven(self._context.root)
        self._enumerate()
        for gpu in self._gpus:  # before the watch has any of them: it would wait for one that hung
            self._may_ask(gpu)
        self._greet(self._keep, facts_of(nvml).driver)
        if not (self._gpus or self._problems):
            raise NoDataError("NVIDIA's driver is loaded, and shows no GPU")

    def collect(self) -> Iterator[Item]:
        """Read every GPU that answers: what is due, and everything of one that something happened to.

        Raises PartialCollectError when some do not answer, NewProcessError when only a new process can go on.
        """
        self._lend()
        now, level = self._clock(), self._context.level()
        medium, slow = now >= self._medium_due, now >= self._slow_due
        if medium:
            self._medium_due = now + self._config.links_every_seconds
        if slow:
            self._slow_due = now + self._config.health_every_seconds
            self._look_again()
        keep = self._kept()
        for gpu in list(self._gpus):
            if not self._may_ask(gpu):
                continue
            keep.asking(gpu.identity.uuid)
            try:
                yield from self._of(gpu, level, medium=medium, slow=slow)
            except GpuLostError as error:
                self._lose(gpu, error)
            except NewProcessError as error:
                yield _gone(error)
                keep.asking("")
                keep.save()
                raise
        keep.asking("")
        keep.save()
        silent = [*self._problems, *(f"{gpu.words}: {gpu.lost}" for gpu in self._gpus if gpu.lost)]
        denied = sorted(set().union(*(gpu.asker.denied for gpu in self._gpus)))
        if denied:
            silent.append(f"not permitted: {', '.join(denied)}; run the agent as root, or with CAP_SYS_ADMIN")
        if silent:
            raise PartialCollectError("; ".join(silent[:8]), failed=len(silent))

    def describe(self) -> Iterator[Document]:
        """Give a document for every GPU and partition that answers; of one that needs a reset, what is known of it.

        A lost GPU has none, as if it were gone. Raises NewProcessError when only a new process can go on.
        """
        keep = self._kept()
        self._lend()
        self._look_again()
        describer = Describer(self._context.root, self._gpus, facts_of(self._nvml), names=self._config.name_programs)
        for gpu in list(self._gpus):
            documents: list[Document] = []
            if self._may_ask(gpu):
                keep.asking(gpu.identity.uuid)
                try:
                    documents = list(self._documents(gpu, describer))
                except GpuLostError as error:
                    self._lose(gpu, error)
            yield from [describer.bare(gpu)] if gpu.reset_required else documents
        keep.asking("")
        keep.save()

    def watch(self, emit: Emit, stopping: threading.Event) -> None:
        """Wait for what the driver tells, and hand on what readings found. Raises NewProcessError."""
        watch = Watch(self._nvml, lambda: self._gpus, self._found, self._lend)
        try:
            watch.run(emit, stopping)
        except LentError:
            raise
        except NewProcessError as error:
            emit([_gone(error)])
            raise

    def stop(self) -> None:
        """Let the driver go. The library stays for as long as the process."""
        nvml, self._nvml = self._nvml, None
        keep, self._keep = self._keep, None
        self._gpus, self._partitions, self._users = [], {}, {}
        if keep is not None:
            keep.asking("")
            keep.save()
            keep.close()
        if nvml is not None:
            shut_down(nvml)
        self._lending.let_go()

    def _lend(self) -> None:
        """Let the GPUs go when a claim's step asks for them. Raises LentError: only its end closes all for certain."""
        if self._lending.asked():
            raise LentError(_LENT)

    # --- which GPUs there are ----------------------------------------------------------------------------------------

    def _enumerate(self) -> None:
        """Take the GPUs that the driver shows, keeping what is known of those that were there."""
        found = enumerate_gpus(self._nvml, self._missing)
        known = {gpu.identity.uuid: gpu for gpu in self._gpus}
        kept = [known.get(gpu.identity.uuid, gpu) for gpu in found.gpus]
        here = {gpu.identity.uuid for gpu in kept}
        lost = [gpu for gpu in self._gpus if gpu.identity.uuid not in here and gpu.lost]
        self._gpus, self._problems = [*kept, *lost], found.problems

    def _look_again(self) -> None:
        """Notice GPUs that came and went. Raises NewProcessError for one that came: the library never shows it."""
        now = driven(self._context.root)
        more = now - self._driven
        if more:
            raise NewProcessError(f"the driver has GPUs that it had not before: {', '.join(sorted(more))}")
        for gpu in list(self._gpus):
            if gpu.lost and gpu.identity.address in self._driven - now:
                self._gpus = [one for one in self._gpus if one is not gpu]
                self._changes.forget(gpu)
                self._kept().kept.gpus.pop(gpu.identity.uuid, None)
                self._found.append(event("nvml.gpu.gone", gpu, "is gone", Severity.WARNING))

    def _greet(self, keep: Keep, driver: str) -> None:
        """Say what is other than when a process looked before, on the same boot."""
        kept, before = keep.kept, keep.before
        here = {gpu.identity.uuid: gpu for gpu in self._gpus}
        if before.boot == keep.boot and before.boot:
            if before.driver not in ("", driver) or kept.driver == "":
                detail: dict[str, FieldValue] = {"version": driver, "version_before": before.driver}
                self._found.append(
                    Event("nvml.driver.loaded", f"NVIDIA's driver {driver} is loaded", Severity.NOTICE, "", detail)
                )
            for uuid, address in before.gpus.items():
                if uuid not in here:
                    gone = Identity(uuid, address)
                    self._found.append(event("nvml.gpu.gone", gone, "is gone", Severity.WARNING))
            for uuid, gpu in here.items():
                if uuid not in before.gpus:
                    self._found.append(event("nvml.gpu.new", gpu, "is new", Severity.NOTICE))
        kept.driver = driver
        kept.gpus = {uuid: gpu.identity.address for uuid, gpu in here.items()}
        keep.save()

    def _blame(self, keep: Keep) -> None:
        """Leave the GPU alone that the process before was asking when it was ended."""
        uuid = keep.asked()
        keep.asking("")
        if not uuid or keep.before.boot != keep.boot:  # with the machine everything was ended
            return
        hung = keep.kept.hung.setdefault(uuid, Hung(0, 0))
        hung.times += 1
        seconds = min(_MOST_HUNG_S, _HUNG_S << min(hung.times - 1, 10))
        hung.until_ns = self._wall_ns() + seconds * 1_000_000_000
        identity = Identity(uuid, keep.kept.gpus.get(uuid, ""))
        detail: dict[str, FieldValue] = {"times": hung.times, "seconds": seconds}
        text = f"hung its reader, and is left alone for {seconds} s"
        self._found.append(event("nvml.gpu.hung", identity, text, Severity.CRITICAL, detail))
        keep.save()

    # --- one GPU -----------------------------------------------------------------------------------------------------

    def _may_ask(self, gpu: Gpu) -> bool:
        """Tell whether a GPU is worth asking; one that was lost is asked for its name first."""
        hung = self._kept().kept.hung.get(gpu.identity.uuid)
        if hung is not None and self._wall_ns() < hung.until_ns:
            gpu.lost = "it hung, and is left alone for a while"
            return False
        if gpu.lost and gpu.answers():
            self._recovered(gpu)
        return not gpu.lost

    def _recovered(self, gpu: Gpu) -> None:
        gpu.lost, gpu.reset_required = "", False
        gpu.renew()
        self._changes.forget(gpu)
        self._found.append(event("nvml.gpu.back", gpu, "answers again", Severity.NOTICE))

    def _lose(self, gpu: Gpu, error: GpuLostError) -> None:
        gpu.lost = str(error)
        detail: dict[str, FieldValue] = {"reason": gpu.lost}
        if isinstance(error, ResetRequiredError):
            gpu.reset_required = True
            told = event("nvml.gpu.reset_required", gpu, "needs a reset", Severity.CRITICAL, detail)
        else:
            told = event("nvml.gpu.lost", gpu, f"answers no more: {gpu.lost}", Severity.CRITICAL, detail)
        self._partitions.pop(gpu.identity.uuid, None)
        self._found.append(told)

    def _of(self, gpu: Gpu, level: Level, *, medium: bool, slow: bool) -> Iterator[Item]:
        """Give the rows of a GPU and its partitions, and take note of what changed."""
        urgent, gpu.urgent = gpu.urgent, False
        medium, slow = medium or urgent, slow or urgent
        users = self._ask_users(gpu) if medium else None
        for row in gpu.reader.read(level, medium=medium, slow=slow):
            if row.measurement == "gpu":
                fields = dict(row.fields)
                if medium:
                    fields["processes"] = None if users is None else len(users)
                self._found.extend(self._changes.row(gpu, fields))
                yield msgspec.structs.replace(row, fields=fields)
            else:
                yield row
        if medium:
            self._found.extend(self._changes.links(gpu, gpu.reader.links.active))
            yield from _processes(gpu.device, users, level)
        if slow:
            self._take_partitions(gpu)
        for partition in self._partitions.get(gpu.identity.uuid, ()):
            yield from _of_partition(partition, level, medium=medium)

    def _ask_users(self, gpu: Gpu) -> list[User] | None:
        users = users_of(gpu.asker)
        self._users[gpu.identity.uuid] = users
        return users

    def _take_partitions(self, gpu: Gpu) -> None:
        mode = mode_of(gpu)
        if mode is not None and gpu.divided not in (None, mode[0]):
            gpu.renew()
        gpu.divided = None if mode is None else mode[0]
        found = partitions_of(gpu, self._kept(), self._missing)
        self._partitions[gpu.identity.uuid] = found
        self._found.extend(self._changes.partitions(gpu, [one.device for one in found]))

    def _documents(self, gpu: Gpu, describer: Describer) -> Iterator[Document]:
        self._take_partitions(gpu)
        if not gpu.surveyed:  # what a GPU cannot tell is known after it was asked for everything
            for _ in gpu.reader.read(Level.DEBUG, medium=True, slow=True):
                pass
            gpu.surveyed = True
        yield describer.gpu(gpu, self._ask_users(gpu))
        for partition in self._partitions[gpu.identity.uuid]:
            yield describer.partition(partition, gpu.identity.address, _users_of(partition.asker))

    def _kept(self) -> Keep:
        assert self._keep is not None
        return self._keep


def _gone(error: NewProcessError) -> Event:
    return Event("nvml.driver.gone", str(error), Severity.WARNING, "", {"reason": str(error)})


def _users_of(asker: Asker) -> list[User] | None:
    try:
        return users_of(asker)
    except GpuLostError:  # the partition alone: it was taken away while it was looked at
        return None


def _processes(device: str, users: list[User] | None, level: Level) -> Iterator[Reading]:
    if level >= Level.DETAILED:
        for user in users or ():
            yield Reading(
                "gpu_process", {"memory_used_bytes": user.memory_bytes}, device, {"process": str(user.process)}
            )


def _of_partition(partition: Partition, level: Level, *, medium: bool) -> Iterator[Item]:
    """Give the row of a partition: it has memory and programs of its own, and nothing else that is told."""
    fields: dict[str, FieldValue] = {}
    try:
        memory_of(partition.asker, fields, level)
        users = users_of(partition.asker) if medium else None
    except GpuLostError:
        return
    if users is not None:
        fields["processes"] = len(users)
    yield Reading("gpu", fields, partition.device)
    yield from _processes(partition.device, users, level)
