"""fairseq's generator interface over `search`: for each utterance a list of hypotheses, best first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate.search import EnsembleDecoder, SearchSettings, search
from sparqle_fairseq.visual.attention import token_centres, token_map

# fairseq's generation options that this search does not have, with the value that means "not asked for".
_NOT_OFFERED = {
    "prefix_size": 0,
    "diverse_beam_groups": -1,
    "diversity_rate": -1.0,
    "constraints": None,
    "lm_path": None,
    "match_source_len": False,
    "replace_unk": None,
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
        alignment: "hard" or "soft" for fairseq's --print-alignment; None makes no alignments, which cost another pass.
        nbest: so many hypotheses of an utterance get one.
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
        alignment: str | None = None,
        nbest: int = 1,
    ) -> None:
        self.settings = settings
        self.pad, self.eos = pad, end
        self.max_len_a, self.max_len_b = max_len_a, max_len_b
        self.samples_per_frame = samples_per_frame
        self.alignment, self.nbest = alignment, nbest

    @property
    def symbols_to_strip_from_output(self) -> set[int]:
        return {self.eos, self.pad}

    @torch.no_grad()
    def generate(self, models: Sequence[Any], sample: dict[str, Any], **_: Any) -> list[list[dict[str, Any]]]:
        """Hypotheses in fairseq's shape: tokens, score, positional_scores, attention, alignment."""
        decoders = [model.step_decoder() for model in models]
        decoder = decoders[0] if len(decoders) == 1 else EnsembleDecoder(decoders)
        lengths = self.max_lengths(models, sample["net_input"])
        found = search(
            decoder,
            sample["net_input"],
            self.settings,
            pad=self.pad,
            end=self.eos,
            max_lengths=lengths,
            keys=sample["id"],
        )
        answer = [
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
        if self.alignment:
            self._align(models[0], sample["net_input"], answer)
        return answer

    def _align(self, model: Any, net_input: dict[str, Any], answer: list[list[dict[str, Any]]]) -> None:
        """Put in each hypothesis' `alignment` what fairseq prints on its A- line; of an ensemble, the first model's."""
        wanted = [(i, hypothesis) for i, row in enumerate(answer) for hypothesis in row[: self.nbest]]
        if not wanted:
            return
        texts = [hypothesis["tokens"].tolist() for _, hypothesis in wanted]
        frames, padding_mask = token_map(model, net_input, texts, [i for i, _ in wanted])
        for n, (_, hypothesis) in enumerate(wanted):
            own = frames[n, : len(texts[n])][:, ~padding_mask[n]]  # (L, T)
            hypothesis["alignment"] = _hard(own[:-1]) if self.alignment == "hard" else _soft(own)

    def max_lengths(self, models: Sequence[Any], net_input: dict[str, Any]) -> Tensor:
        """(B,) most tokens of each hypothesis: by its speech, and by what the models have room for."""
        real = (~net_input["padding_mask"]).sum(dim=1)  # (B,) samples or frames
        frames = real / self.samples_per_frame if net_input["source"].dim() == 2 else real.float()
        lengths = (self.max_len_a * frames).long() + self.max_len_b
        for model in models:
            lengths = lengths.minimum(torch.as_tensor(model.max_answer_tokens(net_input)).to(lengths))
        return lengths.clamp(min=0)


def _hard(frames: Tensor) -> list[tuple[int, int]]:
    """(frame, token) for each token of one text but its end; `frames` (L, T)."""
    return [(int(centre), token) for token, centre in enumerate(token_centres(frames).tolist())]


def _soft(frames: Tensor) -> list[list[str]]:
    """Each token's share of each frame, written as fairseq writes them; the end token too. `frames` (L, T)."""
    return [[f"{share:.6f}" for share in row] for row in frames.tolist()]
