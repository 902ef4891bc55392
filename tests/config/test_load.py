"""Loading: precedence, origins, replacing plug-ins, and every mistake at once with its place."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aflctl import errors
from aflctl.config.load import Loaded, load, presets, to_yaml
from aflctl.config.matrix import expand
from aflctl.config.schema import Config
from aflctl.config.sets import value_of
from aflctl.errors import ConfigError, PluginBroken, Problem, UnknownName

MINE = "from aflctl.api import Algorithm\nclass FedMine(Algorithm):\n    k: int = 3\n"


@pytest.fixture
def write(tmp_path: Path):
    def make(text: str, name: str = "c.yaml") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return make


def wrong(source: Any, *sets: str) -> dict[str, Problem]:
    """The problems of a configuration, by path."""
    with pytest.raises(ConfigError) as caught:
        load(source, sets)
    return {p.path: p for p in caught.value.problems}


def said(loaded: Loaded, path: str) -> str:
    return str(loaded.origins[path])


# ---- what is there ----


def test_nothing_at_all_is_the_quickstart() -> None:
    loaded = load(None)
    assert (loaded.preset, loaded.path, loaded.base) == ("quickstart", None, Path.cwd())
    assert loaded.config.clients.count == 60
    assert said(loaded, "clients.count").startswith("preset quickstart.yaml:")


@pytest.mark.parametrize("name", sorted(presets()))
def test_presets_are_sound_and_explain_themselves(name: str) -> None:
    for loaded in expand(name).loaded[::7]:
        assert load(to_yaml_file(loaded)).config == loaded.config
    assert presets()[name].read_text().startswith("# ")


def to_yaml_file(loaded: Loaded) -> dict[str, Any]:
    from aflctl.config.yaml_text import parse

    return parse(to_yaml(loaded.config)).data


def test_the_design_example_loads() -> None:
    example = {
        "algorithm": {"name": "fedbuff", "buffer_size": 10},
        "dataset": {"name": "digits", "partition": {"name": "dirichlet", "alpha": 1.0}},
        "model": "mlp",
        "clients": {"count": 100, "concurrency": 10},
        "local": {"epochs": 5, "batch_size": 64, "optimizer": "sgd", "lr": 0.01, "momentum": 0.9},
        "fleet": {
            "devices": {"jetson-tx2": 1, "jetson-nano": 1, "raspberry-pi-4": 1},
            "networks": {"wifi": 1, "lte": 1, "nr": 1},
            "availability": {"name": "delay-dropout", "probability": 0.1, "max_s": 100},
            "offline": "pause",
        },
        "stop": {"updates": 1000},
        "evaluate": {"every": {"updates": 10}},
        "seed": 0,
    }
    loaded = load(example)
    assert not isinstance(loaded.config.fleet, str)
    assert loaded.config.fleet.availability[0].params == {"probability": 0.1, "max_s": 100}
    assert load(to_yaml_file(loaded)).config == loaded.config


def test_a_resolved_configuration_says_every_default_and_loads_back(write) -> None:
    loaded = load(write("algorithm: fedbuff\nfleet: {name: poster-1-1-1, offline: abort}\nmodel: {name: cnn}\n"))
    text = to_yaml(loaded.config)
    assert "buffer_size: 10" in text
    again = load(write(text, "again.yaml"))
    assert again.config == loaded.config
    assert to_yaml(again.config) == text
    assert not isinstance(again.config.fleet, str)
    assert again.config.fleet.model_fields_set == {"name", "offline"}


def test_a_run_directory_is_a_source(tmp_path: Path) -> None:
    run = tmp_path / "some-run"
    run.mkdir()
    (run / "config.yaml").write_text("algorithm: fedavg\n")
    loaded = load(run)
    assert loaded.base == run
    assert loaded.origins["algorithm.name"].source == "run"


def test_from_python_a_config_is_a_source() -> None:
    first = load({"algorithm": "fedasync", "seed": 4}).config
    assert load(first).config == first
    assert load(Config()).config.algorithm.name == "fedbuff"


def test_a_mapping_that_contains_itself_is_refused() -> None:
    local: dict[str, Any] = {"epochs": 1}
    local["lr"] = local
    with pytest.raises(ConfigError, match="nested too deeply, or contains itself"):
        load({"local": local})


def test_few_clients_need_no_concurrency(write) -> None:
    assert load(write("clients: {count: 3}\n")).config.clients.concurrency == 3
    assert load(write("clients: {count: 30}\n")).config.clients.concurrency == 10


def test_an_empty_section_is_as_good_as_none(write) -> None:
    assert load(write("local:\n  # lr: 3\nseed: 1\n")).config.local.lr == 0.01


def test_parameters_alone_belong_to_the_default_plug_in(write) -> None:
    config = load(write("dataset: {name: digits, partition: {alpha: 0.3}}\nalgorithm: {buffer_size: 3}\n")).config
    assert (config.dataset.partition.name, config.dataset.partition.params["alpha"]) == ("dirichlet", 0.3)
    assert (config.algorithm.name, config.algorithm.params["buffer_size"]) == ("fedbuff", 3)


# ---- precedence and origins ----


def test_flags_beat_sets_beat_files_beat_defaults(write) -> None:
    file = write("seed: 1\nlocal: {lr: 0.1}\n")
    loaded = load(file, ["seed=2", "local.momentum=0.5"], {"seed": 3, "name": None})
    assert (loaded.config.seed, loaded.config.local.lr, loaded.config.local.momentum) == (3, 0.1, 0.5)
    assert said(loaded, "seed") == "--seed"
    assert said(loaded, "local.momentum") == "--set local.momentum=0.5"
    assert said(loaded, "local.lr") == f"{file}:2"
    assert said(loaded, "local.epochs") == "default"


def test_every_leaf_has_an_origin(write) -> None:
    text = "algorithm: fedasync\ndataset: {name: digits, partition: iid}\nmodel: {name: mlp, hidden: [8]}\n"
    loaded = load(write(text))
    assert said(loaded, "algorithm.name").endswith(":1")
    assert said(loaded, "dataset.partition.name").endswith(":2")
    assert said(loaded, "model.hidden").endswith(":3")
    assert said(loaded, "clients.selection.name") == "default"
    for path in ("algorithm", "dataset.partition", "clients.count", "evaluate.every.updates", "stop.updates", "fleet"):
        assert any(key == path or key.startswith(f"{path}.") for key in loaded.origins)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1e-3", 0.001), ("0.5", 0.5), ("1", 1.0)],
)
def test_a_set_value_is_json_else_text(write, text: str, expected: float) -> None:
    assert load(write("seed: 0\n"), [f"local.lr={text}", "name=no"]).config.local.lr == expected
    config = load(write("seed: 0\n"), ["name=no", 'tags=["a","b"]', "clients.count=1e3", "local.steps=null"]).config
    assert (config.name, config.tags, config.clients.count, config.local.steps) == ("no", ("a", "b"), 1000, None)
    assert load(write("seed: 0\n"), ["name=2024"]).config.name == "2024"


# ---- --set and plug-ins ----

FEDBUFF = "algorithm: {name: fedbuff, buffer_size: 7}\n"


def test_a_name_replaces_the_plug_in_with_its_parameters(write) -> None:
    for text in ("algorithm=fedavg", "algorithm.name=fedavg", 'algorithm={"name": "fedavg"}'):
        loaded = load(write(FEDBUFF), [text])
        assert loaded.config.algorithm.name == "fedavg"
        assert "buffer_size" not in loaded.config.algorithm.params
        assert said(loaded, "algorithm.name").startswith("--set algorithm")


def test_a_parameter_is_merged(write) -> None:
    loaded = load(write(FEDBUFF), ["algorithm.weighting=samples"])
    assert loaded.config.algorithm.params["buffer_size"] == 7
    assert loaded.config.algorithm.params["weighting"] == "samples"
    assert said(loaded, "algorithm.buffer_size").endswith("c.yaml:1")


def test_a_short_form_can_be_merged_into(write) -> None:
    loaded = load(write("algorithm: fedbuff\nmodel: mlp\n"), ["algorithm.buffer_size=5", "algorithm.staleness.a=0.7"])
    assert loaded.config.algorithm.params["buffer_size"] == 5
    assert loaded.config.algorithm.params["staleness"]["a"] == 0.7
    assert said(loaded, "algorithm.name").endswith("c.yaml:1")


def test_sets_apply_in_order(write) -> None:
    config = load(write(FEDBUFF), ["algorithm.buffer_size=5", "algorithm=fedbuff"]).config
    assert config.algorithm.params["buffer_size"] == 10
    config = load(write(FEDBUFF), ["algorithm=fedbuff", "algorithm.buffer_size=5"]).config
    assert config.algorithm.params["buffer_size"] == 5


def test_another_dataset_keeps_the_partition(write) -> None:
    file = write("dataset: {name: mnist, partition: {name: dirichlet, alpha: 0.2}}\n")
    loaded = load(file, ["dataset=digits"])
    assert loaded.config.dataset.name == "digits"
    assert loaded.config.dataset.partition.params["alpha"] == 0.2
    assert said(loaded, "dataset.partition.alpha").endswith("c.yaml:1")


def test_one_distance_replaces_another(write) -> None:
    config = load(write("evaluate: {every: {updates: 5}}\n"), ["evaluate.every.versions=2"]).config
    assert (config.evaluate.every.updates, config.evaluate.every.versions) == (None, 2)


def test_a_named_fleet_can_be_changed(write) -> None:
    fleet = load(write("fleet: poster-1-1-1\n"), ["fleet.offline=abort"]).config.fleet
    assert not isinstance(fleet, str)
    assert (fleet.name, fleet.offline) == ("poster-1-1-1", "abort")
    assert load(write("fleet: {devices: {a: 1}, networks: {b: 1}}\n"), ["fleet=iot-mixed"]).config.fleet == "iot-mixed"


def test_one_availability_is_a_list_of_one(write) -> None:
    text = "fleet: {devices: {a: 1}, networks: {b: 1}, availability: {name: markov, mean_on_s: 5}}\n"
    fleet = load(write(text), ["fleet.availability.mean_on_s=9"]).config.fleet
    assert not isinstance(fleet, str)
    assert fleet.availability[0].params == {"mean_on_s": 9}


# ---- local files ----


def test_a_local_file_beside_the_configuration(write, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    loaded = load(write("algorithm: {name: ./mine.py:FedMine, k: 5}\n"))
    assert loaded.plugins["algorithm"].k == 5  # type: ignore[attr-defined]
    assert loaded.config.algorithm.name == "./mine.py:FedMine"


def test_a_local_file_on_the_command_line_lies_in_the_working_folder(
    write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    (here / "mine.py").write_text(MINE)
    monkeypatch.chdir(here)
    file = write("seed: 0\n")
    assert load(file, ["algorithm=./mine.py:FedMine"]).config.algorithm.name == "./here/mine.py:FedMine"
    assert load(file, ['algorithm={"name": "mine.py:FedMine", "k": 2}']).config.algorithm.params == {"k": 2}
    assert load("quickstart", ["algorithm=./mine.py:FedMine"]).config.algorithm.name == "./mine.py:FedMine"
    problem = wrong(file, "algorithm=./gone.py:X")["algorithm"]
    assert "no file" in problem.message
    assert "gone.py" in problem.message


# ---- mistakes ----

ALL_AT_ONCE = """\
algoritm: fedavg
algorithm: {name: fedbuff, bufer_size: 5, buffer_size: 0}
dataset: {name: digit, partition: {name: dirichlet, alpha: -1}, test_fraction: 3}
model: {name: mlp, hidden: abc}
clients: {count: 5, concurrency: 9}
local: {optimizer: sdg, lr: -1, epochs: true, momentum: fast}
stop: {accuracy: 0.9}
evaluate: {every: {updates: 3, versions: 2}}
seed: 1.5
fleet: {devices: {a: -1}, networks: {b: 1}, offlin: abort}
server: {on_nonfinite: maybe}
"""


def test_all_mistakes_at_once(write) -> None:
    file = write(ALL_AT_ONCE)
    found = wrong(file, "engine.executer=serial")
    expected = {
        "algoritm": (1, "unknown key", "'algorithm'"),
        "algorithm.bufer_size": (2, "fedbuff has no parameter 'bufer_size'", "'buffer_size'"),
        "algorithm.buffer_size": (2, "must be >= 1; got 0", None),
        "dataset.name": (3, "unknown dataset 'digit'", "'digits'"),
        "dataset.partition.alpha": (3, "must be > 0; got -1", None),
        "dataset.test_fraction": (3, "must be > 0, < 1; got 3", None),
        "model.hidden": (4, "must be a list; got 'abc'", "one value is written ['abc']"),
        "clients.concurrency": (5, "must be at most clients.count = 5; got 9", None),
        "local.optimizer": (6, "must be one of sgd, adam, adamw; got 'sdg'", "'sgd'"),
        "local.lr": (6, "must be > 0; got -1", None),
        "local.epochs": (6, "must be a number; got true", None),
        "local.momentum": (6, "must be a number >= 0, < 1; got 'fast'", None),
        "stop": (7, "must have at least one of updates, versions, time_s", None),
        "evaluate.every": (8, "must have exactly one of updates, versions, time_s; got updates, versions", None),
        "seed": (9, "must be a whole number; got 1.5", None),
        "fleet.devices.a": (10, "got -1", None),
        "fleet.offlin": (10, "unknown key", "'offline'"),
        "server.on_nonfinite": (11, "must be one of stop, reject, keep; got 'maybe'", None),
    }
    for path, (line, message, hint) in expected.items():
        assert found[path].where == f"{file}:{line}", path
        assert message in found[path].message, path
        assert hint is None or hint in str(found[path].hint), path
    assert found["engine.executer"].where == "--set engine.executer=serial"
    assert set(found) == {*expected, "engine.executer"}


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("algorithm: [fedavg]\n", "algorithm", "must be a name, or a mapping with the key 'name'"),
        ("algorithm: 5\n", "algorithm", "must be a name, or a mapping"),
        ("algorithm: {name: 5}\n", "algorithm.name", "must be text; got 5"),
        ("algorithm: {name: fedbuff, params: {buffer_size: 3}}\n", "algorithm.params", "beside the name"),
        ("personalization: [{alpha: 3}]\n", "personalization.0", "must name one of the personalizations"),
        ("clients: 5\n", "clients", "must be a mapping; got 5"),
        ("local: {lr: .nan}\n", "local.lr", "must be"),
        ("local: {lr: .inf}\n", "local.lr", "finite"),
        ("seed: -1\n", "seed", "must be >= 0"),
        ("seed: true\n", "seed", "must be a number; got true"),
        ("name: ''\n", "name", "must not be empty"),
        ("stop: {time_s: 0}\n", "stop.time_s", "must be > 0"),
        ("checkpoint: {}\n", "checkpoint.every", "is required"),
        ("fleet: {}\n", "fleet", "devices"),
        ("fleet: 3\n", "fleet", "must be"),
        ("tags: a\n", "tags", "must be a list"),
        ("seed: 1\nseed: 2\n", "seed", "given twice"),
        ("1: 2\n", "1", "unknown key"),
    ],
)
def test_one_mistake(write, text: str, path: str, message: str) -> None:
    found = wrong(write(text))
    assert message in found[path].message, found


@pytest.mark.parametrize(
    ("text", "path", "message"),
    [
        ("seed", "", "is not key=value"),
        ("=3", "", "is not key=value"),
        ("local..lr=3", "", "is not key=value"),
        ('algorithm={"name": fedavg', "algorithm", "not readable as YAML: while parsing a flow mapping"),
        ("algorithm={name: !python/object fedavg}", "algorithm", "is not allowed"),
        ("algorithm=" + 3000 * "[", "algorithm", "nested too deeply"),
        ("algorithm=" + 3000 * "[" + 3000 * "]", "algorithm", "nested too deeply"),
        ("seed.x=3", "seed.x", "seed is 1, which has no keys inside"),
        ("personalization.3.x=1", "personalization.3.x", "is a list of 0"),
        ("loca.lr=3", "loca", "unknown key"),
        ("local.lrr=3", "local.lrr", "unknown key"),
    ],
)
def test_a_mistake_in_set_names_the_option(write, text: str, path: str, message: str) -> None:
    problem = wrong(write("seed: 1\npersonalization: []\n"), text)[path]
    assert message in problem.message
    assert problem.where == f"--set {text}"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{name: fedbuff, buffer: 5}", {"name": "fedbuff", "buffer": 5}),
        ('{"name": "fedbuff"}', {"name": "fedbuff"}),
        ("[.1, 1e-3, no, on]", [0.1, 0.001, "no", "on"]),
        ("[]", []),
        (".05", 0.05),
        ("1e-3", 0.001),
        ("+3", 3),
        ("True", True),
        ("~", None),
        ("null", None),
        ('"7"', "7"),
        # text keeps every character
        ("no", "no"),
        ("", ""),
        ("a: b", "a: b"),
        ("a #b", "a #b"),
        ("'x'", "'x'"),
        ("*star", "*star"),
        ("1:30", "1:30"),
        ("#", "#"),
        ("-", "-"),
    ],
)
def test_a_value_typed_in_set_is_read_as_in_a_file(text: str, value: object) -> None:
    got = value_of(text)
    assert (got, type(got)) == (value, type(value))


def test_what_is_no_configuration(write, tmp_path: Path) -> None:
    (tmp_path / "binary.yaml").write_bytes(b"\x7fELF\0\0")
    (tmp_path / "latin.yaml").write_bytes(b"seed: 1\nname: \xe9\n")
    (tmp_path / "dir").mkdir()
    (tmp_path / "big.yaml").write_text("# " + "x" * (1 << 20))
    for name, message in (("binary.yaml", "binary file"), ("latin.yaml", "not UTF-8"), ("big.yaml", "larger than")):
        assert message in wrong(tmp_path / name)[""].message
    assert wrong(tmp_path / "latin.yaml")[""].where == f"{tmp_path / 'latin.yaml'}:2"
    assert "no run directory" in wrong(tmp_path / "dir")[""].message
    assert "is empty" in wrong(write("# nothing\n"))[""].message
    assert "keys and values" in wrong(write("- 1\n"))[""].message
    problem = wrong(write("a: [1,\nb: 2\n"))[""]
    assert str(problem.where).endswith("c.yaml:3:1")
    assert "it began in line 1" in problem.message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(write) -> None:
    file = write("seed: 1\n")
    file.chmod(0)
    assert "cannot be read" in wrong(file)[""].message


def test_a_name_that_is_neither_file_nor_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "first.yaml").write_text("seed: 1\n")
    with pytest.raises(UnknownName, match="unknown configuration 'quikstart'") as caught:
        load("quikstart")
    assert "did you mean 'quickstart'" in str(caught.value.hint)
    with pytest.raises(UnknownName) as caught:
        load("frist.yaml")
    assert "'first.yaml'" in str(caught.value.hint)
    with pytest.raises(UnknownName) as caught:
        load("gone/first.yaml")
    assert "no folder gone" in str(caught.value.hint)


def test_a_broken_plug_in_is_the_environments_fault_and_other_mistakes_are_not_hidden(write, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import nowhere_to_be_found\n")
    with pytest.raises(PluginBroken, match="nowhere_to_be_found") as caught:
        load(write("algorithm: ./mine.py:FedMine\n"))
    assert caught.value.exit_code == 3
    found = wrong(write("algorithm: ./mine.py:FedMine\nseed: -1\n"))
    assert "does not load" in found["algorithm"].message
    assert "must be >= 0" in found["seed"].message


def test_a_validator_that_raises_anything_is_contained(write, tmp_path: Path) -> None:
    code = "from aflctl.api import Algorithm\nclass A(Algorithm):\n    def model_post_init(self, _): 1 / 0\n"
    (tmp_path / "mine.py").write_text(code)
    with pytest.raises(PluginBroken, match="ZeroDivisionError"):
        load(write("algorithm: ./mine.py:A\n"))


def test_further_checks_join_the_list(write) -> None:
    def check(config: Config, base: Path) -> list[Problem]:
        return [Problem("fleet", f"no fleet {config.fleet!r}")]

    file = write("seed: 1\nfleet: nowhere\n")
    with pytest.raises(ConfigError, match="no fleet 'nowhere'") as caught:
        load(file, checks=[check])
    assert caught.value.problems[0].where == f"{file}:2"


def test_a_message_is_an_aflctl_error_with_exit_code_2(write) -> None:
    with pytest.raises(errors.AflctlError) as caught:
        load(write("sed: 1\n"))
    assert caught.value.exit_code == 2
    assert "hint: did you mean 'seed'" in str(caught.value)


@pytest.mark.cli
def test_a_mistake_loads_neither_torch_nor_numpy(write) -> None:
    code = (
        "import sys; from aflctl.config.load import load\n"
        "try: load(sys.argv[1])\nexcept Exception as e: print(len(e.problems))\n"
        "print(*{m.split('.')[0] for m in sys.modules} & {'torch', 'numpy', 'scipy', 'sklearn'})"
    )
    done = subprocess.run([sys.executable, "-c", code, write(ALL_AT_ONCE)], capture_output=True, text=True)
    assert done.stdout.split() == ["18"], done.stderr
