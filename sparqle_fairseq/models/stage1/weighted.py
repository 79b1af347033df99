"""The weighted sum of what the objectives of stage 1 give, over their global counts, and what is logged of it.

Plain PyTorch: fairseq's criterion and transformers' Trainer use it alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sparqle_fairseq.gather import sum_over_ranks
from sparqle_fairseq.models.stage1.objectives import Sums, kinds


class Weighted(NamedTuple):
    """Of one process: a loss to be summed over processes and batches and divided by the sum of the sizes."""

    loss: Tensor
    size: Any  # a number, or a tensor on the device
    log: dict[str, Any]


def weighted_loss(
    sums: Mapping[str, Sums], weights: Mapping[str, float], nsentences: int, ntokens: int, active: bool
) -> Weighted:
    """Divide each loss by its count over all processes, so that one process and many take the same step.

    The size counts utterances; where one loss is asked for alone, what that loss counts (STG: tokens), so that batches
    of one update add up to the larger batch, whatever the lengths, for every loss that does not compare utterances.

    Args:
        sums: what each objective found in the batch.
        weights: of the objectives.
        nsentences, ntokens: of the batch.
        active: whether the batch counts, or stands in on a process that has no more data.
    """
    local = nsentences if active else 0
    device = sums[next(iter(weights))]["sum"].device
    counts = torch.stack(
        [torch.full((), float(local), device=device)] + [sums[name]["count"] * float(active) for name in weights]
    )
    utterances, *global_counts = sum_over_ranks(counts)
    loss: Any = sum(
        weight * sums[name]["sum"] / count.clamp(min=1)
        for (name, weight), count in zip(weights.items(), global_counts, strict=True)
    )
    alone = len(weights) == 1
    global_size, size = (global_counts[0], counts[1]) if alone else (utterances, local)
    # Tensors, not numbers: a number would make the device wait at every step.
    log: dict[str, Any] = {
        f"{logged_name(name)}_{what}": value.detach() * float(active)
        for name, own in sums.items()
        for what, value in own.items()
    }
    log |= {
        "loss": (loss * global_size).detach(),
        "sample_size": size,
        "nsentences": local,
        "ntokens": ntokens if active else 0,
    }
    return Weighted(loss * global_size, size, log)


class Logged(NamedTuple):
    """A mean of the log: its sum, what it is divided by, which is its weight in a mean of means, and its digits.

    Numbers; of logs that are on a device, tensors there, so that nobody waits for them before they are printed.
    """

    name: str
    total: Any
    weight: Any
    digits: int

    @property
    def value(self) -> Any:
        return self.total / self.weight


def logged(logs: Sequence[Mapping[str, Any]], among: Sequence[Any] | None = None) -> Iterator[Logged]:
    """Every loss (nats), and what each objective says of itself: rates (percent) and means.

    `among` are the kinds of objectives that there are: by default those of stage 1.
    """
    known: Sequence[Any] = kinds() if among is None else among

    def total(key: str) -> Any:
        return sum(_number(log.get(key, 0)) for log in logs)

    def shown(name: str, kind: Any, of: str, by: str, scale: float, digits: int) -> Iterator[Logged]:
        key = logged_name(kind.name)
        count = total(f"{key}_{by}")
        if isinstance(count, Tensor) or count:
            yield Logged(name, scale * total(f"{key}_{of}"), count, digits)

    size = total("sample_size")
    yield Logged("loss", total("loss"), size.clamp(min=1) if isinstance(size, Tensor) else max(size, 1), 3)
    for kind in known:
        yield from shown(f"{logged_name(kind.name)}_loss", kind, "sum", "count", 1, 3)
    for kind in known:
        for name, (hits, of) in kind.rates.items():
            yield from shown(name, kind, hits, of, 100, 2)
    for kind in known:
        for name, (what, of) in kind.means.items():
            yield from shown(name, kind, what, of, 1, 4)


def _number(value: Any) -> Any:
    """As a float; what lies on a device stays there."""
    return value if isinstance(value, Tensor) and value.device.type != "cpu" else float(value)


def logged_name(name: str) -> str:
    """An objective's name in logs."""
    return name.replace("-", "_")
