"""Scores of text in fairseq's two places: the log of a validation, and the last line of fairseq-generate.

What is counted is `scoring`'s, here as in `sparqle score`. fairseq's own default, BLEU over token ids of the target
dictionary, would count an LLM's tokens; it is never made.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from fairseq.logging import metrics

from sparqle_fairseq.data.one_line import from_one_line
from sparqle_fairseq.scoring.languages import choose_tokenizers, load_tokenizer
from sparqle_fairseq.scoring.metrics import BLEU_METRIC, METRICS
from sparqle_fairseq.scoring.normalise import normalised
from sparqle_fairseq.scoring.running import TextScores

logger = logging.getLogger(__name__)

# fairseq's --scoring -> the metrics that it prints here.
_OURS = {"bleu": ("bleu",), "sacrebleu": ("bleu",), "chrf": ("chrf",), "wer": ("wer", "cer")}
_DEFAULT = {"sacrebleu_tokenizer": "13a", "wer_tokenizer": "none"}  # the others are False


def log_text_scores(logs: Sequence[Mapping[str, Any]]) -> None:
    """Log `wer`, `cer` and `bleu` (in percent) of all batches so far, where there is text to score."""
    found = TextScores.added(logs)
    for name, (wrong, length) in found.errors.items():
        if length:
            # Summed meters, weighted by words: the rate of the whole split, not a mean over batches.
            metrics.log_scalar(name, 100 * wrong / length, length, round=2)
    if found.translated_tokens:
        metrics.log_scalar_sum("_bleu_counts", np.array(found.bleu))
        metrics.log_derived("bleu", lambda meters: round(BLEU_METRIC.value(meters["_bleu_counts"].sum), 2))
    if found.without_reference:
        metrics.log_scalar_sum("without_reference", found.without_reference)


def build_scorer(choice: Any, usual: Callable[[Any], Any], tokenizer: str | None = None) -> Any:
    """fairseq's scorer for --scoring: of text, with rows without reference counted and not scored.

    Args:
        choice: fairseq's options of --scoring.
        usual: builds fairseq's own scorer of them.
        tokenizer: sacrebleu's name of one for all languages.

    Raises:
        SparqleError: there is no such tokenizer.
    """
    name = choice if isinstance(choice, str) else choice["_name"]
    options = {} if isinstance(choice, str) else {key: value for key, value in choice.items() if key != "_name"}
    tokenizer = _named(options, "sacrebleu_tokenizer") or tokenizer
    if tokenizer is not None:
        load_tokenizer(tokenizer)
    own = [key for key in options if key != "sacrebleu_tokenizer" and key.startswith(("sacrebleu_", "wer_"))]
    if name in _OURS and not any(_named(options, key) for key in own):
        return TextScorer(_OURS[name], tokenizer)
    return TextScorer((), tokenizer, usual(choice))


def _named(options: Mapping[str, Any], key: str) -> Any:
    """The value of a fairseq option where it is not the default."""
    value = options.get(key, False)
    return None if not value or str(value) == _DEFAULT.get(key) else (value if value is True else str(value))


class TextScorer:
    """Takes pairs of a reference and a hypothesis as they are printed; scores those that have a reference.

    `inner`, one of fairseq's scorers, makes the result where there are no `metrics`.
    """

    def __init__(self, metrics: Sequence[str], tokenizer: str | None = None, inner: Any = None) -> None:
        self.metrics, self.tokenizer, self.inner = tuple(metrics), tokenizer, inner
        self.references: list[str] = []
        self.hypotheses: list[str] = []
        self.languages: list[str | None] = []
        self.without_reference = 0

    def add_string(self, reference: str, hypothesis: str) -> None:
        """One pair; a `Reference` says its language."""
        texts = from_one_line(reference), from_one_line(hypothesis)
        if not normalised(texts[0]):
            self.without_reference += 1
            return
        self.references.append(texts[0])
        self.hypotheses.append(texts[1])
        self.languages.append(getattr(reference, "language", None))
        if self.inner is not None:
            self.inner.add_string(*texts)

    def score(self) -> float:
        """The first metric's score; 0 where nothing has a reference."""
        if not self.references:
            return 0.0
        return self._sums()[self.metrics[0]][0] if self.metrics else float(self.inner.score())

    def result_string(self) -> str:
        """The scores, what was counted, and how they were made."""
        counted = f"{len(self.references)} utterances"
        if self.without_reference:
            counted += f", {self.without_reference} more without a reference"
        if not self.references:
            return f"no score ({counted})"
        if not self.metrics:
            return f"{self.inner.result_string()} | {counted}{self._warning()}"
        found = self._sums()
        shown = " ".join(text for _, text, _ in found.values())
        made = [f"{name}: {signature}" for name, (_, _, signature) in found.items()]
        return " | ".join([shown, counted, *made])

    def _warning(self) -> str:
        tokenizers = choose_tokenizers(self.references, self.languages)
        if set(tokenizers.rows) <= {"13a", "ko-mecab"}:
            return ""
        return " | the texts have no spaces between words: if this score splits at spaces, take that of `sparqle score`"

    def _sums(self) -> dict[str, tuple[float, str, str]]:
        """Metric -> value, what is shown of it, signature."""
        tokenizers = choose_tokenizers(self.references, self.languages, self.tokenizer)
        for note in tokenizers.notes:
            logger.info(note)
        result = {}
        for name in self.metrics:
            metric = METRICS[name]
            sums = metric.statistics(self.references, self.hypotheses, tokenizers).sum(0)
            value = metric.value(sums)
            shown = str(BLEU_METRIC.details(sums).format()) if name == "bleu" else f"{_SHOWN[name]} {value:.2f}"
            result[name] = value, shown, metric.signature(tokenizers)
        return result


_SHOWN = {"chrf": "chrF2 =", "wer": "WER:", "cer": "CER:"}
