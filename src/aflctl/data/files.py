"""A dataset that comes in files: converts the originals once, then opens the converted file."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from aflctl.api import Dataset, Samples, Source
from aflctl.data.catalog import Listing, catalog
from aflctl.data.raw import Raw
from aflctl.errors import AflctlError, DataMissing, DiskProblem, EnvironmentProblem

if TYPE_CHECKING:
    from aflctl.api import DataSpec
    from aflctl.data.store import Stored, Table


MOST_NAMES = 4
MOST_TEXT = 300


class FileDataset(Dataset):
    """Base of datasets in files. Below `<data folder>/<key>/`: originals in `raw/`, and one converted file.

    key       name of the folder and of the entry in the catalog
    shaping   names of the fields on which the converted file depends
    revision  raised when `convert` changes what it writes
    """

    key: ClassVar[str]
    shaping: ClassVar[tuple[str, ...]] = ()
    revision: ClassVar[int] = 1

    @classmethod
    def listing(cls) -> Listing:
        """What the catalog says; override in datasets that ship outside this package."""
        return catalog()[cls.key]

    def needs(self) -> tuple[tuple[str, ...], ...]:
        """Raw files that `convert` reads: for each, the names under which it may lie."""
        return tuple((f.name,) for f in self.listing().originals() if not f.provides)

    def published(self) -> tuple[int, ...]:
        """(training, test) samples of the complete set with these parameters; empty = not known."""
        return self.listing().samples

    @abstractmethod
    def convert(self, raw: Raw) -> Table:
        """Parses the original files, checks their content, and returns plain arrays.

        The note `left out`, a list of texts, says which samples could not be read.
        """

    @abstractmethod
    def spec(self, stored: Stored) -> DataSpec:
        """Shapes, classes and normalisation."""

    # ---- the plug-in's hooks ----
    def prepare(self, cache: Path, *, download: bool) -> None:
        """Converts what lies in `raw/`, fetching what is missing when `download`; nothing where that was done.

        A converted file that is there is compared with its fingerprint, and made anew where it differs.
        """
        from aflctl.data import store
        from aflctl.data.disk import alone
        from aflctl.data.fetch import tell

        if store.intact(self.stored_at(cache), self.how()):
            return
        with alone(cache / self.key, lambda: tell(f"waiting for another process that prepares {self.key}", 0, 0)):
            if store.intact(self.stored_at(cache), self.how()):
                return
            raw = Raw(cache / self.key, self.listing())
            raw.tidy()
            self._gather(raw, cache, download)
            store.write(self.stored_at(cache), self._converted(raw), self.how())

    def _gather(self, raw: Raw, cache: Path, download: bool) -> None:
        missing = [names for names in self.needs() if raw.find(*names) is None]
        for names in missing:
            if raw.find(*names) is None and not raw.obtain(names, download=download):
                raise self.absent(cache, [n for n in missing if raw.find(*n) is None], raw.extra)

    def _converted(self, raw: Raw) -> Table:
        from textwrap import shorten

        from aflctl.data.disk import disk_problem

        try:
            return self.convert(raw)
        except AflctlError:
            raise
        except MemoryError as error:
            raise EnvironmentProblem(f"{self.key}: not enough memory to convert the files in {raw.folder}") from error
        except Exception as error:  # foreign bytes through foreign parsers: zlib.error, BadZipFile, struct.error, ...
            if isinstance(error, OSError) and error.errno in DiskProblem.FULL:
                problem = disk_problem(error, raw.home)
                if problem is not None:
                    raise problem from error
            if isinstance(error, PermissionError):
                hint = "give yourself the right to read it"
            else:
                hint = "delete the damaged file and prepare the dataset again"
            said = shorten(str(error) or type(error).__name__, MOST_TEXT)
            where = raw.extra or raw.folder
            raise EnvironmentProblem(f"{self.key}: a file in {where} cannot be read: {said}", hint=hint) from error

    def open(self, cache: Path) -> Source:
        """The converted file, mapped; DataMissing with the command that makes it."""
        from aflctl.data import store

        stored = store.read(self.stored_at(cache), self.how())
        if stored is None:
            raise self.absent(cache, [])
        return self.source(stored)

    def source(self, stored: Stored) -> Source:
        """The opened file as a Source; override where samples are not rows of one array."""
        spec = self.spec(stored)
        tensors = stored.tensors

        def part(name: str) -> Samples:
            return Samples(tuple(tensors[f"{name}/x/{m.name}"] for m in spec.modalities), tensors[f"{name}/y"].long())

        return Source(spec, part("train"), part("test"), stored.fingerprint, naturals_of(stored))

    # ---- places ----
    def state(self, cache: Path) -> str:
        """One word for a list of datasets.

        prepared     the converted file is there
        damaged      it is there and cannot be opened
        outdated     it is there and another version of aflctl made it
        downloaded   the originals are there and not converted
        absent       they are not
        """
        from aflctl.data import store

        path = self.stored_at(cache)
        if path.is_file():
            notes = store.peek(path)
            if notes is None:
                return "damaged"
            return "prepared" if notes.get("how") == self.how() else "outdated"
        raw = Raw(cache / self.key, self.listing())
        return "downloaded" if all(raw.find(*names) or raw.archive(names) for names in self.needs()) else "absent"

    def others(self, cache: Path) -> list[str]:
        """The parameters of other converted files that are there, as `batches=1`."""
        import json

        from aflctl.data import store

        found = []
        for path in sorted((cache / self.key).glob(f"{self.key}-*.safetensors")):
            _, _, chosen = (store.peek(path) or {}).get("how", "").partition("{")
            values = json.loads("{" + chosen) if chosen else {}
            changed = [f"{k}={v}" for k, v in values.items() if k in self.shaping and v != self._default(k)]
            found.append(" ".join(changed) or path.stem)
        return found

    def how(self) -> str:
        """What the converted file depends on."""
        import json

        chosen = {name: getattr(self, name) for name in self.shaping}
        return f"{self.key} r{self.revision} {json.dumps(chosen, sort_keys=True, default=str)}"

    def stored_at(self, cache: Path) -> Path:
        """The converted file of these parameters."""
        changed = [f"{n}-{getattr(self, n)}" for n in self.shaping if getattr(self, n) != self._default(n)]
        name = "-".join([self.key, *changed]).replace("/", "_").replace(" ", "")
        return cache / self.key / f"{name}.safetensors"

    def command(self) -> str:
        """The command that makes the converted file of these parameters."""
        changed = [n for n in self.shaping if getattr(self, n) != self._default(n)]
        return " ".join([f"aflctl data prepare {self.key}", *(f"--set {n}={_json(getattr(self, n))}" for n in changed)])

    def by_hand(self, cache: Path) -> str:
        """Which files people download themselves, where from, and where they go."""
        listing = self.listing()
        outer = listing.originals()
        kinds = ([f for f in outer if f.urls], [f for f in listing.files if f.urls], outer)
        names = [f.name for f in next((kind for kind in kinds if kind), [])]
        source = "; ".join(
            text for text in (f"from {listing.homepage}" if listing.homepage else "", listing.manual) if text
        )
        return f"put {_few(names) or 'the files'} ({source}) into {cache / self.key / 'raw'}"

    def absent(self, cache: Path, missing: list[tuple[str, ...]], looked: Path | None = None) -> DataMissing:
        """The error that names the command and the folder for files downloaded by hand."""
        listing = self.listing()
        names = [alternatives[0] for alternatives in missing]
        archives = " or ".join(f.name for f in listing.bringing(*names))
        lacking = f"; missing: {_few(names)}" + (f" (in {archives})" if archives else "") if missing else ""
        also = f", nor are its files in {looked}" if looked else ""
        if not missing and self.stored_at(cache).is_file():
            also += "; the converted file there was made by another version"
        if listing.fetchable:
            hint = f"run: {self.command()}; where that cannot download, {self.by_hand(cache)} first"
        else:
            hint = f"no program can fetch it: {self.by_hand(cache)}, then run: {self.command()}"
        return DataMissing(f"dataset {self.key} is not prepared in {cache / self.key}{also}{lacking}", hint=hint)

    def _default(self, name: str) -> Any:
        return type(self).model_fields[name].default


def _few(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _json(value: object) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value)


def naturals_of(stored: Stored) -> dict[str, Any]:
    """Column -> [n] int64 owner of each training sample."""
    return {
        name.removeprefix("natural/"): tensor.long().numpy()
        for name, tensor in stored.tensors.items()
        if name.startswith("natural/")
    }
