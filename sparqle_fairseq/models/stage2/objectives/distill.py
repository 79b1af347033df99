"""`distill`: hearing the speech, the LLM is to go on with the answer as it does itself on reading the transcript.

The loss is the Kullback-Leibler divergence of the two next-token distributions at every token of the answer: Ultravox
(github.com/fixie-ai/ultravox); arXiv 2505.18644; arXiv 2509.03526; the temperature after Hinton et al., 2015, arXiv
1503.02531. The teacher is the LLM that is frozen here, without LoRA, in the bits that it runs in; answers may be any,
its own too, so that no translation is needed.

B utterances, L answer tokens, V vocabulary of the LLM.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.qformer.places import places_where
from sparqle_fairseq.models.stage2.batch import Stage2Batch
from sparqle_fairseq.models.stage2.objectives.base import Objective, Sums
from sparqle_fairseq.models.stage2.objectives.registry import register_objective


@dataclass(frozen=True)
class DistillOptions:
    distill_temperature: float = field(
        default=1.0,
        metadata={"help": "of --objective distill: divides the logits of both; above 1 unlikely tokens count for more"},
    )


@register_objective
class Distill(Objective):
    name = "distill"
    reads_transcripts = True
    rates = {"agreement": ("agreed", "count")}  # tokens that are the likeliest for both
    LossOptions = DistillOptions

    def settle(self, options: Any) -> None:
        super().settle(options)
        if not self.loss_options.distill_temperature > 0:
            raise SparqleError(f"--distill-temperature {self.loss_options.distill_temperature:g} must be above 0")

    def sums(self, batch: Stage2Batch) -> Sums:
        loss, agreed = divergence(
            batch.logits,
            batch.learned,
            batch.read_logits(),
            self.loss_options.distill_temperature,
            batch.lessons.learned_lengths,
        )
        return {"sum": loss, "count": batch.tokens, "agreed": agreed}


def divergence(
    logits: Tensor,
    real: Tensor,
    taught: Iterable[tuple[slice, Tensor]],
    temperature: float = 1.0,
    lengths: Sequence[int] | None = None,
) -> tuple[Tensor, Tensor]:
    """Sum over the real positions of KL(teacher || student), times the temperature squared; and how often both agree.

    Args:
        logits: of the student, (B, L, V).
        real: bool (B, L), False at padding.
        taught: rows of B and the teacher's logits (b, L, V) there, part after part.
        temperature: of both distributions. Its square keeps the gradient as large as at 1.
        lengths: B numbers of real positions, where the program knows them; else a device is asked.
    """
    return _Divergence.apply(logits, real, taught, temperature, lengths)


class _Divergence(torch.autograd.Function):
    """The gradient is made with the value: of a part's logits nothing else has to be kept until the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Tensor,
        real: Tensor,
        taught: Iterable[tuple[slice, Tensor]],
        temperature: float,
        lengths: Sequence[int] | None,
    ) -> tuple[Tensor, Tensor]:
        total = torch.zeros((), device=logits.device)
        agreed = torch.zeros((), dtype=torch.long, device=logits.device)
        # In fp16 a gradient that the loss scale has not enlarged yet would vanish.
        kept = torch.float32 if logits.dtype == torch.float16 else logits.dtype
        gradient = logits.new_zeros(logits.shape, dtype=kept) if ctx.needs_input_grad[0] else None
        for rows, teacher in taught:
            here = places_where(real[rows], None if lengths is None else sum(lengths[rows]))  # (k,)
            own, theirs = (
                each.flatten(0, 1).index_select(0, here).float() / temperature for each in (logits[rows], teacher)
            )  # (k, V)
            agreed += (own.argmax(dim=-1) == theirs.argmax(dim=-1)).sum()
            own, theirs = own.log_softmax(dim=-1), theirs.log_softmax(dim=-1)
            wanted = theirs.exp()
            # A token that the teacher rules out asks for nothing, whatever the student makes of it.
            total += (wanted * (theirs - own)).masked_fill(wanted == 0, 0).sum() * temperature**2
            if gradient is not None:
                own = ((own.exp() - wanted) * temperature).to(kept)
                gradient[rows].view(-1, own.size(1)).index_copy_(0, here, own)
        ctx.save_for_backward(gradient)
        ctx.dtype = logits.dtype
        ctx.mark_non_differentiable(agreed)
        return total, agreed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * gradients[0]).to(ctx.dtype), None, None, None, None
