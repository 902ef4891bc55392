"""MIFA: rounds, stepping by the mean of everybody's last update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from aflctl.api import Fleet, Step
from aflctl.builtin.algorithms.fedvarp import FedVarp, TableState
from aflctl.rules import unheard_first


class Mifa(FedVarp):
    """Memory-augmented impatient FL: nobody is waited for, the absent count with what they sent last.

        h_i <- D_i for i in S;   x <- x + opt( sum_j a_j h_j ),   a_j = 1/N or n_j / n

    `wait` (authors' code): until every client was heard once, rounds only fill the table and x stays; clients that
    were never heard are started first. Without it the unheard count as zeros, which pulls towards not moving. Server
    memory: one vector per client. A version is a round that moved x.

    Source: Gu, Huang, Zhang, Huang, Fast Federated Learning in the Presence of Arbitrary Device Unavailability,
    NeurIPS 2021; authors' code. Deviations: none known.

    Presets: Authors: MNIST logistic regression, 100 clients of 2 classes, local {epochs: 2, batch_size: 100, lr: 0.01,
    weight_decay: 0.001}, 200 rounds; CIFAR-10 LeNet lr 0.08, 2000 rounds.
    """

    evidence: ClassVar[str] = "official code read"

    wait: bool = Field(True, description="no step before every client was heard once (authors' code: yes)")

    def select(self, state: TableState, fleet: Fleet) -> Sequence[int]:
        if fleet.flying or not self.wait or len(state.table) == fleet.clients:
            return self.round.select(fleet)
        return unheard_first(state.table, min(fleet.free, self.round.started(fleet)), fleet)

    def _close(self, state: TableState, fleet: Fleet) -> Step[TableState]:
        state.mean.add_(state.acc)
        state.acc.zero_()
        state = replace(state, got=0)
        if self.wait and len(state.table) < fleet.clients:
            return Step(state)
        w, opt = self.server_optimizer.step(state.w, state.mean, state.opt)
        return Step(replace(state, w=w, opt=opt), advanced=True)
