"""What a node does of what it is told: once, in order of epochs, and by what it keeps on disk."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collectors.claims.checkpoint import CheckpointError, CheckpointFile, EpochError
from collectors.claims.worker import JobState, Worker
from schemas.claims import ClaimDevice, ClaimReport, ClaimStep, DeviceReport, Step
from schemas.digest import blake2b


def device(name: str, *, family: str = "", members: tuple[str, ...] = (), mode: str = "passthrough") -> ClaimDevice:
    """Make a device of a step."""
    part = f"serial:x:{name}"
    return ClaimDevice(name, "gpu", part, "0000:01:00.0", f"p/{name}", mode, 1, members, family or part)


def step(
    sequence: int, *devices: ClaimDevice, what: Step = Step.PREPARE, tenant: str = "t", claim: str = ""
) -> ClaimStep:
    """Make a step whose claim is named by its epoch."""
    return ClaimStep(claim or f"c-{sequence}", what, tenant, "job", 1, sequence, list(devices), 60.0)


def work(worker: Worker, *, fail: str = "") -> int:
    """Do what can be done."""
    done = 0
    while (taken := worker.take()) is not None:
        job, order = taken
        worker.finish(job, DeviceReport(order.device.device, not fail, fail))
        done += 1
    return done


def told(worker: Worker) -> list[tuple[str, bool]]:
    """Give what is reported now, and have it heard."""
    reports: list[ClaimReport] = worker.reports() or []
    worker.heard()
    return [(one.device, one.done) for report in reports for one in report.devices]


def test_step_is_done_once_however_often_it_is_told_and_reported_until_it_is_gone(tmp_path: Path) -> None:
    """Level-triggered: nothing has to be acknowledged."""
    worker = Worker(CheckpointFile(tmp_path / "c"), "b1")
    steps = [step(5, device("a"))]
    worker.set_work(steps)
    assert 1 == work(worker)
    assert [("a", True)] == told(worker)
    worker.set_work(steps)
    assert 0 == work(worker)
    assert [("a", True)] == told(worker)
    worker.unheard()
    assert [("a", True)] == told(worker)
    worker.set_work([])
    assert [] == told(worker)


def test_lower_epoch_is_refused_even_by_the_next_run_and_changes_nothing(tmp_path: Path) -> None:
    """What was seen is on disk before anything is done for it (invariant 10)."""
    worker = Worker(CheckpointFile(tmp_path / "c"), "b1")
    worker.set_work([step(9, device("a"))])
    assert worker.take() is not None  # it dies here
    again = Worker(CheckpointFile(tmp_path / "c"), "b1")
    again.set_work([step(8, device("a"))])
    assert 0 == work(again)
    (job,) = again.jobs()
    assert JobState.FAILED is job.state
    assert job.report is not None
    assert "claim.epoch" in job.report.problem


def test_amounts_are_kept_with_the_claim_and_a_file_from_before_them_is_read(tmp_path: Path) -> None:
    """They are shown to a ledger that lost the claim, and go with its last device."""
    amounts = {"n1": {"vcpus": 8, "memory_bytes": 1 << 36}}
    file = CheckpointFile(tmp_path / "c")
    both = msgspec.structs.replace(step(5, device("a"), device("b")), amounts=amounts)
    for one in both.devices:
        file.confirm(both, one, "b1")
    file.forget("a")
    (kept,) = CheckpointFile(tmp_path / "c").message().claims
    assert amounts == kept.amounts
    body = (tmp_path / "c").read_bytes().partition(b"\n")[0]
    before = body.replace(b',"amounts":{"n1":{"vcpus":8,"memory_bytes":68719476736}}', b"")
    assert body != before
    (tmp_path / "old").write_bytes(before + b"\n" + blake2b(before, digest_size=16).hexdigest().encode() + b"\n")
    (old,) = CheckpointFile(tmp_path / "old").message().claims
    assert ({}, ["b"]) == (old.amounts, [one.device for one in old.devices])
    file.forget("b")
    assert [] == CheckpointFile(tmp_path / "c").message().claims


def test_amounts_alone_are_kept_as_told_and_what_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    """All work is told at once: a claim that is not among it any more is over."""
    clock = [0.0]
    folder = tmp_path / "claims"
    worker = Worker(CheckpointFile(folder / "c"), "b1", clock=lambda: clock[0])
    held = msgspec.structs.replace(step(5), amounts={"n1": {"vcpus": 8}})
    folder.write_text("in the way", encoding="utf-8")
    worker.set_work([held, step(6, device("a"))])
    assert [] == worker.checkpoint().claims
    assert worker.wait_seconds() == 0.0  # for the device
    folder.unlink()
    assert 1 == work(worker)
    assert {"c-5", "c-6"} == {one.claim for one in CheckpointFile(folder / "c").message().claims}
    assert worker.wait_seconds() is None
    worker.set_work([held])
    assert {"c-5", "c-6"} == {one.claim for one in worker.checkpoint().claims}  # what has a device is undone first
    worker.set_work([])
    assert ["c-6"] == [one.claim for one in CheckpointFile(folder / "c").message().claims]


def test_what_is_asked_to_be_kept_is_reported_once_it_is_on_disk(tmp_path: Path) -> None:
    """Of each node that one publisher speaks for; again when nobody heard it, and no more when nobody asks."""
    folder = tmp_path / "claims"
    worker = Worker(CheckpointFile(folder / "c"), "b1")
    asked = [
        msgspec.structs.replace(step(5), amounts={node: {"vcpus": cores}}, confirm=True)
        for node, cores in (("n1", 8), ("n2", 4))
    ]
    folder.write_text("in the way", encoding="utf-8")
    worker.set_work(asked)
    assert (False, None) == (worker.has_news, worker.reports())
    folder.unlink()
    assert worker.take() is None  # it is tried again
    (kept,) = CheckpointFile(folder / "c").message().claims
    assert {"n1": {"vcpus": 8}, "n2": {"vcpus": 4}} == kept.amounts
    for _ in range(2):
        assert worker.has_news
        assert [("c-5", [], ["n1"]), ("c-5", [], ["n2"])] == [
            (one.claim, one.devices, one.nodes) for one in worker.reports() or []
        ]
        assert (False, None) == (worker.has_news, worker.reports())
        worker.unheard()
    worker.heard()
    worker.set_work([msgspec.structs.replace(one, confirm=False) for one in asked])
    assert (False, None) == (worker.has_news, worker.reports())


def test_amounts_of_another_node_are_kept_beside_devices(tmp_path: Path) -> None:
    """One publisher of two nodes: the claim's device is on one, and amounts of both."""
    file = CheckpointFile(tmp_path / "c")
    both = msgspec.structs.replace(step(5, device("a")), amounts={"n1": {"vcpus": 8}})
    file.confirm(both, device("a"), "b1")
    file.hold([msgspec.structs.replace(step(5), amounts={"n2": {"vcpus": 4}})])
    (kept,) = CheckpointFile(tmp_path / "c").message().claims
    assert ({"n1": {"vcpus": 8}, "n2": {"vcpus": 4}}, ["a"]) == (kept.amounts, [one.device for one in kept.devices])


def test_port_given_whole_later_fences_its_functions_and_the_other_way_round(tmp_path: Path) -> None:
    """Whole and parts exclude each other; functions do not exclude one another, in whatever order they come."""
    file = CheckpointFile(tmp_path / "c")
    port, one, two = device("port"), device("vf0", family="serial:x:port"), device("vf1", family="serial:x:port")
    file.raise_fences(step(7, two), two)
    file.refuse_older(step(5, one), one)  # granted before, provisioned after: its own device
    with pytest.raises(EpochError, match="parts-of"):
        file.refuse_older(step(6, port), port)
    file.raise_fences(step(8, port), port)
    with pytest.raises(EpochError, match="whole"):
        file.refuse_older(step(7, one), one)
    file.refuse_older(step(9, one), one)


def test_group_is_one_tenants_whatever_the_order_and_anothers_only_later(tmp_path: Path) -> None:
    """The group's highest epoch binds other tenants and other modes."""
    file = CheckpointFile(tmp_path / "c")
    members = ("0000:01:00.0", "0000:02:00.0")
    one, two = device("a", members=members), device("b", members=members)
    file.raise_fences(step(7, two), two)
    file.refuse_older(step(5, one), one)
    with pytest.raises(EpochError, match="group"):
        file.refuse_older(step(5, one, tenant="other"), one)
    file.refuse_older(step(8, one, tenant="other"), one)


def test_two_steps_of_one_family_never_run_at_once(tmp_path: Path) -> None:
    """Hooks of one port, GPU or group do not meet."""
    worker = Worker(CheckpointFile(tmp_path / "c"), "b1")
    worker.set_work([step(5, device("vf0", family="f"), device("vf1", family="f"), device("z"))])
    first, second = worker.take(), worker.take()
    assert first is not None
    assert second is not None
    assert ["vf0", "z"] == [first[1].device.device, second[1].device.device]
    assert worker.take() is None
    worker.finish(first[0], DeviceReport("vf0", True))
    third = worker.take()
    assert third is not None
    assert "vf1" == third[1].device.device


def test_device_confirmed_in_this_boot_needs_no_hook_again_and_after_a_boot_it_does(tmp_path: Path) -> None:
    """An agent that starts again reads; a machine that booted has to prepare."""
    worker = Worker(CheckpointFile(tmp_path / "c"), "b1")
    worker.set_work([step(5, device("a"))])
    work(worker)
    for boot, known in (("b1", True), ("b2", False)):
        again = Worker(CheckpointFile(tmp_path / "c"), boot)
        again.set_work([step(5, device("a"))])
        taken = again.take()
        assert taken is not None
        assert known is again.confirmed_before(taken[0])


def test_failed_undo_is_tried_again_and_a_failed_prepare_is_the_ledgers_to_judge(tmp_path: Path) -> None:
    """In use now is not in use for ever."""
    now = 0.0
    worker = Worker(CheckpointFile(tmp_path / "c"), "b1", clock=lambda: now)
    worker.set_work([step(5, device("a"), what=Step.UNDO), step(6, device("b"))])
    assert 2 == work(worker, fail="no")
    assert [("a", False), ("b", False)] == told(worker)
    now = 5.0
    assert 1 == work(worker)
    assert [("a", True)] == told(worker)


def test_step_by_hand_waits_for_a_word_and_is_read_after_it(tmp_path: Path) -> None:
    """Nothing is confirmed that nobody said was done; a check only reads."""
    worker = Worker(CheckpointFile(tmp_path / "c"), "b1", by_hand=lambda _step, _device: True)
    worker.set_work([step(5, device("a")), step(4, device("b"), what=Step.CHECK)])
    assert 1 == work(worker)
    assert [] == worker.word("c-9", [])
    assert ["a"] == worker.word("c-5", [])
    assert 1 == work(worker)
    assert {("a", True), ("b", True)} == set(told(worker))


def test_claim_that_was_checked_is_kept_until_it_is_undone(tmp_path: Path) -> None:
    """Its lease ran out, and its holder may renew it while the node's word is under way: a lost ledger must have it."""
    worker = Worker(CheckpointFile(tmp_path / "c"), "b1")
    for what, kept in ((Step.PREPARE, ["c-5"]), (Step.CHECK, ["c-5"]), (Step.UNDO, [])):
        worker.set_work([step(5, device("a"), what=what)])
        assert 1 == work(worker)
        assert kept == [one.claim for one in worker.checkpoint().claims]


def test_damaged_checkpoint_is_told_and_nothing_is_built_on_it(tmp_path: Path) -> None:
    """An empty one would promise that nothing was promised."""
    path = tmp_path / "c"
    worker = Worker(CheckpointFile(path), "b1")
    worker.set_work([step(5, device("a"))])
    work(worker)
    whole = path.read_bytes()
    for damaged in (b"", whole[:-9], whole[:20], whole.replace(b'"a"', b'"b"', 1)):
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged"):
            CheckpointFile(path)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9), st.sampled_from(list(Step)), st.booleans()), max_size=14)
)
def test_whatever_is_told_no_device_is_kept_for_two_and_epochs_only_grow(
    tmp_path_factory: pytest.TempPathFactory, turns: list[tuple[int, int, Step, bool]]
) -> None:
    """Steps of any epoch in any order, with restarts between: one holder a device, and its fence never falls."""
    path = tmp_path_factory.mktemp("kept") / "c"
    highest = (0, 0)
    for number, sequence, what, fails in turns:
        worker = Worker(CheckpointFile(path), "b1")
        worker.set_work([step(sequence, device(f"d{number}"), what=what)])
        work(worker, fail="no" if fails else "")
        kept = CheckpointFile(path).message()
        names = [one.device for claim in kept.claims for one in claim.devices]
        assert len(names) == len(set(names))
        assert (kept.generation, kept.sequence) >= highest
        highest = (kept.generation, kept.sequence)


def test_tenant_that_has_a_member_of_a_group_may_have_the_group_open(tmp_path: Path) -> None:
    """Another tenant's programs are no excuse, nor those of another boot: then nothing is prepared."""
    pair = ("0000:01:00.0", "0000:01:00.1")
    worker = Worker(CheckpointFile(tmp_path / "c"), "b1")
    worker.set_work([step(5, device("a", members=pair))])
    assert 1 == work(worker)
    for boot, tenant, expected in (("b1", "t", True), ("b1", "t2", False), ("b2", "t", False)):
        again = Worker(CheckpointFile(tmp_path / "c"), boot)
        again.set_work([step(6, device("b", members=pair), tenant=tenant)])
        (job,) = again.jobs()
        assert (expected, False) == (again.has_beside(job), again.confirmed_before(job))
