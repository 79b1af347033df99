"""fairseq's generator interface over `search`: for each utterance a list of hypotheses, best first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate.search import EnsembleDecoder, SearchSettings, search

# fairseq's generation options that this search does not have, with the value that means "not asked for".
_NOT_OFFERED = {
    "prefix_size": 0,
    "diverse_beam_groups": -1,
    "diversity_rate": -1.0,
    "constraints": None,
    "lm_path": None,
    "match_source_len": False,
    "replace_unk": None,
    "print_alignment": None,
    "print_step": False,
    "retain_iter_history": False,
    "score_reference": False,
    "unkpen": 0,
}


def settings_of(options: Any, seed: int) -> SearchSettings:
    """Search settings of fairseq's generation options. Raises `SparqleError` for an option that has no effect here."""
    for name, off in _NOT_OFFERED.items():
        value = getattr(options, name, off)
        if value != off:
            raise SparqleError(f"--{name.replace('_', '-')} {value} is not offered by this task; leave it out")
    if options.nbest > options.beam:
        raise SparqleError(f"--nbest {options.nbest} asks for more hypotheses than --beam {options.beam} makes")
    if options.temperature <= 0:
        raise SparqleError(f"--temperature {options.temperature} must be above 0")
    if not options.sampling and (options.sampling_topk > 0 or options.sampling_topp > 0):
        raise SparqleError("--sampling-topk and --sampling-topp need --sampling")
    return SearchSettings(
        beam=options.beam,
        lenpen=options.lenpen,
        unnormalized=options.unnormalized,
        min_len=options.min_len,
        temperature=options.temperature,
        sampling=options.sampling,
        sampling_topk=options.sampling_topk,
        sampling_topp=options.sampling_topp,
        no_repeat_ngram_size=options.no_repeat_ngram_size,
        seed=seed,
    )


class HypothesisGenerator:
    """What `task.build_generator` returns.

    Args:
        settings: how to search.
        pad, end: ids of the target dictionary.
        max_len_a, max_len_b: most tokens of a hypothesis = a * encoder frames of the utterance + b.
        samples_per_frame: source samples in an encoder frame; 1 where the source is features.
    """

    def __init__(
        self,
        settings: SearchSettings,
        *,
        pad: int,
        end: int,
        max_len_a: float,
        max_len_b: int,
        samples_per_frame: float,
    ) -> None:
        self.settings = settings
        self.pad, self.eos = pad, end
        self.max_len_a, self.max_len_b = max_len_a, max_len_b
        self.samples_per_frame = samples_per_frame

    @property
    def symbols_to_strip_from_output(self) -> set[int]:
        return {self.eos, self.pad}

    @torch.no_grad()
    def generate(self, models: Sequence[Any], sample: dict[str, Any], **_: Any) -> list[list[dict[str, Any]]]:
        """Hypotheses in fairseq's shape: tokens, score, positional_scores, attention, alignment."""
        decoders = [model.step_decoder() for model in models]
        decoder = decoders[0] if len(decoders) == 1 else EnsembleDecoder(decoders)
        room = min(model.max_answer_tokens(sample["net_input"]) for model in models)
        found = search(
            decoder,
            sample["net_input"],
            self.settings,
            pad=self.pad,
            end=self.eos,
            max_lengths=self._max_lengths(sample["net_input"]).clamp(min=0, max=room),
            keys=sample["id"],
        )
        return [
            [
                {
                    "tokens": torch.tensor(hypothesis.tokens),
                    "score": torch.tensor(hypothesis.score),
                    "positional_scores": torch.tensor(hypothesis.positional_scores),
                    "attention": None,
                    "alignment": torch.empty(0),
                }
                for hypothesis in hypotheses
            ]
            for hypotheses in found
        ]

    def _max_lengths(self, net_input: dict[str, Any]) -> Tensor:
        real = (~net_input["padding_mask"]).sum(dim=1)  # (B,) samples or frames
        frames = real / self.samples_per_frame if net_input["source"].dim() == 2 else real.float()
        return (self.max_len_a * frames).long() + self.max_len_b
