"""Availability from files: the three formats, repetition, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aflctl.config.fleet import FleetSpec
from aflctl.errors import ConfigError, UserError
from aflctl.sim.fleet import build_world
from aflctl.sim.world.traces import Trace, read_trace

S = 1_000_000_000
MINUTE = 60 * S


def online(path: Path, client: int, moments: range, **how: Any) -> list[int]:
    """The seconds at which a client is online."""
    trace = Trace(7, read_trace(path, **how))
    return [t for t in moments if trace.state(client, t * S)[0]]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "trace.txt"


def test_plain_csv(file: Path) -> None:
    file.write_text("client,start,end\n0,2,4\n2,0,1.5\n0,6,7\n")
    assert online(file, 0, range(10)) == [2, 3, 6]
    assert online(file, 1, range(10)) == []  # a number without a row is never online
    assert online(file, 2, range(10)) == [0, 1]
    assert online(file, 3, range(10)) == [2, 3, 6]  # more clients than users: from the start again
    assert online(file, 0, range(25), period_s=10) == [2, 3, 6, 12, 13, 16, 22, 23]


def test_columns_may_name_their_unit_and_come_in_any_order(file: Path) -> None:
    file.write_text("start_s, end_s, client\n2, 4, bob\n5, 6, al\n")
    assert online(file, 0, range(9)) == [2, 3]
    assert online(file, 1, range(9)) == [5]


def test_windows_that_touch_are_one(file: Path) -> None:
    file.write_text("client,start,end\n0,0,5\n0,5,9\n")
    assert Trace(7, read_trace(file)).state(0, 0) == (True, 9 * S)


def test_fedscale(file: Path) -> None:
    users = {
        "17": {"duration": 20, "finish_time": 10, "active": [1, 6], "inactive": [3, 8], "model": "x"},
        "4": {"duration": 5, "finish_time": 5, "active": [0], "inactive": [1]},
    }
    file.write_text(json.dumps(users))
    assert online(file, 0, range(22)) == [1, 2, 6, 7, 11, 12, 16, 17, 21]
    assert online(file, 1, range(11)) == [0, 5, 10]


LOG = """2020-01-31 00:00:00\tscreen_lock
2020-01-31 00:01:00\twifi
2020-01-31 00:02:00\tbattery_charged_on
2020-01-31 00:03:00\t87.0%
2020-01-31 00:04:00\tscreen_unlock
2020-01-31 00:05:00\tscreen_lock
2020-01-31 00:06:00\t4G
2020-01-31 00:10:00\tphone_off
"""


def test_flash(file: Path) -> None:
    file.write_text(json.dumps({"a": {"guid": "g", "model": "m", "messages": LOG}}))
    # locked, charging and on WiFi: minutes 2 to 4 and 5 to 6, repeated after 10 minutes
    assert [m // 60 for m in online(file, 0, range(0, 1500, 60))] == [2, 3, 5, 12, 13, 15, 22, 23]


def test_flash_users_share_one_calendar(file: Path) -> None:
    later = LOG.replace("01-31 00", "02-01 08")
    file.write_text(json.dumps({"a": {"messages": LOG}, "b": {"messages": later}}))
    trace = Trace(7, read_trace(file))
    assert trace.state(1, (32 * 60 + 2) * MINUTE) == (True, (32 * 60 + 4) * MINUTE)
    assert trace.state(1, (32 * 60 + 4) * MINUTE)[0] is False


def test_users_at_random_are_a_draw_of_each_client(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("client,start,end\n" + "".join(f"{c},{10 * c},{10 * c + 10}\n" for c in range(10)))
    spec = {"devices": {"jetson-nano": 1}, "networks": {"wifi": 1}}
    availability = {"name": "trace", "path": "t.csv", "assignment": "random"}
    world, more = (build_world(FleetSpec(**spec, availability=availability), n, 0, tmp_path) for n in (300, 301))
    first = [next(u for u in range(10) if world.online(c, (10 * u + 5) * S)) for c in range(300)]
    assert set(first) == set(range(10))
    assert first == [next(u for u in range(10) if more.online(c, (10 * u + 5) * S)) for c in range(300)]


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("client,start,end\n0,0,5\n0,4,9\n", 3, "client 0: windows overlap: 4 to 9 and 0 to 5"),
        ("client,start,end\n0,6,9\n1,0,1\n0,0,5\n", 4, "client 0: windows are not in order: 0 comes after 6"),
        ("client,start,end\n0,5,5\n", 2, "client 0: a window must end after it starts"),
        ("client,start,end\n0,-5,5\n", 2, "at or after 0: -5 to 5"),
        ("client,start,end\n0,nan,5\n", 2, "a window must end after it starts"),
        ("client,start,end\n0,x,5\n", 2, "two numbers of seconds are expected, not '0,x,5'"),
        ("client,begin,end\n0,1,5\n", 1, "the columns client, start, end are expected, not client, begin, end"),
        ("client,start,end\n", 1, "no window in the file"),
        ('{\n"1": {"active": [1], "inactive": [2], "finish_time": 9},\n'
         '"7": {"active": [5, 4], "inactive": [6, 7], "finish_time": 9}}', 3, "7.active[1]: windows are not in order"),
        ('{"7": {"active": [1, 2], "inactive": [3, 4], "finish_time": 9}}', 1, "7.active[1]: windows overlap"),
        ('{"7": {"active": [1], "inactive": [30], "finish_time": 9}}', 1, "ends at 30, after finish_time 9"),
        ('{"7": {"active": [1], "inactive": [], "finish_time": 9}}', 1, "7.inactive: 0 ends for 1 starts"),
        ('{"7": {"active": [1], "inactive": [2], "finish_time": 0}}', 1, "7.finish_time: must be above 0"),
        ('{"7": {"active": [1]}}', 1, "7: active and inactive (lists of seconds) and finish_time"),
        ('{"7": 3}', 1, "7: an object is expected"),
        ('{"a": {"messages": "2020-01-31 00:00:00 wifi"}}', 1, "line 1 of the log is not a time, a tab and an event"),
        ('{"a": {"messages": "2020-01-31 00:00:05\\twifi\\n2020-01-31 00:00:04\\twifi"}}', 1,
         "line 2 of the log goes back in time"),
        ('{"a": {"messages": "2020-01-31 00:00:05\\twifi\\n2020-01-31 00:00:06\\tdance"}}', 1, "unknown event 'dance'"),
    ],
)  # fmt: skip
def test_mistakes_name_file_line_and_user(file: Path, text: str, line: int, message: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        read_trace(file)
    assert f"trace.txt:{line}: " in str(error.value)
    assert message in str(error.value)
    assert error.value.exit_code == 2


def test_files_that_are_none(file: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_trace(file)
    file.write_text('{"a": ')
    with pytest.raises(UserError, match="not valid JSON"):
        read_trace(file)
    file.write_text("{}")
    with pytest.raises(UserError, match="one entry per user"):
        read_trace(file)


def test_a_window_beyond_the_period(file: Path) -> None:
    file.write_text("client,start,end\n0,0,50\n")
    with pytest.raises(ConfigError, match="the window ends at 50, after the period of 20 s"):
        read_trace(file, period_s=20)


def test_a_client_too_far_is_refused_before_room_is_made_for_it(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("client,start_s,end_s\n0,0,10\n99999999999999999999,0,3\n")
    with pytest.raises(ConfigError, match="at most 7 digits, not 9999"):
        read_trace(file)
