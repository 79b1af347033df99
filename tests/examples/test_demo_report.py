"""The demo's parts fit together: what its commands name is what its scripts write."""

from __future__ import annotations

import pytest
from commands import ROOT, program

DEMO = [f"demo/{name}" for name in ("run", "corpus", "speech", "hubert", "lm")]
SCRIPTS = [*DEMO, "voice_prompts/run", "tokenizer"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_says_what_it_takes(script):
    done = program(ROOT / "examples" / f"{script}.py", "--help")
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout


def test_voice_prompts_ask_for_the_demos_models(tmp_path):
    done = program(ROOT / "examples" / "voice_prompts" / "run.py", "--demo", tmp_path, "--out", tmp_path / "o")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "make demo" in done.stderr
    assert not (tmp_path / "o").exists()
