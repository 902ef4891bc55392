"""The conformance kit: does a plug-in keep the rules that its users and the engine rely on?

    from aflctl.testing import parametrize_checks
    from my_package import FedMine

    test_conformance = parametrize_checks([FedMine, FedMine(lr=0.1)])

Each check runs the plug-in on a toy federation, through the real loop and the real trainer, in well under a second.
`check_algorithm(FedMine)` and its siblings return a list of results instead; `aflctl plugin check` prints them.
Loads torch only when a check is made. docs/reference/plugin-kit.md says what each check asserts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aflctl.errors import UserError
from aflctl.plugins import BASES
from aflctl.testing.results import Check, CheckResult, Failed, Skipped, Status, bind, run

if TYPE_CHECKING:
    from aflctl.api import DataSpec, Fusion

__all__ = [
    "Check", "CheckResult", "Failed", "Skipped", "Status", "check_algorithm", "check_dataset", "check_fusion",
    "check_model", "check_partition", "check_personalization", "check_plugin", "check_profile", "check_selection",
    "checks_of", "kind_of", "parametrize_checks",
]  # fmt: skip

Target = Any
Settings = Mapping[str, Any]


def kind_of(target: Target) -> str:
    """The kind of a plug-in's class, object or file: 'algorithms', 'models', ... or 'profiles'."""
    if isinstance(target, str | Path):
        return "profiles"
    from aflctl import api

    cls = target if isinstance(target, type) else type(target)
    for kind, base in BASES.items():
        if issubclass(cls, getattr(api, base)):
            return kind
    raise UserError(
        f"{cls.__name__} is no plug-in", hint=f"a plug-in extends one of aflctl.api: {', '.join(BASES.values())}"
    )


def checks_of(
    target: Target,
    *,
    params: Settings | None = None,
    expected_failures: Mapping[str, str] | None = None,
    title: str | None = None,
    **more: Any,
) -> list[Check]:
    """The checks of a class, an object, or a path of profiles, not yet run.

    params               parameters of the plug-in; an object has them already
    expected_failures    check -> why it may fail; one that passes after all fails
    more                 `variants`: further parameters in which a parameter may matter that has no effect otherwise;
                         for methods `claims`; for datasets `cache`; for models `spec` and `fusion`

    A class may say `expected_failures`, `variants` and `claims` of itself in a class variable `conformance`, a mapping
    with these keys, which is not inherited; then `aflctl plugin check` knows them too.
    """
    kind = kind_of(target)
    if kind == "profiles":
        from aflctl.testing import profiles

        path = Path(target)
        bench: Any = profiles.Bench(path.parent if path.is_file() else path, path if path.is_file() else None)
        return bind(title or path.name, profiles.CHECKS, bench, expected_failures)
    cls = target if isinstance(target, type) else type(target)
    settings = dict(params or {})
    if not isinstance(target, type):
        settings = {**{name: getattr(target, name) for name in target.model_fields_set}, **settings}
    said: Mapping[str, Any] = vars(cls).get("conformance", {})
    expected = {**said.get("expected_failures", {}), **(expected_failures or {})}
    for word in ("variants", "claims"):
        if word in said and (word == "variants" or kind == "algorithms"):
            more[word] = [*more.get(word, ()), *said[word]]
    bodies, bench = _bench(kind, cls, settings, more)
    return bind(title or cls.__name__, bodies, bench, expected)


def _bench(kind: str, cls: type[Any], settings: dict[str, Any], more: dict[str, Any]) -> tuple[Any, Any]:
    if kind == "algorithms":
        from aflctl.testing import algorithms, bench

        return algorithms.CHECKS, bench.bench_of(cls, settings, **more)
    if kind == "personalizations":
        from aflctl.testing import personalizations

        return personalizations.CHECKS, personalizations.bench_of(cls, settings, **more)
    if kind == "selections":
        from aflctl.testing import selections

        return selections.CHECKS, selections.Bench(cls, settings, **more)
    if kind in ("models", "fusions"):
        from aflctl.testing import models

        if kind == "models":
            return models.MODEL_CHECKS, models.Bench(cls, settings, **more)
        return models.FUSION_CHECKS, models.FusionBench(cls, settings, **more)
    from aflctl.testing import data

    return data.DATASET_CHECKS if kind == "datasets" else data.PARTITION_CHECKS, data.Bench(cls, settings, **more)


def check_plugin(target: Target, **how: Any) -> list[CheckResult]:
    """The results for a plug-in of any kind; see `checks_of` for `how`."""
    return run(checks_of(target, **how))


def check_algorithm(
    method: Target,
    *,
    variants: Sequence[Settings] = (),
    claims: Sequence[str] = (),
    expected_failures: Mapping[str, str] | None = None,
    **params: Any,
) -> list[CheckResult]:
    """A method, its class or an object. `claims=["single-client"]`: with one client it is that client's training."""
    return _of("algorithms", method, params, expected_failures, variants=variants, claims=claims)


def check_personalization(
    wrapper: Target,
    *,
    variants: Sequence[Settings] = (),
    expected_failures: Mapping[str, str] | None = None,
    **params: Any,
) -> list[CheckResult]:
    """A personalization, around methods that every installation has."""
    return _of("personalizations", wrapper, params, expected_failures, variants=variants)


def check_selection(
    selection: Target, *, expected_failures: Mapping[str, str] | None = None, **params: Any
) -> list[CheckResult]:
    """A selection."""
    return _of("selections", selection, params, expected_failures)


def check_dataset(
    dataset: Target,
    *,
    cache: Path | None = None,
    expected_failures: Mapping[str, str] | None = None,
    **params: Any,
) -> list[CheckResult]:
    """A dataset, from the files in `cache` (default: the data folder); nothing is downloaded."""
    return _of("datasets", dataset, params, expected_failures, cache=cache)


def check_partition(
    partition: Target, *, expected_failures: Mapping[str, str] | None = None, **params: Any
) -> list[CheckResult]:
    """A partition."""
    return _of("partitions", partition, params, expected_failures)


def check_model(
    model: Target,
    *,
    spec: DataSpec | None = None,
    fusion: Fusion | None = None,
    expected_failures: Mapping[str, str] | None = None,
    **params: Any,
) -> list[CheckResult]:
    """A model, built for `spec` or for the first of the kit's data that it can read."""
    return _of("models", model, params, expected_failures, spec=spec, fusion=fusion)


def check_fusion(
    fusion: Target, *, expected_failures: Mapping[str, str] | None = None, **params: Any
) -> list[CheckResult]:
    """A fusion."""
    return _of("fusions", fusion, params, expected_failures)


def check_profile(path: str | Path, *, expected_failures: Mapping[str, str] | None = None) -> list[CheckResult]:
    """A profile file, or a folder with devices, networks, availability and fleets."""
    return check_plugin(path, expected_failures=expected_failures)


def _of(
    kind: str, target: Target, params: Settings, expected: Mapping[str, str] | None, **more: Any
) -> list[CheckResult]:
    found = kind_of(target)
    if found != kind:
        raise UserError(f"this is one of the {found}, not of the {kind}", hint=f"use check_{found.removesuffix('s')}")
    return check_plugin(target, params=params, expected_failures=expected, **more)


def parametrize_checks(
    targets: Iterable[Target], *, expected_failures: Mapping[str, str] | None = None, **how: Any
) -> Callable[[Check], None]:
    """A test function for pytest, one case per target and check: `test_conformance = parametrize_checks([FedMine])`."""
    import pytest

    cases = [case for target in targets for case in checks_of(target, expected_failures=expected_failures, **how)]

    @pytest.mark.parametrize("check", cases, ids=[case.id for case in cases])
    def test(check: Check) -> None:
        check()

    return test
