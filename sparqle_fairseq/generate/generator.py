"""fairseq's generator interface over `search`: for each utterance a list of hypotheses, best first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate.attention import token_centres, token_map
from sparqle_fairseq.generate.contrast import contrast_text, contrasts, forced_scores, rows_of
from sparqle_fairseq.generate.guard import BLOCKED_NGRAM, is_loop
from sparqle_fairseq.generate.limits import LengthRule, room
from sparqle_fairseq.generate.mbr import mbr_order
from sparqle_fairseq.generate.options import DecodingOptions
from sparqle_fairseq.generate.remarks import REPETITION
from sparqle_fairseq.generate.search import Hypothesis, SearchSettings, ensemble, search
from sparqle_fairseq.generate.stopping import StopTexts


class HypothesisGenerator:
    """What `task.build_generator` returns.

    Args:
        settings: how to search.
        lengths: how long an answer may be.
        pad, end: ids of the target dictionary.
        decoding: options beyond fairseq's; none is on by default.
        text_of: text of token ids, where loops or likeness of texts are looked at.
        score_reference: score the references and search nothing.
        stop: texts that end an answer.
        alignment: "hard" or "soft" for fairseq's --print-alignment; None makes no alignments, which cost another pass.
        nbest: so many hypotheses of an utterance get one.
    """

    def __init__(
        self,
        settings: SearchSettings,
        lengths: LengthRule,
        *,
        pad: int,
        end: int,
        alignment: str | None = None,
        nbest: int = 1,
        decoding: DecodingOptions | None = None,
        text_of: Callable[[Tensor], str] | None = None,
        score_reference: bool = False,
        stop: StopTexts | None = None,
    ) -> None:
        self.settings, self.lengths = settings, lengths
        self.pad, self.eos = pad, end
        self.alignment, self.nbest = alignment, nbest
        self.decoding = decoding or DecodingOptions()
        self._text_of = text_of
        self.score_reference = score_reference
        self.stop = stop

    @property
    def symbols_to_strip_from_output(self) -> set[int]:
        return {self.eos, self.pad}

    @torch.no_grad()
    def generate(
        self,
        models: Sequence[Any],
        sample: dict[str, Any],
        prefix_tokens: Tensor | None = None,
        **_: Any,
    ) -> list[list[dict[str, Any]]]:
        """Hypotheses in fairseq's shape: tokens, score, positional_scores, attention, alignment.

        Also `ended` (`remarks.Ended`), `written` (the tokens that the model wrote, a stop text's too), `flag`,
        "repetition" where the guard searched again, and with --speech-contrast `contrast`.

        Args:
            models: one, or several whose probabilities are averaged.
            sample: a batch; the ids in its `prefix` begin the answers.
            prefix_tokens: (B, L) ids that the answers begin with instead, from fairseq's --prefix-size.
        """
        net_input, keys = sample["net_input"], sample["id"]
        prefixes = None
        if self.score_reference:
            found = self._references(models, sample)
        else:
            prefixes = self._prefixes(sample, prefix_tokens)
            found = self._search(models, net_input, keys, prefixes, self.settings)
        answer = [[_as_fairseqs(hypothesis) for hypothesis in row] for row in found]
        if not self.score_reference:
            if self.decoding.loop_guard:
                self._guard(models, net_input, keys, prefixes, answer)
            if self.decoding.rerank == "mbr":
                answer = [self._reranked(row) for row in answer]
        if self.decoding.speech_contrast != "none":
            self._contrast(models, net_input, answer)
        if self.alignment:
            self._align(models[0], net_input, answer)
        return answer

    def _prefixes(self, sample: dict[str, Any], prefix_tokens: Tensor | None) -> Sequence[Sequence[int]] | None:
        """Of each utterance, the ids that its answers begin with; None where none has any."""
        if prefix_tokens is not None:
            own = {self.pad, self.eos}
            return [[token for token in row if token not in own] for row in prefix_tokens.tolist()]
        prefixes = sample.get("prefix") or ()
        return prefixes if any(prefixes) else None

    def _search(
        self,
        models: Sequence[Any],
        net_input: dict[str, Any],
        keys: Tensor,
        prefixes: Sequence[Sequence[int]] | None,
        settings: SearchSettings,
    ) -> list[list[Hypothesis]]:
        if prefixes is not None:
            for prefix, tokens in zip(prefixes, room(models, net_input).tolist(), strict=True):
                if len(prefix) > tokens:
                    raise SparqleError(
                        f"a prefix of {len(prefix)} tokens is longer than the {tokens} that an answer has room for; "
                        "shorten --prefix, --prefix-size or the manifest's prefix column"
                    )
        return search(
            ensemble([model.step_decoder() for model in models]),
            net_input,
            settings,
            self.lengths.limits(models, net_input),
            pad=self.pad,
            end=self.eos,
            keys=keys,
            prefixes=prefixes,
            stop=self.stop,
        )

    def _references(self, models: Sequence[Any], sample: dict[str, Any]) -> list[list[Hypothesis]]:
        """The references as hypotheses, with the scores that the models give them."""
        if sample["target"] is None:
            raise SparqleError("--score-reference scores the manifest's texts, and a row of this batch has none")
        answers = [[token for token in row if token != self.pad] for row in sample["target"].tolist()]
        if answers and answers[0][-1] != self.eos:
            answers = [[*answer, self.eos] for answer in answers]
        decoder = ensemble([model.step_decoder() for model in models])
        scores = forced_scores(decoder, sample["net_input"], answers, pad=self.pad, end=self.eos)
        scale = 0.0 if self.settings.unnormalized else self.settings.lenpen
        return [
            [Hypothesis(answer, places, sum(places) / len(answer) ** scale)]
            for answer, places in zip(answers, scores, strict=True)
        ]

    def _guard(
        self,
        models: Sequence[Any],
        net_input: dict[str, Any],
        keys: Tensor,
        prefixes: Sequence[Sequence[int]] | None,
        answer: list[list[dict[str, Any]]],
    ) -> None:
        """Search again, without any repeated sequence of some tokens, where the best text loops; in place."""
        loops = [i for i, row in enumerate(answer) if is_loop(self._text(row[0]))]
        if not loops:
            return
        if self.settings.no_repeat_ngram_size != BLOCKED_NGRAM:
            rows = torch.tensor(loops, device=keys.device)
            own = None if prefixes is None else [prefixes[i] for i in loops]
            settings = replace(self.settings, no_repeat_ngram_size=BLOCKED_NGRAM)
            again = self._search(models, rows_of(net_input, rows), keys[rows], own, settings)
            for i, row in zip(loops, again, strict=True):
                answer[i] = [_as_fairseqs(hypothesis) for hypothesis in row]
        for i in loops:
            answer[i][0]["flag"] = REPETITION

    def _reranked(self, row: list[dict[str, Any]]) -> list[dict[str, Any]]:
        log_probs = [float(hypothesis["positional_scores"].sum()) for hypothesis in row]
        order = mbr_order([self._text(hypothesis) for hypothesis in row], log_probs, self.settings.sampling)
        flag = row[0]["flag"]
        for place in order:
            row[place]["flag"] = flag
        return [row[place] for place in order]

    def _contrast(self, models: Sequence[Any], net_input: dict[str, Any], answer: list[list[dict[str, Any]]]) -> None:
        """Give the hypotheses that are asked for their `contrast`."""
        # Of a text that --stop ended, what the model wrote: it knows of no end.
        texts = [[hypothesis["written"].tolist() for hypothesis in row[: self.nbest]] for row in answer]
        kind = self.decoding.speech_contrast
        found = contrasts(models, net_input, texts, kind, pad=self.pad, end=self.eos)
        for row, own in zip(answer, found, strict=True):
            for hypothesis, contrast in zip(row[: self.nbest], own, strict=True):
                hypothesis["contrast"] = contrast

    def unheard(self, hypothesis: dict[str, Any]) -> bool:
        """Whether a hypothesis is not likelier with its speech than without, as far as --least-contrast asks."""
        contrast = hypothesis.get("contrast")
        return contrast is not None and contrast.difference < self.decoding.least_contrast

    def remarks(self, hypothesis: dict[str, Any]) -> str:
        """What fairseq-generate's I- line says of a hypothesis: why it ended, then its contrast where one was asked."""
        contrast = hypothesis.get("contrast")
        if contrast is None:
            return hypothesis["ended"]
        return f"{hypothesis['ended']}\t{contrast_text(contrast, self.unheard(hypothesis))}"

    def _text(self, hypothesis: dict[str, Any]) -> str:
        assert self._text_of is not None, "a generator that looks at texts is made with text_of"
        return self._text_of(hypothesis["tokens"])

    def _align(self, model: Any, net_input: dict[str, Any], answer: list[list[dict[str, Any]]]) -> None:
        """Put in each hypothesis' `alignment` what fairseq prints on its A- line; of an ensemble, the first model's."""
        wanted = [(i, hypothesis) for i, row in enumerate(answer) for hypothesis in row[: self.nbest]]
        if not wanted:
            return
        texts = [hypothesis["tokens"].tolist() for _, hypothesis in wanted]
        found = token_map(model, net_input, texts, [i for i, _ in wanted])
        frames, padding_mask = found.frames.cpu(), found.frame_padding_mask.cpu()
        for n, (_, hypothesis) in enumerate(wanted):
            own = frames[n, : len(texts[n])][:, ~padding_mask[n]]  # (L, T)
            hypothesis["alignment"] = _hard(own[:-1]) if self.alignment == "hard" else _soft(own)


def _as_fairseqs(hypothesis: Hypothesis) -> dict[str, Any]:
    return {
        "tokens": torch.tensor(hypothesis.tokens),
        "written": torch.tensor(hypothesis.tokens if hypothesis.written is None else hypothesis.written),
        "score": torch.tensor(hypothesis.score),
        "positional_scores": torch.tensor(hypothesis.positional_scores),
        "attention": None,
        "alignment": torch.empty(0),
        "ended": hypothesis.ended,
        "flag": None,
    }


def _hard(frames: Tensor) -> list[tuple[int, int]]:
    """(frame, token) for each token of one text but its end; `frames` (L, T)."""
    return [(int(centre), token) for token, centre in enumerate(token_centres(frames).tolist())]


def _soft(frames: Tensor) -> list[list[str]]:
    """Each token's share of each frame, written as fairseq writes them; the end token too. `frames` (L, T)."""
    return [[f"{share:.6f}" for share in row] for row in frames.tolist()]
