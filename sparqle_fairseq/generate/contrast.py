"""Whether an answer depends on its speech: how much likelier it is with the speech than without.

A language model can write a fluent answer to speech that it did not understand. The mean over the answer's tokens of
log p(token | speech) - log p(token | no speech) is then near 0 or below (pointwise mutual information of the answer and
the speech, a token).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate.limits import Limits
from sparqle_fairseq.generate.remarks import UNHEARD
from sparqle_fairseq.generate.search import SearchSettings, StepDecoder, ensemble, search


@dataclass(frozen=True)
class Contrast:
    """Mean log-probability of an answer's tokens, in bits as fairseq prints, with its speech and without."""

    given_speech: float
    without: float

    @property
    def difference(self) -> float:
        return self.given_speech - self.without


def forced_scores(
    decoder: StepDecoder, net_input: dict[str, Any], answers: Sequence[Sequence[int]], *, pad: int, end: int
) -> list[list[float]]:
    """Log-probabilities of the tokens of one answer to each utterance of a batch, its end token's where it has one."""
    found = search(
        decoder,
        net_input,
        SearchSettings(beam=1),
        Limits.at_most(torch.tensor([len(answer) for answer in answers], device=net_input["source"].device)),
        pad=pad,
        end=end,
        keys=torch.arange(len(answers), device=net_input["source"].device),
        prefixes=answers,
    )
    return [row[0].positional_scores[: len(answer)] for row, answer in zip(found, answers, strict=True)]


def rows_of(net_input: dict[str, Any], rows: Tensor) -> dict[str, Any]:
    """The batch's rows of these numbers; they may be repeated."""
    return {name: value[rows] if isinstance(value, Tensor) else value for name, value in net_input.items()}


def contrasts(
    models: Sequence[Any],
    net_input: dict[str, Any],
    answers: Sequence[Sequence[Sequence[int]]],
    kind: str,
    *,
    pad: int,
    end: int,
) -> list[list[Contrast]]:
    """Of each of the `answers` (some to each utterance), its contrast to no speech.

    `kind` is "removed" (the prompt without any speech) or "silence" (a silent recording of the same length).
    """
    rows = torch.tensor(
        [i for i, some in enumerate(answers) for _ in some], dtype=torch.long, device=net_input["source"].device
    )
    flat = [answer for some in answers for answer in some]
    if not flat:
        return [[] for _ in answers]
    batch = rows_of(net_input, rows)
    heard = forced_scores(ensemble([model.step_decoder() for model in models]), batch, flat, pad=pad, end=end)
    if kind == "silence":
        if not batch["source"].is_floating_point() or batch["source"].dim() != 2:
            raise SparqleError("--speech-contrast silence needs audio, and features or units came; take removed")
        batch = {**batch, "source": torch.zeros_like(batch["source"])}
        decoders = [model.step_decoder() for model in models]
    else:
        decoders = [_deaf(model) for model in models]
    unheard = forced_scores(ensemble(decoders), batch, flat, pad=pad, end=end)
    means = iter(
        Contrast(*(sum(scores) / len(scores) / math.log(2) for scores in (with_it, without)))
        for with_it, without in zip(heard, unheard, strict=True)
    )
    return [[next(means) for _ in some] for some in answers]


def _deaf(model: Any) -> StepDecoder:
    if not hasattr(model, "deaf_decoder"):
        raise SparqleError(
            "--speech-contrast removed takes the speech out of an LLM's prompt, and a stage-1 model has none; take "
            "silence"
        )
    return model.deaf_decoder()


def contrast_text(contrast: Contrast, flag: bool) -> str:
    """Columns of an I- line: difference, score with speech, score without, and a word."""
    numbers = "\t".join(f"{value:.4f}" for value in (contrast.difference, contrast.given_speech, contrast.without))
    return f"{numbers}\t{UNHEARD if flag else 'heard'}"
