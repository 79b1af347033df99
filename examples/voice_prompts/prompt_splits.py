"""Divide prompts into train, valid and test so that no text is in two of them."""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence

import numpy as np


def group_by_text(texts: Mapping[str, Iterable[Hashable]]) -> list[list[str]]:
    """Groups of prompt ids linked by an equal text, directly or through another prompt; all sorted."""
    parent = {prompt: prompt for prompt in texts}

    def root(prompt: str) -> str:
        while parent[prompt] != prompt:
            parent[prompt] = prompt = parent[parent[prompt]]
        return prompt

    first: dict[Hashable, str] = {}
    for prompt in sorted(texts):
        for text in texts[prompt]:
            parent[root(prompt)] = root(first.setdefault(text, prompt))
    groups: dict[str, list[str]] = {}
    for prompt in sorted(texts):
        groups.setdefault(root(prompt), []).append(prompt)
    return sorted(groups.values())


def split_prompts(
    groups: Sequence[Sequence[str]], eligible: Collection[str], n_test: int, n_valid: int, seed: int
) -> dict[str, list[str]]:
    """`{"train": ids, "valid": ids, "test": ids}`, each sorted.

    Only a prompt that shares no text with another, and is in `eligible`, is drawn for test and valid, so that
    every test sentence counts once; all others are for training. ValueError: these are too few.
    """
    alone = [group[0] for group in groups if len(group) == 1 and group[0] in eligible]
    if n_test < 2 or n_valid < 1 or len(alone) <= n_test + n_valid:
        raise ValueError(
            f"{n_test} test and {n_valid} valid prompts cannot be drawn from {len(alone)} with a text of their own: "
            "at least 2 and 1 are needed and one must be left; change --test and --valid."
        )
    drawn = [alone[i] for i in np.random.default_rng(seed).permutation(len(alone))[: n_test + n_valid]]
    test, valid = set(drawn[:n_test]), set(drawn[n_test:])
    train = {prompt for group in groups for prompt in group} - test - valid
    return {"train": sorted(train), "valid": sorted(valid), "test": sorted(test)}
