"""How does what `sparqle plan` foretells grow with the work: longer utterances, larger batches, larger vocabularies?

Memory of two training steps on the CPU in fp32, as `benchmarks/plan_memory.py` measures it, planned and then run.
Where it was run, 36 to 56 MB more were held than planned in seven of eight settings. llm-ctc with 262,144 words held
934 MB against 529; a likely cause, not looked into, is the building of its model, which the plan does not count.
Stage 2 with that vocabulary was not run.

    python benchmarks/growth.py
"""

from __future__ import annotations

import json
import sys
from functools import partial
from typing import Any

from plan_memory import SMALL, peak_bytes, prepared, train

RATE = 16000


def settings() -> dict[str, tuple[Any, int]]:
    """Name -> run, stage. One of three things grows: seconds of an utterance, utterances, words of the LLM."""
    from sparqle_fairseq.tools.plan.parts import LLMSize
    from sparqle_fairseq.tools.plan.plan import Run

    def run(seconds: float, utterances: int, vocabulary: int = 0, objective: str = "sparqle") -> Any:
        llm = LLMSize(vocabulary * 256 * 2 + 4e6, 256, 2, vocabulary) if vocabulary else None
        return Run(
            "base", llm, objective, qformer=(*SMALL, ("layers", 2)), from_store=True, precision="fp32",
            llm_dtype="fp32", mean_seconds=seconds, batch_multiple=1,
            max_tokens=(round(seconds * utterances * RATE),) * 2,
        )  # fmt: skip

    found: dict[str, tuple[Any, int]] = {}
    for seconds in (5, 30, 120):
        found[f"stage 1, 2 utterances of {seconds} s"] = run(seconds, 2), 0
    for utterances in (4, 16):
        found[f"stage 1, {utterances} utterances of 5 s"] = run(5, utterances), 0
    for vocabulary in (32000, 262144):
        found[f"stage 1 of llm-ctc, vocabulary {vocabulary}"] = run(5, 4, vocabulary, "llm-ctc"), 0
        found[f"stage 2, vocabulary {vocabulary}"] = run(5, 4, vocabulary), 1
    return found


def main() -> None:
    prepared()
    from sparqle_fairseq.tools.plan.plan import plan

    print("| setting | planned | measured | planned / measured |\n|---|---|---|---|")
    for name, (run, stage) in settings().items():
        measured = peak_bytes(partial(train, run, stage))
        planned = plan(run).stages[stage].memory
        print(f"| {name} | {planned / 1e6:.0f} MB | {measured / 1e6:.0f} MB | {planned / measured:.2f} |", flush=True)
        if "--json" in sys.argv:
            print(json.dumps({"setting": name, "planned": planned, "measured": measured}), file=sys.stderr)


if __name__ == "__main__":
    main()
