"""Texts that end an answer (`--stop`): for LLMs that know no end of turn, and go on with the next example.

An answer ends where its text holds one of them, behind its prefix and whatever tokens it is made of. The stop text
itself is no part of the hypothesis. In scores it stands for the end token: the log-probabilities of its tokens are
added up in the end token's place, so that a hypothesis has the probability of all that was written for it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate.candidates import Row
from sparqle_fairseq.generate.chains import Chain, tokens_of

# What a person types for what no shell lets through easily.
_ESCAPES = {"\\n": "\n", "\\t": "\t", "\\\\": "\\"}
# Half of a character: the bytes that follow make it another one.
_PART = "\N{REPLACEMENT CHARACTER}"


def stop_texts(value: str | Sequence[str] | None) -> list[str]:
    r"""The texts of an option's value: one, several, or several as a JSON list; `\n`, `\t` and `\\` are written out.

    Raises:
        SparqleError: one of them is empty, and would end every answer before it begins.
    """
    texts = as_typed(value)
    if "" in texts:
        raise SparqleError("--stop '' is in every text; give the text that an answer ends before, such as '\\n'")
    return [_written_out(text) for text in texts]


def as_typed(value: str | Sequence[str] | None) -> list[str]:
    """The texts of an option's value, as a person wrote them."""
    if not value:
        return []
    if not isinstance(value, str):
        return list(value)
    try:
        listed = json.loads(value)
    except ValueError:
        return [value]
    return listed if isinstance(listed, list) and all(isinstance(text, str) for text in listed) else [value]


def as_option(texts: Iterable[str]) -> str:
    """Several texts as the value of one option; '' for none."""
    texts = list(texts)
    return json.dumps(texts, ensure_ascii=False) if texts else ""


def _written_out(text: str) -> str:
    found, i = "", 0
    while i < len(text):
        pair = text[i : i + 2]
        found += _ESCAPES.get(pair, text[i])
        i += 2 if pair in _ESCAPES else 1
    return found


class Stopped(NamedTuple):
    """A hypothesis that came to a stop text."""

    written: list[int]  # all that the model wrote, the stop text too
    kept: list[int]  # the tokens of what comes before it
    whole: int  # how many of these are among the written ones; the rest is of one that the stop text begins in


class StopTexts:
    """Finds stop texts in token ids.

    Args:
        texts: as `stop_texts` gives them.
        decode: text of token ids, with special tokens.
        encode: ids of a text, without any special token.
    """

    def __init__(
        self, texts: Iterable[str], decode: Callable[[list[int]], str], encode: Callable[[str], list[int]]
    ) -> None:
        self.texts = tuple(dict.fromkeys(texts))
        self.decode, self._encode = decode, encode
        self._anchor = encode("a")  # a token that is decoded alone may lose a space
        self._anchor_text = decode(self._anchor)
        self._last = {text[-1] for text in self.texts}
        self._may_complete: dict[int, bool] = {}

    def may_complete(self, token: int) -> bool:
        """Whether a stop text can end with this token; what cannot is not decoded again with each step."""
        if token not in self._may_complete:
            text = self.decode([*self._anchor, token])
            own = text.removeprefix(self._anchor_text) if text.startswith(self._anchor_text) else _PART
            self._may_complete[token] = _PART in own or not self._last.isdisjoint(own)
        return self._may_complete[token]

    def stopped(self, ids: list[int], behind: int) -> Stopped | None:
        """`ids` up to the first stop text that begins at the character `behind` or later; None without one."""
        text = self.decode(ids)
        places = [place for stop in self.texts if (place := text.find(stop, behind)) >= 0]
        return self._cut(ids, text[: min(places)]) if places else None

    def _cut(self, ids: list[int], text: str) -> Stopped:
        """`ids` whose text begins with `text`, and tokens of that text alone."""
        whole = len(ids) - 1
        while not text.startswith(self.decode(ids[:whole])):
            whole -= 1
        rest = text[len(self.decode(ids[:whole])) :]
        if not rest:
            return Stopped(ids, ids[:whole], whole)
        joined, head = self._encode(text), self._encode(text[: len(text) - len(rest)])
        for tail in (self._encode(rest), joined[len(head) :]):
            if self.decode([*ids[:whole], *tail]) == text:
                return Stopped(ids, [*ids[:whole], *tail], whole)
        return Stopped(ids, ids[: whole + 1], whole + 1)  # text that this tokenizer cannot part stays whole


class Stopping:
    """Stop texts in the search of one batch.

    Args:
        stop: what to look for.
        prefixes: ids that each utterance's hypotheses begin with, where no stop text is looked for.
        fewest: (B,) fewest tokens before the end; with fewer, a stop text may not come.
        end: the end token, which ends a hypothesis whatever its text.
    """

    def __init__(self, stop: StopTexts, prefixes: Sequence[Sequence[int]] | None, fewest: Tensor, end: int) -> None:
        self._stop, self._end = stop, end
        self._fewest = fewest.tolist()
        prefixes = prefixes or [()] * len(self._fewest)
        self._prefix_lengths = [len(prefix) for prefix in prefixes]
        self._behind = [len(stop.decode(list(prefix))) if prefix else 0 for prefix in prefixes]

    def look(
        self, rows: Sequence[Row], chains: Mapping[int, Sequence[Chain]], step: int
    ) -> tuple[dict[tuple[int, int], Stopped], list[tuple[int, int, int]]]:
        """What the candidates come to.

        Args:
            rows: the candidates of the utterances that go on.
            chains: the beams of these utterances, in the same order.
            step: tokens that the beams hold.

        Returns:
            (row, column) -> where a stop text ends a candidate; and (row, beam, token) of those that would end before
            their fewest tokens.
        """
        found, early = {}, []
        for number, (row, (utterance, beams)) in enumerate(zip(rows, chains.items(), strict=True)):
            if step < self._prefix_lengths[utterance]:
                continue
            for column, (k, new, total) in enumerate(zip(row.origin, row.token, row.total, strict=True)):
                if new == self._end or not math.isfinite(total) or not self._stop.may_complete(new):
                    continue
                stopped = self._stop.stopped([*tokens_of(beams[k]), new], self._behind[utterance])
                if stopped is None:
                    continue
                if len(stopped.kept) < self._fewest[utterance]:
                    early.append((number, k, new))
                else:
                    found[number, column] = stopped
        return found, early


def scores_of(stopped: Stopped, scores: Sequence[float]) -> list[float]:
    """Log-probabilities of the kept tokens and the end, from those of the written ones.

    The end's is the sum of the stop text's. Where the stop text begins within a token, that token's is its beginning's.
    """
    kept = list(scores[: stopped.whole])
    rest = len(stopped.kept) - stopped.whole
    taken = stopped.whole
    if rest:
        kept += [scores[taken], *[0.0] * (rest - 1)]
        taken += 1
    return [*kept, sum(scores[taken:])]


def mask_of(found: Iterable[tuple[int, int]], like: Tensor) -> Tensor:
    """Those (row, column) as a mask of the shape of `like`."""
    mask = torch.zeros(like.shape, dtype=torch.bool)
    for row, column in found:
        mask[row, column] = True
    return mask.to(like.device)
