"""A hook that raises or answers nonsense: HookFailed that names the method, the hook, the client and the moment."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import Count, FakeWorld, Leg, Plain, stage

from aflctl.api import Assignment, Fleet, Setup, Step
from aflctl.errors import HookFailed, UserError


@pytest.mark.parametrize(
    ("chosen", "concurrency", "message"),
    [
        ([0, 1, 2], 2, "select started 3 clients with 2 places free"),
        ([1, 1], 3, r"select named a client twice: \[1, 1\]"),
        ([3], 3, "select named client 3, which is not idle"),  # away
        ([9], 3, "select named client 9, which is not idle"),  # does not exist
        ([-1], 3, "select named client -1, which is not idle"),
    ],
)
def test_select_may_name_idle_clients_once_and_no_more_than_fit(
    chosen: list[int], concurrency: int, message: str
) -> None:
    class Greedy(Plain):
        def select(self, state: Count, fleet: Fleet) -> list[int]:
            return chosen

    world = FakeWorld(dict.fromkeys(range(4), 1), 4, away={3: [(0, 5)]})
    with pytest.raises(HookFailed, match=message) as error:
        stage(Greedy(), world, concurrency=concurrency)
    assert error.value.message.startswith("Greedy.")
    assert error.value.exit_code == 1


def test_select_may_not_name_who_flies() -> None:
    class Again(Plain):
        def select(self, state: Count, fleet: Fleet) -> list[int]:
            return [0]

    s = stage(Again(), FakeWorld({0: 9, 1: Leg(1)}, 2), concurrency=2, begin=False)
    s.loop.begin()

    class Tick(Again):
        def alarm(self, state: Count, fleet: Fleet) -> float | None:
            return fleet.now + 1

    s = stage(Tick(), FakeWorld({0: 9}, 1), concurrency=2)
    with pytest.raises(HookFailed, match="named client 0, which is not idle"):
        s.play(1)


HOOKS = ("init", "select", "assign", "launched", "receive", "lost", "recall", "alarm", "tick")


@pytest.mark.parametrize("hook", HOOKS)
def test_an_exception_names_method_hook_client_and_moment(hook: str) -> None:
    def bomb(self: Any, *args: Any) -> Any:
        raise ZeroDivisionError("no luck")

    body: dict[str, Any] = {hook: bomb}
    if hook == "tick":
        body["alarm"] = lambda self, state, fleet: fleet.now + 0.25
    method = type("Bomb", (Plain,), body)()
    with pytest.raises(HookFailed) as error:
        stage(method, FakeWorld({0: 1, 1: Leg(9, lost=1.5)}, 2), concurrency=2).play(4)
    who = {"receive": " for client 0", "assign": " for client 0", "lost": " for client 1"}.get(hook, "")
    when = {"receive": 1, "lost": 1.5, "recall": 1, "tick": 0.25}.get(hook, 0)
    assert error.value.message == f"Bomb.{hook}{who} at {when:.6f} s raised ZeroDivisionError: no luck"
    assert isinstance(error.value.__cause__, ZeroDivisionError)


def test_an_error_meant_for_the_user_passes_as_it_is() -> None:
    class Choosy(Plain):
        def init(self, setup: Setup, fleet: Fleet) -> Count:
            raise UserError("concurrency 1 only")

    with pytest.raises(UserError, match="concurrency 1 only"):
        stage(Choosy(), FakeWorld({0: 1}, 1))


@pytest.mark.parametrize("hook", ["receive", "lost", "tick"])
def test_a_step_that_is_none(hook: str) -> None:
    body: dict[str, Any] = {hook: lambda self, state, *rest: state}
    if hook == "tick":
        body["alarm"] = lambda self, state, fleet: fleet.now + 0.25
    method = type("Forgot", (Plain,), body)()
    with pytest.raises(HookFailed, match=f"Forgot.{hook} returned Count, not a Step"):
        stage(method, FakeWorld({0: 1, 1: Leg(9, lost=1.5)}, 2), concurrency=2).play(4)


def test_an_assignment_that_is_none() -> None:
    class Bare(Plain):
        def assign(self, state: Count, client: int, fleet: Fleet) -> Any:
            return {"w": None}

    with pytest.raises(HookFailed, match=r"Bare\.assign returned dict, not an Assignment"):
        stage(Bare(), FakeWorld({0: 1}, 1))


def test_an_assignment_without_tracks() -> None:
    class Lost(Plain):
        def assign(self, state: Count, client: int, fleet: Fleet) -> Assignment:
            return Assignment({}, tracks=())

    with pytest.raises(HookFailed, match=r"Lost\.assign for client 0: .*no track"):
        stage(Lost(), FakeWorld({0: 1}, 1))


@pytest.mark.parametrize("at", [0.0, -1.0, 0.4e-9, float("inf"), float("nan")])
def test_an_alarm_must_lie_after_now(at: float) -> None:
    class Now(Plain):
        def alarm(self, state: Count, fleet: Fleet) -> float | None:
            return at

    with pytest.raises(HookFailed, match=r"Now\.alarm"):
        stage(Now(), FakeWorld({0: 1}, 1))


@pytest.mark.parametrize("tracks", [("b",), ("", "b")])
def test_an_update_cannot_count_for_a_track_its_task_did_not_have(tracks: tuple[str, ...]) -> None:
    class Elsewhere(Plain):
        def receive(self, state: Count, update: Any, fleet: Fleet) -> Step[Count]:
            return Step(state, tracks=tracks)

    with pytest.raises(HookFailed, match=r"Elsewhere\.receive.*'b'"):
        stage(Elsewhere(), FakeWorld({0: 1}, 1)).play(1)


def test_advanced_is_a_truth_value_or_a_tuple() -> None:
    class Listed(Plain):
        def receive(self, state: Count, update: Any, fleet: Fleet) -> Step[Count]:
            return Step(state, advanced=["a"])  # type: ignore[arg-type]

    with pytest.raises(HookFailed, match=r"Listed\.receive: `advanced` is \['a'\]"):
        stage(Listed(), FakeWorld({0: 1}, 1)).play(1)
