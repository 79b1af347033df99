"""A part's scores: counts of every utterance and system, corpus scores with intervals, tests of the differences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.scoring.error_rates import DEFAULT_NORMALISER
from sparqle_fairseq.scoring.languages import choose_tokenizers
from sparqle_fairseq.scoring.resampling import SEED
from sparqle_fairseq.scoring.scores import Measured, intervals, measure_all
from sparqle_fairseq.scoring.significance import TRIALS, Paired, holm, paired_tests
from sparqle_fairseq.tools.report.parts import Part

METRICS = {"translation": ("bleu", "chrf", "chrf++", "ter"), "transcription": ("wer", "cer")}
# By which utterances are put in order, and groups are compared.
BY_UTTERANCE = {"translation": "chrf", "transcription": "wer"}


@dataclass(frozen=True)
class Rules:
    """How to count."""

    metrics: tuple[str, ...] = ()  # none: those of the task
    tokenizer: str | None = None
    normaliser: str = DEFAULT_NORMALISER
    draws: int = 1000
    trials: int = TRIALS
    seed: int = SEED

    def of(self, task: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.metrics)) or METRICS[task]


@dataclass(frozen=True)
class Value:
    """A score with its 95 % interval, in percent."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Paired):
    """A paired test with p-values that hold for all systems together (Holm)."""

    holm_randomisation: float
    holm_bootstrap: float


@dataclass(frozen=True)
class Counted:
    """The counts of a part, by system and metric."""

    part: Part
    tables: Mapping[str, Mapping[str, Measured]]
    order: Mapping[str, Measured]  # by system: the metric that puts utterances in order
    notes: tuple[str, ...]

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(next(iter(self.tables.values())))

    @property
    def signatures(self) -> dict[str, str]:
        return {name: measured.signature for name, measured in next(iter(self.tables.values())).items()}

    def scores(self, rules: Rules, rows: Sequence[int] | None = None) -> dict[str, dict[str, Value]]:
        """By system and metric; of some rows, or of all."""
        found = {}
        for system, own in self.tables.items():
            measured = [one if rows is None else one.of(rows) for one in own.values()]
            spans = intervals(measured, rules.draws, rules.seed)
            values = [Value(one.value, *span) for one, span in zip(measured, spans, strict=True)]
            found[system] = dict(zip(own, values, strict=True))
        return found

    def differences(self, baseline: str, rules: Rules) -> dict[str, dict[str, Difference]]:
        """Of every other system to the baseline, by metric."""
        others = [system for system in self.tables if system != baseline]
        theirs = list(self.tables[baseline].values())
        kinds = [one.metric for one in theirs]
        tests = {}
        for system in others:
            own = [one.table for one in self.tables[system].values()]
            tests[system] = paired_tests(
                kinds, own, [one.table for one in theirs], rules.draws, rules.trials, rules.seed
            )
        found: dict[str, dict[str, Difference]] = {system: {} for system in others}
        for place, metric in enumerate(self.metrics):
            of_all = [tests[system][place] for system in others]
            randomised = holm([test.p_randomisation for test in of_all])
            drawn = holm([test.p_bootstrap for test in of_all])
            for system, test, *adjusted in zip(others, of_all, randomised, drawn, strict=True):
                found[system][metric] = Difference(**vars(test), **dict(zip(_HOLM, adjusted, strict=True)))
        return found

    def by_utterance(self, system: str) -> np.ndarray:
        """(N,) score of each utterance."""
        measured = self.order[system]
        return measured.metric.values(measured.table.astype(float))


_HOLM = ("holm_randomisation", "holm_bootstrap")


def count(part: Part, rules: Rules, extra: Mapping[str, Mapping[str, Measured]] | None = None) -> Counted:
    """Count a part. `extra`: by system, metrics that others counted (COMET). Raises `SparqleError`."""
    references = part.references
    tokenizers = choose_tokenizers(references, part.language, rules.tokenizer)
    tables: dict[str, dict[str, Measured]] = {}
    order = {}
    for system in part.texts:
        texts = part.hypotheses(system)
        try:
            wanted, by = rules.of(part.task), BY_UTTERANCE[part.task]
            found = measure_all(references, texts, (*wanted, by), tokenizers, rules.normaliser)
        except SparqleError as error:
            raise SparqleError(f"{part.title}: {error}") from error
        tables[system] = {name: found[name] for name in wanted} | dict((extra or {}).get(system, {}))
        order[system] = found[by]
    return Counted(part, tables, order, tokenizers.notes)
