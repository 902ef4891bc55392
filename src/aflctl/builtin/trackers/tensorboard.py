"""TensorBoard, through torch's writer."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from aflctl.errors import EnvironmentProblem

STEP = "update"


class TensorBoard:
    """Scalars for TensorBoard: the step is the number of used updates, the wall clock is virtual time.

    So the horizontal axis WALL (and RELATIVE) shows virtual seconds. Look at them with `tensorboard --logdir runs`.
    Needs the extra `tensorboard`.
    """

    def __init__(self) -> None:
        if find_spec("tensorboard") is None:
            raise EnvironmentProblem("TensorBoard is not installed", hint="pip install 'aflctl[tensorboard]'")
        self._writer: Any = None

    def begin(self, config: Mapping[str, Any], path: Path) -> None:
        import yaml
        from torch.utils.tensorboard import SummaryWriter

        make: Any = SummaryWriter
        self._writer = make(log_dir=str(path))
        shown = yaml.safe_dump(dict(config), sort_keys=False)
        self._writer.add_text("config", "\n".join(f"    {line}" for line in shown.splitlines()), 0, walltime=0.0)

    def metric(self, row: Mapping[str, float | None]) -> None:
        step, seconds = int(row[STEP] or 0), float(row["virtual_s"] or 0.0)
        for name, value in row.items():
            if value is not None and name != STEP:
                group = "progress" if name in ("version", "virtual_s", "samples", "bytes_down", "bytes_up",
                                               "energy_j") else "metrics"  # fmt: skip
                self._writer.add_scalar(f"{group}/{name}", value, step, walltime=seconds)
        self._writer.flush()

    def end(self, summary: Mapping[str, Any]) -> None:
        final, totals = summary.get("final") or {}, summary.get("totals") or {}
        step, seconds = int(final.get(STEP) or 0), float(totals.get("virtual_s") or 0.0)
        staleness = summary.get("staleness") or {}
        for name in ("mean", "p50", "p95", "max"):
            if isinstance(staleness.get(name), int | float):
                self._writer.add_scalar(f"staleness/{name}", staleness[name], step, walltime=seconds)
        self._writer.close()
