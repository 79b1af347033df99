"""What fairseq-generate prints: each row's own reference, one line for each text, a score that says what it counted."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import sacrebleu
from commands import finetune_arguments, generate, pretrain_arguments, train_here

from sparqle_fairseq.data.manifest import read_manifest, write_manifest
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.scoring.outputs import read_generation
from sparqle_fairseq.scoring.scores import score

SMALL = ["--hidden-size", 32, "--layers", 1, "--heads", 4, "--ffn-size", 64, "--queries", 4, "--disable-validation"]
CHINESE = ["渡船因为大雾晚点了", "今天天气很好。我们去公园吧", "请问车站怎么走"]


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    """A checkpoint of each stage, one update old."""
    folder = tmp_path_factory.mktemp("printed")
    train_here(pretrain_arguments(world, folder / "one", *SMALL, updates=1))
    train_here(finetune_arguments(world, folder / "two", "--speech-encoder", world.encoder, *SMALL, updates=1))
    return SimpleNamespace(
        sparqle_pretrain=folder / "one" / "checkpoint_last.pt", sparqle_finetune=folder / "two" / "checkpoint_last.pt"
    )


def rows_with(world, split, column, texts, **cells):
    manifest = read_manifest(world.data / f"{split}.tsv")
    rows = [{**manifest.cells(i), "audio": manifest.audio(i), **cells, column: text} for i, text in enumerate(texts)]
    return rows, manifest.columns


def generated(trained, folder, rows, task, *more):
    """What fairseq-generate writes of these rows, as (text, utterances)."""
    write_manifest(folder / "own.tsv", *rows)
    place = SimpleNamespace(data=folder)
    options = ["--batch-size", 3, "--max-len-b", 5, "--results-path", folder, "--beam", 1]
    generate(place, getattr(trained, task), task, "own", *options, *more)
    path = folder / "generate-own.txt"
    return path.read_text(encoding="utf-8"), read_generation(path)


def last_line(text):
    return next(line for line in text.split("\n") if line.startswith("Generate own"))


@pytest.mark.parametrize(("task", "column"), [("sparqle_pretrain", "src_text"), ("sparqle_finetune", "tgt_text")])
def test_each_row_prints_its_own_reference(world, trained, tmp_path, task, column):
    """Also where two are one to the tokenizer (unknown words), are equal, or hold line ends of other readers."""
    texts = ["日本", "中国", "red fox", "zürich", "red fox", "Red fox", "fox\u2028dog\x85 cat", "日本"]
    printed, found = generated(trained, tmp_path, rows_with(world, "test", column, texts), task)
    assert [row.reference for row in found] == texts
    lines = [line for line in printed.splitlines() if re.match(r"[THDP]-\d+\t", line)]
    assert len(lines) == 4 * len(texts)
    assert not [line for line in printed.splitlines() if line.startswith("dog")]


def test_a_row_without_reference_costs_that_row_alone(world, trained, tmp_path):
    """Of 8 rows 4 have none, a whole batch and the last one among them."""
    texts = ["Rouge", "", "Vert", "", "", "", "Chien dort", ""]
    rows = rows_with(world, "test_fr", "tgt_text", texts)
    for chosen in (["--scoring", "sacrebleu"], ["--scoring", "wer", "--wer-lowercase"]):
        printed, found = generated(trained, tmp_path, rows, "sparqle_finetune", *chosen)
        assert [row.reference for row in found] == [text or None for text in texts]
        assert "3 utterances, 5 more without a reference" in last_line(printed)


def test_rows_without_any_reference_give_texts_and_no_score(world, trained, tmp_path):
    rows = rows_with(world, "test_fr", "tgt_text", [""] * 4)
    with pytest.raises(SparqleError, match=r"4 utterance\(s\) lack a reference"):
        generated(trained, tmp_path, rows, "sparqle_finetune")
    printed = (tmp_path / "generate-own.txt").read_text(encoding="utf-8")
    assert printed.count("\nD-") == 4
    assert "Generate own" not in printed


def test_a_reference_that_is_to_be_scored_by_the_model_must_be_there(world, trained, tmp_path):
    rows = rows_with(world, "test_fr", "tgt_text", ["Rouge", "Vert", ""])
    with pytest.raises(SparqleError, match=r"row 2 of it \(from 0\) has none"):
        generated(trained, tmp_path, rows, "sparqle_finetune", "--score-reference")


def test_a_hypothesis_with_line_ends_is_one_line_and_all_of_it_counts(world, trained, tmp_path):
    rows = rows_with(world, "test_fr", "tgt_text", ["Vert"] * 4)
    more = ["--prefix", "Vert\nNow the next\texample", "--max-len-b", 60, "--scoring", "wer"]
    printed, found = generated(trained, tmp_path, rows, "sparqle_finetune", *more)
    assert all(row.hypothesis.startswith("Vert\nNow the next\texample") for row in found)
    assert printed.count("\nD-") == printed.count("\tVert␊Now the next␉example") / 2 == 4
    rate = score([row.reference for row in found], [row.hypothesis for row in found], ["wer"])["wer"].value
    assert rate >= 400
    assert f"WER: {rate:.2f} " in last_line(printed)


@pytest.mark.parametrize("scoring", [[], ["--scoring", "sacrebleu"], ["--scoring", "chrf"]])
def test_the_score_is_of_text_by_the_language_of_the_row(world, trained, tmp_path, scoring):
    """fairseq's default counts an LLM's tokens; sacrebleu's splits Chinese at its spaces."""
    rows = rows_with(world, "test_fr", "tgt_text", CHINESE, tgt_lang="zh")
    more = [*scoring, "--prefix", "今天天气很好", "--max-len-b", 60]
    printed, found = generated(trained, tmp_path, rows, "sparqle_finetune", *more)
    texts = [row.hypothesis for row in found], [[row.reference for row in found]]
    if "chrf" in scoring:
        assert f"chrF2 = {sacrebleu.corpus_chrf(*texts).score:.2f} | 3 utterances | " in last_line(printed)
    else:
        expected = sacrebleu.corpus_bleu(*texts, tokenize="zh")
        assert expected.score > sacrebleu.corpus_bleu(*texts).score, "split at its spaces, Chinese is one word"
        assert f"BLEU = {expected.score:.2f} " in last_line(printed)
        assert "|tok:zh|" in last_line(printed)


def test_a_tokenizer_that_is_named_is_taken(world, trained, tmp_path):
    rows = rows_with(world, "test_fr", "tgt_text", CHINESE, tgt_lang="zh")
    for more in (["--bleu-tokenizer", "char"], ["--scoring", "sacrebleu", "--sacrebleu-tokenizer", "char"]):
        printed, _ = generated(trained, tmp_path, rows, "sparqle_finetune", *more)
        assert "|tok:char|" in last_line(printed)
    with pytest.raises(SparqleError, match="the tokenizer 'nltk' is not known"):
        generated(trained, tmp_path, rows, "sparqle_finetune", "--bleu-tokenizer", "nltk")


def test_fairseqs_own_word_error_rate_says_that_it_splits_at_spaces(world, trained, tmp_path):
    rows = rows_with(world, "test_fr", "tgt_text", CHINESE, tgt_lang="zh")
    printed, _ = generated(trained, tmp_path, rows, "sparqle_finetune", "--scoring", "wer", "--wer-lowercase")
    assert "no spaces between words" in last_line(printed)


def test_undoing_a_bpe_that_there_is_not_is_one_sentence(world, trained, tmp_path):
    rows = rows_with(world, "test_fr", "tgt_text", ["Vert"])
    with pytest.raises(SparqleError, match="--post-process"):
        generated(trained, tmp_path, rows, "sparqle_finetune", "--post-process", "subword_nmt")
