"""`sparqle plan`: what a training run will need, before it is started."""

from __future__ import annotations

from typing import Any

import click

from sparqle_fairseq.errors import SparqleError


@click.command(short_help="Memory, disk and steps of a run, beforehand.")
@click.option("--encoder", default="large", show_default=True, help="base, large, xlarge, or a fairseq checkpoint")
@click.option(
    "--objective", default="sparqle", show_default=True, help="what stage 1 learns from, as fairseq-train's --objective"
)
@click.option("--llm", help="folder or hub id of the LLM; its weights are not read")
@click.option("--llm-params", type=float, help="in place of --llm: number of parameters, such as 8e9")
@click.option("--llm-width", type=int, default=4096, show_default=True, help="its hidden size")
@click.option("--llm-layers", type=int, default=32, show_default=True, help="its layers")
@click.option("--vocab", type=int, default=128256, show_default=True, help="its vocabulary")
@click.option("--arch", type=click.Choice(["tiny", "base", "large"]), default="base", show_default=True)
@click.option("--adapter", default="qformer", show_default=True, help="what reads the speech, as in training")
@click.option("--queries", type=int, help="queries of the Q-Former, if not those of --arch")
@click.option("--speech-stride", type=int, help="of another adapter: encoder frames in an output")
@click.option("--hours", type=float, help="hours of audio")
@click.option("--mean-seconds", type=float, help="length of an utterance  [default: 12.3]")
@click.option(
    "--manifest",
    "manifests",
    multiple=True,
    metavar="TSV",
    help="in place of both: what is trained on; its memory is told, too. May come more than once",
)
@click.option("--gpus", type=int, default=1, show_default=True)
@click.option("--gpu-memory", type=float, help="GB of one GPU, to be told what does not fit and which batches fill it")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "bf16", "memory-efficient-fp16", "memory-efficient-bf16"]),
    default="fp16",
    show_default=True,
    help="of the trainer",
)
@click.option("--encoder-dtype", type=click.Choice(["fp32", "fp16", "bf16"]), default="fp32", show_default=True)
@click.option("--llm-dtype", type=click.Choice(["fp32", "fp16", "bf16"]), default="bf16", show_default=True)
@click.option("--max-tokens", type=int, default=2_000_000, show_default=True, help="of stage 1, samples at 16 kHz")
@click.option("--max-tokens-stage2", type=int, default=1_000_000, show_default=True)
@click.option("--update-freq", type=int, default=1, show_default=True)
@click.option("--epochs", type=float, default=10, show_default=True)
@click.option("--from-store", is_flag=True, help="train from a feature store: no encoder is loaded")
@click.option("--steps-per-second", type=float, help="your own throughput, to turn steps into hours")
@click.option("--json", "as_json", is_flag=True, help="print the plan as JSON")
def command(
    llm: str | None,
    llm_params: float | None,
    llm_width: int,
    llm_layers: int,
    vocab: int,
    queries: int | None,
    speech_stride: int | None,
    hours: float | None,
    mean_seconds: float | None,
    manifests: tuple[str, ...],
    from_store: bool,
    gpu_memory: float | None,
    max_tokens: int,
    max_tokens_stage2: int,
    steps_per_second: float | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Look at both stages without running them: memory of each GPU, steps, sizes of checkpoints and feature store.

    Without --llm and --llm-params stage 1 alone is planned. Nothing is trained and no GPU is used.
    """
    import json
    import warnings

    warnings.simplefilter("ignore", FutureWarning)
    from sparqle_fairseq.tools.plan.parts import LLMSize
    from sparqle_fairseq.tools.plan.plan import Run, plan
    from sparqle_fairseq.tools.plan.report import as_dictionary, misfits, show
    from sparqle_fairseq.tools.plan.rows import rows_of

    if llm and llm_params:
        raise SparqleError("--llm and --llm-params are two ways to say the same; give one of them")
    if steps_per_second is not None and not steps_per_second > 0:
        raise SparqleError(f"--steps-per-second {steps_per_second:g} must be above 0")
    if gpu_memory is not None and not gpu_memory > 0:
        raise SparqleError(f"--gpu-memory {gpu_memory:g} must be above 0")
    if not manifests and hours is None:
        raise SparqleError("how much audio there is was not said; give --manifest, or --hours")
    if manifests and (hours is not None or mean_seconds is not None):
        given_too = "--hours" if hours is not None else "--mean-seconds"
        raise SparqleError(f"--manifest says how long utterances are, and {given_too} too; give one of them")
    rows = rows_of(manifests) if manifests else None
    if rows is not None:
        hours, mean_seconds, from_store = rows.hours, rows.mean_seconds, from_store or rows.features
    size = LLMSize(llm_params, llm_width, llm_layers, vocab) if llm_params else None
    shape = tuple((name, value) for name, value in (("queries", queries), ("speech_stride", speech_stride)) if value)
    given |= {"hours": hours, "mean_seconds": 12.3 if mean_seconds is None else mean_seconds}
    tokens = (max_tokens, max_tokens_stage2)
    run = Run(llm=llm or size, qformer=shape, max_tokens=tokens, from_store=from_store, **given)
    found = plan(run, None if gpu_memory is None else gpu_memory * 1e9)
    if as_json:
        click.echo(json.dumps(as_dictionary(found, steps_per_second, rows), indent=2))
    else:
        show(found, run, steps_per_second, rows, gpu_memory)
    for sentence in misfits(found, gpu_memory):
        click.echo(f"warning: {sentence}", err=True)
