"""LoRA in several processes, and in half precision by the command: minutes, not seconds."""

from __future__ import annotations

import pytest
import torch
from commands import finetune, finetune_arguments, pretrain_arguments, train_here, train_together

LORA = ["--lora-rank", 4, "--lora-target", "all-linear"]


@pytest.mark.long
@pytest.mark.parametrize("rate", [0.002, 0.01])
def test_two_processes_train_lora_as_one_does(twelve, tmp_path, rate):
    train_here(pretrain_arguments(twelve, tmp_path / "first", updates=1))
    more = ["--pretrained-adapter", tmp_path / "first" / "checkpoint_last.pt", *LORA, "--lr", rate]
    for count in (1, 2):
        train_together(twelve, tmp_path, finetune_arguments, count, 20, *more)
    alone, together = (
        torch.load(tmp_path / f"finetune_arguments-{count}" / "checkpoint_last.pt", weights_only=True)["model"]
        for count in (1, 2)
    )
    moved = [name for name in alone if name.endswith("B.weight") and alone[name].abs().max() > 0]
    assert len(moved) == 14, "every layer's LoRA has left its start"
    for name, value in alone.items():
        torch.testing.assert_close(together[name], value, atol=1e-5, rtol=1e-5, msg=name)


@pytest.mark.long
@pytest.mark.parametrize("llm_dtype", ["fp32", "bf16"])
def test_fp16_training_by_the_command(world, tmp_path, llm_dtype):
    more = ["--speech-encoder", world.encoder, "--hidden-size", 32, "--layers", 1, "--heads", 4, "--ffn-size", 64]
    more += ["--queries", 4, "--fp16", "--fp16-no-flatten-grads", "--llm-dtype", llm_dtype, "--fp16-init-scale", 4]
    finetune(world, tmp_path, *LORA, *more, updates=6)
    state = torch.load(tmp_path / "checkpoint_last.pt", weights_only=True)["model"]
    lora = {name: value for name, value in state.items() if "lora" in name}
    # fairseq writes halves as float32 (`utils.move_to_cpu`); that they were trained as halves shows in their values.
    assert all(torch.equal(value.half().float(), value) for value in lora.values())
    assert all(value.isfinite().all() for value in lora.values())
    assert any(value.abs().max() > 0 for name, value in lora.items() if name.endswith("B.weight"))
