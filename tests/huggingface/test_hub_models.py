"""A model whose folder, encoder and LLM are hub ids: `sparqle translate --hf owner/name@v1`, then the same offline."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from small_hub import SmallHub

from sparqle_fairseq.cli.main import main


def sparqle(hub_url, home, *words, offline="0"):
    """A real start: huggingface_hub reads its settings when it is imported."""
    own = {"HF_ENDPOINT": hub_url, "HF_HOME": str(home), "HF_HUB_OFFLINE": offline, "HF_HUB_DISABLE_TELEMETRY": "1"}
    return subprocess.run(
        [str(Path(sys.executable).parent / "sparqle"), *map(str, words)],
        env={**os.environ, **own},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.long
def test_a_model_of_a_hub_is_translated_with_and_then_offline(tiny_hub, tmp_path):
    soundfile.write(tmp_path / "talk.wav", tiny_hub.waves[0], 16000, subtype="FLOAT")
    quick = ["--to", "fr", "--segment", "none", "--beam", "2", "--tokens-per-second", "5", "--cpu"]
    words = ["translate", tmp_path / "talk.wav", *quick]
    assert main([*map(str, words), "--hf", str(tiny_hub.folder), "-o", str(tmp_path / "expected.txt")]) == 0
    expected = (tmp_path / "expected.txt").read_text(encoding="utf-8")
    folder = shutil.copytree(tiny_hub.folder, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    places = {"llm": "someone/llm@v1", "speech_encoder": "someone/hubert@main"}
    (folder / "config.json").write_text(json.dumps(config | places))
    (folder / "modeling_own.py").write_text("raise SystemExit('run')\n")
    repositories = {"someone/model": folder, "someone/llm": tiny_hub.llm, "someone/hubert": tiny_hub.encoder}
    home = tmp_path / "home"
    with SmallHub(repositories).served() as hub:
        hub.cut["someone/llm/model.safetensors"] = 1
        done = sparqle(hub.url, home, *words, "--hf", "someone/model@v1")
        assert done.returncode == 0, done.stderr
        assert done.stdout == expected
        assert not any(path.endswith(".py") for path in hub.asked)
        assert hub.cut["someone/llm/model.safetensors"] == 0
        assert not list(home.rglob("*.incomplete"))
        hub.damaged.add("someone/hubert/model.safetensors")
        fresh = sparqle(hub.url, tmp_path / "other", *words, "--hf", "someone/model@v1", "-o", tmp_path / "out.txt")
        assert (fresh.returncode, fresh.stderr.count("error:")) == (1, 1)
        assert "Speech encoder someone/hubert@main: model.safetensors came damaged" in fresh.stderr
        assert not (tmp_path / "out.txt").exists()
    offline = sparqle(hub.url, home, *words, "--hf", "someone/model@v1", offline="1")
    assert offline.returncode == 0, offline.stderr
    assert offline.stdout == expected
