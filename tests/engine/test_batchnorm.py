"""BatchNorm as an option: its running statistics travel, are averaged by the updates' weights, and survive a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tiny import CONFIG, Ran, experiment, plan_of, results, run

from aflctl.engine import run as run_whole
from aflctl.engine.course.drive import Progress
from aflctl.errors import UserError
from aflctl.plugins import registry

SMALL: dict[str, Any] = {"name": "resnet-small", "blocks": [1, 1], "width": 4, "norm": "batch"}
QUICK: dict[str, Any] = {"model": SMALL, "local": {"steps": 2, "batch_size": 16, "lr": 0.05}, "stop": {"updates": 14}}
CHANNELS = 4 + 2 * 4 + 3 * 8  # after conv1; two in the first block; two and the shortcut in the second


def plan(algorithm: Any = "fedbuff", **changes: Any) -> Any:
    return plan_of(algorithm, {**QUICK, **changes})


@pytest.mark.parametrize(
    "algorithm",
    [{"name": "fedbuff", "buffer_size": 3, "weighting": "samples"}, {"name": "fedasync", "alpha": 0.4}, "fedavg"],
    ids=str,
)
def test_statistics_move_by_the_weights_of_the_used_updates(algorithm: Any) -> None:
    # b <- b + sum_i w_i (b_i - b) / max(sum_i w_i, 1) over the updates used since the last version
    x, _, _ = experiment(plan(algorithm))
    expected, open_, versions = x.task.buffers.clone(), [], 0
    commit = x.pool.commit

    def watching(task: int, weight: float | None) -> None:
        open_.append((1.0 if weight is None else weight, x.pool.kept[task][2].clone()))
        commit(task, weight)

    x.pool.commit = watching  # type: ignore[method-assign]
    x.loop.begin()
    while x.loop.used < 14:
        x.loop.peek()
        x.loop.step()
        if x.loop.advances > versions:
            versions = x.loop.advances
            total = sum(w for w, _ in open_)
            expected = expected + sum(w * (b - expected) for w, b in open_) / max(total, 1.0)
            open_.clear()
        torch.testing.assert_close(x.task.buffers, expected, atol=1e-6, rtol=1e-5)
    assert versions > 2
    assert expected.numel() == 2 * CHANNELS
    means, spreads = expected.ne(x.task.init.new_zeros(1)), expected.ne(1.0)
    assert (means & spreads).float().mean() > 0.9  # neither the zeros nor the ones that they started with


def test_stale_statistics_do_not_make_a_variance_negative() -> None:
    # by hand: b = 1 was sent to three, who all see 0.2. The first two make a version: b = 0.2. The third comes late:
    # b stays 0.2, where adding its way from 1 to 0.2 would give -0.6.
    x, _, _ = experiment(plan())
    x.task.buffers = torch.ones_like(x.task.buffers)
    for tasks in ([0, 1], [2]):
        for task in tasks:
            x.pool.kept[task] = (task, {}, torch.full_like(x.task.buffers, 0.2), torch.empty(0))
            x.pool.commit(task, 1.0)
        x.pool.advance()
        torch.testing.assert_close(x.task.buffers, torch.full_like(x.task.buffers, 0.2))


def test_bytes_include_the_statistics() -> None:
    x, _, entries = experiment(plan())
    x.loop.begin()
    while not entries:
        x.loop.peek()
        x.loop.step()
    work = entries[0].ticket.work
    assert work.down_bytes == work.up_bytes == 4 * (x.task.size + 2 * CHANNELS)


def statistics(ran: Ran) -> list[float]:
    return ran.x.task.buffers.tolist()


def test_serial_and_any_number_of_workers_agree_bit_for_bit() -> None:
    serial = run(plan())
    for workers in (1, 3):
        other = run(plan(), "workers", workers)
        assert serial.schedule == other.schedule
        assert results(serial) == results(other)
        assert statistics(serial) == statistics(other)


def test_stacks_are_refused_and_not_picked_by_themselves() -> None:
    with pytest.raises(UserError, match="does not stack"):
        experiment(plan(), "stacked")
    x, _, _ = experiment(plan(), "auto")
    x.pool.executor.close()
    assert x.executor["name"] != "stacked"


FILE: dict[str, Any] = {
    **CONFIG, **QUICK, "algorithm": "fedbuff", "evaluate": {"every": {"updates": 7}}, "engine": {"executor": "serial"},
}  # fmt: skip


def test_the_averaged_statistics_are_what_is_evaluated(tmp_path: Path) -> None:
    """The stored model, put into the plain module, scores what the run recorded; with fresh statistics it does not."""
    done = run_whole(FILE, runs_dir=tmp_path)
    stored = load_file(done.path / "model.safetensors")
    source = registry().load("datasets", "digits")().open(tmp_path)
    module = registry().load("models", "resnet-small")(**{k: v for k, v in SMALL.items() if k != "name"})
    net = module.build(source.spec).eval()
    statistics, at, state = stored.pop("buffers"), 0, {}
    for name, buffer in net.named_buffers():
        if buffer.is_floating_point():
            state[name] = statistics[at : at + buffer.numel()]
            at += buffer.numel()
    assert at == len(statistics)
    x = source.test.x[0].float()
    if source.test.x[0].dtype == torch.uint8:
        x = x / 255
    (image,) = source.spec.modalities
    x = (x - (image.mean or (0.0,))[0]) / (image.std or (1.0,))[0]

    def loss() -> float:
        with torch.no_grad():
            return float(torch.nn.functional.cross_entropy(net(x), source.test.y))

    net.load_state_dict(stored, strict=False)
    fresh = loss()
    net.load_state_dict(state, strict=False)
    assert loss() == pytest.approx(done.summary["final"]["loss"], rel=1e-4)
    assert abs(fresh - loss()) > 1e-3


def test_killed_and_continued_is_equal(tmp_path: Path) -> None:
    config = {**FILE, "checkpoint": {"every": {"updates": 3}}}
    whole = run_whole(config, runs_dir=tmp_path / "whole")

    class Killed(BaseException):
        pass

    def kill(step: Progress) -> None:
        if step.row.update >= 7:
            raise Killed

    with pytest.raises(Killed):
        run_whole(config, runs_dir=tmp_path / "parts", progress=kill)
    parts = run_whole(config, runs_dir=tmp_path / "parts")
    assert "continuing" in parts.note
    assert parts.summary["digests"] == whole.summary["digests"]
    one, other = (load_file(r.path / "model.safetensors") for r in (whole, parts))
    assert torch.equal(one["buffers"], other["buffers"])


def test_three_updates_of_resnet18_with_batch_norm(tmp_path: Path) -> None:
    config = {
        **FILE, "model": {"name": "resnet18", "norm": "batch"}, "local": {"steps": 1, "batch_size": 8, "lr": 0.01},
        "algorithm": {"name": "fedbuff", "buffer_size": 3}, "stop": {"updates": 3},
        "evaluate": {"every": {"updates": 3}, "batch_size": 400},
    }  # fmt: skip
    done = run_whole(config, runs_dir=tmp_path)
    stored = load_file(done.path / "model.safetensors")
    # 64 after conv1, 4 x 64, then per stage c: 4 in the blocks and 1 in the shortcut
    assert stored["buffers"].numel() == 2 * (64 * 5 + 5 * 128 + 5 * 256 + 5 * 512)
    assert done.summary["totals"]["versions"] == 1
    assert done.summary["totals"]["bytes_up"] == 3 * 4 * (
        done.summary["model"]["parameters"] + stored["buffers"].numel()
    )
    assert torch.isfinite(stored["buffers"]).all()
