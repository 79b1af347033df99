"""Score `fairseq-generate` output: BLEU, chrF and word error rate with 95 % bootstrap confidence intervals.

BLEU (Papineni et al., 2002) and chrF (Popović, 2015) are sacrebleu's; word error rate is the edit distance in words
over the reference words. The bootstrap (Koehn, 2004) resamples utterances.
"""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import editdistance
import numpy as np
from sacrebleu.metrics import BLEU, CHRF

from sparqle_fairseq.errors import SparqleError

METRICS = ("bleu", "chrf", "wer")
SEED = 12345  # of the resampling; sacrebleu's own default
WER_SIGNATURE = "nrefs:1|case:lc|punct:no|unit:word|norm:NFC"


@dataclass(frozen=True)
class Score:
    """A corpus score, its 95 % interval, and the signature that says how it was made."""

    metric: str
    value: float
    low: float
    high: float
    n: int
    signature: str

    def __str__(self) -> str:
        return f"{self.value:.1f} [{self.low:.1f}, {self.high:.1f}]"


def read_generation(path: str | Path) -> list[tuple[int, str, str]]:
    """(id, reference, best hypothesis) of every utterance, by id, from `fairseq-generate`'s T- and D- lines.

    Other lines are skipped, so that a log may be mixed in; of several D- lines (`--nbest`) the first counts.
    Raises `SparqleError` where the two kinds of line do not name the same utterances, or a reference comes twice.
    """
    references: dict[int, str] = {}
    hypotheses: dict[int, str] = {}
    lines = Path(path).read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines, 1):
        kind, _, rest = line.partition("-")
        name, *values = rest.rstrip("\r").split("\t", 2 if kind == "D" else 1)
        if kind not in ("T", "D") or not name.isdecimal():
            continue
        if len(values) != (2 if kind == "D" else 1):
            raise SparqleError(f"{path} line {number} is cut off: {line[:60]!r}; run fairseq-generate again")
        if kind == "D":
            hypotheses.setdefault(int(name), values[1])
        elif int(name) in references:
            raise SparqleError(f"{path} line {number}: utterance {name} comes twice; score one run at a time")
        else:
            references[int(name)] = values[0]
    if not references and not hypotheses:
        raise SparqleError(f"{path} has no T- and D- lines; is it the output of fairseq-generate?")
    if different := sorted(references.keys() ^ hypotheses.keys()):
        raise SparqleError(
            f"{path}: {len(different)} utterance(s) lack a reference (T-) or a hypothesis (D-), the first is "
            f"{different[0]}; run fairseq-generate again, with references in the manifest."
        )
    return [(i, references[i], hypotheses[i]) for i in sorted(references)]


def wer_words(text: str) -> list[str]:
    """Lower-case words without punctuation at their ends (`Re-enter,` -> `re-enter`)."""

    def bare(word: str) -> str:
        marks = [i for i, character in enumerate(word) if unicodedata.category(character)[0] != "P"]
        return word[marks[0] : marks[-1] + 1] if marks else ""

    return [word for word in map(bare, unicodedata.normalize("NFC", text).lower().split()) if word]


def word_error_rate(
    references: Sequence[str], hypotheses: Sequence[str], drawn: np.ndarray
) -> tuple[float, np.ndarray]:
    """Word errors per 100 reference words: of the corpus, and of each of the resamples `drawn` (draws, utterances)."""
    pairs = [(wer_words(ref), wer_words(hyp)) for ref, hyp in zip(references, hypotheses, strict=True)]
    errors = np.array([editdistance.eval(ref, hyp) for ref, hyp in pairs], dtype=float)
    lengths = np.array([len(ref) for ref, _ in pairs], dtype=float)
    if not lengths.sum():
        raise SparqleError("the references hold no word, so there is no word error rate")
    rates = 100 * errors[drawn].sum(1) / np.maximum(lengths[drawn].sum(1), 1)
    return float(100 * errors.sum() / lengths.sum()), rates


def sacrebleu_score(
    metric: BLEU | CHRF, references: Sequence[str], hypotheses: Sequence[str], drawn: np.ndarray
) -> tuple[float, np.ndarray]:
    """sacrebleu's score of the corpus, and of each of the resamples `drawn` (draws, utterances).

    `corpus_score(..., n_bootstrap=N)` of sacrebleu 2.6 stops with a TypeError as soon as one resample scores 0, which
    is what a weak output does; the scores are therefore made from the statistics that it collects per utterance.
    """
    value = metric.corpus_score(list(hypotheses), [list(references)]).score
    statistics = np.array(metric._extract_corpus_statistics(list(hypotheses), [list(references)]), dtype=float)
    totals = (statistics[sample].sum(0) for sample in drawn)
    return value, np.array([float(metric._compute_score_from_stats(total).score) for total in totals])


def score(
    references: Sequence[str],
    hypotheses: Sequence[str],
    metrics: Sequence[str] = METRICS,
    n_bootstrap: int = 1000,
    seed: int = SEED,
) -> dict[str, Score]:
    """Metric name -> corpus score in percent, over equally many references and hypotheses.

    `low` and `high` are the 2.5 and 97.5 percentiles of the scores of `n_bootstrap` resamples of the utterances, the
    same resamples for every metric. Raises `SparqleError` for no utterance, sequences of different length, an unknown
    metric, or fewer than 40 resamples (too few for a 95 % interval).
    """
    if len(references) != len(hypotheses) or not references:
        raise SparqleError(f"{len(references)} references and {len(hypotheses)} hypotheses cannot be compared")
    if n_bootstrap < 40:
        raise SparqleError(f"{n_bootstrap} resamples are too few for a 95 % interval; at least 40 are needed")
    drawn = np.random.default_rng(seed).integers(len(references), size=(n_bootstrap, len(references)))
    result = {}
    for name in metrics:
        if name == "wer":
            value, resampled = word_error_rate(references, hypotheses, drawn)
            signature = WER_SIGNATURE
        elif name in ("bleu", "chrf"):
            metric = BLEU() if name == "bleu" else CHRF()
            value, resampled = sacrebleu_score(metric, references, hypotheses, drawn)
            signature = str(metric.get_signature())
        else:
            raise SparqleError(f"the metric {name!r} is not known; choose of {', '.join(METRICS)}")
        low, high = map(float, np.percentile(resampled, [2.5, 97.5]))
        signature += f"|bs:{n_bootstrap}|rs:{seed}|ci:percentile"
        result[name] = Score(name, float(value), low, high, len(references), signature)
    return result
