"""`sparqle prepare llm-targets`: what the LLM answers to transcripts becomes a manifest, and nothing bad of it."""

from __future__ import annotations

import json

import pytest
import torch
from click.testing import CliRunner
from transformers import AutoModelForCausalLM, AutoTokenizer

from sparqle_fairseq.cli.main import app
from sparqle_fairseq.data.manifest import read_manifest, write_manifest
from sparqle_fairseq.data.wordings import PromptTemplates
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate.search import SearchSettings
from sparqle_fairseq.models.llm.llm import load_llm
from sparqle_fairseq.tools.llm_targets import run as llm_targets
from sparqle_fairseq.tools.llm_targets.reader import Answer, Question, Reader
from sparqle_fairseq.tools.llm_targets.sieve import faults

SAID = ["red fox", "green dog runs", "blue", "cat sleeps"]


def test_the_reader_writes_what_transformers_writes(world):
    """Greedy, in batches of unlike lengths, against `generate` of one text made by hand."""
    reader = Reader(load_llm(str(world.llm)), PromptTemplates.load(), SearchSettings(beam=1))
    questions = [Question(str(i), said, "fr") for i, said in enumerate(SAID)]
    found = reader.answers(questions, batch_size=3)
    tokenizer, llm = AutoTokenizer.from_pretrained(world.llm), AutoModelForCausalLM.from_pretrained(world.llm).eval()
    for said, answer in zip(SAID, found, strict=True):
        wording = PromptTemplates.load().instruction("translation", "fr").replace("{speech}", said)
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": wording}], add_generation_prompt=True, tokenize=False
        )
        ids = torch.tensor([tokenizer.encode(text, add_special_tokens=False)])
        most = 4 * len(tokenizer.encode(said, add_special_tokens=False)) + 20
        with torch.no_grad():
            written = llm.generate(ids, max_new_tokens=most + 1, do_sample=False)[0, ids.size(1) :]
        ends = int(written[-1]) == tokenizer.eos_token_id
        written = written[:-1] if ends or len(written) > most else written
        assert answer.text == tokenizer.decode(written, skip_special_tokens=True).strip()
        assert answer.whole == ends


def test_every_fault_has_its_name():
    said = ["a b c d e f g h"] * 9
    good = Answer("un deux trois quatre", True)
    answers = [
        good, good, good,
        Answer(" ", True),
        Answer("la la la la la la la la la la la la la la", True),
        Answer("un deux trois quatre", False),
        Answer("A b c d e f g h", True),
        Answer("un", True),
        Answer("un deux trois quatre cinq six sept huit neuf dix onze douze", True),
    ]  # fmt: skip
    assert faults(said, answers, "fr", longest=2.0) == [
        None, None, None, "empty", "repeats itself", "did not end", "is the transcript", "too short", "too long",
    ]  # fmt: skip


def test_a_text_in_another_language_is_left_out():
    pytest.importorskip("py3langid")
    from sparqle_fairseq.tools.report.identify import other_language

    texts = ["Le renard rouge dort dans la maison.", "Der rote Fuchs schläft heute in dem Haus."]
    found = faults(
        ["the red fox is asleep in the house"] * 2, [Answer(text, True) for text in texts], "fr", 2.0, other_language
    )
    assert found == [None, "is in another language (de)"]


class Scripted:
    """A reader that gives answers of its own."""

    def __init__(self, *_) -> None: ...

    def answers(self, questions, batch_size, progress):
        bad = {"red fox": "", "blue": "bleu bleu"}
        return [
            Answer(bad.get(question.transcript, f"{question.language} {question.transcript}"), True)
            for question in questions
        ]


@pytest.fixture
def manifest(tmp_path):
    rows = [
        {"id": f"u{i}", "audio": f"{i}.wav", "n_frames": 16000, "src_text": said, "src_lang": "en"}
        for i, said in enumerate(SAID)
    ]
    again = {**rows[1], "id": "u1-again"}
    path = tmp_path / "train.tsv"
    write_manifest(path, [*rows, again], ("id", "audio", "n_frames", "src_text", "src_lang"))
    return path


def test_the_manifest_has_what_is_good_and_the_rest_is_counted(world, manifest, monkeypatch):
    monkeypatch.setattr(llm_targets, "Reader", Scripted)
    out, left = manifest.with_name("own.tsv"), manifest.with_name("left.tsv")
    words = ["prepare", "llm-targets", str(manifest), "--llm", str(world.llm), "--to", "fr,de", "--out", str(out)]
    words += ["--no-identify", "--with-transcriptions", "--left-out", str(left), "--json"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    found = json.loads(done.stdout)
    assert found["rows"] == {"fr": 3, "de": 3, "transcriptions": 4}
    assert found["left_out"] == {"the same recording and transcript again": 1, "empty": 2}
    assert len(left.read_text().splitlines()) == 1 + 3
    made = read_manifest(out, require=("src_text", "tgt_text"))
    rows = [made.row(i) for i in range(len(made))]
    assert [row.id for row in rows if row.src_text == "green dog runs"] == ["u1-transcript", "u1-fr", "u1-de"]
    assert {(row.task, row.tgt_lang) for row in rows} == {
        ("transcription", "en"),
        ("translation", "fr"),
        ("translation", "de"),
    }
    assert all(row.audio == read_manifest(manifest).audio(int(row.id[1])) for row in rows)
    assert next(row for row in rows if row.id == "u3-de").tgt_text == "de cat sleeps"


def test_the_same_through_the_llm_trains_distillation(world):
    """A random LLM's answers hardly pass: what remains is learned from, by the command."""
    from tiny_models import batch, build_stage2

    out = world.data / "own2.tsv"
    words = [
        "prepare",
        "llm-targets",
        str(world.data / "train.tsv"),
        "--llm",
        str(world.llm),
        "--to",
        "fr",
        "--out",
        str(out),
    ]
    words += [
        "--llm-dtype",
        "fp32",
        "--no-identify",
        "--with-transcriptions",
        "--length-ratio",
        "1000",
        "--sampling",
        "--cpu",
    ]
    try:
        done = CliRunner().invoke(app, words, catch_exceptions=False)
        assert "32 transcriptions" in done.stdout
        built = build_stage2(world, "--objective", "distill")
        loss, size, _ = built.criterion(built.model, batch(built, "own2", range(4)))
        assert float(loss) > 0
        assert size > 4
    finally:
        out.unlink(missing_ok=True)


def test_nothing_good_is_one_sentence_and_no_file(world, manifest, monkeypatch):
    monkeypatch.setattr(llm_targets, "Reader", Scripted)
    monkeypatch.setattr(Scripted, "answers", lambda _, questions, *__: [Answer("", True) for ___ in questions])
    out = manifest.with_name("own.tsv")
    words = [
        "prepare",
        "llm-targets",
        str(manifest),
        "--llm",
        str(world.llm),
        "--to",
        "fr",
        "--out",
        str(out),
        "--no-identify",
    ]
    with pytest.raises(SparqleError, match=r"no translation was good enough \(left out .*4 empty"):
        CliRunner().invoke(app, words, catch_exceptions=False)
    assert not out.exists()
