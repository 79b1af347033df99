"""The answers that a model in training finds for a batch, for the objectives that compare them.

They are searched for in each step, with the parameters of that step and without dropout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from sacrebleu.metrics import CHRF
from torch import Tensor

from sparqle_fairseq.generate.limits import Limits, room
from sparqle_fairseq.generate.search import SearchSettings, search
from sparqle_fairseq.generate.stopping import StopTexts
from sparqle_fairseq.models.stage2.candidates import CandidateOptions, Candidates
from sparqle_fairseq.models.stage2.model import SpeechLLM

# An answer may have so many tokens for each of the right one, and so many more.
LONGER, SPARE = 2, 10


@torch.no_grad()
def find_candidates(
    model: SpeechLLM,
    sample: Mapping[str, Any],
    options: CandidateOptions,
    text_of: Callable[[Tensor], str],
    seed: int,
    stop: StopTexts | None = None,
) -> Candidates:
    """Candidates of a batch that has references.

    Args:
        model: the plain one, on its device.
        sample: of the dataset.
        options: how many, and how they are found.
        text_of: text of token ids.
        seed: of draws; those of an utterance change with every update.
        stop: texts that end an answer.
    """
    net_input = sample["net_input"]
    right = (~net_input["answer_padding_mask"]).sum(dim=1)  # (B,)
    most = (LONGER * right + SPARE).minimum(room([model], net_input)).clamp(min=1)
    settings = SearchSettings(
        beam=options.candidates,
        sampling=options.candidate_search == "sampling",
        seed=seed * 1_000_003 + model.num_updates,
    )
    training = model.training
    model.eval()
    try:
        found = search(
            model.step_decoder(),
            net_input,
            settings,
            Limits.at_most(most),
            pad=model.llm.pad,
            end=model.llm.end,
            keys=net_input["utterance"],
            stop=stop,
        )
    finally:
        model.train(training)
    answers = [list(dict.fromkeys(tuple(each.tokens) for each in row)) for row in found]
    return _padded(answers, sample["reference"], options.candidates, model.llm.pad, text_of, right.device)


def _padded(
    answers: Sequence[Sequence[tuple[int, ...]]],
    references: Sequence[str | None],
    count: int,
    pad: int,
    text_of: Callable[[Tensor], str],
    device: torch.device,
) -> Candidates:
    longest = max(len(tokens) for row in answers for tokens in row)
    tokens = torch.full((len(answers), count, longest), pad, dtype=torch.long)
    risks = torch.zeros(len(answers), count)
    metric = CHRF()
    for i, (row, reference) in enumerate(zip(answers, references, strict=True)):
        for n, ids in enumerate(row):
            tokens[i, n, : len(ids)] = torch.tensor(ids)
            text = text_of(tokens[i, n, : len(ids)])
            risks[i, n] = 1 - metric.sentence_score(text, [(reference or "").strip()]).score / 100
    padding_mask = tokens == pad
    return Candidates(tokens.to(device), padding_mask.to(device), risks.to(device), int((~padding_mask).sum()))
