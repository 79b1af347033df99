"""Plain adapters through the commands that a person types: both stages, generation, transformers and back."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from commands import finetune_arguments, pretrain_arguments, train_here
from factories import save_tiny_hugging_face

from sparqle_fairseq.cli.main import app
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.tasks.loading import load_trained

SHAPES = {
    "stack": ("--speech-stride", 4, "--layers", 12),
    "conv": ("--speech-stride", 4, "--layers", 12, "--ffn-size", 3072),
    "ctc": ("--speech-stride", 2),
}


def sparqle(*words):
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def here(world, tmp_path_factory):
    """The world with an encoder that transformers can read."""
    encoder = tmp_path_factory.mktemp("encoder")
    save_tiny_hugging_face(encoder / "hubert", "hubert", normalize=False)
    return SimpleNamespace(**{**vars(world), "encoder": encoder / "hubert"})


@pytest.mark.parametrize("name", ["ctc", *(pytest.param(name, marks=pytest.mark.long) for name in ("stack", "conv"))])
def test_a_plain_adapter_goes_through_every_command(name, here, tmp_path):
    first = pretrain_arguments(here, tmp_path / "1", "--objective", "llm-ctc", "--llm", here.llm, updates=2)
    first = [*first, "--queries", 100, "--adapter", name, *SHAPES[name]]
    train_here(first)
    started = ["--pretrained-adapter", tmp_path / "1" / "checkpoint_last.pt"]
    train_here(finetune_arguments(here, tmp_path / "2", *started, updates=2))
    checkpoint = tmp_path / "2" / "checkpoint_last.pt"
    sparqle("export-hf", checkpoint, "-o", tmp_path / "folder", "--with-code")
    sparqle("import-hf", tmp_path / "folder", "-o", tmp_path / "back.pt")
    one, other = (torch.load(path, weights_only=True)["model"] for path in (checkpoint, tmp_path / "back.pt"))
    assert one.keys() == other.keys()
    assert any(part.startswith("adapter.plain.") for part in one)
    assert all(torch.equal(one[part], other[part]) for part in one)
    assert (tmp_path / "folder" / f"sparqle_models_qformer_plain_{name}.py").is_file()
    assert f"{name}, width 64, an output for every" in (tmp_path / "folder" / "README.md").read_text()
    (tmp_path / "folder" / "fairseq.json").unlink()  # as one that fairseq never saw
    sparqle("import-hf", tmp_path / "folder", "-o", tmp_path / "again.pt")
    assert load_trained(tmp_path / "again.pt", cpu=True).model.adapter.plain.config.adapter == name
    recording = here.data / "audio" / "test_0.wav"
    texts = [
        sparqle("translate", recording, *model, "--to", "fr", "--beam", 2)
        for model in (("--model", checkpoint, "--cpu"), ("--model", tmp_path / "folder", "--cpu"))
    ]
    assert texts[0] == texts[1]
    with pytest.raises(SparqleError, match=rf"no queries that look at the speech \(--adapter {name}\)"):
        sparqle("inspect", recording, "--model", checkpoint, "--out", tmp_path / "picture.png", "--cpu")
    with pytest.raises(SparqleError, match="which the published model does not have"):
        sparqle("import", checkpoint, "-o", tmp_path / "published.pt", "--reverse")
