"""A `--user-dir` that is the plugin with one fault: in FAULT_RANK, at update FAULT_UPDATE, FAULT is raised.

FAULT_PLACE says where: before the forward pass, or between it and the backward pass.
"""

import os
from pathlib import Path

import sparqle_fairseq

sparqle_fairseq.register()


def fail():
    """The file FAULT_TIME is as old as the fault."""
    Path(os.environ["FAULT_TIME"]).touch()
    raise RuntimeError(os.environ["FAULT"])


def spoil(criterion, forward):
    def faulty(self, model, sample, reduce=True):
        here = os.environ.get("RANK") == os.environ["FAULT_RANK"]
        due = here and model.training and model.num_updates + 1 == int(os.environ["FAULT_UPDATE"])
        place = os.environ["FAULT_PLACE"]
        if due and place == "before":
            fail()
        result = forward(self, model, sample, reduce)
        if due and place == "after":
            fail()
        return result

    criterion.forward = faulty


if "FAULT" in os.environ:
    from sparqle_fairseq.criterions.finetune import FinetuneCriterion
    from sparqle_fairseq.criterions.pretrain import PretrainCriterion

    for kind in (FinetuneCriterion, PretrainCriterion):
        spoil(kind, kind.forward)
