"""What does a manifest cost as it grows to a million rows: reading it, ordering it into batches, holding it?

Rows of some 150 bytes in eight columns. Reading is our own check of every line, against pandas, which checks nothing
and makes an object a cell. Batches are those of the task's own iterator, for an epoch of training. Memory is what a
process holds beyond what it held before, when an epoch begins.

    python benchmarks/million_rows.py
"""

from __future__ import annotations

import logging
import sys
import tempfile
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from alternate import Benchmark, Growth, Result, Row, Run, Settings, alternate, memory_held, run

ROOT = Path(__file__).resolve().parent.parent
BENCHMARK = Benchmark(
    name="million_rows",
    question="What do reading, ordering and holding a manifest cost as it grows to a million rows?",
    against="pandas.read_csv of the same file; a tenth of the rows; and the memory that `sparqle plan` foretells",
    minutes=20,
)
ROWS = (10_000, 100_000, 1_000_000)
ROUNDS = 3  # at most
MAX_TOKENS, MULTIPLE = 2_000_000, 8  # of an utterance of about 10 s: batches of 8 to 16
REQUIRED = ("src_text", "tgt_text")
LEAST = 0.85  # of what is measured; and no more than 1.15
LINEAR = 1.25  # of the cost of a row among ten times as many; sorting alone makes it 1.2


def ours(path: str) -> Any:
    from sparqle_fairseq.data.manifest import read_manifest

    return read_manifest(path, require=REQUIRED)


def theirs(path: str) -> Any:
    """Quotes are text in a manifest, and an empty cell is no number."""
    import pandas

    return pandas.read_csv(path, sep="\t", quoting=3, keep_default_na=False)


def dataset_of(manifest: Any) -> Any:
    from sparqle_fairseq.tasks.dataset import FairseqSpeechDataset

    text: Any = SimpleNamespace(prefix="", collate=None)
    return FairseqSpeechDataset([manifest], text, normalize=False, shuffle=True)


def begin_epoch(data: Any) -> Any:
    """The iterator of an epoch, batches and all."""
    from sparqle_fairseq.tasks.pretrain import PretrainTask

    task = PretrainTask(SimpleNamespace(max_source_positions=None, bleu_tokenizer=None))
    iterator = task.get_batch_iterator(
        data, max_tokens=MAX_TOKENS, max_positions=MAX_TOKENS, required_batch_size_multiple=MULTIPLE, seed=1, epoch=1
    )
    return iterator, iterator.next_epoch_itr(shuffle=True)


def training_on(path: str, small: str) -> Run:
    """What is kept is what a training keeps; a small manifest was read before, so that all is loaded."""
    ready()
    begin_epoch(dataset_of(ours(small)))

    def taken() -> Any:
        data = dataset_of(ours(path))
        return data, begin_epoch(data)

    return taken


def ready() -> None:
    import sparqle_fairseq

    sparqle_fairseq.register()
    logging.disable()


def measure(settings: Settings) -> Result:
    ready()
    sys.path.append(str(ROOT / "tests" / "data"))
    from many_rows import save_many

    from sparqle_fairseq.tools.plan.plan import Run as PlannedRun
    from sparqle_fairseq.tools.plan.rows import rows_of

    rows: list[Row] = []
    read: dict[str, list[tuple[float, float]]] = {"sparqle": [], "pandas": []}
    ordered, planned, held = [], [], []
    with tempfile.TemporaryDirectory() as name:
        paths = {count: str(Path(name) / f"{count}.tsv") for count in ROWS}
        for count, path in paths.items():
            save_many(Path(path), count)
            times = alternate({"sparqle": partial(ours, path), "pandas": partial(theirs, path)}, _rounds(settings))
            note = f"{times['sparqle']:.2g} against {times['pandas']:.2g} s"
            ratio = times.ratio("sparqle", "pandas")
            rows.append(Row.spread(f"reading {count:,} rows", "CPU time / pandas", ratio, goal=1.0, note=note))
            for side, line in read.items():
                line.append((count, times[side]))
        data = {f"{count}": dataset_of(ours(path)) for count, path in paths.items()}
        times = alternate({name: partial(begin_epoch, each) for name, each in data.items()}, _rounds(settings))
        for (few, one), (many, other) in pairwise(data.items()):
            ratio = times.ratio(many, few, len(one) / len(other))
            case = f"ordering {len(other):,} rows into batches"
            note = f"{times[many]:.2g} against {times[few]:.2g} s"
            rows.append(Row.spread(case, f"CPU time of a row / of {len(one):,}", ratio, goal=LINEAR, note=note))
        for count, path in paths.items():
            there = rows_of([path])
            batch = PlannedRun("base", None, mean_seconds=there.mean_seconds, max_tokens=(MAX_TOKENS,) * 2).batch(0)
            foretold, found = there.memory(batch), memory_held(training_on, path=path, small=paths[ROWS[0]])
            note = f"{foretold / 1e6:.1f} of {found / 1e6:.1f} MB, {found / count:.0f} bytes a row"
            case = f"holding {count:,} rows"
            rows.append(Row(case, "planned / measured", foretold / found, goal=LEAST, at_least=True, note=note))
            ordered.append((count, times[f"{count}"]))
            planned.append((count, foretold / 1e6))
            held.append((count, found / 1e6))
    growth = [
        Growth("rows", "CPU seconds", "reading a manifest", read),
        Growth("rows", "CPU seconds", "ordering into batches", {"sparqle": ordered}),
        Growth("rows", "MB", "memory of a process", {"planned": planned, "measured": held}),
    ]
    return Result(rows, growth)


def _rounds(settings: Settings) -> int:
    return min(settings.rounds, ROUNDS)


if __name__ == "__main__":
    run(BENCHMARK, measure)
