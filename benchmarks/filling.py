"""Does the largest batch that `sparqle plan --gpu-memory` names fit into that memory when it is trained on?

Two training steps on the CPU in fp32, as `benchmarks/growth.py` takes them, of the batch that the plan names. The plan
is told nine tenths of the memory, as docs/scaling.md advises. Utterances are of 5 seconds.

    python benchmarks/filling.py
"""

from __future__ import annotations

from dataclasses import replace

from alternate import Benchmark, Growth, Result, Row, Settings, memory_of, run
from growth import RATE, planned_run, training
from plan_memory import ready

BENCHMARK = Benchmark(
    name="filling",
    question="Does the largest batch that `sparqle plan` names for a given memory fit into it?",
    against="the resident memory of two training steps of that batch in a process of their own",
    minutes=20,
)
SECONDS, VOCABULARY = 5, 32_000
# Stage -> MB that are to be filled.
FILLED = {0: (800, 1600), 1: (800,)}
FREE = 0.1  # of them is left: a plan counts neither what the allocator leaves unused nor what libraries hold
LEAST = 0.85  # of what is measured; and no more than 1.15


def measure(_: Settings) -> Result:
    ready()
    from sparqle_fairseq.tools.plan.plan import STAGES, plan

    rows = []
    lines: dict[str, list[tuple[float, float]]] = {"planned": [], "measured": []}
    for stage, limits in FILLED.items():
        size = {"seconds": SECONDS, "vocabulary": VOCABULARY if stage else 0}
        for limit in limits:
            asked, given = planned_run(utterances=4, **size), (1 - FREE) * limit * 1e6
            tokens = plan(asked, given).fillings[stage].max_tokens
            fitting = replace(asked, max_tokens=(tokens,) * 2)
            larger = replace(asked, max_tokens=(tokens + SECONDS * RATE,) * 2)
            planned, beyond = (plan(each).stages[stage].memory for each in (fitting, larger))
            assert planned <= given < beyond, "one utterance more is planned to fit as well"
            batch = fitting.batch(stage)
            found = memory_of(training, stage=stage, utterances=batch, **size)
            case = f"{STAGES[stage]}, {limit:,} MB"
            note = f"{batch} utterances, {planned / 1e6:.0f} of {found / 1e6:.0f} MB"
            rows.append(Row(case, "planned / measured", planned / found, goal=LEAST, at_least=True, note=note))
            note = f"{batch + 1} utterances are planned with {beyond / 1e6:.0f}, above the {given / 1e6:.0f} MB told"
            rows.append(Row(case, "measured / there", found / limit / 1e6, goal=1.0, note=note))
            if not stage:
                lines["planned"].append((limit, planned / 1e6))
                lines["measured"].append((limit, found / 1e6))
    return Result(rows, [Growth("MB that are there", "MB", "memory of stage 1", lines)])


if __name__ == "__main__":
    run(BENCHMARK, measure)
