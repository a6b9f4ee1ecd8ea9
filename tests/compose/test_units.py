"""The units are sound by systemd's own word, and every path and option in them is one."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from aggregator.config import load_aggregator_config
from collectors.config import load_agent_config
from collectors.registry import discover
from tests.certificates import Authority
from tests.compose.booted import UNITS
from tests.needs import REPOSITORY, unmet

SERVICES = ("muster-agent.service", "muster-aggregator.service")
PROGRAMS = Path(sys.executable).parent
GUIDE = REPOSITORY / "docs" / "install.md"


def settings(name: str) -> dict[str, list[str]]:
    """Give what stands in a unit: by name its values, comments left out."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(key, []).append(value)
    return found


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The units with the programs of this environment, for `systemd-analyze` looks whether they are there."""
    if shutil.which("systemd-analyze") is None:
        unmet("systemd-analyze is not installed (apt-get install systemd)")
    for path in UNITS.rglob("*"):
        if path.is_file():
            target = tmp_path / path.relative_to(UNITS)
            target.parent.mkdir(exist_ok=True)
            target.write_text(path.read_text().replace("/opt/muster/bin", str(PROGRAMS)))
    return tmp_path


@pytest.mark.parametrize("drop_in", [True, False])
def test_systemd_has_nothing_to_say_against_the_units(copied: Path, drop_in: bool) -> None:
    if not drop_in:
        shutil.rmtree(copied / "muster-agent.service.d")
    words: list[str | Path] = ["systemd-analyze", "verify", "--man=no", *(copied / name for name in SERVICES)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, "\n".join(line for line in done.stderr.splitlines() if "muster" in line))


def test_a_unit_with_a_mistake_is_found(copied: Path) -> None:
    """The check can fail."""
    unit = copied / SERVICES[0]
    unit.write_text(unit.read_text().replace("WatchdogSec=60", "WatchdogSec=often\nWatchedDog=1"))
    words: list[str | Path] = ["systemd-analyze", "verify", "--man=no", unit]
    said = subprocess.run(words, capture_output=True, text=True, check=False).stderr
    assert ("often" in said, "WatchedDog" in said) == (True, True)


@pytest.mark.parametrize(("name", "most"), [(SERVICES[0], 4.5), (SERVICES[1], 2.0)])
def test_what_a_unit_may_do_is_little(copied: Path, name: str, most: float) -> None:
    """By systemd's own score, 10 is everything: the agent reads devices, the aggregator nothing but its folder."""
    shutil.rmtree(copied / "muster-agent.service.d")
    done = subprocess.run(["systemd-analyze", "security", "--no-pager", "--offline=yes", copied / name],
                          capture_output=True, text=True, check=False)  # fmt: skip
    if "offline" in done.stderr:
        unmet("this systemd-analyze is too old to judge a file (before 250)")
    score = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert score is not None, done.stdout + done.stderr
    assert float(score[1]) <= most


@pytest.mark.parametrize("name", SERVICES)
def test_programs_and_their_options_exist(name: str) -> None:
    (command,) = settings(name)["ExecStart"]
    program, *words = command.split()
    assert program.startswith("/opt/muster/bin/")
    assert (PROGRAMS / Path(program).name).is_file()
    helped = subprocess.run([PROGRAMS / Path(program).name, *words[:-2], "--help"], capture_output=True, text=True,
                            check=True)  # fmt: skip
    assert "--config" == words[-2]
    assert "--config" in helped.stdout


@pytest.mark.parametrize(("name", "folder"), [(SERVICES[0], "muster"), (SERVICES[1], "muster-aggregator")])
def test_what_a_unit_names_is_in_the_folders_that_it_makes(name: str, folder: str) -> None:
    found = settings(name)
    assert [folder] == found["StateDirectory"] == found["ConfigurationDirectory"]
    named = [*found["ExecStart"][0].split()[-1:], *found["EnvironmentFile"]]
    assert {f"/etc/{folder}"} == {str(Path(path.lstrip("-")).parent) for path in named}


def test_the_users_and_groups_that_units_name_are_made() -> None:
    made = re.findall(r"^([ug]) (\S+)", (UNITS / "muster.sysusers").read_text(), re.MULTILINE)
    assert {("u", "muster"), ("g", "muster-push")} == set(made)
    assert ["muster-push"] == settings(SERVICES[0])["SupplementaryGroups"]
    assert (["muster"], ["muster"]) == (settings(SERVICES[1])["User"], settings(SERVICES[1])["Group"])


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """The configurations that are shipped, with the files that they name in the temporary folder."""
    for name in ("agent.toml", "aggregator.toml"):
        text = (UNITS / name).read_text()
        for path in re.findall(r'"(?:file:)?(/etc/[^"]+)"', text):
            (tmp_path / Path(path).name).write_text("mse_" + "a" * 40)
            text = text.replace(path, str(tmp_path / Path(path).name))
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_agents_configuration_is_one_and_fits_its_unit(etc: Path) -> None:
    config = load_agent_config(etc / "agent.toml", dict.fromkeys(discover()), {"STATE_DIRECTORY": "/var/lib/muster"})
    assert Path("/var/lib/muster") == config.data_dir
    push = next(one.options for one in config.collectors if one.name == "push")
    unit = settings(SERVICES[0])
    assert [str(Path(push["path"]).parent)] == [f"/run/{name}" for name in unit["RuntimeDirectory"]]
    assert [push["group"]] == unit["SupplementaryGroups"]


def test_the_aggregators_configuration_is_one(etc: Path) -> None:
    authority = Authority(etc / "authority")
    certificate, key = authority.certificate()
    for name, path in (("cert.pem", certificate), ("key.pem", key), ("ca.pem", authority.ca_file)):
        shutil.copy(path, etc / name)
    config = load_aggregator_config(etc / "aggregator.toml", {"STATE_DIRECTORY": "/var/lib/muster-aggregator"})
    assert Path("/var/lib/muster-aggregator") == config.data_dir
    assert 8420 == config.aggregator.port


def test_every_file_is_told_of_where_one_reads_how_to_install() -> None:
    guide = GUIDE.read_text()
    assert [] == [path.name for path in UNITS.rglob("*") if path.is_file() and path.name not in guide]
