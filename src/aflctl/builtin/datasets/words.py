"""Text to token ids: the "basic English" rules and a vocabulary ordered by frequency."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

PAD, CLS, UNK, EOS = range(4)
SPECIALS = ("<pad>", "<cls>", "<unk>", "<eos>")
_APART = re.compile(r"(['.,()!?])")
_BLANK = re.compile(r"<br />|[;:]")


def tokens(text: str) -> list[str]:
    """Lower case; spaces round `' . , ( ) ! ?`; double quotes deleted; `<br />`, `;` and `:` become spaces."""
    return _BLANK.sub(" ", _APART.sub(r" \1 ", text.lower()).replace('"', "")).split()


def vocabulary(documents: Iterable[Sequence[str]], size: int) -> list[str]:
    """The four specials and the most frequent words, ties in alphabetical order; at most `size` in all."""
    counts: Counter[str] = Counter()
    for document in documents:
        counts.update(document)
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    return [*SPECIALS, *ranked[: size - len(SPECIALS)]]
