"""Scores the global model, on a thread of its own where a core is free for it, so that training goes on meanwhile.

A vector that was handed out never changes (rule 1 of the plug-in API) and the thread has a model of its own, so the
score is the one that the training thread would have found. One evaluation is under way at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import torch

from aflctl.engine.parts.executors import cores
from aflctl.train.evaluate import Score, evaluate

if TYPE_CHECKING:
    from torch import Tensor

    from aflctl.config.schema import Stop
    from aflctl.engine.parts.build import Experiment


class Examiner:
    """`begin` scores a vector and later calls back with the score, in the caller's thread; `settle` waits for that."""

    def __init__(self, x: Experiment, *, personal: bool) -> None:
        """`personal`: whether clients are tested, too."""
        self.x = x
        self._under_way: tuple[Future[Score], Callable[[Score], None]] | None = None
        aside = self.goes_aside(x.plan.config.stop, personal, x.feed.device)
        self._thread = ThreadPoolExecutor(1, "examiner", partial(torch.set_num_threads, 1)) if aside else None
        self._task = x.task.clone() if aside else x.task

    @staticmethod
    def goes_aside(stop: Stop, personal: bool, device: torch.device) -> bool:
        """Whether a thread of its own is worth it, and anything may go on before the score is known."""
        return stop.accuracy is None and not personal and cores() > 1 and device.type == "cpu"

    def begin(self, w: Tensor, then: Callable[[Score], None]) -> None:
        """Scores w [P] with the running statistics of this moment."""
        self.settle()
        buffers = self.x.task.buffers
        if self._thread is None:
            then(self._score(w, buffers))
        else:
            self._under_way = self._thread.submit(self._score, w, buffers), then

    def look(self) -> None:
        """Calls back if a score is there."""
        if self._under_way is not None and self._under_way[0].done():
            self.settle()

    def settle(self) -> None:
        """Waits for what is under way, and calls back."""
        if self._under_way is not None:
            (score, then), self._under_way = self._under_way, None
            then(score.result())

    def close(self) -> None:
        """Ends the thread after what it is doing."""
        if self._thread is not None:
            self._thread.shutdown()

    def _score(self, w: Tensor, buffers: Tensor) -> Score:
        x = self.x
        self._task.buffers = buffers
        return evaluate(self._task, x.feed, w, x.data.test(), x.plan.config.evaluate.batch_size)
