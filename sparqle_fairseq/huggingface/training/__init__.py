"""Training with transformers' `Trainer`: the same data, order, losses and steps as fairseq-train's.

`parse_run` reads options, `train` is a whole run. `PromptCollator` makes batches for a Trainer of one's own.
"""

from sparqle_fairseq.huggingface.training.arguments import Run, parse_run
from sparqle_fairseq.huggingface.training.collate import PromptCollator
from sparqle_fairseq.huggingface.training.run import build_stage, train
from sparqle_fairseq.huggingface.training.trainer import SparqleTrainer

__all__ = ["PromptCollator", "Run", "SparqleTrainer", "build_stage", "parse_run", "train"]
