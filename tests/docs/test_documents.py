"""The commands of the documents run as they are written, on the tiny world in place of the files that they name."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from unittest import mock

import pytest
from commands import ROOT, TINY, finetune_arguments, pretrain_arguments, train_here
from test_readme import fairseq_commands, sparqle_commands

from sparqle_fairseq.cli.main import main
from sparqle_fairseq.data.manifest import read_manifest


@pytest.fixture(scope="module")
def trained(world, tmp_path_factory):
    """Checkpoints of both stages where the documents have them: `build/demo/stage{1,2}`."""
    root = tmp_path_factory.mktemp("trained")
    first = root / "stage1"
    train_here(pretrain_arguments(world, first, updates=1))
    adapter = ["--pretrained-adapter", first / "checkpoint_last.pt"]
    train_here(finetune_arguments(world, root / "stage2", *adapter, updates=1))
    return root


@pytest.fixture
def here(world, trained, tmp_path, monkeypatch):
    """A working folder that holds everything that the documents name."""
    monkeypatch.chdir(tmp_path)
    for folder, names in {
        "librispeech": {"train": "train-clean-360", "train2": "train-clean-100", "valid": "dev-clean"},
        "mustc/en-fr": {"train2": "train_st", "dev2": "dev_st", "test_fr": "tst-COMMON_st"},
        "build/demo/manifests": {"test_fr": "test_fr", "test": "test_asr"},
        "data": {"train2": "train", "dev2": "valid"},
        ".": {"train": "train", "valid": "dev", "test": "test"},
    }.items():
        shutil.copytree(world.data / "audio", tmp_path / folder / "audio")
        for name, theirs in names.items():
            shutil.copy(world.data / f"{name}.tsv", tmp_path / folder / f"{theirs}.tsv")
    for stage, place in (("stage1", "build/demo"), ("stage2", "build/demo")):
        shutil.copytree(trained / stage, tmp_path / place / stage)
    for name in ("hubert_large_ll60k.pt", "hubert_base_ls960.pt"):
        shutil.copy(world.encoder, tmp_path / name)
    shutil.copy(world.data / "audio" / "test_0.wav", tmp_path / "recording.wav")
    return tmp_path


def write_units(here: Path) -> None:
    """`DATA` with a unit file beside each manifest."""
    for split in ("train", "valid"):
        manifest = read_manifest(here / "data" / f"{split}.tsv")
        (here / "data" / f"{split}.km").write_text("1 1 2 499\n" * len(manifest))


def run(words: list[str], world) -> None:
    """One command of a document, with what must be small or elsewhere put in its place."""
    first = read_manifest(world.data / "test_fr.tsv").row(0).id
    places = {
        "sparqle_fairseq": str(ROOT / "sparqle_fairseq"),
        "s03103-fr": first,
        "LLM": str(world.llm),
        "DATA": "data",
        "TOKENIZER": str(world.tokenizer),
        "meta-llama/Llama-3.1-8B-Instruct": str(world.llm),
        "/data/librispeech": "librispeech",
        "/data/mustc/en-fr": "mustc/en-fr",
        "/data/features": "features",
        "/data/librispeech/train-clean-360.tsv": "librispeech/train-clean-360.tsv",
        "/data/librispeech/dev-clean.tsv": "librispeech/dev-clean.tsv",
        "--bert": "--text-tokenizer",
        "bert-base-uncased": str(world.tokenizer),
    }
    words = [places.get(word, word) for word in words]
    if words[0] == "sparqle":
        if "extract-features" in words:
            words += ["--cpu", "--encoder-dtype", "fp32"]
        assert main(words[1:]) == 0
        return
    if "--distributed-world-size" in words:
        words[words.index("--distributed-world-size") + 1] = "1"
    words += ["--cpu"]
    if words[0] == "fairseq-generate":
        from fairseq_cli.generate import cli_main

        with mock.patch.object(sys, "argv", words):
            cli_main()
        return
    small = ["--max-update", "1", "--num-workers", "0", "--lr", "1e-3"]
    small += ["--encoder-dtype", "fp32", "--fp16-no-flatten-grads"]  # what a CPU needs
    small += ["--llm-dtype", "fp32"] if "sparqle_finetune" in words else TINY
    train_here([*words[1:], *small])


@pytest.mark.parametrize("document", ["README", "qformer", "features", "inspect", "validate", "encoders"])
def test_the_commands_of_a_document_run(world, trained, here, document):
    path = ROOT / f"{document}.md" if document == "README" else ROOT / "docs" / f"{document}.md"
    commands = [*sparqle_commands(path), *fairseq_commands(path)]
    assert commands
    if document == "qformer":
        write_units(here)
    if document == "inspect":
        shutil.copytree(trained / "stage1", here / "checkpoints" / "stage1")
    # Their sparqle commands have tests of their own: docs/translate.md's, and one that needs a SpeechTokenizer.
    if document in ("README", "qformer"):
        commands = [words for words in commands if words[0] != "sparqle"]
    for words in commands:
        run(words, world)
