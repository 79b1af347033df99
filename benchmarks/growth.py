"""Does what `sparqle plan` foretells hold as the work grows: longer utterances, larger batches, larger vocabularies?

Memory of two training steps on the CPU in fp32, as `benchmarks/plan_memory.py` measures it, planned and then run.

    python benchmarks/growth.py
"""

from __future__ import annotations

from typing import Any

from alternate import Benchmark, Growth, Result, Row, Run, Settings, memory_of, run
from plan_memory import SMALL, ready, train

BENCHMARK = Benchmark(
    name="growth",
    question="Does the memory that `sparqle plan` foretells hold as utterances, batches and vocabularies grow?",
    against="the resident memory of two training steps in a process of their own",
    minutes=12,
)
RATE = 16000
SECONDS, UTTERANCES, VOCABULARIES = (5, 30, 120), (4, 16), (32_000, 262_144)
LEAST = 0.85  # of what is measured; and no more than 1.15


def planned_run(seconds: float, utterances: int, vocabulary: int = 0, objective: str = "sparqle") -> Any:
    """A Q-Former of 2 layers that reads stored features; beside it, where it has a vocabulary, a small LLM."""
    from sparqle_fairseq.tools.plan.parts import LLMSize
    from sparqle_fairseq.tools.plan.plan import Run as PlannedRun

    llm = LLMSize(vocabulary * 256 * 2 + 4e6, 256, 2, vocabulary) if vocabulary else None
    return PlannedRun(
        "base", llm, objective, qformer=(*SMALL, ("layers", 2)), from_store=True, precision="fp32",
        llm_dtype="fp32", mean_seconds=seconds, batch_multiple=1,
        max_tokens=(round(seconds * utterances * RATE),) * 2,
    )  # fmt: skip


def training(stage: int, **size: Any) -> Run:
    """Building the model belongs to it: the plan counts weights."""
    ready()
    return lambda: train(planned_run(**size), stage)


def measure(_: Settings) -> Result:
    ready()
    from sparqle_fairseq.tools.plan.plan import plan

    def both(stage: int, **size: Any) -> tuple[float, float]:
        found = memory_of(training, stage=stage, **size)
        return plan(planned_run(**size)).stages[stage].memory / 1e6, found / 1e6

    rows, growth = [], []

    def grown(over: str, of: str, sizes: dict[float, tuple[int, dict[str, Any]]]) -> None:
        lines: dict[str, list[tuple[float, float]]] = {"planned": [], "measured": []}
        for size, (stage, given) in sizes.items():
            planned, found = both(stage, **given)
            note = f"{planned:.0f} of {found:.0f} MB"
            rows.append(
                Row(
                    f"{of}, {size:,} {over}",
                    "planned / measured",
                    planned / found,
                    goal=LEAST,
                    at_least=True,
                    note=note,
                )
            )
            lines["planned"].append((size, planned))
            lines["measured"].append((size, found))
        growth.append(Growth(over, "MB", f"memory of {of}", lines))

    grown("seconds of an utterance", "stage 1", {s: (0, {"seconds": s, "utterances": 2}) for s in SECONDS})
    grown("utterances of 5 s", "stage 1", {n: (0, {"seconds": 5, "utterances": n}) for n in UTTERANCES})
    for stage, objective, of in ((0, "llm-ctc", "stage 1 by llm-ctc"), (1, "sparqle", "stage 2")):
        given = {"seconds": 5, "utterances": 4, "objective": objective}
        grown("words of the LLM", of, {v: (stage, {**given, "vocabulary": v}) for v in VOCABULARIES})
    return Result(rows, growth)


if __name__ == "__main__":
    run(BENCHMARK, measure)
