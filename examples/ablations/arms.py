"""The arms of the ablations: what each changes of the demo, as options of fairseq-train."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Arm:
    """A way to train: options of stage 1 (None: stage 2 alone), of stage 2, and of the adapter's shape in both.

    An option `{llm}` becomes the LLM's folder.
    """

    name: str
    stage1: tuple[object, ...] | None
    stage2: tuple[object, ...] = ()
    shape: tuple[object, ...] = ()


# What every arm has unless it says otherwise, as the demo.
BASE = ("--query-start", "monotonic")
TO_LLM = ("--objective", "llm-ctc", "--llm", "{llm}")

GROUPS: dict[str, tuple[Arm, ...]] = {
    # Which objective stage 1 should have.
    "objectives": (
        Arm("none", None),
        Arm("sparqle", ("--objective", "sparqle")),
        Arm("stg", ("--objective", "stg")),
        Arm("stg-outputs", ("--objective", "stg-outputs")),
        Arm("ctc", ("--objective", "ctc")),
        Arm("llm-ctc", TO_LLM),
        Arm("llm-ctc, compressed", TO_LLM, ("--compress-queries",)),
    ),
    # What each of the three published losses brings, and how two of them are set.
    "losses": (
        Arm("stc+stm+stg", ()),
        Arm("stm+stg", ("--stc-weight", 0)),
        Arm("stc+stg", ("--stm-weight", 0)),
        Arm("stc+stm", ("--stg-weight", 0)),
        Arm("no smoothing of stc", ("--stc-smoothing", 0)),
        Arm("uniform negatives", ("--stm-negatives", "uniform")),
        Arm("llm-ctc+stc", ("--objective", "llm-ctc+stc", "--llm", "{llm}")),
        Arm("llm-ctc+stg", ("--objective", "llm-ctc+stg", "--llm", "{llm}")),
    ),
    # The Q-Former and the projector, with the objective that the demo uses.
    "shape": (
        Arm("24 queries, linear", TO_LLM),
        Arm("12 queries", TO_LLM, shape=("--queries", 12)),
        Arm("48 queries", TO_LLM, shape=("--queries", 48)),
        Arm("speech in every 2nd layer", TO_LLM, shape=("--cross-attention-freq", 2)),
        Arm("mlp projector", TO_LLM, shape=("--projector", "mlp")),
        Arm("linear-norm projector", TO_LLM, shape=("--projector", "linear-norm")),
        Arm("published query start", TO_LLM, shape=("--query-start", "learned")),
        Arm("Q-Former frozen in stage 2", TO_LLM, ("--freeze-qformer",)),
    ),
}
