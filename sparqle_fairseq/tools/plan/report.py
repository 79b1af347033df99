"""A plan as a table, as a dictionary, and what does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from sparqle_fairseq.tools.plan.filling import Filling
from sparqle_fairseq.tools.plan.plan import STAGES, Plan, Run, Stage
from sparqle_fairseq.tools.plan.rows import Rows

# Row -> its bytes in a stage.
MEMORY_ROWS = {
    "frozen weights": "frozen",
    "trained weights": "trained",
    "gradients": "gradients",
    "optimizer": "optimizer",
    "exchange of gradients": "exchange",
    "activations": "activations",
}


def as_dictionary(plan: Plan, steps_per_second: float | None = None, rows: Rows | None = None) -> dict[str, Any]:
    """For `--json`; sizes in bytes."""
    stages = []
    for i, stage in enumerate(plan.stages):
        one: dict[str, Any] = {**asdict(stage), "memory": stage.memory}
        if plan.fillings:
            one["fills"] = asdict(plan.fillings[i]) if plan.fillings[i].batch else None
        if steps_per_second is not None:
            one["hours"] = stage.steps / steps_per_second / 3600
        stages.append(one)
    found: dict[str, Any] = {"feature_store": plan.store, "stages": stages}
    if rows is not None:
        memory = round(_rows_memory(plan, rows))
        found["manifest"] = {"rows": rows.count, "hours": rows.hours, "memory": memory}
    return found


def _rows_memory(plan: Plan, rows: Rows) -> float:
    """Bytes in a process, of the stage whose batches are smaller."""
    return rows.memory(min(stage.batch for stage in plan.stages))


def show(
    plan: Plan,
    run: Run,
    steps_per_second: float | None = None,
    rows: Rows | None = None,
    gpu_memory: float | None = None,
) -> None:
    """Print the tables; `gpu_memory` in GB as the plan was made for."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="one GPU, an average batch", title_justify="left")
    table.add_column("")
    for stage in plan.stages:
        table.add_column(stage.name, justify="right")

    def row(name: str, cells: list[str], **style: Any) -> None:
        table.add_row(name, *cells, **style)

    for name, part in MEMORY_ROWS.items():
        row(name, [size(getattr(stage, part)) for stage in plan.stages])
    row("  of these, logits", [size(stage.logits) for stage in plan.stages])
    row("memory", [size(stage.memory) for stage in plan.stages], style="bold", end_section=True)
    if gpu_memory is not None:
        name = "--max-tokens (frames)" if run.from_store else "--max-tokens"
        most = [each.frames if run.from_store else each.max_tokens for each in plan.fillings]
        row(f"{name} that fills {gpu_memory:g} GB", [f"{each:,}" if each else "nothing fits" for each in most])
        row("  utterances in it", [f"{each.batch}" for each in plan.fillings], end_section=True)
    row("trained parameters", [f"{stage.trained_parameters / 1e6:.1f} M" for stage in plan.stages])
    row("utterances a batch", [f"{stage.batch}" for stage in plan.stages])
    row("utterances an update", [f"{stage.batch * run.gpus * run.update_freq}" for stage in plan.stages])
    row("updates an epoch", [f"{stage.steps_an_epoch:,}" for stage in plan.stages])
    row(f"updates in {run.epochs:g} epochs", [f"{stage.steps:,}" for stage in plan.stages])
    if steps_per_second is not None:
        hours = [f"{stage.steps / steps_per_second / 3600:,.1f} h" for stage in plan.stages]
        row(f"at {steps_per_second:g} updates per second", hours)
    row("a checkpoint", [size(stage.checkpoint) for stage in plan.stages])
    row("  without optimizer", [size(stage.checkpoint_without_optimizer) for stage in plan.stages])
    console = Console(highlight=False)
    console.print(table)
    console.print(f"feature store of {run.hours:{'g' if rows is None else ',.1f'}} hours in fp16: {size(plan.store)}")
    if rows is not None:
        each = _rows_memory(plan, rows)
        together = f"; {size(run.gpus * each)} in {run.gpus} processes" if run.gpus > 1 else ""
        sentence = f"manifest of {rows.count:,} rows, {rows.hours:,.1f} hours: {size(each)} in a process"
        console.print(f"{sentence}, which its data-loader workers share{together}", soft_wrap=True)


def misfits(plan: Plan, gpu_memory: float | None) -> Iterator[str]:
    """A sentence for each stage that wants more than the `gpu_memory` GB that the plan was made for."""
    if gpu_memory is None:
        return
    for stage, filling in zip(plan.stages, plan.fillings, strict=True):
        if stage.memory > gpu_memory * 1e9:
            alone = "" if filling.batch else ", too little even for one utterance of mean length"
            yield (
                f"{stage.name} wants {size(stage.memory)} and a GPU has {gpu_memory:g} GB{alone}; "
                f"{_remedy(stage, filling)}, or divide the model (--llm-sharding, or a feature store with --from-store)"
            )


def _remedy(stage: Stage, filling: Filling) -> str:
    if filling.batch:
        option = "--max-tokens" if stage.name == STAGES[0] else "--max-tokens-stage2"
        return f"lower {option} to {filling.max_tokens}"
    if stage.optimizer > stage.memory / 3:
        return "train with --memory-efficient-fp16"
    return "keep what is frozen in half precision (--encoder-dtype fp16, --llm-dtype bf16)"


def size(count: float) -> str:
    """Bytes as a person reads them, in powers of ten."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.2f} {unit}"
    return f"{count / 1e3:.0f} kB" if count else "0"
