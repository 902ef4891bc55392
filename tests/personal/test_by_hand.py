"""Every wrapper on two clients and two coordinates, checked with a pencil. See `two` for the world."""

from __future__ import annotations

import pytest
import torch
from fakes import FakeWorld
from quadratic import federation, model

from aflctl.api import Local
from aflctl.builtin.algorithms.fedasync import FedAsync
from aflctl.builtin.algorithms.fedbuff import FedBuff
from aflctl.builtin.personalizations.cfl import AsyncCfl
from aflctl.builtin.personalizations.ditto import Ditto
from aflctl.builtin.personalizations.fedper import FedPer
from aflctl.builtin.personalizations.fedrep import FedRep
from aflctl.builtin.personalizations.ifca import Ifca
from aflctl.builtin.personalizations.lg_fedavg import LgFedAvg
from aflctl.builtin.personalizations.lottery import Lottery
from aflctl.builtin.personalizations.pfedme import PFedMe
from personal.two import Two, personal, play

HALF = FedAsync(alpha=0.5, staleness="constant")


def test_fedper_shares_the_body_only() -> None:
    # t=1: client 0 from (0, 0): (2, 4); x = 1, q_0 = 4.  t=2: from (1, 4): (2.5, 6); x = 1.75, q_0 = 6.
    # t=2.5: client 1 from (0, 0): (-1, -3); x = 0.375, q_1 = -3
    s = play(HALF, FedPer(private=("head",)), 3)
    assert model(s) == pytest.approx([0.375, 0.0])
    assert personal(s, 0) == pytest.approx([0.375, 6.0])
    assert personal(s, 1) == pytest.approx([0.375, -3.0])


def test_private_coordinates_are_not_among_the_uploads() -> None:
    s = play(HALF, FedPer(private=("head",)), 0)
    seen = []
    receive = s.loop.alg.inner.receive

    class Spy(type(s.loop.alg.inner)):  # type: ignore[misc]
        def receive(self, state, update, fleet):  # type: ignore[no-untyped-def]
            seen.append({**update.up})
            return receive(state, update, fleet)

    s.loop.alg.__dict__["inner"] = Spy(**s.loop.alg.inner.model_dump())
    s.play(3)
    # bodies 2, 2.5 and -1 as above, and nothing of 4, 6 and -3
    assert [u["w"].tolist() for u in seen] == [pytest.approx([v]) for v in (2.0, 2.5, -1.0)]
    assert {e.ticket.work.up_bytes for e in s.entries} == {4}
    assert {e.ticket.work.down_bytes for e in s.entries} == {4}


def test_lg_fedavg_is_the_mirror_image() -> None:
    # the head is mixed: 4 -> 2, then client 0 from (2, 2): (3, 5) -> 3.5, then client 1: -3 -> 0.25
    s = play(HALF, LgFedAvg(shared=("head",)), 3)
    assert model(s) == pytest.approx([0.0, 0.25])
    assert personal(s, 0) == pytest.approx([3.0, 0.25])


def test_fedrep_trains_the_head_first_and_then_the_body() -> None:
    # h = 1: q 0 -> 4, then r = 1: s 0 -> 2; x = 1.  Second task from (1, 4): q 6, s 2.5; x = 1.75
    s = play(HALF, FedRep(private=("head",), head_epochs=1), 2, local=Local(lr=0.5, batch_size=1000, epochs=1))
    assert personal(s, 0) == pytest.approx([1.75, 6.0])
    # a head epoch costs (1 + 2/2) / 3 = 2/3 of a full one, here half of all parameters are the head's: (2/3 + 1) / 2
    assert s.entries[0].ticket.work.share == pytest.approx(5 / 6)
    assert s.entries[0].ticket.planned == 2


def test_fedrep_with_momentum_leaves_the_other_half_alone() -> None:
    local = Local(lr=0.1, momentum=0.9, batch_size=1000, epochs=2)
    s = play(HALF, FedRep(private=("head",), head_epochs=2), 1, local=local)
    # head: v = -8, q = 0.8; v = -7.2 - 7.2 = -14.4, q = 2.24.  body alike: 0.4, 1.12, so x = 0.56
    assert personal(s, 0) == pytest.approx([0.56, 2.24])


def test_ditto_pulls_the_personal_model() -> None:
    # lam 1: v 0 -> (2, 4) as w does, since the anchor is 0; x = (1, 2).
    # then from anchor (1, 2): v = (2, 4) - ((2 - 4) + (2 - 1), (4 - 8) + (4 - 2)) / 2 = (2.5, 5); w = (2.5, 5)
    s = play(HALF, Ditto(lam=1.0), 2)
    assert personal(s, 0) == pytest.approx([2.5, 5.0])
    assert model(s) == pytest.approx([1.75, 3.5])
    assert s.entries[0].ticket.work.share == 2.0
    assert s.entries[0].ticket.work.up_bytes == 8


def test_dittos_anchor_is_the_model_that_was_received_however_stale() -> None:
    # client 1 left with (0, 0); until it arrives at t=2.5 the server moved twice. Two steps towards (-2, -6), lam 1:
    # v 0 -> (-1, -3), then -1 - ((-1 + 2) + (-1 - 0)) / 2 = -1 and -3 - ((-3 + 6) + (-3 - 0)) / 2 = -3
    s = play(HALF, Ditto(lam=1.0), 3, local=Local(lr=0.5, batch_size=1000, epochs=2))
    assert s.entries[-1].ticket.client == 1
    assert sum(s.entries[-1].causes.values()) == 2
    assert personal(s, 1) == pytest.approx([-1.0, -3.0])


def test_ditto_records_the_methods_loss() -> None:
    plain, wrapped = play(HALF, None, 3), play(HALF, Ditto(lam=0.7), 3)
    assert [e.stats["loss"] for e in plain.entries] == [e.stats["loss"] for e in wrapped.entries]


def test_pfedme_by_hand() -> None:
    # K = 1, lam 1, rate 0.1: theta = 0.1 (4, 8) = (0.4, 0.8); g = w - theta; w = theta / 2 = (0.2, 0.4); x halves it
    s = play(HALF, PFedMe(lam=1.0, steps=1, rate=0.1), 1)
    assert personal(s, 0) == pytest.approx([0.4, 0.8])
    assert model(s) == pytest.approx([0.1, 0.2])


def test_pfedme_inner_steps() -> None:
    # K = 2: theta (0.4, .) -> 0.4 - 0.1 ((0.4 - 4) + (0.4 - 0)) = 0.72;  w = 0.36, x = 0.18
    s = play(HALF, PFedMe(lam=1.0, steps=2, rate=0.1), 1)
    assert personal(s, 0)[0] == pytest.approx(0.72)
    assert model(s)[0] == pytest.approx(0.18)
    assert s.entries[0].ticket.work.share == 2.0


class Sign(Two):
    """Four weights that may be pruned; everything is always classified right."""

    def __init__(self) -> None:
        super().__init__()
        self.size, self.init = 4, torch.tensor([0.1, -0.2, 0.3, -0.4])
        self.layout = {"body": (slice(0, 4), (2, 2))}

    def logits(self, w, x, present=None):  # type: ignore[no-untyped-def]
        return torch.stack([x.sum(-1) * 0 + 1, x.sum(-1) * 0], -1)


def test_lottery_keeps_half_sends_half_and_leaves_the_rest_to_others() -> None:
    # at the start: accuracy 1 > 0.2, keeps everything > target, so the two smallest (0.1, -0.2) go and 0.3, -0.4 train
    # towards 1: 0.65, 0.3; x mixes these two only: (0.475, -0.05), the others stay as they were
    s = federation(
        HALF, FakeWorld({0: 1}, 1), [[[1.0, 1.0, 1.0, 1.0]]], task=Sign(),
        wraps=[lambda inner, setup: Lottery(prune=0.5, target=0.5).wrap(inner, setup)],
    ).play(1)  # fmt: skip
    assert model(s) == pytest.approx([0.1, -0.2, 0.475, -0.05])
    assert personal(s, 0) == pytest.approx([0.0, 0.0, 0.475, -0.05])
    s.play(1)
    first, second = s.entries
    # dense at first, and one byte for the mask of four bits; by the mask known at dispatch afterwards
    assert (first.ticket.work.down_bytes, first.ticket.work.up_bytes) == (16, 17)
    assert (second.ticket.work.down_bytes, second.ticket.work.up_bytes) == (8, 9)
    # half is kept, which is not above the target: nobody prunes any more
    assert s.trainer.memory[0]["lottery/mask"].tolist() == [0, 0, 1, 1]


def test_ifca_finds_the_model_that_fits() -> None:
    # the first model starts at (1, -1), the second at a draw with the same spread; clients at (4, -4) and (-4, 4) end
    # up with different ones, and each cluster ages by its own updates only
    s = federation(
        FedAsync(alpha=1.0, staleness="constant"), FakeWorld({0: 1, 1: 2.5}, 2), [[[4.0, -4.0]], [[-4.0, 4.0]]],
        init=[1.0, -1.0], wraps=[lambda inner, setup: Ifca(clusters=2).wrap(inner, setup)],
    ).play(40)  # fmt: skip
    assert sorted(s.loop.state.of.values()) == [0, 1]
    assert personal(s, 0) == pytest.approx([4.0, -4.0], abs=0.1)
    assert personal(s, 1) == pytest.approx([-4.0, 4.0], abs=0.1)
    assert sum(s.loop.versions[f"cluster{k}"] for k in (0, 1)) == 40
    assert {tuple(e.tracks) for e in s.entries[-4:]} == {("cluster0",), ("cluster1",)}
    assert all(sum(e.causes.values()) == 0 for e in s.entries[-6:])


def test_cfl_splits_where_updates_disagree() -> None:
    # the model stays near 0 while the updates are +-2 in each coordinate: mean short, norms 2.8
    points = [[[4.0, 4.0]], [[-4.0, -4.0]], [[4.0, 4.0]], [[-4.0, -4.0]]]
    rule = AsyncCfl(eps1=0.5, eps2=1.0, warmup=2, window=5, members=4)
    method = FedBuff(buffer_size=4, staleness="constant")
    times = {c: 1 + c / 100 for c in range(4)}
    s = play(method, rule, 8, points=points, times=times)
    assert s.loop.state.of == {1: 1, 3: 1}
    assert len(s.loop.state.states) == 2
    s.play(60)
    assert personal(s, 0)[0] > 3.5
    assert personal(s, 1)[0] < -3.5
    # both are stale by their own cluster's versions only
    assert s.loop.versions["cluster1"] > 3


def test_cfl_counts_versions_along_a_split() -> None:
    # client 3 is slow: its update leaves at version 0 of cluster 0, arrives after the split and counts for cluster 1,
    # where it is stale by the versions before the split and those of the new cluster since
    points = [[[4.0, 4.0]], [[-4.0, -4.0]], [[4.0, 4.0]], [[-4.0, -4.0]]]
    rule = AsyncCfl(eps1=10.0, eps2=0.1, warmup=1, window=9, members=2)
    s = play(FedAsync(alpha=0.1, staleness="constant"), rule, 2, points=points, times={0: 1, 1: 1.1, 2: 50, 3: 60})
    assert s.loop.state.born == ((0, 0), (0, 2))
    assert s.loop.state.of == {1: 1}


@pytest.mark.parametrize(("window", "clusters"), [(2, 2), (1, 1)])
def test_cfl_compares_updates_within_the_window_only(window: int, clusters: int) -> None:
    # both updates left at version 0; at version 2 they are two versions old
    points = [[[4.0, 4.0]], [[-4.0, -4.0]], [[4.0, 4.0]], [[-4.0, -4.0]]]
    rule = AsyncCfl(eps1=10.0, eps2=0.1, warmup=1, window=window, members=2)
    s = play(FedAsync(alpha=0.1, staleness="constant"), rule, 2, points=points, times={0: 1, 1: 1.1, 2: 50, 3: 60})
    assert len(s.loop.state.states) == clusters


def test_everybody_alone_is_refused_by_tracks_of_tracks() -> None:
    from aflctl.builtin.algorithms.fedat import FedAt
    from aflctl.errors import UserError

    with pytest.raises(UserError, match="has tracks of its own"):
        play(FedAt(tiers=1), Ifca(clusters=2), 1)
