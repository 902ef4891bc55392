"""Text sets: the real readers on small files in the original format."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from aflctl.builtin.datasets.ag_news import AgNews
from aflctl.builtin.datasets.plays import roles_of_plays
from aflctl.builtin.datasets.shakespeare import CHARACTERS, Shakespeare
from aflctl.builtin.datasets.words import SPECIALS, tokens, vocabulary
from aflctl.data import FileDataset
from aflctl.errors import EnvironmentProblem


def prepared(dataset: FileDataset, cache: Path):
    dataset.prepare(cache, download=False)
    return dataset.open(cache)


def raw(cache: Path, key: str) -> Path:
    folder = cache / key / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def test_tokens() -> None:
    assert tokens('The "U.S." said: it\'s (up)!<br />Now;') == [
        "the", "u", ".", "s", ".", "said", "it", "'", "s", "(", "up", ")", "!", "now",
    ]  # fmt: skip


def test_vocabulary_is_by_frequency_then_alphabet_and_counts_the_specials() -> None:
    words = vocabulary([["b", "a", "c", "c"], ["d"]], 7)
    assert words == [*SPECIALS, "c", "a", "b"]


ROWS = [(3, "Oil up", "Oil is up"), (1, "Talks", 'They say \\"no\\"'), (4, "Chip", "chip, chip")]


def write_csv(folder: Path, *, header: bool = False) -> None:
    for name in ("train.csv", "test.csv"):
        with (folder / name).open("w", encoding="utf-8", newline="") as out:
            writer = csv.writer(out, quoting=csv.QUOTE_ALL)
            if header:
                writer.writerow(("Class Index", "Title", "Description"))
            writer.writerows(ROWS)


@pytest.mark.parametrize("header", [False, True])
def test_ag_news_with_and_without_header(header: bool, tmp_path: Path) -> None:
    write_csv(raw(tmp_path, "ag-news"), header=header)
    source = prepared(AgNews(length=8), tmp_path)
    assert source.train.y.tolist() == [2, 0, 3]
    # counts: chip 3, then oil 2 and up 2, then the singles; <cls> oil up oil is up <pad> <pad>
    text = source.train.x[0][0].tolist()
    assert text[0] == 1
    assert text[1] == text[3]
    assert text[2] == text[5]
    assert text[6:] == [0, 0]
    assert source.train.x[0][2].tolist()[:4] == [1, 4, 4, source.train.x[0][2, 3].item()]


def test_ag_news_words_unknown_to_the_training_texts_are_unk(tmp_path: Path) -> None:
    folder = raw(tmp_path, "ag-news")
    (folder / "train.csv").write_text('"1","a b","c"\n')
    (folder / "test.csv").write_text('"2","a z","q"\n')
    assert prepared(AgNews(length=4), tmp_path).test.x[0].tolist() == [[1, 4, 2, 2]]
    leaky = prepared(AgNews(length=4, words_from="all"), tmp_path)
    assert 2 not in leaky.test.x[0].tolist()[0]
    assert prepared(AgNews(length=4, text="title"), tmp_path).train.x[0].tolist() == [[1, 4, 5, 0]]


def test_ag_news_from_ids(tmp_path: Path) -> None:
    # ranks 1, 2, 3; training counts: 3 twice, 1 once, 2 never (the test text has it)
    np.savez(
        raw(tmp_path, "ag-news") / "agnews_tokens_127600.npz",
        flat=np.array([3, 1, 3, 2, 1], np.uint32),
        length=np.array([3, 2], np.uint16),
        label=np.array([2, 0], np.uint8),
        official_test=np.array([0, 1], np.uint8),
    )
    source = prepared(AgNews(length=5), tmp_path)
    assert source.train.x[0].tolist() == [[1, 4, 5, 4, 0]]
    assert source.test.x[0].tolist() == [[1, 2, 5, 0, 0]]
    assert (source.train.y.tolist(), source.test.y.tolist()) == ([2], [0])


@pytest.mark.parametrize("text", ['"1","only a title"\n', '"5","a","b"\n', '"1","a","b"\n"x","a","b"\n'])
def test_a_damaged_csv_is_named_with_its_row(text: str, tmp_path: Path) -> None:
    folder = raw(tmp_path, "ag-news")
    (folder / "train.csv").write_text(text)
    (folder / "test.csv").write_text('"1","a","b"\n')
    with pytest.raises(EnvironmentProblem, match=r"train\.csv, row \d: expected class 1 to 4"):
        AgNews().prepare(tmp_path, download=False)
    assert not list(tmp_path.rglob("*.safetensors*"))


SPEECH = "To be, or not to be, that is the question whether tis nobler in the mind to suffer the slings"


def roles(**texts: str) -> dict[str, str]:
    return {name: "\n".join([text[:10], text[10:20], text[20:]]) for name, text in texts.items()}


def test_shakespeare_windows_targets_and_temporal_split(tmp_path: Path) -> None:
    text = "".join(chr(97 + i % 26) for i in range(60))
    path = raw(tmp_path, "shakespeare") / "shakespeare_by_role.json"
    path.write_text(json.dumps({"play_A": f"{text}\n\n\n", "play_B": f"{text}\n\n\n", "play_C": "too short\n\n"}))
    source = prepared(Shakespeare(length=10, train=0.6), tmp_path)
    rows = source.train.rows
    assert rows is not None
    # 60 characters, windows of 10 and a target: 50 windows; 30 train, then 9 are left out, so 11 test
    assert (len(source.train), len(source.test)) == (60, 22)
    first = "".join(CHARACTERS[i] for i in source.train.x[0][rows[0]])
    assert (first, CHARACTERS[source.train.y[rows[0]]]) == (text[:10], text[10])
    assert np.bincount(source.naturals["role"]).tolist() == [30, 30]
    assert source.test.rows is not None
    begin = int(source.test.rows[0])
    assert begin == 30 + 9
    assert begin > int(rows[29]) + 10 - 1  # no test window shares a character with a training window


def test_shakespeare_stride_and_kept_test_windows(tmp_path: Path) -> None:
    path = raw(tmp_path, "shakespeare") / "shakespeare_by_role.json.gz"
    path.write_bytes(gzip.compress(json.dumps(roles(a=SPEECH * 9, b=SPEECH * 8)).encode()))
    dense, sparse = prepared(Shakespeare(), tmp_path), Shakespeare(stride=5, test_windows=4).open(tmp_path)
    assert len(sparse.test) == 4
    assert abs(len(dense.train) / 5 - len(sparse.train)) < 2
    assert dense.fingerprint != sparse.fingerprint


def test_unknown_characters_become_spaces(tmp_path: Path) -> None:
    path = raw(tmp_path, "shakespeare") / "shakespeare_by_role.json"
    path.write_text(json.dumps(roles(a="é" * 600)))
    assert set(prepared(Shakespeare(), tmp_path).train.y.tolist()) == {CHARACTERS.index(" ")}


PLAYS = """
THE FIRST PLAY


by William Shakespeare


DRAMATIS PERSONAE
  Hamlet. To be,
    or not
    to be.
                     Enter OPHELIA
  OPHELIA. My lord!
  HAMLET. Words.
THE COMEDY OF ERRORS

by William Shakespeare

ACT I. SCENE 1.
AEGEON. Proceed, Solinus,
to procure my fall
<<COPYRIGHT>>
not spoken
DUKE. Merchant of Syracuse.
"""


def test_speaking_roles_of_the_plain_plays() -> None:
    found = roles_of_plays(PLAYS)
    # a stage direction far to the right goes, as in LEAF, to whoever speaks
    spoken = [line.strip() for line in found["THE_FIRST_PLAY_HAMLET"]]
    assert spoken == ["To be,", "or not", "to be.", "Enter OPHELIA", "Words."]
    assert found["THE_FIRST_PLAY_OPHELIA"] == ["My lord!"]
    assert found["THE_COMEDY_OF_ERRORS_AEGEON"] == ["Proceed, Solinus,", "to procure my fall"]
    assert found["THE_COMEDY_OF_ERRORS_DUKE"] == ["Merchant of Syracuse."]
    assert not any("ACT" in role for role in found)


def test_leaf_windows_are_joined_to_their_text(tmp_path: Path) -> None:
    text = SPEECH * 5
    x, y = [text[i : i + 80] for i in range(200)], [text[i + 80] for i in range(200)]
    path = raw(tmp_path, "shakespeare") / "all_data.json"
    path.write_text(json.dumps({"users": ["u"], "user_data": {"u": {"x": x, "y": y}}}))
    source = prepared(Shakespeare(train=0.5), tmp_path)
    assert "".join(CHARACTERS[i] for i in source.train.x[0][0]) == SPEECH[:80]
    broken = {"users": ["u"], "user_data": {"u": {"x": [x[0], x[2]], "y": [y[0], y[2]]}}}
    (raw(tmp_path / "other", "shakespeare") / "all_data.json").write_text(json.dumps(broken))
    with pytest.raises(EnvironmentProblem, match="do not follow each other"):
        prepared(Shakespeare(), tmp_path / "other")


@pytest.mark.parametrize("content", ["[]", '{"a": 1}', "{", "{}"])
def test_json_that_is_no_roles_is_refused(content: str, tmp_path: Path) -> None:
    (raw(tmp_path, "shakespeare") / "shakespeare_by_role.json").write_text(content)
    with pytest.raises(EnvironmentProblem, match="cannot be read"):
        Shakespeare().prepare(tmp_path, download=False)


@pytest.mark.realdata
def test_real_documents_tokenise_to_the_published_ids(real_data: Path) -> None:
    folder = real_data / "agnews"
    names = {int(i): word for i, word in json.loads((folder / "agnews_partial_vocab.json").read_text()).items()}
    with np.load(folder / "agnews_tokens_127600.npz") as found:
        ends = np.cumsum(found["length"].astype(int))
        documents = [d for d, test in zip(np.split(found["flat"], ends[:-1]), found["official_test"]) if test]
    published = {tuple(names.get(int(i)) for i in document) for document in documents}
    known = set(names.values())
    with (folder / "ag_news_csv" / "test.csv").open(encoding="utf-8", newline="") as stream:
        texts = [tokens(f"{row[1]} {row[2]}")[:200] for row in csv.reader(stream)]
    complete = [tuple(text) for text in texts if known.issuperset(text)]
    assert len(complete) > 7000
    assert published.issuperset(complete)


@pytest.mark.realdata
def test_real_roles(real_data: Path, tmp_path: Path) -> None:
    name = "mit_shakespeare_by_role.json.gz"
    shutil.copyfile(real_data / "shakespeare" / name, raw(tmp_path, "shakespeare") / name)
    source = prepared(Shakespeare(), tmp_path)
    assert len(np.unique(source.naturals["role"])) > 1000
    assert len(source.train) > 3_000_000
    assert source.train.x[0].untyped_storage().nbytes() < 50_000_000
