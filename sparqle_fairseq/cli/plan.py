"""`sparqle plan`: what a training run will need, before it is started."""

from __future__ import annotations

from typing import Any

import click

from sparqle_fairseq.errors import SparqleError


@click.command(
    short_help="Memory, disk and steps of a run, beforehand.", context_settings={"ignore_unknown_options": True}
)
@click.argument("model_words", nargs=-1, type=click.UNPROCESSED, metavar="[OPTIONS OF THE MODELS]")
@click.option("--encoder", default="large", show_default=True, help="base, large, xlarge, or a fairseq checkpoint")
@click.option(
    "--objective", default="sparqle", show_default=True, help="what stage 1 learns from, as fairseq-train's --objective"
)
@click.option("--objective-stage2", default="answer", show_default=True, help="what stage 2 learns from")
@click.option("--llm", help="folder or hub id of the LLM; its weights are not read")
@click.option("--llm-params", type=float, help="in place of --llm: number of parameters, such as 8e9")
@click.option("--llm-width", type=int, default=4096, show_default=True, help="its hidden size")
@click.option("--llm-layers", type=int, default=32, show_default=True, help="its layers")
@click.option("--vocab", type=int, default=128256, show_default=True, help="its vocabulary")
@click.option("--arch", type=click.Choice(["tiny", "base", "large"]), default="base", show_default=True)
@click.option("--adapter", default="qformer", show_default=True, help="what reads the speech, as in training")
@click.option("--queries", type=int, help="queries of the Q-Former, if not those of --arch")
@click.option("--speech-stride", type=int, help="of another adapter: encoder frames in an output")
@click.option("--text-vocab", type=int, help="tokens of stage 1's tokenizer  [default: 30522]")
@click.option("--hours", type=float, help="hours of audio")
@click.option("--mean-seconds", type=float, help="length of an utterance  [default: 12.3]")
@click.option(
    "--tokens-per-second",
    type=float,
    help="of transcripts and answers; by default 3.5, or as the manifest's texts have by --text-tokenizer and --llm",
)
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
@click.option(
    "--optimizer",
    type=click.Choice(["adam", "adamax", "adadelta", "adagrad", "nag", "sgd", "adafactor"]),
    default="adam",
    show_default=True,
    help="of training; sgd without --momentum",
)
@click.option("--encoder-dtype", type=click.Choice(["fp32", "fp16", "bf16"]), default="fp32", show_default=True)
@click.option("--llm-dtype", type=click.Choice(["fp32", "fp16", "bf16"]), default="bf16", show_default=True)
@click.option("--max-tokens", type=int, default=2_000_000, show_default=True, help="of stage 1, samples at 16 kHz")
@click.option("--max-tokens-stage2", type=int, default=1_000_000, show_default=True)
@click.option("--batch-size", type=int, help="most utterances in a batch")
@click.option("--required-batch-size-multiple", type=int, default=8, show_default=True)
@click.option("--update-freq", type=int, default=1, show_default=True)
@click.option("--epochs", type=float, default=10, show_default=True)
@click.option("--from-store", is_flag=True, help="train from a feature store: no encoder is loaded")
@click.option("--steps-per-second", type=float, help="your own throughput, to turn steps into hours")
@click.option("--json", "as_json", is_flag=True, help="print the plan as JSON")
def command(
    model_words: tuple[str, ...],
    llm: str | None,
    llm_params: float | None,
    llm_width: int,
    llm_layers: int,
    vocab: int,
    queries: int | None,
    speech_stride: int | None,
    text_vocab: int | None,
    tokens_per_second: float | None,
    required_batch_size_multiple: int,
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

    Options of the models are given as in training, such as --query-window-seconds 0.5 --queries-per-window 4,
    --hidden-size, --projector, --qformer-gradient-checkpointing, --llm-gradient-checkpointing, --lora-rank,
    --llm-ctc-sample, --encoder-layer, --freeze-qformer, --candidates.
    """
    import json
    import warnings

    warnings.simplefilter("ignore", FutureWarning)
    from sparqle_fairseq.data.manifest import read_manifest
    from sparqle_fairseq.tools.plan.options import model_options, of_stage2
    from sparqle_fairseq.tools.plan.parts import LLMSize
    from sparqle_fairseq.tools.plan.plan import Run, plan
    from sparqle_fairseq.tools.plan.report import as_dictionary, misfits, show
    from sparqle_fairseq.tools.plan.rows import rows_of
    from sparqle_fairseq.tools.plan.texts import counted_tokens, text_vocabulary

    options = model_options(model_words, [name for each in command.params for name in each.opts])
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
    read = [read_manifest(path) for path in manifests]
    rows = rows_of(manifests, read) if read else None
    if rows is not None:
        hours, mean_seconds, from_store = rows.hours, rows.mean_seconds, from_store or rows.features
    size = LLMSize(llm_params, llm_width, llm_layers, vocab) if llm_params else None
    if not (llm or llm_params):
        stray = next(iter(of_stage2(options, given["objective_stage2"])), None)
        if stray:
            raise SparqleError(f"{stray} is of stage 2, which is not planned without an LLM; name one with --llm")
    options |= {
        name: value for name, value in (("queries", queries), ("speech_stride", speech_stride)) if value is not None
    }
    tokenizer = options.get("text_tokenizer") or options.get("bert")
    if tokenizer and text_vocab:
        raise SparqleError("--text-vocab says how many tokens the tokenizer has, and a tokenizer was named; give one")
    if tokenizer:
        given["text_vocabulary"] = text_vocabulary(tokenizer)
    elif text_vocab is not None:
        given["text_vocabulary"] = text_vocab
    given["tokens_a_second"] = counted_tokens(read, tokenizer, llm, tokens_per_second)
    given |= {"hours": hours, "mean_seconds": 12.3 if mean_seconds is None else mean_seconds}
    given |= {"batch_multiple": required_batch_size_multiple, "max_tokens": (max_tokens, max_tokens_stage2)}
    run = Run(llm=llm or size, qformer=tuple(options.items()), from_store=from_store, **given)
    found = plan(run, None if gpu_memory is None else gpu_memory * 1e9)
    if as_json:
        click.echo(json.dumps(as_dictionary(found, steps_per_second, rows), indent=2))
    else:
        show(found, run, steps_per_second, rows, gpu_memory)
    for sentence in misfits(found, gpu_memory):
        click.echo(f"warning: {sentence}", err=True)
