"""A run of one of several processes; the first writes the adapter's tensors and the losses into the output folder."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import sparqle_fairseq.huggingface  # noqa: F401
from sparqle_fairseq.huggingface.training import parse_run, train

if __name__ == "__main__":
    torch.set_num_threads(1)
    trainer = train(parse_run(sys.argv[1:]))
    if trainer.is_world_process_zero():
        state = {name: value for name, value in trainer.model.state_dict().items() if name.startswith("adapter.")}
        logs = [entry for entry in trainer.state.log_history if "loss" in entry or "eval_loss" in entry]
        torch.save({"model": state, "logs": logs}, Path(trainer.args.output_dir) / "end.pt")
    trainer.end()
