"""docs/vllm.md: all up to the vectors is run, and the LLM alone writes from them what the model writes."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import soundfile
import torch
from click.testing import CliRunner
from factories import save_tiny_hugging_face
from omegaconf import OmegaConf
from tiny_models import build_stage2

from sparqle_fairseq.cli.main import app
from sparqle_fairseq.tools.exchange.released import checkpoint_state, save

TEXT = (Path(__file__).parents[2] / "docs" / "vllm.md").read_text(encoding="utf-8")
RATE = 16000


def test_the_llm_alone_writes_the_text_from_the_vectors(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_tiny_hugging_face(tmp_path / "hubert", "hubert", normalize=False)
    here = SimpleNamespace(**{**vars(world), "encoder": tmp_path / "hubert"})
    built = build_stage2(here, "--lora-rank", "2", "--lora-target", "all-linear")
    torch.manual_seed(5)
    for parameter in built.model.adapter.lora.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    cfg = OmegaConf.to_container(built.cfg, resolve=True, enum_to_str=True)
    save(tmp_path / "checkpoint_last.pt", checkpoint_state(cfg, built.model.state_dict(), {}))
    speech, rate = soundfile.read(Path(__file__).parents[1] / "data" / "speech.flac")
    soundfile.write(tmp_path / "talk.wav", speech, rate)
    commands = re.findall(r"^    sparqle (.*)$", TEXT, re.MULTILINE)
    assert len(commands) == 2
    for words in commands:
        done = CliRunner().invoke(app, shlex.split(words), catch_exceptions=False)
        assert done.exit_code == 0, done.output
    vectors, alone, vllm = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names: dict = {}
    for block in (vectors, alone):
        exec(compile(block, "vllm.md", "exec"), names)
    model, inputs, prompt = names["model"], names["inputs"], names["prompt"]
    assert prompt.shape == (inputs["input_ids"].size(1), model.get_input_embeddings().embedding_dim)
    whole = model.generate(**inputs, max_new_tokens=20, do_sample=False)[:, inputs["input_ids"].size(1) :]
    assert torch.equal(names["output"], whole)
    assert whole.size(1) > 1
    ast.parse(vllm)
    assert "**vLLM was not run here.**" in TEXT
