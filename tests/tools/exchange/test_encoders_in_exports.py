"""Exports over each kind of speech encoder, and over one that was converted: the texts of the checkpoint, and back."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from click.testing import CliRunner
from factories import save_tiny_hugging_face, save_tiny_whisper
from omegaconf import OmegaConf
from tiny_models import build_stage2

from sparqle_fairseq.cli.main import app
from sparqle_fairseq.data.segments import Segment
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.huggingface.asked import load_exported
from sparqle_fairseq.tasks.loading import load_trained
from sparqle_fairseq.tools.exchange.released import checkpoint_state, save
from sparqle_fairseq.tools.translate.translator import Settings, Target, Translator

GOLDEN = Path(__file__).parents[2] / "data" / "golden"
SEGMENTS = [Segment(16000 * i, tiny.tones(text, seed=i)) for i, text in enumerate(["red fox runs", "dog", "blue cat"])]
TARGETS = [Target("translation", "fr"), Target("transcription", "en")]
KINDS = {
    "wav2vec2": {"normalize": True, "large": True},
    "wavlm": {"normalize": False},
    "data2vec-audio": {"normalize": True},
    "whisper": {},
}

# Kinds that differ from HuBERT in little; the others are looked at in the quick suite.
OFTEN_ALIKE, LONG = ("wav2vec2", "data2vec-audio"), pytest.mark.long


def sparqle(*words):
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def written(built, path):
    cfg = OmegaConf.to_container(built.cfg, resolve=True, enum_to_str=True)
    save(path, checkpoint_state(cfg, built.model.state_dict(), {}))
    return path


def texts(loaded):
    translator = Translator(loaded, Settings(beam=2, tokens_per_second=8, guard=False))
    return [[(text.text, round(text.score, 4)) for text in row] for row in translator(SEGMENTS, TARGETS)]


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=LONG if kind in OFTEN_ALIKE else ()) for kind in KINDS])
def test_every_kind_of_encoder_is_exported(kind, world, tmp_path):
    encoder = tmp_path / "encoder"
    if kind == "whisper":
        save_tiny_whisper(encoder)
    else:
        save_tiny_hugging_face(encoder, kind, **KINDS[kind])
    built = build_stage2(SimpleNamespace(**{**vars(world), "encoder": encoder}))
    checkpoint = written(built, tmp_path / "there.pt")
    expected = texts(load_trained(checkpoint, cpu=True))
    assert len({text for row in expected for text, _ in row}) > 1
    sparqle("export-hf", checkpoint, "-o", tmp_path / "model")
    sparqle("export-hf", checkpoint, "-o", tmp_path / "all", "--self-contained")
    # What is inside needs neither of the folders any more.
    assert texts(load_exported(str(tmp_path / "model"), cpu=True)) == expected
    encoder.rename(tmp_path / "moved")
    assert texts(load_exported(str(tmp_path / "all"), cpu=True)) == expected
    with pytest.raises(SparqleError, match="encoder"):
        load_exported(str(tmp_path / "model"), cpu=True)
    moved = load_exported(str(tmp_path / "model"), speech_encoder=str(tmp_path / "moved"), cpu=True)
    assert texts(moved) == expected


def test_a_converted_hubert_comes_back(world, tmp_path):
    """fairseq's HuBERT -> convert-hubert -> export-hf -> import-hf, with the converted and with the first encoder."""
    checkpoint = written(build_stage2(world), tmp_path / "there.pt")
    expected = texts(load_trained(checkpoint, cpu=True))
    sparqle("convert-hubert", world.encoder, tmp_path / "hubert")
    sparqle("export-hf", checkpoint, "-o", tmp_path / "model", "--speech-encoder", tmp_path / "hubert")
    found = texts(load_exported(str(tmp_path / "model"), cpu=True))
    assert [[text for text, _ in row] for row in found] == [[text for text, _ in row] for row in expected]
    sparqle("import-hf", tmp_path / "model", "-o", tmp_path / "first.pt")
    sparqle("import-hf", tmp_path / "model", "-o", tmp_path / "converted.pt", "--speech-encoder", tmp_path / "hubert")
    first, converted = (load_trained(tmp_path / name, cpu=True) for name in ("first.pt", "converted.pt"))
    assert first.model.speech_encoder.identity["kind"] == "hubert"
    assert converted.model.speech_encoder.identity["kind"] == "hf_hubert"
    assert texts(first) == expected
    assert texts(converted) == found
    states = [torch.load(tmp_path / name, weights_only=True)["model"] for name in ("there.pt", "first.pt")]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    # A folder that holds the converted one does not say where it lay on the way.
    sparqle("export-hf", checkpoint, "-o", tmp_path / "all", "--self-contained")
    inside = load_exported(str(tmp_path / "all"), cpu=True)
    assert inside.parts[0] == str(world.encoder)
    assert [[text for text, _ in row] for row in texts(inside)] == [[text for text, _ in row] for row in expected]


def test_released_weights_become_a_model_of_transformers_with_the_same_texts(tmp_path):
    sizes = np.load(GOLDEN / "io.npz")
    save_tiny_hugging_face(tmp_path / "hubert", "hubert", normalize=False, hidden_size=int(sizes["cfg_encoder_width"]))
    tiny.save_llm(tmp_path / "llm", width=int(sizes["cfg_llm_dim"]))
    words = ["--speech-encoder", tmp_path / "hubert", "--llm", tmp_path / "llm", "--heads", sizes["cfg_num_heads"]]
    sparqle("import", GOLDEN / "weights_stage2.pt", *words, "-o", tmp_path / "there.pt")
    sparqle("export-hf", tmp_path / "there.pt", "-o", tmp_path / "model")
    expected = texts(load_trained(tmp_path / "there.pt", cpu=True))
    assert texts(load_exported(str(tmp_path / "model"), cpu=True)) == expected
