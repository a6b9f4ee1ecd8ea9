"""Who pushes, and what they may call their things."""

from pathlib import Path

import pytest

from collectors.push.names import TAKEN, Names, taken_by
from collectors.push.peer import place_of, user_name
from collectors.push.refusal import RefusedError
from collectors.registry import OWN_DISTRIBUTION, discover, load
from collectors.testing import CHECKS, Case
from schemas.events import AGENT_EVENTS, AGGREGATOR_EVENTS
from schemas.rows import CAPABILITY_METRICS, EVENT_METRICS, LOG_METRICS

HEX = "4bcb3f1e5b6a7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f"


@pytest.mark.parametrize(
    ("cgroup", "place"),
    [
        ("0::/system.slice/my_app.service\n", "service:my_app"),
        ("0::/system.slice/system-getty.slice/getty@tty1.service\n", "service:getty@tty1"),
        ("0::/system.slice/my_app.service/worker\n", "service:my_app"),
        ("12:cpu:/x\n1:name=systemd:/system.slice/old.service\n", "service:old"),
        ("0::/user.slice/user-1000.slice/session-3.scope\n", ""),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/mine.service\n", ""),
        (f"0::/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{HEX}.scope\n", ""),
        (f"0::/system.slice/docker-{HEX}.scope\n", "container:4bcb3f1e5b6a"),
        (f"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{HEX}.scope\n", "container:4bcb3f1e5b6a"),
        (f"0::/docker/{HEX}\n", "container:4bcb3f1e5b6a"),
        (f"0::/system.slice/containerd.service/{HEX}\n", "container:4bcb3f1e5b6a"),
        ("0::/\n", ""),
        ("0::/init.scope\n", ""),
        ("nonsense\n", ""),
        ("", ""),
    ],
)
def test_service_or_container_is_where_the_process_is(tmp_path: Path, cgroup: str, place: str) -> None:
    (tmp_path / "proc/77").mkdir(parents=True)
    (tmp_path / "proc/77/cgroup").write_text(cgroup)
    assert place == place_of(77, tmp_path)


def test_process_of_another_name_space_or_gone_is_nowhere(tmp_path: Path) -> None:
    assert "" == place_of(0, tmp_path) == place_of(77, tmp_path)


def test_user_without_a_name_is_its_number(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nshort:x\nalice:x:1000:1000::/home:/bin/sh\n")
    assert ["root", "alice", "1001"] == [user_name(uid, tmp_path) for uid in (0, 1000, 1001)]
    assert "5" == user_name(5, tmp_path / "nowhere")


def test_all_that_muster_measures_and_tells_is_taken() -> None:
    """A pusher can never write into a table of a collector, nor tell what rules of Muster believe."""
    own = [load(name) for name, entry in discover().items() if entry.distribution == OWN_DISTRIBUTION]
    taken = taken_by((*EVENT_METRICS, *LOG_METRICS, *CAPABILITY_METRICS),
                     (spec.type for spec in (*AGENT_EVENTS, *AGGREGATOR_EVENTS)))  # fmt: skip
    for collector in own:
        taken |= taken_by(collector.METRICS, (spec.type for spec in getattr(collector, "EVENTS", ())))
    assert set() == taken - TAKEN, "add them to `_OWN` in collectors/push/names.py"


def test_name_that_cannot_be_is_answered_with_one_that_can() -> None:
    for name, better in (
        ("QueueDepth", "queue_depth"),
        ("queue.depth", "queue_depth"),
        ("5xx", "n_5xx"),
        ("_", "value"),
    ):
        with pytest.raises(RefusedError, match=f"'{better}', say"):
            Names().measurement(name)


def test_names_of_other_distributions_collectors_are_taken_as_well() -> None:
    with pytest.raises(RefusedError):
        Names({"fan_club"}).measurement("fan_club")
    with pytest.raises(RefusedError):
        Names({"fan_club"}).event("fan_club.met")
    Names({"fan_club"}).measurement("fan_clubs")


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_keeps_the_contract_with_a_socket_too(check: object, tmp_path: Path) -> None:
    from collectors.push.collector import PushCollector

    assert callable(check)
    check(Case(PushCollector, {"path": str(tmp_path / "push.sock")}, reads_root=False))
