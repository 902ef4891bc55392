"""Every run of a suite as a job of its own on a Slurm cluster, by way of submitit.

Jobs write into the same runs' folder, which all nodes must see. Where a job comes to the end of its time or is
preempted, Slurm starts it again and the run continues from its last checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aflctl.engine.suites.board import Board, Ending
from aflctl.engine.suites.crew import execute
from aflctl.errors import EnvironmentProblem, Interrupted, UserError

if TYPE_CHECKING:
    from aflctl.config.matrix import Draft

FOLDER = "slurm"
LOOK_EVERY_S = 1.0
STOP_WITHIN_S = 60.0
DEFAULTS: Mapping[str, Any] = {"timeout_min": 24 * 60, "cpus_per_task": 1, "name": "aflctl"}


class Task:
    """What a job does: one run. Submitit keeps it in a file, and may call it again in another job."""

    def __init__(self, draft: Draft, root: Path, rerun: bool) -> None:
        self.draft, self.root, self.rerun = draft, root, rerun

    def __call__(self) -> tuple[Any, ...]:
        """The run's Ending as a plain tuple."""
        return tuple(execute(self.draft, self.root, self.rerun))

    def checkpoint(self) -> Any:
        """Asked when the job is about to be stopped: the same run again, which finds its state on disk."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(Task(self.draft, self.root, False))


class Cluster:
    """Submits runs, at most `board.jobs` at a time where that is above 1, and waits for them."""

    def __init__(
        self, drafts: Sequence[Draft], jobs: int, root: Path, rerun: bool, folder: Path, board: Board,
        options: Mapping[str, Any],
    ) -> None:  # fmt: skip
        try:
            import submitit
        except ImportError as error:
            raise EnvironmentProblem(
                "--engine slurm needs submitit, which is not installed", hint="pip install 'aflctl[slurm]'"
            ) from error
        given = {**DEFAULTS, **options}
        cluster = given.pop("cluster", "slurm")
        if cluster == "local":
            given.pop("cpus_per_task")
        try:
            self._executor = submitit.AutoExecutor(folder / FOLDER, cluster=cluster)
            self._executor.update_parameters(**given)
        except (RuntimeError, TypeError, ValueError, NameError) as error:
            hint = "is this a login node of the cluster? --slurm cluster=local tries it out on this machine"
            raise UserError(f"submitit refuses: {str(error).splitlines()[0]}", where="--slurm", hint=hint) from error
        self.drafts, self.root, self.rerun, self.board = drafts, root, rerun, board
        self._most = jobs if jobs > 1 else len(drafts)
        self._jobs: dict[int, Any] = {}

    def run(self, todo: Sequence[int]) -> None:
        """Until all jobs are over; Ctrl-C stops them."""
        waiting = list(todo)
        try:
            while waiting or self._jobs:
                while waiting and len(self._jobs) < self._most:
                    self._submit(waiting.pop(0))
                time.sleep(LOOK_EVERY_S)
                self._look()
        except KeyboardInterrupt:
            self._stop()

    def _submit(self, i: int) -> None:
        self._jobs[i] = self._executor.submit(Task(self.drafts[i], self.root, self.rerun))
        self.board.start(i)

    def _look(self) -> None:
        for i, job in list(self._jobs.items()):
            if job.done():
                self.board.end(i, _ending(job))
                del self._jobs[i]

    def _stop(self) -> None:
        """Asks every job to save its state, and waits for a while."""
        for job in self._jobs.values():
            job.cancel(check=False)
        until = time.monotonic() + STOP_WITHIN_S
        with suppress(KeyboardInterrupt):
            while self._jobs and time.monotonic() < until:
                time.sleep(LOOK_EVERY_S / 4)
                for i, job in list(self._jobs.items()):
                    if job.done(force_check=True):
                        ending = _ending(job)
                        failed = Ending("stopped", code=Interrupted.exit_code)
                        self.board.end(i, failed if ending.state == "failed" else ending)
                        del self._jobs[i]
        for i in self._jobs:
            self.board.end(i, Ending("stopped", code=Interrupted.exit_code))


def _ending(job: Any) -> Ending:
    """How a job's run ended; one without a result died: its task turns every error into a result."""
    try:
        return Ending(*job.result())
    except Exception:  # submitit has many
        state, log = str(job.state).lower(), job.paths.stderr
        return Ending("failed", None, None, 1, f"job {job.job_id} ended without a result ({state}); see {log}")
