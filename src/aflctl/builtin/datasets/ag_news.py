"""AG News."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from aflctl.api import DataSpec, Modality
from aflctl.builtin.datasets.words import CLS, PAD, SPECIALS, UNK, tokens, vocabulary
from aflctl.data import FileDataset, Raw, Stored, Table
from aflctl.data.npz import read_npz

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CLASSES = ("World", "Sports", "Business", "Sci/Tech")
TOKENISED = "agnews_tokens_127600.npz"
PARTS = ("train", "test")


class AgNews(FileDataset):
    """News articles as word ids: 120,000 + 7,600, 4 classes.

    Tokenised by torchtext's "basic English" rules; the vocabulary is ordered by frequency, ties alphabetically, and
    holds <pad> 0, <cls> 1, <unk> 2, <eos> 3. A text is <cls> and its words, cut to `length` and padded on the right.
    Reads the canonical files without a header, the copies with one, and a tokenised copy (arrays `flat` of ids by
    rank, `length`, `label`, `official_test`; ids stand for the words of title and description). Source: Zhang et al.,
    arXiv 1509.01626.
    """

    key: ClassVar[str] = "ag-news"
    shaping: ClassVar[tuple[str, ...]] = ("text", "length", "words", "words_from")

    text: Literal["both", "title"] = Field("both", description="title and description, or the title alone (AFL-Lib)")
    length: int = Field(128, ge=2, le=1024, description="tokens per text; 128 cuts less than 1 % of the texts")
    words: int = Field(32_000, ge=5, description="size of the vocabulary, specials included")
    words_from: Literal["train", "all"] = Field("train", description="texts that are counted; all leaks (AFL-Lib)")

    def needs(self) -> tuple[tuple[str, ...], ...]:
        return (("train.csv", TOKENISED), ("test.csv", TOKENISED))

    def convert(self, raw: Raw) -> Table:
        if raw.find("train.csv") is None:
            return self._from_tokens(raw[TOKENISED])
        read = {part: list(self._rows(raw[f"{part}.csv"])) for part in PARTS}
        texts = {part: [words for _, words in rows] for part, rows in read.items()}
        counted = texts["train"] + (texts["test"] if self.words_from == "all" else [])
        names = vocabulary(counted, self.words)
        ids = {word: i for i, word in enumerate(names)}
        encoded = {part: [[ids.get(word, UNK) for word in words] for words in rows] for part, rows in texts.items()}
        labels = {part: [label for label, _ in rows] for part, rows in read.items()}
        return self._table(encoded, labels, {"vocabulary": names})

    def _rows(self, path: Path) -> Iterator[tuple[int, list[str]]]:
        import csv

        with path.open(encoding="utf-8", newline="") as stream:
            for line, row in enumerate(csv.reader(stream), 1):
                if line == 1 and row and not row[0].strip().isdigit():
                    continue  # a copy with a header
                if len(row) != 3 or row[0] not in ("1", "2", "3", "4"):
                    raise ValueError(f"{path.name}, row {line}: expected class 1 to 4, title and description")
                yield int(row[0]) - 1, tokens(row[1] if self.text == "title" else f"{row[1]} {row[2]}")

    def _from_tokens(self, path: Path) -> Table:
        import numpy as np

        if self.text == "title":
            raise ValueError(f"{path.name} holds titles and descriptions joined; `text: title` needs the CSV files")
        read = read_npz(path, "flat", "length", "label", "official_test")
        flat, length, label = (values.astype(np.int64) for values in read[:3])
        official = read[3].astype(bool)
        if length.sum() != len(flat) or not len(length) == len(label) == len(official):
            raise ValueError(f"{path.name}: the arrays do not fit each other")
        counted = flat if self.words_from == "all" else flat[np.repeat(~official, length)]
        counts = np.bincount(counted, minlength=int(flat.max()) + 1)
        ranked = np.argsort(-counts, kind="stable")  # ties: by the published rank
        ranked = ranked[counts[ranked] > 0][: self.words - len(SPECIALS)]
        ids = np.full(len(counts), UNK)
        ids[ranked] = np.arange(len(ranked)) + len(SPECIALS)
        documents = np.split(ids[flat], np.cumsum(length)[:-1])
        encoded: dict[str, list[Any]] = {"train": [], "test": []}
        for document, test in zip(documents, official):
            encoded["test" if test else "train"].append(document)
        return self._table(encoded, {"train": label[~official], "test": label[official]}, {"vocabulary": []})

    def _table(self, encoded: dict[str, list[Any]], labels: dict[str, Any], notes: dict[str, Any]) -> Table:
        import numpy as np

        arrays: dict[str, NDArray[np.int64]] = {}
        for part in PARTS:
            padded = np.full((len(encoded[part]), self.length), PAD, np.int64)
            padded[:, 0] = CLS
            for row, document in zip(padded, encoded[part]):
                kept = document[: self.length - 1]
                row[1 : len(kept) + 1] = kept
            arrays[f"{part}/x/text"] = padded
            arrays[f"{part}/y"] = np.asarray(labels[part], np.int64)
        return Table(arrays, notes)

    def spec(self, stored: Stored) -> DataSpec:
        return DataSpec((Modality("text", (self.length,), "sequence", vocabulary=self.words),), 4, CLASSES)
