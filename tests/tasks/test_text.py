"""Texts from files that the tests write, from a stand-in for Hugging Face's package, and from Python itself."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import numpy as np
import pytest

from unstale import tasks
from unstale.errors import ArgumentError, DataError, UnknownNameError
from unstale.experiments import recipe
from unstale.tasks.corpora import Parts, by_bytes, by_words, local_parts, read_lines, wikitext_parts
from unstale.tasks.streams import Segments

WORDS = [" = Title = \n", " \n", "the cat saw the <unk> dog\n", "the dog\n"]


def written(folder: Path, repeat: int = 1) -> Path:
    for part, lines in (("train", WORDS * repeat), ("valid", ["a cat\n"]), ("test", ["the bird saw the dog\n", "\n"])):
        (folder / f"wiki.{part}.tokens").write_text("".join(lines), "utf-8")
    return folder


def test_words_are_numbered_as_for_wikitext(tmp_path: Path) -> None:
    """<eos> first and at each line's end, then by frequency, of equals the first to appear."""
    train, valid, test, symbols = by_words(wikitext_parts("wikitext-103", written(tmp_path)))
    order = ["<eos>", "the", "=", "dog", "Title", "cat", "saw", "<unk>"]
    number = {word: k for k, word in enumerate(order)}
    assert symbols == len(order)
    wanted = [
        "=",
        "Title",
        "=",
        "<eos>",
        "<eos>",
        "the",
        "cat",
        "saw",
        "the",
        "<unk>",
        "dog",
        "<eos>",
        "the",
        "dog",
        "<eos>",
    ]
    assert train.tolist() == [number[word] for word in wanted]
    assert valid.tolist() == [number[word] for word in ("<unk>", "cat", "<eos>")]
    assert test.tolist() == [number[word] for word in ["the", "<unk>", "saw", "the", "dog", "<eos>", "<eos>"]]


def test_rare_words_are_unknown_and_counted_as_such() -> None:
    lines = ["a a a b b c d e\n"]
    train, _, _, symbols = by_words(Parts(lines, lines, lines), min_count=2)
    assert symbols == 4
    assert train.tolist() == [1, 1, 1, 3, 3, 2, 2, 2, 0], "<eos>, a (3), <unk> (3), b (2)"


def test_bytes_are_the_files_own(tmp_path: Path) -> None:
    path = tmp_path / "text"
    raw = ("Grüße\r\n" * 30).encode()
    path.write_bytes(raw)
    parts = by_bytes(local_parts(path))
    assert b"".join(bytes(part.tolist()) for part in parts[:3]) == raw
    assert parts.symbols == 256


def test_a_file_is_parted_at_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("".join(f"line {k:03}\n" for k in range(200)), "utf-8")
    parts = local_parts(path)
    assert [len(part) for part in parts] == [180, 10, 10]
    assert [*parts.train, *parts.valid, *parts.test] == read_lines(path)


def test_wikitext_is_a_task(tmp_path: Path) -> None:
    task = tasks.wikitext("transformer_xl_tiny", written(tmp_path, 40), streams=2, target=8, memory=4, dropout=0.1)
    symbols, targets = task.batch(task.batches(3, 0).indices(0))
    assert symbols.shape == targets.shape == (3, 8)
    assert (task.train_size, task.test_size) == (40 * 15 - 1, 6)
    assert (task.name, task.model_name, task.score_name) == ("wikitext", "transformer_xl_tiny", "perplexity")
    losses, memory = task.build(0)(symbols, targets)
    assert losses.shape == (3, 8)
    assert memory[0].shape == (2, 3, 4, 64)
    chosen = tasks.wikitext("transformer_xl_tiny", written(tmp_path, 40), streams=2, target=8, score_on="valid")
    assert chosen.test_size == 2
    assert chosen.describe()["test"] != task.describe()["test"]


def test_a_missing_corpus_says_what_to_fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wiki.train.tokens").touch()
    wanted = r"missing: wiki.valid.tokens, wiki.test.tokens; unpack wikitext-103-v1.zip \(181 MB.*root="
    with pytest.raises(DataError, match=wanted):
        tasks.wikitext(root=tmp_path)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"needs the package datasets.*4.3 MB.*unstale\[data\]"):
        tasks.wikitext(corpus="wikitext-2")


def test_hugging_face_gives_the_same_as_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str]] = []

    def load_dataset(path: str, name: str) -> dict[str, dict[str, list[str]]]:
        asked.append((path, name))
        local = wikitext_parts("wikitext-2", written(tmp_path))
        named = zip(("train", "validation", "test"), local, strict=True)
        return {part: {"text": ["" if not line.strip() else line for line in lines]} for part, lines in named}

    module = types.ModuleType("datasets")
    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    found = by_words(wikitext_parts("wikitext-2", None))
    local = by_words(wikitext_parts("wikitext-2", tmp_path))
    assert asked == [("Salesforce/wikitext", "wikitext-2-v1")]
    assert [part.tolist() for part in found[:3]] == [part.tolist() for part in local[:3]]

    def offline(path: str, name: str) -> None:
        raise ConnectionError("no route\nto host")

    module.load_dataset = offline  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"cannot be had from Hugging Face \(no route\); unpack"):
        wikitext_parts("wikitext-2", None)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\xff\xfe\x00a\n" * 99, "must be UTF-8 text"),
        (b"", "must hold text, but it is empty"),
        (b" \n\n", "must hold text, but it is empty"),
        (b"one line only", "must have lines enough"),
        (b"short\n" * 30, "is too short: 162 symbols"),
        (None, "cannot be read"),
    ],
)
def test_hostile_files_are_refused_by_name(tmp_path: Path, raw: bytes | None, message: str) -> None:
    path = tmp_path / "hostile.txt"
    if raw is not None:
        path.write_bytes(raw)
    with pytest.raises(DataError, match=message) as refused:
        tasks.text(root=path)
    assert "hostile.txt" in str(refused.value)
    if raw is not None:
        folder = written(tmp_path)
        (folder / "wiki.train.tokens").write_bytes(raw)
        with pytest.raises(DataError, match=r"tmp|wiki|pytest"):
            tasks.wikitext("transformer_xl_tiny", folder)


def test_a_path_that_no_system_has_is_refused(tmp_path: Path) -> None:
    for make in (tasks.text, tasks.wikitext):
        with pytest.raises(ArgumentError, match="root must be a path, without NUL characters, got"):
            make(root=f"{tmp_path}/a\0b")


def test_the_default_text_is_python_s_reference() -> None:
    task = tasks.text()
    assert 300_000 < task.train_size < 1_000_000
    assert task.chance is not None
    assert 10 < task.chance < 40
    start = bytes(task.batch(np.arange(200)[None])[0][0].tolist()).decode()
    assert "statement" in start


def test_a_python_without_its_reference_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(DataError, match="this Python lacks; pass root= a text file"):
        tasks.text()


def test_text_by_word(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("to be or not to be\nthat is\n" * 200, "utf-8")
    task = tasks.text(root=path, level="word", streams=4, target=8, min_count=2)
    assert task.train_size == 180 * 10 - 1
    sizes = {name: tuple(p.shape) for name, p in task.build(0).named_parameters() if "tables" in name}
    assert sizes == {"embedding.tables.0": (8, 64)}, "<eos>, <unk> and six words"


def test_synthetic_words_are_repeatable_and_as_frequent_as_they_should_be() -> None:
    one, two = (tasks.synthetic_text("transformer_xl_tiny", 1000, 50_000, streams=4, target=8) for _ in range(2))
    assert one.describe() == two.describe()
    assert (
        one.describe() != tasks.synthetic_text("transformer_xl_tiny", 1000, 50_000, 1, streams=4, target=8).describe()
    )
    words = one.batch(np.arange(49_000)[None])[0]
    assert int(words.max()) < 1000
    share = 1 / (np.arange(1000) + 3)
    assert float((words == 0).double().mean()) == pytest.approx((share / share.sum())[0], rel=0.1)


def test_refusals() -> None:
    with pytest.raises(UnknownNameError, match="unknown model 'mlp'"):
        tasks.text("mlp")
    with pytest.raises(ArgumentError, match="level must be one of byte, word"):
        tasks.text(level="char")
    with pytest.raises(ArgumentError, match="corpus must be one of"):
        tasks.wikitext(corpus="wikitext-3")
    with pytest.raises(ArgumentError, match="score_on must be one of test, valid"):
        tasks.text(score_on="train")
    with pytest.raises(ArgumentError, match="streams must be a whole number"):
        tasks.text(streams=0)


def test_the_published_recipe_is_200_000_steps() -> None:
    found = recipe("wikitext", "transformer_xl")
    columns = Segments(103_227_020, found["batch_size"], 150, 64, 0)
    assert round(found["epochs"] * columns.per_epoch) == 200_000
    assert (found["lr"].lr, found["lr"].decay, found["lr"].warmup) == (2.5e-4, "cosine", 0.0)
    assert recipe("text", "transformer_xl_tiny")["batch_size"] == 16
