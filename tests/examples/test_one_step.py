"""examples/one_step.py: it runs as it is written, both stages learn, and nothing frozen moves."""

from __future__ import annotations

import re
import runpy
import sys
from typing import Any

import pytest
import torch
from commands import ROOT

from sparqle_fairseq.models.stage2.model import SpeechLLM

SCRIPT = ROOT / "examples" / "one_step.py"
UPDATES = 12


def run(world, updates: int) -> tuple[dict[str, Any], list[str]]:
    """The script's variables after its last line, and what it printed."""
    words = [SCRIPT, world.data / "train.tsv", "--speech-encoder", world.encoder, "--llm", world.llm]
    words += ["--tokenizer", world.tokenizer, "--updates", updates]
    printed: list[str] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", [str(word) for word in words])
        patched.setattr("builtins.print", lambda *parts: printed.append(" ".join(map(str, parts))))
        return runpy.run_path(str(SCRIPT), run_name="__main__"), printed


@pytest.fixture(scope="module")
def ran(world):
    return run(world, UPDATES)


def losses(printed: list[str], name: str) -> list[float]:
    return [float(found) for line in printed for found in re.findall(rf"\b{name} ([\d.]+)", line)]


def test_both_stages_learn(ran):
    for name in ("stg", "answer"):
        values = losses(ran[1], name)
        assert len(values) == UPDATES
        assert values[-1] < 0.9 * values[0], name


def test_what_is_frozen_has_no_gradient_and_what_is_trained_has_one(ran):
    script, _ = ran
    assert not list(script["encoder"].parameters())
    assert not script["speech"].values.requires_grad
    assert all(weight.grad is None for weight in script["llm"].model.parameters())
    for stage in ("stage1", "stage2"):
        trained = dict(script[stage].named_parameters())
        assert not [name for name, weight in trained.items() if weight.requires_grad and weight.grad is None]


def test_the_recipes_page_has_its_command():
    """The words of the command are the script's options, and the same as in the script's first lines."""
    page = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    [command] = re.findall(r"^    python examples/one_step\.py .*\\\n.*$", page, flags=re.MULTILINE)
    assert command in SCRIPT.read_text(encoding="utf-8")
    assert set(re.findall(r"--[a-z-]+", command)) == {"--speech-encoder", "--llm", "--tokenizer", "--updates"}


def test_the_steps_are_those_of_the_models_that_fairseq_trains(world, monkeypatch):
    """Prompt, place of the speech, columns and weights taken over; with an optimizer that moves nothing."""
    monkeypatch.setattr(torch.optim.Adam, "step", lambda _: None)
    script, _ = run(world, 1)
    source, mask = script["pad_sources"](script["waves"])
    model = SpeechLLM(script["encoder"], script["stage2"], script["llm"])
    prompt, answer = (script[name] for name in ("prompt", "answer"))
    logits = model(source, mask, prompt, script["prompt_padding"], answer, script["answer_padding"])
    torch.testing.assert_close(script["logits"], logits)
    taken = script["stage1"].qformer.state_dict()
    for name, value in script["stage2"].qformer.state_dict().items():
        assert torch.equal(value, taken[name])
