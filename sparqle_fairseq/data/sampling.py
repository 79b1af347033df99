"""How often each row comes in an epoch: languages levelled by a temperature, tasks mixed in a ratio.

Rows fall into groups (of one target language, say). A group of n of the N rows gets the share p ~ (n / N)^(1 / T) of an
epoch (Devlin et al. 2019, multilingual BERT; Arivazhagan et al. 2019, arXiv 1907.05019): T = 1 leaves the groups as
they are, a larger T makes small ones come more often. An epoch keeps its N rows. In a group that gets more than it
has, every row comes equally often, or once more; of one that gets less, successive epochs take successive parts, so
that no row is left out for good.

What an epoch holds depends on the seed, the epoch and the rows: not on processes, batches or what was drawn before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sparqle_fairseq.data.manifest import TASKS, Manifest
from sparqle_fairseq.errors import SparqleError

# What rows can be grouped by; "manifest" is the file they come from.
GROUPINGS = ("tgt_lang", "src_lang", "task", "manifest")


@dataclass(frozen=True)
class SamplingOptions:
    """What the options ask for.

    `by` names what a group has in common, `task_ratio` the weight of each task in an epoch; without it a task's share
    is that of its groups.
    """

    temperature: float = 1.0
    by: tuple[str, ...] = ("tgt_lang",)
    task_ratio: dict[str, float] | None = None

    @classmethod
    def parse(cls, temperature: float, by: str, task_ratio: str | None) -> SamplingOptions | None:
        """None where an epoch is to have each row once. Raises `SparqleError`."""
        if not 1 <= temperature < float("inf"):
            raise SparqleError(
                f"--sampling-temperature {temperature:g} must be 1 (rows as they are) or more; 100 makes all alike"
            )
        names = tuple(name.strip() for name in by.split(","))
        unknown = [name for name in names if name not in GROUPINGS]
        if unknown:
            raise SparqleError(f"--sampling-by {by}: {unknown[0]!r} is none of {', '.join(GROUPINGS)}")
        ratio = parse_task_ratio(task_ratio) if task_ratio else None
        return None if temperature == 1 and ratio is None else cls(temperature, names, ratio)


def parse_task_ratio(text: str) -> dict[str, float]:
    """`transcription=1,translation=2` as numbers. Raises `SparqleError`."""
    ratio: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        name = name.strip()
        try:
            weight = float(number)
        except ValueError:
            weight = -1.0
        if name not in TASKS or name in ratio or not 0 <= weight < float("inf"):
            raise SparqleError(
                f"--task-ratio {text}: found {part!r}; give each of {' and '.join(TASKS)} once with a number, such as "
                "transcription=1,translation=2"
            )
        ratio[name] = weight
    if not any(ratio.values()):
        raise SparqleError(f"--task-ratio {text} leaves no row; give one of the tasks a number above 0")
    return ratio


@dataclass(frozen=True)
class Group:
    """Rows that share a fate. `quota` is how many an epoch takes of them."""

    name: str
    task: str | None
    rows: np.ndarray  # indices, in an order of their own for this seed
    quota: int

    def epoch(self, visit: int) -> np.ndarray:
        """The rows of the `visit`-th epoch (from 0) that takes from here: (quota,)."""
        times, more = divmod(self.quota, len(self.rows))
        # The next part of the same order: no row comes two times more often than another, over any epochs.
        start = visit * more % len(self.rows)
        extra = self.rows[(start + np.arange(more)) % len(self.rows)]
        return np.concatenate([*[self.rows] * times, extra])


class Sampler:
    """Draws the rows of an epoch. `groups` say what it makes of the manifests."""

    def __init__(self, manifests: Sequence[Manifest], options: SamplingOptions, seed: int) -> None:
        found = _group_rows(manifests, options)
        total = sum(len(rows) for _, _, rows in found)
        shares = _shares([len(rows) for _, _, rows in found], [task for _, task, _ in found], options)
        quotas = _whole_numbers(shares, total)
        self.groups = [
            Group(name, task, np.random.default_rng([seed & 0xFFFFFFFF, k]).permutation(rows), quota)
            for k, ((name, task, rows), quota) in enumerate(zip(found, quotas, strict=True))
        ]

    def epoch(self, visit: int) -> np.ndarray:
        """Indices of the rows of the `visit`-th epoch (from 0) over these manifests, repeats next to each other."""
        return np.sort(np.concatenate([group.epoch(visit) for group in self.groups]))

    def table(self) -> list[str]:
        """What each group has and gets, for the log."""
        total = sum(group.quota for group in self.groups)
        lines = [f"{'rows':>10} {'share':>7} {'an epoch':>10} {'share':>7} {'times':>7}  group"]
        for group in self.groups:
            rows = len(group.rows)
            lines.append(
                f"{rows:>10} {100 * rows / total:>6.1f}% {group.quota:>10} {100 * group.quota / total:>6.1f}% "
                f"{group.quota / rows:>7.2f}  {group.name}"
            )
        return lines


def _group_rows(manifests: Sequence[Manifest], options: SamplingOptions) -> list[tuple[str, str | None, np.ndarray]]:
    """Name, task (where a ratio asks for it) and rows of each group; groups that no ratio wants are left out."""
    names = [name for name in options.by if name != "manifest"]
    if options.task_ratio is not None and "task" not in names:
        names.append("task")
    parts: dict[tuple[str, ...], list[np.ndarray]] = {}
    start = 0
    for manifest in manifests:
        codes, values = manifest.distinct(names)
        order = np.argsort(codes, kind="stable")
        bounds = np.searchsorted(codes[order], np.arange(len(values) + 1))
        for k, value in enumerate(values):
            key = tuple(cell or "?" for cell in value)
            if "manifest" in options.by:
                key = (*key, manifest.path)
            parts.setdefault(key, []).append(order[bounds[k] : bounds[k + 1]] + start)
        start += len(manifest)
    place = names.index("task") if options.task_ratio is not None else None
    ratio = options.task_ratio or {}
    # By name, so that the order of the manifests' rows does not matter to the draws.
    found = [
        (" ".join(key), None if place is None else key[place], np.concatenate(rows))
        for key, rows in sorted(parts.items())
    ]
    missing = [task for task, weight in ratio.items() if weight and task not in {task for _, task, _ in found}]
    if missing:
        raise SparqleError(
            f"--task-ratio asks for {missing[0]}, and {manifests[0].path}"
            f"{' and the other manifests have' if len(manifests) > 1 else ' has'} no such row; leave it out, or check "
            "tgt_lang and task of the rows"
        )
    return [group for group in found if place is None or ratio.get(group[1] or "", 0)]


def _shares(sizes: Sequence[int], tasks: Sequence[str | None], options: SamplingOptions) -> np.ndarray:
    """The part of an epoch that each group gets; they sum to 1."""
    # Through logarithms: 1 / T may be as small as one likes, and sizes as large.
    weights = np.exp(np.log(np.asarray(sizes, dtype=np.float64) / sum(sizes)) / options.temperature)
    if options.task_ratio is None:
        return weights / weights.sum()
    shares = np.zeros(len(sizes))
    of_tasks = np.array([str(task) for task in tasks])
    for task, ratio in options.task_ratio.items():
        inside = of_tasks == task
        if inside.any():
            shares[inside] = ratio * weights[inside] / weights[inside].sum()
    return shares / shares.sum()


def _whole_numbers(shares: np.ndarray, total: int) -> list[int]:
    """Whole numbers that sum to `total`, each within 1 of its share of it: by largest remainder."""
    exact = shares * total
    quotas = np.floor(exact).astype(np.int64)
    remainders = np.argsort(-(exact - quotas), kind="stable")
    quotas[remainders[: total - int(quotas.sum())]] += 1
    return [int(quota) for quota in quotas]
