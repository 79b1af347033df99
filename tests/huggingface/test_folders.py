"""Folders of models that are damaged, of another model, or hold code: refused in a sentence, and no code is run."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.huggingface import SparqleForConditionalGeneration


@pytest.fixture
def folder(tiny_hub, tmp_path):
    return shutil.copytree(tiny_hub.folder, tmp_path / "model")


def change(folder, **settings):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))


def refused(folder, said, **named):
    with pytest.raises(SparqleError, match=said) as caught:
        SparqleForConditionalGeneration.from_pretrained(folder, **named)
    assert "\n" not in str(caught.value)


def test_another_model_is_refused(tiny_hub, tmp_path):
    refused(tiny_hub.llm, "of type 'llama', not a SparQLe model")
    refused(tmp_path, "has no config.json")
    refused(tmp_path / "owner" / "model", "is no file or folder here, and no hub id")


def test_an_llm_that_is_missing_or_another_is_refused(folder, tiny_hub, tmp_path):
    other = shutil.copytree(tiny_hub.llm, tmp_path / "llm")
    model = AutoModelForCausalLM.from_pretrained(other)
    with torch.no_grad():
        model.get_input_embeddings().weight.add_(1)
    model.save_pretrained(other)
    refused(folder, "was trained with another LLM", llm=str(other))
    refused(folder, "nowhere", llm=str(tmp_path / "nowhere"))
    refused(folder, "nowhere", speech_encoder=str(tmp_path / "nowhere"))
    change(folder, llm=None)
    refused(folder, "names its speech_encoder and its llm, or neither")


def test_a_file_that_came_by_half_is_refused(folder):
    weights = folder / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[: len(data) // 2])
    refused(folder, f"{weights} cannot be read")
    weights.unlink()
    refused(folder, "it is not there")
    (folder / "config.json").write_text('{"model_type": ')
    refused(folder, "config.json cannot be read")


def test_code_in_a_folder_is_never_run(folder, tmp_path):
    (folder / "modeling_own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    change(folder, auto_map={"AutoModelForMultimodalLM": "modeling_own.Own", "AutoConfig": "modeling_own.Config"})
    model = SparqleForConditionalGeneration.from_pretrained(folder, trust_remote_code=True)
    assert type(model) is SparqleForConditionalGeneration
    assert not (tmp_path / "ran").exists()
