"""Command lines, templates, languages and checkpoints that are wrong: one sentence each, and nothing written."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
import torch
from commands import finetune_arguments, generate_here, pretrain_arguments, train_here
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sparqle_fairseq.errors import SparqleError, sentence_of
from sparqle_fairseq.models.encoders import load_speech_encoder
from sparqle_fairseq.models.stage2.start import read_adapter


@pytest.fixture(scope="module")
def stages(world, tmp_path_factory):
    """A checkpoint of each stage, one update old."""
    folder = tmp_path_factory.mktemp("stages")
    train_here(pretrain_arguments(world, folder / "1", updates=1))
    first = folder / "1" / "checkpoint_last.pt"
    train_here(finetune_arguments(world, folder / "2", "--pretrained-adapter", first, updates=1))
    return SimpleNamespace(first=first, second=folder / "2" / "checkpoint_last.pt")


def sentence_from(run, arguments):
    """The sentence that a command ends with; fails the test where it ends otherwise."""
    with pytest.raises(Exception) as error:  # noqa: PT011
        run(arguments)
    sentence = sentence_of(error.value)
    assert sentence is not None, f"{type(error.value).__name__}: {error.value}"
    assert "\n" not in sentence
    return sentence


# name -> (template file, words of the sentence)
TEMPLATES = {
    "not YAML": ("translation: [", "cannot be read as a YAML template file"),
    "a tab for indentation": ("translation:\n\t- x", "cannot be read as a YAML template file"),
    "a list": ("- Translate {speech}", "expected a mapping"),
    "empty": ("", "expected a mapping"),
    "an unknown key": ("translaton: ['{speech} {language}']", "unknown key 'translaton'"),
    "one text where a list belongs": ("translation: '{speech}'", "must be a list of texts"),
    "a number among the wordings": ("translation: ['{speech} {language}', 7]", "must be a list of texts"),
    "no place for the speech": ("translation: ['Translate into {language}.']", "has {speech} 0 times"),
    "two places for the speech": ("translation: ['{speech} {language} {speech}']", "has {speech} 2 times"),
    "a system message that is a list": ("system: [a]\ntranslation: ['{speech} {language}']", "'system' must be a text"),
    "a Python object": ("translation: !!python/object/apply:os.system ['true']", "cannot be read as a YAML"),
    "no wording for a task of the data": ("translation: ['{speech} {language}']", "transcription"),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_bad_template_file_is_named(world, stages, tmp_path, name):
    content, expected = TEMPLATES[name]
    path = tmp_path / "prompts.yaml"
    path.write_text(content)
    more = ["--pretrained-adapter", stages.first, "--prompt-templates", path]
    sentence = sentence_from(train_here, finetune_arguments(world, tmp_path / "run", *more))
    assert expected in sentence
    assert str(path) in sentence
    assert not (tmp_path / "run" / "checkpoint_last.pt").exists()


def test_a_template_file_that_is_missing_is_named(world, stages, tmp_path):
    more = ["--pretrained-adapter", stages.first, "--prompt-templates", tmp_path / "none.yaml"]
    assert "none.yaml" in sentence_from(train_here, finetune_arguments(world, tmp_path / "run", *more))


@pytest.mark.parametrize("code", ["Frensh", "xx", "fr_", "français", "e", "123", "en--US"])
def test_an_unknown_language_names_file_and_line(world, stages, tmp_path, code):
    data = tmp_path / "data"
    shutil.copytree(world.data, data)
    manifest = data / "train2.tsv"
    lines = manifest.read_text(encoding="utf-8").splitlines()
    column = lines[0].split("\t").index("tgt_lang")
    cells = lines[2].split("\t")
    cells[column] = code
    lines[2] = "\t".join(cells)
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    spoilt = SimpleNamespace(**{**vars(world), "data": data})
    more = ["--pretrained-adapter", stages.first, "--batch-size", 32]
    sentence = sentence_from(train_here, finetune_arguments(spoilt, tmp_path / "run", *more))
    assert repr(code) in sentence
    assert "train2.tsv:3" in sentence


# name -> (stage's command line, what is added to it, words of the sentence)
FLAGS = {
    "heads that do not divide the width": (pretrain_arguments, ["--heads", 5], "heads"),
    "no queries": (pretrain_arguments, ["--queries", 0], "--queries"),
    "no layers": (pretrain_arguments, ["--layers", 0], "--layers"),
    "a negative weight": (pretrain_arguments, ["--objective", "stc+-1*stg"], "leave stg out instead"),
    "a weight that is no number": (pretrain_arguments, ["--objective", "much*stg"], "as 0.5*stg"),
    "an objective of an unknown name": (pretrain_arguments, ["--objective", "stc+stx"], "or register your own first"),
    "an objective that is asked for twice": (pretrain_arguments, ["--objective", "stc+stc"], "write it once"),
    "label smoothing of 2": (pretrain_arguments, ["--stg-label-smoothing", 2], "--stg-label-smoothing"),
    "a temperature of 0": (pretrain_arguments, ["--temperature", 0], "--temperature"),
    "dropout of 1.5": (pretrain_arguments, ["--dropout", 1.5], "--dropout"),
    "an audio root that is not there": (pretrain_arguments, ["--audio-root", "/nowhere/at/all"], "/nowhere/at/all"),
    "a row task that is none": (pretrain_arguments, ["--row-task", "summary"], "summary"),
    "a split that is not there": (pretrain_arguments, ["--train-subset", "train-other"], "train-other.tsv"),
    "no room for a single utterance": (pretrain_arguments, ["--max-tokens", 100], "--max-tokens"),
    "a BERT that is none": (pretrain_arguments, ["--bert", "tests"], "tests"),
    "an LLM that is none": (finetune_arguments, ["--llm", "tests", "--speech-encoder", "ENCODER"], "tests"),
    "a hub id while offline": (finetune_arguments, ["--llm", "no/body", "--speech-encoder", "ENCODER"], "no/body"),
    "an adapter that is missing": (finetune_arguments, ["--pretrained-adapter", "none.pt"], "none.pt"),
    "an adapter that is text": (finetune_arguments, ["--pretrained-adapter", "README.md"], "README.md"),
    "no encoder and no adapter": (finetune_arguments, [], "--speech-encoder"),
}  # fmt: skip


@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_that_cannot_be_is_named(world, tmp_path, monkeypatch, name):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    stage, more, expected = FLAGS[name]
    more = [world.encoder if word == "ENCODER" else word for word in more]
    assert expected in sentence_from(train_here, stage(world, tmp_path / "run", *more))
    assert not (tmp_path / "run" / "checkpoint_last.pt").exists()


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (["--beam", 2, "--nbest", 3], "--nbest 3"),
        (["--temperature", 0], "--temperature 0"),
        (["--sampling-topk", 3], "--sampling"),
        (["--diverse-beam-groups", 2], "--diverse-beam-groups"),
        (["--gen-subset", "tset"], "tset.tsv"),
    ],
)
def test_a_generation_option_that_cannot_be_is_named(world, stages, more, expected):
    arguments = [world.data, "--cpu", "--user-dir", "sparqle_fairseq", "--task", "sparqle_finetune"]
    arguments += ["--path", stages.second, "--gen-subset", "test", "--batch-size", 4, *more]
    assert expected in sentence_from(generate_here, arguments)


def damaged(kind, good, folder):
    """A file that is a checkpoint no longer."""
    path = folder / f"{kind}.pt"
    content = good.read_bytes()
    if kind == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("a checkpoint")
    elif kind == "foreign":
        torch.save({"model": {"weight": torch.zeros(2)}}, path)
    elif kind == "without a tensor":
        state = torch.load(good, weights_only=True)
        del state["model"]["adapter.projector.weight"]
        torch.save(state, path)
    elif kind == "with code":
        torch.save({"model": {}, "cfg": shutil.copy}, path)
    elif kind == "folder":
        path.mkdir()
    return path


DAMAGE = ["missing", "cut", "empty", "text", "foreign", "with code", "folder"]


@pytest.mark.parametrize("kind", [*DAMAGE, "without a tensor"])
def test_a_damaged_checkpoint_is_named_in_generation(world, stages, tmp_path, kind):
    path = damaged(kind, stages.second, tmp_path)
    arguments = [world.data, "--cpu", "--user-dir", "sparqle_fairseq", "--task", "sparqle_finetune"]
    arguments += ["--path", path, "--gen-subset", "test", "--batch-size", 4]
    assert path.name in sentence_from(generate_here, arguments)


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_adapter_is_named(world, stages, tmp_path, kind):
    path = damaged(kind, stages.second, tmp_path)
    arguments = finetune_arguments(world, tmp_path / "run", "--pretrained-adapter", path)
    assert path.name in sentence_from(train_here, arguments)


@pytest.mark.parametrize("kind", ["cut", "empty", "text", "foreign", "with code"])
def test_a_damaged_checkpoint_to_resume_from_is_named_and_kept(world, stages, tmp_path, kind):
    path = damaged(kind, stages.first, tmp_path)
    content = path.read_bytes()
    arguments = pretrain_arguments(world, tmp_path / "run", "--restore-file", path, updates=2)
    assert path.name in sentence_from(train_here, arguments)
    assert path.read_bytes() == content


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1), changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=8))
def test_any_damage_to_a_checkpoint_is_read_or_one_sentence(stages, world, tmp_path, cut, changes):
    """Cut anywhere and changed anywhere: through the readers of checkpoints, of adapters and of encoders."""
    from fairseq import checkpoint_utils

    for good, read in (
        (stages.second, checkpoint_utils.load_checkpoint_to_cpu),
        (stages.second, read_adapter),
        (world.encoder, load_speech_encoder),
    ):
        content = bytearray(good.read_bytes())
        for place, value in changes:
            content[int(place * len(content))] = value
        path = tmp_path / "damaged.pt"
        path.write_bytes(content[: int(cut * len(content)) if changes else None])
        sentence = "damaged.pt was read"
        try:
            read(str(path))
        except SparqleError as error:
            sentence = str(error)
        assert "damaged.pt" in sentence
        assert "\n" not in sentence
