"""sparqle inspect: pictures that show something, the same in numbers, and one sentence where it cannot."""

from __future__ import annotations

import importlib.util
import json
import shlex

import numpy as np
import pytest
from commands import ROOT
from PIL import Image

from sparqle_fairseq.cli.inspect import command
from sparqle_fairseq.cli.main import main
from sparqle_fairseq.data.manifest import read_manifest


def inspect(capsys, *arguments, code=0):
    found = main(["inspect", *map(str, arguments), "--cpu", "--beam", "1"])
    output = capsys.readouterr()
    assert found == code, output.err
    return output


def look_at(path):
    """Check that a PNG is there, as wide as it should be and not blank."""
    picture = np.asarray(Image.open(path).convert("RGB"))
    assert picture.shape[1] == 1200
    colours = np.unique(picture @ [1 << 16, 1 << 8, 1])  # a number for each
    assert len(colours) > 200, "hardly anything is drawn"
    return picture


def test_stage1_draws_everything_into_one_picture(world, checkpoints, tmp_path, capsys):
    alone, out = tmp_path / "alone", tmp_path / "new" / "look.png"
    name = read_manifest(world.data / "test.tsv").id(4)
    arguments = [world.data / "test.tsv", "--model", checkpoints.stage1, "--utterance", name]
    said = json.loads(inspect(capsys, *arguments, "--out", out, "--rows", 5, "--json").out)
    assert said["files"] == [str(out)]
    assert said["utterance"] == name == said["similarity"]["utterances"][0]
    assert said["ended"] in ("end", "length", "room")
    assert np.shape(said["similarity"]["cosines"]) == (5, 5)
    assert np.abs(said["similarity"]["cosines"]).max() <= 1
    texts = {row.id: row.src_text for row in map(read_manifest(world.data / "test.tsv").row, range(16))}
    assert len({texts[utterance] for utterance in said["similarity"]["utterances"]}) == 5
    assert len(said["queries"]) == 8
    assert all(0 < item["seconds"] < said["seconds"] for item in said["tokens"])
    assert all(0 < item["most_attended_seconds"] < said["seconds"] for item in said["queries"])
    inspect(capsys, *arguments, "--out", alone)
    assert sorted(path.name for path in alone.iterdir()) == ["layers.png", "similarity.png", "utterance.png"]
    for path in alone.iterdir():
        look_at(path)
    assert len(look_at(out)) > len(look_at(alone / "utterance.png")), "the similarities come below"


def test_stage2_says_why_there_are_no_similarities(world, checkpoints, tmp_path, capsys):
    output = inspect(capsys, world.data / "test_fr.tsv", "--model", checkpoints.stage2, "--out", tmp_path / "x.png")
    assert "no text branch" in output.err
    look_at(tmp_path / "x.png")


def test_an_audio_file_needs_no_manifest(world, checkpoints, tmp_path, capsys):
    audio = world.data / "audio" / "test_4.wav"
    output = inspect(
        capsys, audio, "--model", checkpoints.stage2, "--to", "fr", "--out", tmp_path / "a.png", "--json"
    )  # fmt: skip
    said = json.loads(output.out)
    assert said["utterance"] == "test_4.wav"
    assert said["reference"] is None
    assert "without transcripts" in said["similarity_missing"]
    look_at(tmp_path / "a.png")


def test_features_take_the_waveforms_place(world, checkpoints, tmp_path, capsys):
    manifest, features = world.data / "test.tsv", tmp_path / "features"
    done = main(["extract-features", str(manifest), "--speech-encoder", str(world.encoder), "--out", str(features)])
    assert done == 0
    inspect(capsys, features / "test.tsv", "--model", checkpoints.stage1, "--out", tmp_path / "f.png")
    look_at(tmp_path / "f.png")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["{data}/test.tsv", "--utterance", "nobody"], "has no utterance 'nobody'"),
        (["{data}/nothing.wav"], "there is no such file"),
        (["{data}/test.tsv", "--rows", "1"], "--rows 1"),
        (["{data}/test.tsv", "--to", "fr"], "--to fr is for an audio file"),
        (["{data}/audio/test_1.wav", "--utterance", "x"], "--utterance x names a row of a manifest"),
        (["{data}/audio/test_1.wav", "--to", "french!"], "is not a BCP-47 language code"),
    ],
)
def test_what_cannot_be_drawn_gives_one_sentence_and_no_file(world, checkpoints, tmp_path, capsys, arguments, sentence):
    words = [word.format(data=world.data) for word in arguments]
    output = inspect(capsys, *words, "--model", checkpoints.stage2, "--out", tmp_path / "x.png", code=1)
    last = output.err.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert sentence in last
    assert not list(tmp_path.iterdir())


def test_other_pictures_than_png_are_refused(world, checkpoints, tmp_path, capsys):
    output = inspect(
        capsys, world.data / "test.tsv", "--model", checkpoints.stage1, "--out", tmp_path / "x.jpg", code=1
    )  # fmt: skip
    assert "a name that ends in .png" in output.err


def test_without_matplotlib_the_sentence_says_what_to_install(world, checkpoints, tmp_path, capsys, monkeypatch):
    usual = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "matplotlib" else usual(name, *a))
    output = inspect(
        capsys, world.data / "test.tsv", "--model", checkpoints.stage1, "--out", tmp_path / "x.png", code=1
    )  # fmt: skip
    assert "pip install 'sparqle-fairseq[plots]'" in output.err


def test_every_option_of_the_documents_commands_exists():
    lines = (ROOT / "docs" / "inspect.md").read_text(encoding="utf-8").splitlines()
    found = [shlex.split(line) for line in lines if line.startswith("    sparqle inspect")]
    assert len(found) == 3
    for words in found:
        command.make_context("inspect", words[2:])  # raises where an option is unknown


def test_the_hypothesis_begins_as_it_is_told(world, checkpoints, tmp_path, capsys):
    arguments = [world.data / "test_fr.tsv", "--model", checkpoints.stage2, "--out", tmp_path / "x.png", "--json"]
    assert json.loads(inspect(capsys, *arguments, "--prefix", "Le chat").out)["hypothesis"].startswith("Le chat")
