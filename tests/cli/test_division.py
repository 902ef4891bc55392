"""A partition as text: numbers where they fit, characters that grow where they do not."""

from __future__ import annotations

import numpy as np
import pytest

from aflctl.cli.division import lines


def test_numbers_under_names() -> None:
    assert lines(np.array([[3, 0], [10, 1]]), ("cat", "dog"), 80) == [
        "client  samples  cat  dog",
        "     0        3    3    0",
        "     1       11   10    1",
    ]


def test_names_that_do_not_fit_become_positions_with_a_legend() -> None:
    assert lines(np.array([[3, 0]]), ("a long name", "dog"), 30) == [
        "client  samples  0  1",
        "     0        3  3  0",
        "classes: 0 a long name, 1 dog",
    ]


def test_bubbles_where_numbers_do_not_fit() -> None:
    # 30 columns: 17 for the head, 13 for 26 classes, so two to a column; the largest pair has 100
    counts = np.zeros((2, 26), np.int64)
    counts[0, 0], counts[0, 1], counts[0, 25] = 60, 40, 1
    counts[1, 2] = 16  # sqrt(16 / 100) = 2 of 5 steps
    shown = lines(counts, [str(k) for k in range(26)], 30)
    assert shown[:3] == ["client  samples  0         20", "     0      101  @           .", "     1       16   :"]
    assert " ".join(shown[3:]) == (
        "a column is 2 classes, as numbered; samples: . up to 4, : up to 16, o up to 36, O up to 64, @ up to 100"
    )


@pytest.mark.parametrize(("clients", "said"), [(21, "... and 1 more client"), (25, "... and 5 more clients")])
def test_many_clients_are_cut(clients: int, said: str) -> None:
    shown = lines(np.ones((clients, 2), np.int64), ("a", "b"), 80)
    assert len(shown) == 22
    assert shown[-1] == said


@pytest.mark.parametrize(("classes", "width"), [(10, 80), (47, 80), (100, 80), (200, 80), (1000, 60)])
def test_no_line_is_wider_than_asked(classes: int, width: int) -> None:
    counts = np.random.default_rng(0).integers(0, 5000, (30, classes))
    assert max(map(len, lines(counts, [f"class {k}" for k in range(classes)], width))) <= width
