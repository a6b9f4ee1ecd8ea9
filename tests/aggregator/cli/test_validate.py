"""R001 bad input: configuration errors name file, line, remedy and near names, and exit with 78."""

import json
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
