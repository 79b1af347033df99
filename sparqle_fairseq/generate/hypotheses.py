"""What the search has found, on the host: the beams that go on, and the hypotheses that they end as."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sparqle_fairseq.generate.candidates import Row
from sparqle_fairseq.generate.chains import Chain, Said, places_of, tokens_of
from sparqle_fairseq.generate.remarks import Ended
from sparqle_fairseq.generate.settings import SearchSettings
from sparqle_fairseq.generate.stopping import Stopped, scores_of


@dataclass
class Hypothesis:
    tokens: list[int]  # closed by the end token
    positional_scores: list[float]  # natural log-probability of each token
    score: float  # sum of positional_scores / len(tokens) ** lenpen
    ended: Ended = "end"
    written: list[int] | None = None  # what the model wrote in place of the end and before, where a stop text ended it


class Answers:
    """The hypotheses of a batch as they end, and the beams of those utterances that go on.

    `chains` holds the beams of each utterance that goes on.

    Args:
        causes: what limits the longest length of each utterance.
    """

    def __init__(self, settings: SearchSettings, causes: Sequence[Ended], end: int) -> None:
        self._settings, self._causes, self._end = settings, causes, end
        self._finished: list[list[Hypothesis]] = [[] for _ in causes]
        beams = settings.beam if settings.sampling else 1
        self.chains: dict[int, list[Chain]] = {i: [None] * beams for i in range(len(causes))}

    def take(self, rows: Sequence[Row], stopped: Mapping[tuple[int, int], Stopped]) -> list[int]:
        """End what ends among the candidates, let the rest go on, and say which rows do.

        Args:
            rows: those of the utterances that go on, in their order.
            stopped: (row, column) -> where a stop text ends a candidate.
        """
        open_rows = []
        ends: dict[int, dict[int, Stopped]] = {}
        for (number, column), found in stopped.items():
            ends.setdefault(number, {})[column] = found
        for number, (utterance, row) in enumerate(list(zip(self.chains, rows, strict=True))):
            self._end_some(utterance, row, ends.get(number, {}))
            if self._goes_on(utterance, row):
                chains = self.chains[utterance]
                self.chains[utterance] = [Said(row.token[c], row.place[c], chains[row.origin[c]]) for c in row.chosen]
                open_rows.append(number)
            else:
                del self.chains[utterance]
        return open_rows

    def _goes_on(self, utterance: int, row: Row) -> bool:
        if len(self._finished[utterance]) >= self._settings.beam:
            return False
        return any(row.token[c] != self._end and math.isfinite(row.total[c]) for c in row.chosen)

    def _end_some(self, utterance: int, row: Row, stopped: Mapping[int, Stopped]) -> None:
        """Hypotheses of the ends that are among the utterance's `beam` best candidates."""
        settings, finished, chains = self._settings, self._finished[utterance], self.chains[utterance]
        for column, token in enumerate(row.token[: settings.beam]):
            if token != self._end or not math.isfinite(row.total[column]) or len(finished) >= settings.beam:
                continue
            k = row.origin[column]
            places = [*places_of(chains[k]), row.place[column]]
            written: list[int] | None = None
            ended: Ended = self._causes[utterance] if row.cut[k] else "end"
            if column in stopped:
                found = stopped[column]
                tokens, places = [*found.kept, self._end], scores_of(found, places)
                ended, written = "stop", found.written
            else:
                tokens = [*tokens_of(chains[k]), self._end]
            score = row.total[column] / (1 if settings.unnormalized else len(tokens) ** settings.lenpen)
            finished.append(Hypothesis(tokens, places, score, ended, written))

    def sorted(self) -> list[list[Hypothesis]]:
        """Each utterance's hypotheses, best first."""
        return [sorted(hypotheses, key=lambda hypothesis: -hypothesis.score) for hypotheses in self._finished]
