"""A run directory as an object: documents as dictionaries, records as tables, everything read when it is asked for."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

from aflctl.errors import RunDirError
from aflctl.runs.records import Columns, read_rows
from aflctl.runs.rundir import FORMAT, Status, is_run, read_json, status


class Run:
    """One run, finished or not.

    `metrics`, `updates`, `clients` and `staleness` are pandas DataFrames where pandas is installed, else `Columns`
    (column name -> list of values); `columns(file)` is always the latter.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        """The directory's own name."""
        return self.path.resolve().name

    @cached_property
    def status(self) -> Status:
        """`running`, `done`, `failed`, `interrupted` or `unreadable`, as the files tell it."""
        return status(self.path)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The resolved configuration."""
        import yaml

        path = self.path / "config.yaml"
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            document = yaml.load(path.read_bytes(), Loader=loader)
        except OSError as error:
            raise RunDirError(f"cannot be read ({error.strerror or error})", where=str(path)) from error
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise RunDirError(f"not readable YAML: {str(error).splitlines()[0]}", where=str(path)) from error
        if not isinstance(document, dict):
            raise RunDirError("not a configuration", where=str(path))
        return document

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The results; empty while there are none."""
        return self._document("summary.json")

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Where the run comes from; empty while it is not written."""
        return self._document("provenance.json")

    @cached_property
    def exit(self) -> dict[str, Any]:
        """How a run that did not finish ended; empty where it was killed or is done."""
        return self._document("exit.json")

    def _document(self, name: str) -> dict[str, Any]:
        path = self.path / name
        if not path.exists():
            return {}
        document = read_json(path)
        if document is None:
            raise RunDirError("damaged: not a JSON object", where=str(path))
        found = document.get("format", FORMAT)
        if not isinstance(found, int) or found > FORMAT:
            raise RunDirError(
                f"made by a newer aflctl: it has format {found}, this one reads {FORMAT}",
                where=str(path),
                hint="upgrade aflctl: pip install --upgrade aflctl",
            )
        return document

    def columns(self, name: str) -> Columns:
        """The table in `<name>.csv`."""
        return read_rows(self.path / f"{name}.csv")

    @cached_property
    def metrics(self) -> Any:
        """A row per evaluation."""
        return self._frame("metrics")

    @cached_property
    def updates(self) -> Any:
        """A row per task."""
        return self._frame("updates")

    @cached_property
    def clients(self) -> Any:
        """A row per client that took part."""
        return self._frame("clients")

    @cached_property
    def staleness(self) -> Any:
        """The staleness histogram, in all and by device class and cause."""
        return self._frame("staleness")

    def _frame(self, name: str) -> Any:
        table = self.columns(name)
        try:
            import pandas
        except ImportError:
            return table
        return pandas.DataFrame(dict(table))

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"


def load_run(path: str | Path) -> Run:
    """The run in a directory. A run that was made by a newer format is refused."""
    folder = Path(os.path.expanduser(path))
    if not folder.is_dir():
        raise RunDirError("there is no such run directory", where=str(path), hint="see them with: aflctl list runs")
    if not is_run(folder):
        raise RunDirError("not a run directory: it has no config.yaml", where=str(path))
    run = Run(folder)
    run.provenance, run.summary  # noqa: B018 - a newer format shows here
    return run
