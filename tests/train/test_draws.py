"""Whether a model draws random numbers is found by trying it, wherever the dropout hides."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aflctl.api import DataSpec, Modality
from aflctl.train.flops import draws

SPEC = DataSpec((Modality("x", (4,)),), 2)


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.dropout(x, 0.5, self.training))  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 2, num_layers=2, dropout=dropout, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x.unsqueeze(-1))[0][:, -1]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("module", "random"),
    [
        (nn.Linear(4, 2), False),
        (nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.0)), False),
        (nn.Sequential(nn.Linear(4, 2), nn.Dropout(0.1)), True),
        (Functional(), True),
        (Recurrent(0.0), False),
        (Recurrent(0.3), True),
        (nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1), True),
    ],
)
def test_dropout_is_found_wherever_it_hides(module: nn.Module, random: bool) -> None:
    before = torch.get_rng_state()
    assert draws(module, SPEC) is random
    assert torch.equal(before, torch.get_rng_state()), "and no global generator has moved"


def test_running_statistics_are_as_before() -> None:
    module = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 2))
    before = {k: v.clone() for k, v in module.state_dict().items()}
    assert not draws(module, SPEC)
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
