"""Generation with the models of `tiny_models`, by fairseq's options."""

from __future__ import annotations

from argparse import Namespace

OPTIONS = {
    "beam": 4, "nbest": 1, "lenpen": 1.0, "unnormalized": False, "min_len": 1, "max_len_a": 0.0, "max_len_b": 12,
    "temperature": 1.0, "sampling": False, "sampling_topk": -1, "sampling_topp": -1.0, "no_repeat_ngram_size": 0,
}  # fmt: skip


def generate(built, sample, **options):
    task, model = built.task, built.model
    generator = task.build_generator([model], Namespace(**{**OPTIONS, **options}))
    return generator.generate([model], sample)


def answers(hypotheses):
    return [[hypothesis["tokens"].tolist() for hypothesis in row] for row in hypotheses]
