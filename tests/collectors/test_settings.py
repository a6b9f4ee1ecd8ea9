"""Configuration: what is wrong is told with place, remedy and near names, all at once; what is right takes precedence.

Requirements: R001-9, R003-1 (configuration errors: exit 78 with file, line, remedy, near names).
"""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from collectors.config import INSECURE_WORDS, AgentConfig, CollectorSettings, load_agent_config
from collectors.settings import load_settings
from schemas.errors import ConfigError
from schemas.verbosity import Level


class Options(msgspec.Struct, frozen=True):
    """Options of the collector `fans`."""

    path: str = ""
    speed: int = 3
    ratio: float = 0.5
    quiet: bool = False

    def __post_init__(self) -> None:
        if self.speed < 1:
            raise ValueError(f"speed: at least 1, not {self.speed}")


KNOWN: dict[str, type[Any] | None] = {"host": None, "syslog": None, "fans": Options}


class Place:
    """A folder with a configuration, and an environment."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "muster.toml"
        self.env: dict[str, str] = {"MUSTER_DATA_DIR": str(folder / "data")}

    def write(self, text: str, name: str = "") -> Path:
        path = self.file.parent / "conf.d" / name if name else self.file
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    def load(self) -> AgentConfig:
        return load_agent_config(self.file if self.file.exists() else None, KNOWN, self.env)

    def problems(self) -> list[str]:
        """What is told, the folder left out."""
        with pytest.raises(ConfigError) as caught:
            self.load()
        return [place.replace(f"{self.file.parent}/", "") for place in caught.value.places]

    def collector(self, name: str) -> CollectorSettings:
        return next(one for one in self.load().collectors if one.name == name)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


class TestNothingWritten:
    def test_the_defaults_run_host_and_syslog_at_the_standard_level_to_this_machine(self, place: Place) -> None:
        config = place.load()
        assert ["host", "syslog"] == [one.name for one in config.collectors]
        assert Level.STANDARD is config.level
        assert [f"unix://{place.env['MUSTER_DATA_DIR']}/muster.sock"] == config.addresses

    @pytest.mark.parametrize(
        ("env", "folder"),
        [
            ({"MUSTER_DATA_DIR": "/a", "STATE_DIRECTORY": "/b", "HOME": "/c"}, "/a"),
            ({"STATE_DIRECTORY": "/b:/d", "HOME": "/c"}, "/b"),
            ({"XDG_STATE_HOME": "/e", "HOME": "/c"}, "/e/muster"),
            ({"HOME": "/c"}, "/c/.local/state/muster"),
        ],
    )
    def test_the_data_folder(self, env: dict[str, str], folder: str) -> None:
        assert Path(folder) == load_agent_config(None, KNOWN, env).data_dir


class TestPrecedence:
    def test_conf_d_comes_over_the_file_in_order_of_names_and_the_environment_over_all(self, place: Place) -> None:
        place.write('[agent]\nlevel = "debug"\nnode_id = "a"\n[spool]\nmax_bytes = 70000\n[publish]\ntoken = "t"\n')
        place.write('[agent]\nnode_id = "c"\n[spool]\nmax_bytes = 90000\n', "20-second.toml")
        place.write('[agent]\nnode_id = "b"\n[spool]\nmax_bytes = 80000\n', "10-first.toml")
        place.write("[spool]\nmax_bytes = 1\n", "ignored.conf")
        place.env["MUSTER_SPOOL__MAX_BYTES"] = "100000"
        config = place.load()
        assert ("debug", "c", 100_000, "t") == (
            config.agent.level, config.agent.node_id, config.spool.max_bytes, config.publish.token
        )  # fmt: skip

    def test_sections_of_several_files_are_merged_key_by_key(self, place: Place) -> None:
        place.write("[collectors.fans]\nspeed = 5\n")
        place.write('[collectors.fans]\npath = "/x"\n', "a.toml")
        assert {"speed": 5, "path": "/x"} == dict(place.collector("fans").options)

    def test_the_place_of_a_value_is_where_it_was_written_last(self, place: Place) -> None:
        place.write("[spool]\nmax_bytes = 70000\n")
        place.write("\n[spool]\n\nmax_bytes = 5\n", "a.toml")
        assert ["conf.d/a.toml:4: [spool]: max_bytes: at least 65536, or not even one batch fits"] == place.problems()
        place.env["MUSTER_SPOOL__MAX_BYTES"] = "6"
        assert place.problems()[0].startswith("MUSTER_SPOOL__MAX_BYTES: ")

    def test_sections_of_the_aggregator_are_not_the_agents_business(self, place: Place) -> None:
        place.write("[retention]\nlog_days = 3\n[aggregator]\nwhatever = 3\n")
        assert "standard" == place.load().agent.level

    def test_only_chooses_and_enabled_switches_off(self, place: Place) -> None:
        place.write('[agent]\nonly = ["fans", "host", "fans"]\n[collectors.host]\nenabled = false\n')
        assert ["fans"] == [one.name for one in place.load().collectors]

    def test_a_collector_with_a_section_of_its_own_runs_beside_the_usual_ones(self, place: Place) -> None:
        place.write('[collectors.fans]\ninterval_seconds = 1\nlevel = "debug"\n')
        config = place.load()
        assert ["host", "syslog", "fans"] == [one.name for one in config.collectors]
        assert {"fans": Level.DEBUG} == config.collector_levels
        assert 1.0 == place.collector("fans").host.interval_seconds


class TestEnvironment:
    @pytest.mark.parametrize(
        ("text", "key", "value"),
        [
            ("7", "speed", 7),
            ("0.25", "ratio", 0.25),
            ("true", "quiet", True),
            ("/a b/c", "path", "/a b/c"),
            ('"7"', "path", "7"),
        ],
    )
    def test_a_value_is_read_as_toml_where_it_is_that(self, place: Place, text: str, key: str, value: Any) -> None:
        place.env[f"MUSTER_COLLECTORS__FANS__{key.upper()}"] = text
        assert {key: value} == dict(place.collector("fans").options)

    @pytest.mark.parametrize("text", ["42", "1e5", "true", "2024-01-01"])
    def test_a_text_that_looks_like_something_else_is_the_text(self, place: Place, text: str) -> None:
        """A token or a name of digits alone is still one."""
        place.env["MUSTER_PUBLISH__TOKEN"] = text
        assert text == place.load().publish.token

    def test_a_list_is_written_as_in_toml(self, place: Place) -> None:
        place.env["MUSTER_PUBLISH__AGGREGATORS"] = '["http://a:1", "unix:///b"]'
        assert ["http://a:1", "unix:///b"] == place.load().addresses

    @pytest.mark.parametrize(
        "address", ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "https://a:1", "unix:///b"]
    )
    def test_a_token_goes_where_nobody_listens_in(self, place: Place, address: str) -> None:
        place.env["MUSTER_PUBLISH__AGGREGATORS"] = f'["{address}"]'
        place.env["MUSTER_PUBLISH__TOKEN"] = "mst_x"
        assert [address] == place.load().addresses

    def test_a_token_goes_in_clear_when_told_in_so_many_words(self, place: Place) -> None:
        place.env["MUSTER_PUBLISH__AGGREGATORS"] = '["http://10.0.0.1:1"]'
        place.env["MUSTER_PUBLISH__TOKEN"] = "mst_x"
        place.env["MUSTER_PUBLISH__INSECURE"] = INSECURE_WORDS
        assert "mst_x" == place.load().publish.token

    def test_variables_of_others_and_those_that_are_no_options_are_left_alone(self, place: Place) -> None:
        place.env |= {"PATH": "/bin", "MUSTER_LISTEN": "x", "MUSTER_LOG_LEVEL": "DEBUG", "MUSTER_TOKEN": "t"}
        assert "standard" == place.load().agent.level

    def test_what_is_almost_a_variable_of_ours_is_told_with_what_is_near(self, place: Place) -> None:
        place.env["MUSTER_LISTN"] = "x"
        assert [
            "MUSTER_LISTN: not an option; options are MUSTER_<SECTION>__<KEY>. Did you mean 'MUSTER_LISTEN'?"
        ] == place.problems()

    def test_an_unknown_option_is_placed_at_its_variable(self, place: Place) -> None:
        place.env["MUSTER_AGENT__LEVLE"] = "debug"
        assert ["MUSTER_AGENT__LEVLE: unknown option 'agent.levle'. Did you mean 'level'?"] == place.problems()

    def test_a_section_below_a_value_is_told(self, place: Place) -> None:
        place.env["MUSTER_AGENT__LEVEL"] = "debug"
        place.env["MUSTER_AGENT__LEVEL__DEEPER"] = "1"
        assert ["MUSTER_AGENT__LEVEL__DEEPER: 'level' is a value, not a section"] == place.problems()


class TestSubstitution:
    def test_a_variable_in_a_text_is_replaced(self, place: Place) -> None:
        place.write('[publish]\naggregators = ["http://${HOST}:${PORT}"]\n[collectors.fans]\nspeed = "${SPEED}"\n')
        place.env |= {"HOST": "agg", "PORT": "99", "SPEED": "8"}
        assert ["http://agg:99"] == place.load().addresses
        assert {"speed": "8"} == dict(place.collector("fans").options)  # made a number where the collector is made

    def test_a_variable_that_is_not_set_is_told(self, place: Place) -> None:
        place.write('[publish]\n\ntoken = "${NOT_SET}"\n')
        assert ["muster.toml:3: publish.token: the variable NOT_SET is not set"] == place.problems()

    def test_a_secret_comes_from_a_file_without_its_line_end(self, place: Place) -> None:
        secret = place.file.parent / "secret"
        secret.write_text("s3cret\n")
        place.write(f'[publish]\ntoken = "file:{secret}"\n')
        assert "s3cret" == place.load().publish.token

    def test_a_file_that_cannot_be_read_is_told(self, place: Place) -> None:
        place.write('[publish]\ntoken = "file:/does/not/exist"\n')
        [problem] = place.problems()
        assert problem.startswith("muster.toml:2: publish.token: cannot read the file: ")
        assert "/does/not/exist" in problem


WRONG = {
    "no TOML": ("[agent]\nlevel = \n", ["muster.toml:2: not TOML: Invalid value. See https://toml.io for the form"]),
    "not closed": (
        '[agent]\nx = "a',
        ["muster.toml:2: not TOML: Unterminated string. See https://toml.io for the form"],
    ),
    "unknown section": ("[agnet]\n", ["muster.toml:1: unknown section [agnet]. Did you mean 'agent'?"]),
    "section is a value": ("agent = 5\n", ["muster.toml:1: agent is a section: write [agent]"]),
    "unknown option": (
        '[agent]\n# a comment\n  levle = "debug"\n',
        ["muster.toml:3: unknown option 'agent.levle'. Did you mean 'level'?"],
    ),
    "nothing near": (
        "[spool]\nzzz = 1\n",
        ["muster.toml:2: unknown option 'spool.zzz'. Options here: max_bytes."],
    ),
    "no level": (
        '[agent]\nlevel = "loud"\n',
        ["muster.toml:2: [agent]: 'loud' is not a level; levels are essential, standard, detailed, debug"],
    ),
    "a text for a list": (
        '[agent]\nonly = "host"\n',
        ['muster.toml:2: agent.only: must be a list, such as only = ["one", "two"]; this is a text.'],
    ),
    "a wrong entry": (
        '[agent]\nonly = ["host", 5]\n',
        ['muster.toml:2: agent.only: each entry of the list is a text, such as "word"; one is a whole number.'],
    ),
    "wrong type": (
        "[spool]\nmax_bytes = [1]\n",
        ["muster.toml:2: spool.max_bytes: must be a whole number, such as max_bytes = 5; this is a list."],
    ),
    "text for a number": (
        '[spool]\nmax_bytes = "much"\n',
        ["muster.toml:2: spool.max_bytes: must be a whole number, such as max_bytes = 5; this is a text."],
    ),
    "not positive": (
        "[publish]\ntimeout_seconds = 0\n",
        ["muster.toml:2: [publish]: timeout_seconds: must be more than 0, not 0.0"],
    ),
    "not a number": (
        "[collectors.host]\ninterval_seconds = nan\n",
        ["muster.toml:2: [collectors.host]: interval_seconds: must be more than 0, not nan"],
    ),
    "endless": (
        "[collectors.host]\ntimeout_seconds = inf\n",
        ["muster.toml:2: [collectors.host]: timeout_seconds: must be more than 0, not inf"],
    ),
    "no address": (
        '[publish]\naggregators = ["http://good:1",\n  "agg:8420"]\n',
        [
            (
                "muster.toml:2: [publish]: 'agg:8420' is no address: write https://host:8420, http://host:8420"
                " or unix:///path/to.sock"
            )
        ],
    ),
    "a token in clear": (
        '[publish]\naggregators = ["https://a:1", "http://127.evil.example:1"]\ntoken = "mst_x"\n',
        [
            (
                "muster.toml:2: [publish]: aggregators: http://127.evil.example:1 would let everybody on the network"
                " read the token: write https://, or insecure = 'tokens and data travel unencrypted'"
            )
        ],
    ),
    "an enrolment token in clear": (
        '[publish]\naggregators = ["http://10.0.0.1:1"]\nenrolment_token = "mse_x"\ninsecure = "yes"\n',
        [
            (
                "muster.toml:2: [publish]: aggregators: http://10.0.0.1:1 would let everybody on the network read the"
                " token: write https://, or insecure = 'tokens and data travel unencrypted'"
            )
        ],
    ),
    "no authority": (
        '[publish]\nca_file = "/no/ca.pem"\n',
        [
            "muster.toml:2: publish.ca_file: there is no file '/no/ca.pem': name the PEM file of the authority",
        ],
    ),
    "unknown collector": (
        "[collectors.fan]\n",
        ["muster.toml:1: collectors.fan: no collector 'fan' is installed. Did you mean 'fans'?"],
    ),
    "unknown collector chosen": (
        '[agent]\nonly = ["qqq"]\n',
        ["muster.toml:2: agent.only: no collector 'qqq' is installed. Installed: fans, host, syslog."],
    ),
    "collector is a value": (
        "[collectors]\nhost = 3\n",
        ["muster.toml:2: collectors.host is a section: write [collectors.host]"],
    ),
    "option of a collector": (
        "[collectors.fans]\n\nsped = 1\n",
        ["muster.toml:3: unknown option 'collectors.fans.sped'. Did you mean 'speed'?"],
    ),
    "option of every collector": (
        '[collectors.fans]\ninterval = "10s"\nqqq = 1\n',
        [
            "muster.toml:2: unknown option 'collectors.fans.interval'. Did you mean 'interval_seconds'?",
            (
                "muster.toml:3: unknown option 'collectors.fans.qqq'. Options here: enabled, interval_seconds, level,"
                " path, quiet, ratio, speed, timeout_seconds."
            ),
        ],
    ),
    "value of a collector": (
        "[collectors.fans]\nspeed = 0\n",
        ["muster.toml:2: [collectors.fans]: speed: at least 1, not 0"],
    ),
    "collector that is not chosen": (
        '[agent]\nonly = ["host"]\n[collectors.fans]\nspeed = 0\n',
        ["muster.toml:4: [collectors.fans]: speed: at least 1, not 0"],
    ),
    "collector that is switched off": (
        "[collectors.fans]\nenabled = false\nspeed = 0\n",
        ["muster.toml:3: [collectors.fans]: speed: at least 1, not 0"],
    ),
    "several at once": (
        '[agent]\nlevel = "x"\n[spool]\nmax_bytes = 1\n[foo]\n',
        [
            "muster.toml:5: unknown section [foo].",
            "muster.toml:2: [agent]: 'x' is not a level; levels are essential, standard, detailed, debug",
            "muster.toml:4: [spool]: max_bytes: at least 65536, or not even one batch fits",
        ],
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_is_told_with_file_line_and_remedy(place: Place, kind: str) -> None:
    text, expected = WRONG[kind]
    place.write(text)
    assert expected == place.problems()


class TestFilesThatCannotBe:
    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        path = tmp_path / "none.toml"
        assert f"{path}: cannot be read: No such file or directory. Name another with --config" == _problem(path)

    def test_a_folder(self, tmp_path: Path) -> None:
        assert f"{tmp_path}: is a folder; name the file in it, such as {tmp_path}/muster.toml" == _problem(tmp_path)

    def test_bytes_that_are_no_text(self, tmp_path: Path) -> None:
        path = tmp_path / "muster.toml"
        path.write_bytes(b"[agent]\n\xff\n")
        assert f"{path}: not UTF-8 text (byte 8): save it as UTF-8" == _problem(path)

    def test_a_bad_file_in_conf_d_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "conf.d").mkdir()
        (tmp_path / "conf.d" / "x.toml").write_text("a = ]")
        (tmp_path / "muster.toml").write_text("")
        assert _problem(tmp_path / "muster.toml").startswith(f"{tmp_path}/conf.d/x.toml:1: not TOML: ")


def _problem(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(path, {})
    [problem] = caught.value.places
    return problem
