"""Splits: what they are called elsewhere, and how they are drawn where a corpus has none."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from sparqle_fairseq.tools.prepare.common import CorpusError, Utterance

SPLITS = ("train", "dev", "test")
GROUPS = ("text", "speaker")
SPELLINGS = {
    "train": ("train", "training"),
    "dev": ("dev", "valid", "validation", "val", "devel", "development"),
    "test": ("test", "testing", "tst"),
}
_EITHER = ("eval", "evaluation")  # Kaldi's test set, and what others call the dev set
_OF = {name: split for split, names in SPELLINGS.items() for name in names}


@dataclass
class Item:
    """One row of a person's table, or one recording with the texts beside it."""

    utterance: Utterance  # its target text is the translation, or empty
    split: str  # one of SPLITS; empty: to be drawn


def split_of(name: str, others: Iterable[str] = ()) -> str | None:
    """The split of `SPLITS` that a name means in the company of others; None where it means none.

    `eval` is the test set where there is a dev set by another name and no test set, else the dev set.
    """
    lowered = name.strip().lower()
    if lowered in _EITHER:
        there = {_OF.get(other.strip().lower()) for other in others}
        return "test" if "dev" in there and "test" not in there else "dev"
    return _OF.get(lowered)


def split_in_name(name: str, others: Iterable[str] = ()) -> str | None:
    """The split that a part of a file's or folder's name means: `train_manifest.json`, `cuts-dev`; None if not one."""
    company = [part for other in others for part in _parts(other)]
    found = {split_of(part, company) for part in _parts(name)} - {None}
    return found.pop() if len(found) == 1 else None


def _parts(name: str) -> list[str]:
    return re.split(r"[^A-Za-z]+", name)


def spelled(split: str, there: Sequence[str]) -> str | None:
    """How a corpus that has the splits `there` calls `split`; None where it has no such split."""
    if split in there:
        return split
    wanted = split_of(split, there)
    same = [name for name in there if wanted is not None and split_of(name, there) == wanted]
    return same[0] if len(same) == 1 else None


def draw_splits(items: list[Item], shares: Mapping[str, float], group: str, seed: int) -> None:
    """Fills in the splits that the table does not give. What is equal stays together, and training gets most."""
    if sum(shares.values()) >= 1 or min(shares.values(), default=0) < 0:
        raise CorpusError(f"found shares of {dict(shares)}; dev and test together must leave something to train on")
    open_items = [item for item in items if not item.split]
    keys = {_group(item.utterance, group) for item in open_items}
    order = sorted(keys, key=lambda key: hashlib.sha256(f"{seed}\t{key}".encode()).digest())
    split_of_key = dict.fromkeys(order, "train")
    taken = 0
    for split, share in shares.items():
        count = min(ceil(share * len(order)), len(order) - 1 - taken)
        split_of_key |= dict.fromkeys(order[taken : taken + count], split)
        taken += max(count, 0)
    for item in open_items:
        item.split = split_of_key[_group(item.utterance, group)]


def _group(utterance: Utterance, group: str) -> str:
    if group == "speaker":
        if not utterance.speaker:
            raise CorpusError(
                f"utterance {utterance.id}: has no speaker to split by; name it in the table, or split by text"
            )
        return utterance.speaker
    # Rows of one recording go where its transcript goes, and without a transcript where the recording goes.
    return utterance.src_text.casefold() or utterance.recording
