"""Do memory and time of the Q-Former grow linearly with the length of the speech, with windows and without?

Each case runs in a process of its own: forward and backward of a base-size Q-Former over the features of one utterance.
Peak memory is what the process's resident set grew by beyond its weights and gradients. The peer is the published
form, 100 queries for the whole utterance, measured in the same run; figures are shown with their ratio to the first
length, which for a linear cost is the ratio of the lengths.

    python benchmarks/long_speech.py
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

FRAME_RATE = 50
WIDTH = 1024  # HuBERT-large
SECONDS, QUERIES = 1.0, 4
CASES = {
    "100 queries": {},
    f"{QUERIES} queries every {SECONDS:g} s": {"window_frames": int(SECONDS * FRAME_RATE), "queries": QUERIES},
}
PASSES = ("queries", "matching")
TOKENS = 3  # of a transcript, in a second of speech


def measure(case: str, which: str, seconds: int, repeats: int) -> dict[str, float]:
    """Median time in seconds and peak memory in MB of one training step."""
    import torch

    from sparqle_fairseq.models.qformer.qformer import QFormer, QFormerConfig

    torch.set_num_threads(1)
    torch.manual_seed(0)
    qformer = QFormer(QFormerConfig(vocab_size=30523, speech_width=WIDTH, dropout=0.0, **CASES[case]))

    def step(length: int) -> None:
        values = torch.randn(1, length * FRAME_RATE, WIDTH)
        memory = qformer.read_speech(values, torch.zeros(values.shape[:2], dtype=torch.bool))
        if which == "queries":
            hidden = qformer.query(memory).hidden
        else:
            tokens = torch.randint(1000, (1, TOKENS * length))
            hidden = qformer.match(tokens, torch.zeros_like(tokens, dtype=torch.bool), memory)
        hidden.square().mean().backward()

    step(1)  # gradients and libraries are there before the measurement
    before = _peak()
    times = [_timed(lambda: step(seconds)) for _ in range(repeats)]
    return {"time": statistics.median(times), "memory": _peak() - before}


def _timed(run: Callable[[], None]) -> float:
    start = time.process_time()  # of this process alone: others may share the machine
    run()
    return time.process_time() - start


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[10, 30, 60, 120], help="seconds of speech")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", nargs=3, metavar=("CASE", "PASS", "SECONDS"), help="measure one case, print JSON")
    options = parser.parse_args()
    if options.one:
        case, which, seconds = options.one
        print(json.dumps(measure(case, which, int(seconds), options.repeats)))
        return
    print(f"{platform.machine()}, 1 thread, base size, features of width {WIDTH} at {FRAME_RATE} Hz, CPU time\n")
    print("| pass | queries | " + " | ".join(f"{length} s" for length in options.lengths) + " |")
    print("|---|---|" + "---|" * len(options.lengths))
    for which in PASSES:
        for case in CASES:
            found = [_in_own_process(case, which, length, options.repeats) for length in options.lengths]
            cells = [
                f"{one['time']:.2f} s ({one['time'] / found[0]['time']:.1f}), "
                f"{one['memory']:.0f} MB ({one['memory'] / max(found[0]['memory'], 1):.1f})"
                for one in found
            ]
            print(f"| {which} | {case} | " + " | ".join(cells) + " |", flush=True)


def _in_own_process(case: str, which: str, seconds: int, repeats: int) -> dict[str, float]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, __file__, "--repeats", str(repeats), "--one", case, which, str(seconds)]
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
