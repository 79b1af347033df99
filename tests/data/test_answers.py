"""--answer transcript-first: the LLM learns to write transcript and translation; the translation is what comes out."""

from __future__ import annotations

import pytest
import torch
from commands import finetune_arguments, generate, lines, train_here
from tiny_models import batch, build_stage2

from sparqle_fairseq.data.answers import final_text
from sparqle_fairseq.data.manifest import ManifestError, write_manifest

COLUMNS = ("id", "audio", "n_frames", "src_text", "tgt_text", "src_lang", "tgt_lang", "task")


@pytest.mark.parametrize(
    ("text", "style", "expected"),
    [
        ("red fox\nRouge Renard", "transcript-first", "Rouge Renard"),
        ("red fox", "transcript-first", "red fox"),  # a transcription
        ("red fox\n", "transcript-first", ""),  # the translation never came
        ("one\ntwo", "direct", "one\ntwo"),
    ],
)
def test_the_answer_is_what_comes_last(text, style, expected):
    assert final_text(text, style) == expected


def test_translations_are_answered_with_the_transcript_first_and_transcriptions_are_not(world):
    built = build_stage2(world, "--answer", "transcript-first")
    sample = batch(built, "train2", range(6))
    llm = built.model.llm
    assert set(sample["task"]) == {"transcription", "translation"}
    for i, task in enumerate(sample["task"]):
        real = ~sample["net_input"]["answer_padding_mask"][i]
        answer = llm.decode(sample["target"][i][real].tolist())
        prompt = llm.decode([token for token in sample["net_input"]["prompt"][i].tolist() if token >= 0])
        assert answer.endswith(sample["reference"][i])
        assert ("\n" in answer) == (task == "translation")
        assert built.task.target_dictionary.string(sample["target"][i][real]) == sample["reference"][i]
        if task == "translation":
            assert "ranscri" in prompt or "Write down" in prompt or "First write" in prompt


def test_a_translation_without_transcript_is_named(world, tmp_path):
    built = build_stage2(world, "--answer", "transcript-first")
    built.task.load_dataset("train2")
    rows = [dict(zip(COLUMNS, line.split("\t"), strict=True)) for line in
            (world.data / "train2.tsv").read_text().splitlines()[1:]]  # fmt: skip
    for row in rows:
        row["audio"], row["src_text"] = str(world.data / row["audio"]), ""
    write_manifest(tmp_path / "bare.tsv", rows, COLUMNS)
    built.task.cfg.data = str(tmp_path)
    built.task.load_dataset("bare")
    dataset = built.task.dataset("bare")
    with pytest.raises(ManifestError, match=r"bare\.tsv.*--answer transcript-first needs the transcript"):
        [dataset[i] for i in range(len(dataset))]


def test_the_style_travels_with_the_checkpoint_and_only_translations_are_printed(world, tmp_path):
    more = ("--speech-encoder", world.encoder, "--hidden-size", 32, "--layers", 2, "--heads", 4, "--ffn-size", 64,
            "--queries", 6)  # fmt: skip
    train_here(
        [*finetune_arguments(world, tmp_path, *more, "--answer", "transcript-first", updates=2), "--disable-validation"]
    )
    state = torch.load(tmp_path / "checkpoint_last.pt", weights_only=False)
    assert str(state["cfg"]["model"]["answer"]).endswith("transcript-first")
    done = generate(world, tmp_path / "checkpoint_last.pt", "sparqle_finetune", "dev2")
    references = lines(done.stdout, "T")
    assert references
    assert not any("\n" in text for text in references.values())
