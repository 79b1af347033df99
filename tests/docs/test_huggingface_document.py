"""docs/huggingface.md: every command and every block of Python is run, in order."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
import tiny
from click.testing import CliRunner
from factories import save_tiny_hugging_face
from omegaconf import OmegaConf
from tiny_models import build_stage2

from sparqle_fairseq.cli.main import app
from sparqle_fairseq.tools.exchange.released import checkpoint_state, save

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
TEXT = (Path(__file__).parents[2] / "docs" / "huggingface.md").read_text(encoding="utf-8")
STEPS = re.compile(r"```python\n(?P<python>.*?)```|^    sparqle (?P<command>[^\n]*)$", re.DOTALL | re.MULTILINE)


@pytest.fixture
def place(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_tiny_hugging_face(tmp_path / "hubert", "hubert", normalize=False)
    built = build_stage2(SimpleNamespace(**{**vars(world), "encoder": tmp_path / "hubert"}))
    cfg = OmegaConf.to_container(built.cfg, resolve=True, enum_to_str=True)
    save(tmp_path / "checkpoint_last.pt", checkpoint_state(cfg, built.model.state_dict(), {}))
    speech, rate = soundfile.read(Path(__file__).parents[1] / "data" / "speech.flac")
    (tmp_path / "talks").mkdir()
    for name in ("talk.wav", "talks/one.wav", "talks/two.wav"):
        soundfile.write(tmp_path / name, speech, rate)
    # What was published, in small: the names of the document are folders here.
    shutil.copy(GOLDEN / "weights_stage2.pt", tmp_path / "SparQLe_best.pt")
    save_tiny_hugging_face(tmp_path / "facebook" / "hubert-large-ll60k", "hubert", hidden_size=24)
    tiny.save_llm(tmp_path / "meta-llama" / "Meta-Llama-3-8B-Instruct", width=40)
    return tmp_path


def test_every_step_of_the_document_runs(place):
    names: dict = {}
    steps = [match.groupdict() for match in STEPS.finditer(TEXT)]
    assert sum(step["command"] is not None for step in steps) == 7
    assert sum(step["python"] is not None for step in steps) == 4
    for step in steps:
        if step["command"] is not None:
            for command in step["command"].split(" && sparqle "):
                done = CliRunner().invoke(app, shlex.split(command), catch_exceptions=False)
                assert done.exit_code == 0, done.output
        else:
            exec(compile(step["python"], "huggingface.md", "exec"), names)
    assert names["model"].adapter.projector.weight.grad.abs().sum() > 0
    assert len(names["pieces"]) == 2
    assert sorted(path.name for path in (place / "subtitles").iterdir()) == [
        f"{name}.{code}.srt" for name in ("one", "two") for code in ("de", "fr")
    ]
    assert (place / "back.pt").is_file()
    assert (place / "sparqle" / "model.safetensors").is_file()
    assert (place / "trained.pt").is_file()
