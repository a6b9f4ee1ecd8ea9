"""R001 bad input: configuration errors name file, line, remedy and near names, and exit with 78."""

import json
import socket
from pathlib import Path

import pytest

from aggregator.cli import main

_BAD = """\
[agregator]
x = 1
[aggregator]
lisen = "1"
[agent]
level = "hih"
[collectors.syslog]
udpp = 1
"""


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MUSTER_DATA_DIR", str(tmp_path / "data"))
    for name in ("MUSTER_CONFIG", "MUSTER_LISTEN", "MUSTER_SERVER", "MUSTER_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "muster.toml"
    path.write_text(text)
    return path


def test_good_configuration_says_what_would_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _file(tmp_path, "[agent]\nonly = ['host']\n")
    assert main(["validate", "--config", str(path)]) == 0
    assert f"{path}: good; collectors: host\n" == capsys.readouterr().out


def test_every_problem_of_both_parts_is_told_once_by_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _file(tmp_path, _BAD)
    assert main(["validate", "--config", str(path)]) == 78
    *problems, last = capsys.readouterr().err.splitlines()
    assert [f"{path}:{line}" for line in (1, 4, 6, 8)] == [problem.partition(": ")[0] for problem in problems]
    assert "Did you mean 'aggregator'?" in problems[0]
    assert "Did you mean 'listen'?" in problems[1]
    assert "essential, standard, detailed, debug" in problems[2]
    assert "Did you mean 'udp'?" in problems[3]
    assert last.startswith("muster: 4 problems")


def test_json_lists_the_problems_and_the_status_is_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--config", str(_file(tmp_path, _BAD)), "-o", "json"]) == 78
    assert len(json.loads(capsys.readouterr().out)["problems"]) == 4


def test_missing_file_and_broken_toml_exit_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--config", str(tmp_path / "none.toml")]) == 78
    assert "No such file" in capsys.readouterr().err
    path = _file(tmp_path, "[agent\n")
    assert main(["validate", "--config", str(path)]) == 78
    assert f"{path}:1: not TOML" in capsys.readouterr().err


def test_environment_is_checked_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUSTER_AGENT__LEVLE", "debug")
    assert main(["validate"]) == 78
    assert "MUSTER_AGENT__LEVLE: unknown option 'agent.levle'. Did you mean 'level'?" in capsys.readouterr().err


def test_nothing_is_written(tmp_path: Path) -> None:
    main(["validate"])
    assert not (tmp_path / "data").exists()


def test_config_show_tells_where_each_option_comes_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _file(tmp_path, "[agent]\nlevel = 'detailed'\n\n[log]\npartitions = 4\n")
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "site.toml").write_text("[log]\npartitions = 16\n")
    monkeypatch.setenv("MUSTER_LISTEN", "127.0.0.1:9999")
    assert main(["config", "show", "--config", str(path), "--origin"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f'level = "detailed"  # {path}:2' in lines
    assert f"partitions = 16  # {tmp_path / 'conf.d' / 'site.toml'}:2" in lines
    assert 'listen = "127.0.0.1:9999"  # MUSTER_LISTEN' in lines
    assert "max_age_hours = 24.0  # default" in lines


def test_config_show_is_a_configuration_that_is_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "show"]) == 0
    path = _file(tmp_path, capsys.readouterr().out)
    assert main(["validate", "--config", str(path)]) == 0


def test_config_show_hides_secrets_whatever_they_come_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("hunter2\n")
    monkeypatch.setenv("NODE_TOKEN", "hunter3")
    path = _file(tmp_path, f"[publish]\ntoken = '${{NODE_TOKEN}}'\nenrolment_token = 'file:{tmp_path / 'secret'}'\n")
    assert main(["config", "show", "--config", str(path), "--changed"]) == 0
    out = capsys.readouterr().out
    assert "hunter" not in out
    assert out == '[publish]\ntoken = "(hidden)"\nenrolment_token = "(hidden)"\n'


_UNUSABLE = """\
[publish]
aggregators = ["http://127.0.0.1:8420"]
[collectors.syslog]
udp = ["logs.example:514", "127.0.0.1:0"]
unix_datagram = "{folder}/none/log"
unix_stream = ["{folder}/file", "{folder}/none/log"]
[collectors.simulated]
fleet = "{folder}/fleet.toml"
[collectors.oracle]
enabled = false
"""


def test_what_only_a_collector_knows_is_told_by_line_with_a_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("no socket")
    path = _file(tmp_path, _UNUSABLE.format(folder=tmp_path))
    assert main(["validate", "--config", str(path)]) == 78
    *problems, last = capsys.readouterr().err.splitlines()
    assert last.startswith("muster: 7 problems")
    told = [problem.removeprefix(f"{path}:").partition(": collectors.") for problem in problems]
    assert [(line, what.partition(":")[0]) for line, _, what in told] == [
        ("4", "syslog.udp"),
        ("4", "syslog.udp"),
        ("5", "syslog.unix_datagram"),
        *[("6", "syslog.unix_stream")] * 3,
        ("8", "simulated.fleet"),
    ]
    for remedy in ("write numbers, as 127.0.0.1:514", "name one, such as 127.0.0.1:5514", "make it, or choose another",
                   "that is no socket", "is named twice"):  # fmt: skip
        assert any(remedy in problem for problem in problems)


def test_ports_are_tried_only_when_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        ports = taken.getsockname()[1], udp.getsockname()[1]
        text = f"[aggregator]\nlisten = '127.0.0.1:{ports[0]}'\n[collectors.syslog]\nudp = '127.0.0.1:{ports[1]}'\n"
        path = _file(tmp_path, text)
        assert main(["validate", "--config", str(path)]) == 0
        capsys.readouterr()
        assert main(["validate", "--try", "--config", str(path)]) == 78
    listen, udp_line, _ = capsys.readouterr().err.splitlines()
    assert listen.startswith(f"{path}:2: aggregator.listen: cannot listen on 127.0.0.1:{ports[0]}: another program")
    assert udp_line.startswith(f"{path}:4: collectors.syslog.udp: cannot listen on udp 127.0.0.1:{ports[1]}")
    assert main(["validate", "--try", "--config", str(path)]) == 0, "both ports are free now, and were left free"
    assert main(["validate", "--try", "--config", str(path)]) == 0


def test_a_name_that_cannot_be_resolved_is_told_when_tried(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    free = "[aggregator]\nlisten = '127.0.0.1:0'\n"
    path = _file(tmp_path, f"{free}[publish]\naggregators = ['https://muster.invalid:8420']\n")
    assert main(["validate", "--config", str(path)]) == 0
    capsys.readouterr()
    assert main(["validate", "--try", "--config", str(path)]) == 78
    assert f"{path}:4: publish.aggregators: https://muster.invalid:8420: the name" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("[aggregator]\nlisten = 5\n", 'aggregator.listen: must be a text, such as listen = "word"; this is a whole'),
        ('[log]\nmax_bytes = "abc"\n', "log.max_bytes: must be a whole number, such as max_bytes = 5; this is a text"),
        ('[agent]\nonly = "host"\n', 'agent.only: must be a list, such as only = ["one", "two"]; this is a text'),
        (
            "[collectors.syslog]\nkmsg = 5\n",
            "collectors.syslog.kmsg: must be true or false, such as kmsg = true; this is",
        ),
        (
            "[collectors.pci]\nread_vpd = []\n",
            "collectors.pci.read_vpd: must be true or false, such as read_vpd = true;",
        ),
    ],
)
def test_wrong_type_is_told_as_toml_writes_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], written: str, told: str
) -> None:
    path = _file(tmp_path, written)
    assert main(["validate", "--config", str(path)]) == 78
    assert f"{path}:2: {told}" in capsys.readouterr().err


def test_file_may_be_named_without_its_option_but_not_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _file(tmp_path, "[agent]\nonly = ['host']\n")
    assert main(["validate", str(path)]) == 0
    assert f"{path}: good" in capsys.readouterr().out
    assert main(["validate", str(path), "--config", str(path)]) == 1
    assert "name one" in capsys.readouterr().err


def test_access_mode_is_shown_in_octal_and_can_be_read_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = _file(tmp_path, "[collectors.syslog]\nunix_mode = 0o620\n")
    assert main(["config", "show", "--changed", "--config", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "unix_mode = 0o620" in shown
    assert main(["validate", "--config", str(_file(tmp_path, shown))]) == 0
