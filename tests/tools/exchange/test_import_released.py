"""A published checkpoint becomes one of this plugin, with the published outputs; what does not fit is named."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from click.testing import CliRunner
from commands import finetune_arguments, generate, lines, train_here
from factories import save_tiny_hubert
from transformers import BertTokenizerFast

from sparqle_fairseq.cli.main import app
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.tasks.loading import load_trained

GOLDEN = Path(os.environ.get("SPARQLE_GOLDEN", Path(__file__).parents[2] / "data" / "golden"))


@pytest.fixture(scope="module")
def io():
    arrays = np.load(GOLDEN / "io.npz")
    return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays.files}


@pytest.fixture(scope="module")
def parts(io, tmp_path_factory):
    """An encoder and an LLM of the widths that the golden weights were made for."""
    root = tmp_path_factory.mktemp("parts")
    save_tiny_hubert(root / "hubert.pt", width=int(io["cfg_encoder_width"]))
    save_tiny_hubert(root / "wide.pt", width=48)
    llm_width = torch.load(GOLDEN / "weights_stage2.pt", weights_only=True)["model"]["llama_proj.weight"].size(0)
    tiny.save_llm(root / "llm", width=llm_width)
    tiny.save_llm(root / "wide_llm", width=2 * llm_width)
    return root


def import_file(io, parts, file, output, *more):
    words = ["import", file, "--heads", int(io["cfg_num_heads"]), "-o", output]
    words += [] if "--speech-encoder" in more else ["--speech-encoder", parts / "hubert.pt"]
    words += [] if "--llm" in more else ["--llm", parts / "llm"]
    return CliRunner().invoke(app, [*map(str, [*words, *more])], catch_exceptions=False)


def stage2(path, change):
    """The golden stage-2 file, changed."""
    state = dict(torch.load(GOLDEN / "weights_stage2.pt", weights_only=True))
    state["model"] = dict(state["model"])
    change(state)
    torch.save(state, path)
    return path


def test_stage_2_gives_the_published_outputs(io, parts, tmp_path):
    import_file(io, parts, GOLDEN / "weights_stage2.pt", tmp_path / "x.pt", "--llm-dtype", "fp32")
    adapter = load_trained(tmp_path / "x.pt", cpu=True).model.adapter
    for name, padding in (
        ("full", torch.zeros_like(io["in_speech_mask"]).bool()),
        ("masked", io["in_speech_mask"] == 0),
    ):
        projected, _ = adapter(io["in_speech_hidden"], padding)
        torch.testing.assert_close(projected, io[f"s2_projected_{name}"], atol=1e-5, rtol=1e-5)


def test_stage_1_gives_the_published_outputs(io, parts, tmp_path):
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
    words += [f"word{i}" for i in range(int(io["cfg_vocab_size"]) - 1 - len(words))]  # [DEC] comes behind them
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path / "tokenizer")
    import_file(io, parts, GOLDEN / "weights.pt", tmp_path / "x.pt", "--text-tokenizer", tmp_path / "tokenizer")
    model = load_trained(tmp_path / "x.pt", cpu=True).model
    padding = io["in_text_mask"] == 0
    features = model.adapter.text_features(io["in_text_ids"], padding)
    torch.testing.assert_close(features, io["text_feat"], atol=1e-5, rtol=1e-5)
    speech = model.adapter.qformer.read_speech(io["in_speech_hidden"], io["in_speech_mask"] == 0)
    queries = model.adapter.qformer.query(speech).hidden
    torch.testing.assert_close(queries, io["query_output_masked"], atol=1e-5, rtol=1e-5)


def test_a_full_file_with_frozen_weights_and_a_namespace_is_read(io, parts, tmp_path):
    def fill(state):
        state["cfg"] = {"model": argparse.Namespace(arch="sparqle"), "task": argparse.Namespace(data="/x")}
        state["model"] |= {"speech_encoder.x": torch.zeros(10), "llm_model.y": torch.zeros(5)}
        state["last_optimizer_state"] = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": []}
        state["extra_state"] = {"val_loss": np.float64(1.5)}
        state["model"] = {name.replace("llama_proj", "llm_proj"): value for name, value in state["model"].items()}

    done = import_file(io, parts, stage2(tmp_path / "full.pt", fill), tmp_path / "x.pt")
    assert "60 bytes of frozen weights" in done.output
    import_file(io, parts, GOLDEN / "weights_stage2.pt", tmp_path / "y.pt")
    full, plain = (torch.load(tmp_path / name, weights_only=True)["model"] for name in ("x.pt", "y.pt"))
    assert full.keys() == plain.keys()
    assert all(torch.equal(full[name], plain[name]) for name in full)


BAD = {
    "an unknown name": (lambda s: s["model"].update(mystery=torch.zeros(1)), (), "mystery"),
    "a missing tensor": (
        lambda s: s["model"].pop("Qformer.bert.encoder.layer.1.output_query.dense.bias"), (), "query_ffn.contract.bias"
    ),
    "no queries": (lambda s: s["model"].pop("query_tokens"), (), "query_tokens"),
    "code": (lambda s: s.update(extra_state=os.system), (), "cannot be read"),
    "another encoder": (lambda _: None, ("--speech-encoder", "wide.pt"), "width 24"),
    "another LLM": (lambda _: None, ("--llm", "wide_llm"), "width 40"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_is_one_sentence_and_writes_nothing(io, parts, tmp_path, name):
    change, more, expected = BAD[name]
    file = stage2(tmp_path / "bad.pt", change)
    words = [parts / word if (parts / word).exists() else word for word in more]
    with pytest.raises(SparqleError, match=r"bad\.pt") as error:
        import_file(io, parts, file, tmp_path / "x.pt", *words)
    if name not in ("another encoder", "another LLM"):  # their widths are the file's
        assert expected in str(error.value)
    assert not list(tmp_path.glob("x.pt*"))


def test_a_file_that_exists_is_kept(io, parts, tmp_path):
    (tmp_path / "x.pt").write_text("mine")
    with pytest.raises(SparqleError, match="exists already"):
        import_file(io, parts, GOLDEN / "weights_stage2.pt", tmp_path / "x.pt")
    assert (tmp_path / "x.pt").read_text() == "mine"


def test_what_was_imported_generates_and_trains_on(world, io, parts, tmp_path):
    import_file(io, parts, GOLDEN / "weights_stage2.pt", tmp_path / "x.pt", "--llm-dtype", "fp32")
    done = generate(world, tmp_path / "x.pt", "sparqle_finetune", "test")
    assert sorted(lines(done.stdout, "H")) == list(range(16))
    here = SimpleNamespace(**{**vars(world), "llm": parts / "llm"})
    train_here(finetune_arguments(here, tmp_path / "run", "--pretrained-adapter", tmp_path / "x.pt", updates=1))
    before, after = (
        torch.load(path, weights_only=True)["model"]
        for path in (tmp_path / "x.pt", tmp_path / "run/checkpoint_last.pt")
    )
    assert before.keys() == after.keys()
