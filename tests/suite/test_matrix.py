"""From one file to many configurations: combinations, exclude, include, and mistakes with their places."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aflctl.config.load import load
from aflctl.config.matrix import LIMIT, Drafts, expand, is_matrix
from aflctl.errors import ConfigError, Problem


def labels(source: Any, *sets: str) -> list[str]:
    return [draft.label for draft in expand(source, sets).cells]


def wrong(source: Any, *sets: str) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        expand(source, sets)
    return list(caught.value.problems)


# ---- combinations ----


def test_every_combination_the_last_key_first() -> None:
    found = expand({"matrix": {"algorithm": ["fedavg", "fedasync"], "seed": [0, 1]}})
    assert [draft.label for draft in found.cells][:3] == ["fedavg, seed=0", "fedavg, seed=1", "fedasync, seed=0"]
    assert [(x.config.algorithm.name, x.config.seed) for x in found.loaded] == [
        ("fedavg", 0), ("fedavg", 1), ("fedasync", 0), ("fedasync", 1),
    ]  # fmt: skip


def test_values_may_be_mappings_and_dotted_keys_reach_inside(write: Callable[..., Path]) -> None:
    file = write(
        "matrix:\n"
        "  dataset.partition.alpha: [0.1, 1.0]\n"
        "  algorithm.buffer_size: [3]\n"
        "  algorithm: [fedbuff, {name: ca2fl, cache_commit: flush}]\n"
    )
    found = expand(file)
    assert found.cells[0].label == "alpha=0.1, buffer_size=3, fedbuff"
    assert {x.config.dataset.partition.params["alpha"] for x in found.loaded} == {0.1, 1.0}
    assert {x.config.algorithm.params["buffer_size"] for x in found.loaded} == {3}
    ca2fl = found.loaded[1]
    assert ca2fl.config.algorithm.params["cache_commit"] == "flush"
    assert str(ca2fl.origins["algorithm.cache_commit"]) == f"{file}:9"
    assert str(ca2fl.origins["local.lr"]) == f"{file}:3"


def test_lists_and_nothing_are_values_too() -> None:
    found = expand({"matrix": {"model.hidden": [[8], [8, 8]], "personalization": [None, "fedper"]}})
    assert [x.config.model.params["hidden"] for x in found.loaded] == [[8], [8], [8, 8], [8, 8]]
    assert [len(x.config.personalization) for x in found.loaded] == [0, 1, 0, 1]


def test_without_a_matrix_it_is_one_run() -> None:
    assert labels({"seed": 3}) == ["run"]
    assert not is_matrix({"seed": 3})
    assert is_matrix({"matrix": {}})
    assert is_matrix({"seed": 3}, ["matrix.seed=[1]"])


def test_a_suite_is_called_as_the_file_says_or_as_the_file(write: Callable[..., Path]) -> None:
    assert expand(write("matrix: {seed: [0]}\n")).name == "tiny"
    assert expand(write("name: grand\nmatrix: {seed: [0]}\n")).name == "grand"
    assert expand("poster-digits").name == "poster-digits"


# ---- exclude and include ----

AXES: dict[str, Any] = {
    "algorithm": ["fedavg", {"name": "fedbuff", "buffer_size": 3}, "fedbuff"],
    "dataset.partition.alpha": [0.1, 1.0],
}


@pytest.mark.parametrize(
    ("entry", "left"),
    [
        ({"algorithm": "fedavg"}, 4),
        ({"algorithm": "fedbuff"}, 2),  # a name means every setting of it
        ({"algorithm": {"name": "fedbuff", "buffer_size": 3}}, 4),
        ({"algorithm.buffer_size": 3}, 4),
        ({"algorithm": "fedavg", "dataset.partition.alpha": 0.1}, 5),
        ({"algorithm": "fedavg", "dataset.partition.alpha": [0.1, 1.0]}, 4),  # any of these
        ([{"algorithm": "fedavg"}, {"dataset.partition.alpha": 1}], 2),
    ],
)
def test_exclude(entry: Any, left: int) -> None:
    assert len(expand({"matrix": {**AXES, "exclude": entry}}).cells) == left


def test_include_is_a_small_matrix_of_its_own() -> None:
    matrix = {"algorithm": ["fedavg"], "seed": [0, 1], "include": {"algorithm": "fedasync", "seed": [5, 6]}}
    assert labels({"matrix": matrix}) == ["fedavg, seed=0", "fedavg, seed=1", "fedasync, seed=5", "fedasync, seed=6"]
    assert labels({"matrix": {"include": [{"seed": 1}, {"seed": 2}]}}) == ["seed=1", "seed=2"]


# ---- --set and flags ----


def test_a_set_has_the_last_word_in_every_run_and_equal_runs_are_merged() -> None:
    given = {"matrix": {"algorithm": ["fedavg", "fedasync"], "seed": [0, 1]}}
    found = expand(given, ["algorithm=port", "local.lr=0.5"])
    assert [(x.config.algorithm.name, x.config.seed, x.config.local.lr) for x in found.loaded] == [
        ("port", 0, 0.5), ("port", 1, 0.5),
    ]  # fmt: skip
    assert found.merged == 2
    assert [x.config.seed for x in expand(given, (), {"seed": 7}).loaded] == [7, 7]


def test_a_set_may_change_the_matrix_itself() -> None:
    given = {"matrix": {"dataset.partition.alpha": [0.1], "seed": [0, 1]}}
    sets = ("matrix.seed=[4]", "matrix.dataset.partition.alpha=[2, 3]")
    assert labels(given, *sets) == ["alpha=2, seed=4", "alpha=3, seed=4"]
    (problem,) = wrong(given, "matrix.seed=four")
    assert "list" in problem.message or "JSON" in problem.message


# ---- mistakes ----


def test_all_mistakes_of_all_runs_at_once_with_their_lines(write: Callable[..., Path]) -> None:
    file = write(
        "sed: 4\n"
        "matrix:\n"
        "  algorithm:\n"
        "    - fedavg\n"
        "    - name: fedbuff\n"
        "      bufer_size: 3\n"
        "    - fedbuf\n"
        "  dataset.partiton.alpha: [0.1, 1.0]\n"
        "  local.lr: [0.1, fast]\n"
        "  seed: [0, -1]\n"
    )
    found = {p.path: p for p in wrong(file)}
    assert len(wrong(file)) == len(found) == 6  # each once, however many runs it spoils
    places = {path: str(p.where).rpartition(":")[2] for path, p in found.items()}
    assert places == {
        "sed": "6", "algorithm.bufer_size": "11", "algorithm": "12", "dataset.partiton": "13", "local.lr": "14",
        "seed": "15",
    }  # fmt: skip
    hints = [str(found[path].hint) for path in ("sed", "algorithm.bufer_size", "algorithm", "dataset.partiton")]
    for hint, word in zip(hints, ("seed", "buffer_size", "fedbuff", "partition")):
        assert f"did you mean '{word}'" in hint


@pytest.mark.parametrize(
    ("matrix", "path", "said"),
    [
        ("matrix: [1, 2]", "matrix", "must be a mapping"),
        ("matrix: {seed: 3}", "matrix.seed", "must be a list of values"),
        ("matrix: {seed: []}", "matrix.seed", "must not be empty"),
        ("matrix: {local..lr: [1]}", "matrix.local..lr", "is no key"),
        ("matrix: {matrix.seed: [1]}", "matrix.matrix.seed", "is no key"),
        ("matrix: {seed: [0], exclude: {algorithm: fedavg}}", "matrix.exclude", "takes nothing away"),
        ("matrix: {seed: [0], exclude: [3]}", "matrix.exclude.0", "must be a mapping"),
        ("matrix: {seed: [0], exclude: {seed: 0}}", "matrix", "has no run left"),
        ("matrix: {}", "matrix", "has no run left"),
        ("matrix: {seed: [0]}\nexclude: [{seed: 0}]", "exclude", "belongs inside matrix"),
        ("matrix: {seed: [0, 1, 0]}", "matrix", "comes twice"),
        ("matrix: {algorithm: [fedbuff, {name: fedbuff, buffer_size: 10}]}", "matrix", "comes twice"),
        ("matrix: {clients.concurrency: [3, 30]}", "clients.concurrency", "must be at most clients.count"),
    ],
)
def test_mistakes_of_the_table(write: Callable[..., Path], matrix: str, path: str, said: str) -> None:
    problems = {p.path: p for p in wrong(write(matrix + "\n"))}
    assert said in problems[path].message
    assert ":6" in str(problems[path].where) or ":7" in str(problems[path].where)


def test_exclude_guesses_what_was_meant() -> None:
    matrix: dict[str, Any] = {"algorithm": ["fedavg", "fedasync"]}
    assert "'fedasync'" in str(wrong({"matrix": {**matrix, "exclude": {"algorithm": "fedasinc"}}})[0].hint)
    assert "'algorithm'" in str(wrong({"matrix": {**matrix, "exclude": {"algoritm": "fedavg"}}})[0].hint)


@pytest.mark.parametrize(("typed", "meant"), [("includ", "include"), ("excludes", "exclude")])
def test_include_and_exclude_mistyped(typed: str, meant: str) -> None:
    (problem,) = wrong({"matrix": {"algorithm": ["fedavg", "fedasync"], typed: [{"algorithm": "fedavg"}]}})
    assert problem.path == f"matrix.{typed}"
    assert problem.hint == f"did you mean '{meant}'?"


def test_too_many_runs_are_refused_before_they_are_made() -> None:
    seeds = list(range(200))
    (problem,) = wrong({"matrix": {"seed": seeds, "seeds.data": seeds}})
    assert f"at most {LIMIT:,}" in problem.message


def test_where_one_run_is_wanted_a_matrix_is_refused(write: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write("matrix: {seed: [0, 1]}\n"))
    (problem,) = caught.value.problems
    assert "many runs" in problem.message
    assert str(problem.where).endswith(":6")


def test_a_matrix_loads_no_torch_and_drafts_can_be_sent() -> None:
    code = (
        "import pickle, sys\n"
        "from aflctl.config.matrix import expand\n"
        "found = expand('poster-mnist')\n"
        "again = pickle.loads(pickle.dumps(found.cells[7]))\n"
        "assert again.load().config == found.loaded[7].config\n"
        "print(len(found.cells), 'torch' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["50", "False"]


# ---- presets ----

TEN = {"fedasync", "fedbuff", "aso-fed", "port", "pisces", "asyncdrop", "fedac", "daafl", "fadas", "ca2fl"}


@pytest.mark.parametrize("data", ["mnist", "fashion", "digits", "cifar10", "cifar100"])
def test_the_posters_studies(data: str) -> None:
    plain, personal = expand(f"poster-{data}"), expand(f"poster-{data}-personal")
    for found, methods in ((plain, TEN), (personal, TEN - {"aso-fed"})):
        assert len(found.cells) == 5 * len(methods)
        assert {x.config.algorithm.name for x in found.loaded} == methods
        assert {x.config.seed for x in found.loaded} == {0, 1, 2, 3, 4}
        assert {(x.config.clients.count, x.config.fleet) for x in found.loaded} == {(100, "poster-1-1-1")}
    assert alphas(plain) == {1.0}
    assert alphas(personal) == {0.1}
    assert {len(x.config.personalization) for x in plain.loaded} == {0}
    assert {x.config.personalization[0].name for x in personal.loaded} == {"fedper"}


def alphas(found: Drafts) -> set[float]:
    return {x.config.dataset.partition.params["alpha"] for x in found.loaded}
