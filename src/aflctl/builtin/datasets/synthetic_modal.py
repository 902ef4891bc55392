"""Two modalities whose best accuracies, alone and together, are known."""

from __future__ import annotations

from math import erf, sqrt
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from aflctl.api import Dataset, DataSpec, Modality, Samples, Source

Strength = Annotated[float, Field(ge=0, le=100)]


def _phi(z: float) -> float:
    return 0.5 * (1 + erf(z / sqrt(2)))


class SyntheticModal(Dataset):
    """Two Gaussian modalities, `first` and `second`, of two classes; no download, best accuracies in closed form.

        rule sum        y = +-1 equally often;  x_m = y s_m e_m + N(0, I)
        rule product    y = c_1 c_2, c_m = +-1 independent and equally often;  x_m = c_m s_m e_m + N(0, I)

    e_m are unit vectors, s_m is `strength`. Phi is the normal distribution function. For `sum` the best that can be
    done with one modality is Phi(s_m), with both Phi(sqrt(s_1^2 + s_2^2)), which adding linear scores reaches. For
    `product` one modality says nothing (1/2), and the signs of both give Phi(s_1) Phi(s_2) + (1 - Phi(s_1)) (1 -
    Phi(s_2)), which no fusion reaches that adds the modalities' scores.
    """

    rule: Literal["sum", "product"] = Field("sum", description="how the class follows from the modalities")
    strength: tuple[Strength, Strength] = Field((1.0, 1.5), description="s_1 and s_2, distance of the means from 0")
    features: int = Field(8, ge=1, le=10_000, description="length of each modality's input")
    train_samples: int = Field(4000, ge=2, description="size of the training set")
    test_samples: int = Field(4000, ge=2, description="size of the test set")
    seed: int = Field(0, ge=0, description="of the data; not the experiment's seed")

    def best(self) -> dict[str, float]:
        """The best accuracies: `first`, `second` and `both`."""
        a, b = (_phi(s) for s in self.strength)
        if self.rule == "sum":
            return {"first": a, "second": b, "both": _phi(sqrt(sum(s * s for s in self.strength)))}
        return {"first": 0.5, "second": 0.5, "both": a * b + (1 - a) * (1 - b)}

    def open(self, cache: Path) -> Source:
        """Drawn from a stream of its own; `cache` is not used."""
        import numpy as np
        import torch

        from aflctl.data import fingerprint

        dice = np.random.Generator(np.random.Philox(key=[self.seed, 0x6D6F6461]))
        axes = [e / np.linalg.norm(e) for e in dice.standard_normal((2, self.features))]

        def draw(n: int) -> Samples:
            signs = dice.integers(0, 2, (2, n)) * 2 - 1
            if self.rule == "sum":
                signs[1] = signs[0]
            y = (signs[0] if self.rule == "sum" else signs[0] * signs[1]) > 0
            x = tuple(
                torch.from_numpy((np.outer(c * s, e) + dice.standard_normal((n, self.features))).astype(np.float32))
                for c, s, e in zip(signs, self.strength, axes)
            )
            return Samples(x, torch.from_numpy(y.astype(np.int64)))

        train, test = draw(self.train_samples), draw(self.test_samples)
        spec = DataSpec(tuple(Modality(name, (self.features,)) for name in ("first", "second")), 2, ("minus", "plus"))
        print_ = fingerprint(
            f"synthetic-modal {self.model_dump_json()}", {"x": train.x[0].numpy(), "y": test.y.numpy()}
        )
        return Source(spec, train, test, print_)
