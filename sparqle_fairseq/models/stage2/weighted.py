"""The weighted sum of what the objectives of stage 2 give, and what is logged of it.

Plain PyTorch: fairseq's criterion and transformers' Trainer use it alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sparqle_fairseq.models.stage1.weighted import Logged, Weighted, logged_name, weighted_loss
from sparqle_fairseq.models.stage1.weighted import logged as logged_of
from sparqle_fairseq.models.stage2.objectives import Counted, kind_of, kinds
from sparqle_fairseq.models.stage2.objectives.base import Sums


def mixed(objectives: Iterable[str]) -> bool:
    """Whether some of them are means over tokens and others over utterances."""
    return len({kind_of(name).counted for name in objectives}) > 1


def joined_loss(
    sums: Mapping[str, Sums], weights: Mapping[str, float], nsentences: int, ntokens: int, active: bool = True
) -> Weighted:
    """The losses' sum, to be summed over processes and batches and divided by the sum of the sizes.

    Losses that are means over the same need nothing of other processes: the size is what they count. Else each is
    divided by its own count over all processes (`weighted_loss`).

    Args:
        sums: what each objective found in the batch.
        weights: of the objectives.
        nsentences, ntokens: of the batch.
        active: whether the batch counts, or stands in on a process that has no more data.
    """
    if mixed(weights):
        return weighted_loss(sums, weights, nsentences, ntokens, active)
    size = ntokens if kind_of(next(iter(weights))).counted is Counted.TOKENS else nsentences
    loss: Any = sum(weight * sums[name]["sum"] for name, weight in weights.items())
    log: dict[str, Any] = {
        f"{logged_name(name)}_{what}": value.detach() for name, own in sums.items() for what, value in own.items()
    }
    log |= {"loss": loss.detach(), "sample_size": size, "nsentences": nsentences, "ntokens": ntokens}
    return Weighted(loss, size, log)


def metric_names(objectives: Iterable[str]) -> list[str]:
    """Names of what `logged` says beside the loss."""
    known = [kind_of(name) for name in objectives]
    losses = [f"{logged_name(kind.name)}_loss" for kind in known] if len(known) > 1 else []
    return [*losses, *(name for kind in known for name in (*kind.rates, *kind.means))]


def logged(logs: Sequence[Mapping[str, Any]]) -> Iterator[Logged]:
    """The loss, what each objective says of itself, and where there are several, the loss of each."""
    learned = [kind for kind in kinds() if any(f"{logged_name(kind.name)}_count" in log for log in logs)]
    for entry in logged_of(logs, learned):
        if entry.name == "loss" or len(learned) > 1 or not entry.name.endswith("_loss"):
            yield entry
