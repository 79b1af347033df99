"""`sparqle export-hf` and `import-hf`: there and back without a changed bit, and bad folders are refused."""

from __future__ import annotations

import json
import os
import shutil
import stat
from types import SimpleNamespace

import pytest
import torch
import yaml
from click.testing import CliRunner
from commands import finetune_arguments, train_here
from factories import save_tiny_hugging_face
from omegaconf import OmegaConf
from tiny_models import build_stage1, build_stage2, build_stage2_from, save_adapter

from sparqle_fairseq.cli.main import app
from sparqle_fairseq.data.wordings import PromptTemplates
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.huggingface import SparqleForConditionalGeneration, SparqleProcessor
from sparqle_fairseq.tasks.loading import load_trained
from sparqle_fairseq.tools.exchange.released import checkpoint_state, save

LORA = ["--lora-rank", "2", "--lora-target", "all-linear"]
WINDOWS = ["--query-window-seconds", "0.1", "--queries-per-window", "2"]


def sparqle(*words, code=0):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == code, done.output
    return done.output


def refused(*words):
    """The sentence that a command fails with."""
    with pytest.raises(SparqleError) as caught:
        CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    return str(caught.value)


def read(path):
    return torch.load(path, weights_only=True)


@pytest.fixture(scope="module")
def here(world, tmp_path_factory):
    """The world with an encoder that transformers can read."""
    encoder = tmp_path_factory.mktemp("encoder")
    save_tiny_hugging_face(encoder / "hubert", "hubert", normalize=False)
    return SimpleNamespace(**{**vars(world), "encoder": encoder / "hubert"})


@pytest.fixture(scope="module")
def trained(here, tmp_path_factory):
    """A checkpoint of fairseq-train with LoRA, windows and instructions of its own."""
    folder = tmp_path_factory.mktemp("trained")
    own = folder / "own.yaml"
    own.write_text(
        "base: default\ntranslation:\n  default: ['{speech} Say it in {language}.']\nbefore_answer: ' => '\n"
    )
    more = ["--hidden-size", 32, "--layers", 2, "--heads", 4, "--ffn-size", 64, "--speech-encoder", here.encoder]
    train_here([*finetune_arguments(here, folder, *more, *LORA, *WINDOWS, "--prompt-templates", own, updates=2)])
    return folder / "checkpoint_last.pt"


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    place = tmp_path_factory.mktemp("exported") / "model"
    sparqle("export-hf", trained, "-o", place)
    return place


def same(one, other):
    assert one.keys() == other.keys()
    for name in one:
        assert one[name].dtype == other[name].dtype, name
        assert torch.equal(one[name], other[name]), name


def written(built, path):
    cfg = OmegaConf.to_container(built.cfg, resolve=True, enum_to_str=True)
    save(path, checkpoint_state(cfg, built.model.state_dict(), {}))
    return path


def test_what_was_trained_comes_back_bit_for_bit(trained, folder, tmp_path):
    said = sparqle("import-hf", folder, "-o", tmp_path / "back.pt")
    assert "options of its training" in said
    first, back = read(trained), read(tmp_path / "back.pt")
    same(first["model"], back["model"])
    assert first["cfg"] == back["cfg"]


@pytest.mark.parametrize("kind", ["stack", "soft tokens", "half"])
def test_every_kind_of_adapter_comes_back(kind, here, tmp_path):
    if kind == "soft tokens":
        stage1 = build_stage1(here, "--objective", "llm-ctc", "--llm", str(here.llm))
        first = save_adapter(stage1, tmp_path / "first.pt")
        built = build_stage2_from(here, first, "--compress-queries", "--soft-tokens")
    else:
        options = {
            "stack": ["--speech-downsample", "stack", "--speech-stride", "2", *WINDOWS],
            "half": ["--encoder-layer", "weighted", "--projector", "mlp"],
        }
        built = build_stage2(here, *options[kind])
    checkpoint = written(built, tmp_path / "there.pt")
    if kind == "half":  # as fairseq-train --fp16 writes it
        state = read(checkpoint)
        state["model"] = {name: value.half() for name, value in state["model"].items()}
        torch.save(state, checkpoint)
    sparqle("export-hf", checkpoint, "-o", tmp_path / "model")
    sparqle("import-hf", tmp_path / "model", "-o", tmp_path / "back.pt")
    same(read(checkpoint)["model"], read(tmp_path / "back.pt")["model"])
    assert read(checkpoint)["cfg"] == read(tmp_path / "back.pt")["cfg"]
    # The same without the record of its training: the options are found in the configuration.
    (tmp_path / "model" / "fairseq.json").unlink()
    sparqle("import-hf", tmp_path / "model", "-o", tmp_path / "found.pt")
    a, b = load_trained(tmp_path / "back.pt", cpu=True), load_trained(tmp_path / "found.pt", cpu=True)
    same(a.model.adapter.state_dict(), b.model.adapter.state_dict())
    assert a.model.adapter.qformer.config == b.model.adapter.qformer.config
    assert a.model.identity == b.model.identity


def test_what_trainer_saved_can_be_imported_with_its_instructions(folder, tmp_path):
    SparqleForConditionalGeneration.from_pretrained(folder).save_pretrained(tmp_path / "saved")
    SparqleProcessor.from_pretrained(folder).save_pretrained(tmp_path / "saved")
    said = sparqle("import-hf", tmp_path / "saved", "-o", tmp_path / "back.pt")
    own = tmp_path / "back.prompts.yaml"
    assert str(own) in said
    back = load_trained(tmp_path / "back.pt", cpu=True)
    assert back.cfg.task.prompt_templates == str(own)
    assert back.cfg.model.lora_rank == 2
    templates = PromptTemplates.load(own)
    assert templates.instruction("translation", "fr") == "{speech} Say it in French."
    assert templates.before_answer == " => "
    assert yaml.safe_load(own.read_text(encoding="utf-8"))["chat_template"] is True


def test_a_folder_that_holds_all_needs_the_places_of_encoder_and_llm(trained, here, tmp_path):
    sparqle("export-hf", trained, "-o", tmp_path / "all", "--self-contained")
    (tmp_path / "all" / "fairseq.json").unlink()
    assert "--speech-encoder and --llm" in refused("import-hf", tmp_path / "all", "-o", tmp_path / "x.pt")
    sparqle("import-hf", tmp_path / "all", "-o", tmp_path / "x.pt", "--speech-encoder", here.encoder, "--llm", here.llm)
    assert not list(tmp_path.glob(".*"))
    one, other = read(trained)["model"], read(tmp_path / "x.pt")["model"]
    del one["frozen_identity"], other["frozen_identity"]
    same(one, other)


def test_files_are_written_with_the_usual_access(trained, tmp_path):
    mask = os.umask(0o027)
    try:
        sparqle("export-hf", trained, "-o", tmp_path / "model", "--self-contained")
        sparqle("import-hf", tmp_path / "model", "-o", tmp_path / "back.pt")
    finally:
        os.umask(mask)
    for path in [*(tmp_path / "model").iterdir(), tmp_path / "back.pt"]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o640, path


def copied(folder, place, **changes):
    shutil.copytree(folder, place)
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(config | changes))
    return place


def test_bad_folders_have_a_sentence_and_leave_nothing(folder, here, tmp_path):
    out = tmp_path / "out" / "x.pt"
    other = copied(folder, tmp_path / "other", model_type="llama")
    assert "holds a model of type 'llama'" in refused("import-hf", other, "-o", out)
    assert "has no config.json" in refused("import-hf", here.data, "-o", out)
    cut = copied(folder, tmp_path / "cut")
    weights = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    said = refused("import-hf", cut, "-o", out)
    assert str(cut / "model.safetensors") in said
    assert "cannot be read" in said
    (cut / "model.safetensors").unlink()
    assert "it is not there" in refused("import-hf", cut, "-o", out)
    damaged = copied(folder, tmp_path / "damaged")
    (damaged / "fairseq.json").write_text('{"cfg": ')
    assert "fairseq.json" in refused("import-hf", damaged, "-o", out)
    gone = copied(folder, tmp_path / "gone")
    record = json.loads((gone / "fairseq.json").read_text())
    record["cfg"]["model"]["llm"] = "/nowhere/llm"
    (gone / "fairseq.json").write_text(json.dumps(record))
    said = refused("import-hf", gone, "-o", out)
    assert "its LLM is not at /nowhere/llm" in said
    assert "--llm" in said
    assert ".part" not in said
    assert not out.exists()
    assert not list(out.parent.glob("*")) if out.parent.exists() else True
    there = tmp_path / "there.pt"
    there.write_text("mine")
    assert "exists already" in refused("import-hf", folder, "-o", there)
    assert there.read_text() == "mine"


def test_another_llm_is_refused(folder, tmp_path):
    import tiny
    from transformers import AutoModelForCausalLM

    another = tiny.save_llm(tmp_path / "llm")
    model = AutoModelForCausalLM.from_pretrained(another)
    with torch.no_grad():
        model.get_input_embeddings().weight.add_(1)
    model.save_pretrained(another)
    said = refused("import-hf", folder, "-o", tmp_path / "x.pt", "--llm", another)
    assert "was trained with another LLM" in said
    assert not (tmp_path / "x.pt").exists()
