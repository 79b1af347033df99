"""The text of every recipe is run: its commands, pasted from its README, on a miniature of its corpus."""

from __future__ import annotations

import re
import shlex

import pytest
from commands import ROOT, command, lines, train_here
from fairseq import checkpoint_utils
from pasted import RECIPES, Miniature, pasted

from sparqle_fairseq.data.manifest import read_manifest


@pytest.fixture(scope="module")
def adapter(world, corpora):
    """The stage-1 checkpoint that other recipes start from: LibriSpeech's, made by its own commands."""
    miniature = Miniature(world, corpora)
    for words in pasted("librispeech"):
        if words[0] == "sparqle" or (words[0] == "fairseq-train" and "sparqle_pretrain" in words):
            miniature.run(words)
    return corpora / "checkpoints" / "librispeech" / "stage1" / "checkpoint_best.pt"


def check(miniature: Miniature, words: list[str], printed: str) -> None:
    """A command did what it is there for."""
    small = miniature.small(words)
    if words[0] == "fairseq-generate":
        data, split = small[1], small[small.index("--gen-subset") + 1]
        manifest = read_manifest(f"{data}/{split}.tsv")
        references = lines(printed, "T")
        assert references == {i: manifest.row(i).tgt_text for i in range(len(manifest))}
        assert sorted(lines(printed, "D")) == list(range(len(manifest)))
        assert re.search(r"WER: \d|BLEU", printed)
    elif words[0] == "fairseq-train":
        folder = small[small.index("--save-dir") + 1]
        assert (miniature.root / folder / "checkpoint_best.pt").exists()


def stage_of(words: list[str]) -> int:
    if words[0] == "fairseq-hydra-train":
        return int(words[words.index("--config-name") + 1][-1])
    return 1 if "sparqle_pretrain" in words else 2


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_has_every_kind_of_command(recipe):
    commands = pasted(recipe)
    kinds = [(words[0], stage_of(words)) for words in commands if words[0] != "sparqle"]
    assert commands[0][:2] == ["sparqle", "prepare"]
    for program in ("fairseq-train", "fairseq-hydra-train"):
        assert [kind for kind in kinds if kind[0] == program] == [(program, 1), (program, 2)]
    assert ("fairseq-generate", 2) in kinds
    text = (ROOT / "examples" / recipe / "README.md").read_text(encoding="utf-8")
    assert "icence" in text
    assert "not run" in text


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_preparation_as_pasted_leaves_nothing_out(world, corpora, recipe):
    miniature = Miniature(world, corpora)
    preparations = [words for words in pasted(recipe) if words[:2] == ["sparqle", "prepare"]]
    for words in preparations:
        printed = miniature.run(words)
        rows = [line.split() for line in printed.splitlines() if ".tsv" in line]
        assert rows
        assert all(int(row[1]) > 0 and row[3] == "0" for row in rows), printed
    assert len(preparations) == {"mustc": 3, "own_audio": 5, "fleurs": 2}.get(recipe, 1)


def test_librispeech_stage_1_as_pasted(world, corpora, adapter):
    assert adapter.exists()
    miniature = Miniature(world, corpora)
    generations = [words for words in pasted("librispeech") if words[0] == "fairseq-generate" and stage_of(words) == 1]
    assert generations
    for words in generations:
        check(miniature, words, miniature.run(words))


def best_adapter() -> list[list[str]]:
    """The options of `fairseq-train` and of Hydra that examples/README.md puts in the place of the published ones."""
    text = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    return [shlex.split(options) for options in re.findall(r"`([^`|]*llama/[^`|]*)` \|$", text, flags=re.MULTILINE)]


@pytest.mark.parametrize("form", [0, pytest.param(1, marks=pytest.mark.long)], ids=["fairseq-train", "hydra"])
def test_librispeech_stage_1_with_the_adapter_that_came_out_best(world, corpora, adapter, form):  # noqa: ARG001
    miniature = Miniature(world, corpora)
    miniature.places["bert-base-uncased"] = str(world.tokenizer)
    programs = {0: "fairseq-train", 1: "fairseq-hydra-train"}
    words = next(words for words in pasted("librispeech") if words[0] == programs[form] and stage_of(words) == 1)
    small = miniature.small([*words, *best_adapter()[form]])
    kept = [word for word in small if not word.startswith(("model.layers", "model.queries", "model.ffn"))]
    for option in ("--queries", "--layers", "--ffn-size"):  # of a Q-Former
        if option in kept:
            del kept[kept.index(option) : kept.index(option) + 2]
    if form:
        done = command(*kept)
        assert "num_updates 2" in done.stdout + done.stderr
        folder = kept[-1].partition("=")[2]
    else:
        folder = str(corpora / "best")
        train_here([*kept[1:], "--save-dir", folder])
    saved = checkpoint_utils.load_checkpoint_to_cpu(f"{folder}/checkpoint_last.pt")
    assert any("convolutions" in name for name in saved["model"])


def test_mustc_stage_2_as_pasted(world, corpora, adapter):
    miniature = Miniature(world, corpora)
    miniature.places["checkpoints/mustc/stage1/checkpoint_best.pt"] = str(adapter)  # MuST-C's own is a long test
    for words in pasted("mustc"):
        if words[0] == "sparqle" or (words[0] != "fairseq-hydra-train" and stage_of(words) == 2):
            check(miniature, words, miniature.run(words))


@pytest.mark.long
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_command_of_a_recipe_as_pasted(world, corpora, adapter, recipe):  # noqa: ARG001
    miniature = Miniature(world, corpora)
    for words in pasted(recipe):
        printed = miniature.run(words)
        check(miniature, words, printed)
        if words[0] == "fairseq-hydra-train":
            assert "num_updates 2" in printed
            stage = stage_of(words)
            assert (corpora / "checkpoints" / recipe / f"stage{stage}-hydra" / "checkpoint_best.pt").exists()
