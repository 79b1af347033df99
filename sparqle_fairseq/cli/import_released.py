"""`sparqle import`: a published SparQLe checkpoint as one of this plugin."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="A published SparQLe checkpoint into one of this plugin.")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--speech-encoder", required=True, help="the encoder it was trained with")
@click.option("--llm", help="the LLM it was trained with (stage 2)")
@click.option("--text-tokenizer", help="the tokenizer it was trained with (stage 1)")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="the checkpoint to write")
@click.option("--heads", type=click.IntRange(1), help="attention heads; default: one for every 64 of the width")
@click.option("--encoder-layer", default="last", show_default=True, help="layer of the encoder that it reads")
@click.option("--encoder-dtype", type=click.Choice(["fp32", "fp16", "bf16"]), default="fp32", show_default=True)
@click.option("--llm-dtype", type=click.Choice(["fp32", "fp16", "bf16"]), default="bf16", show_default=True)
def command(file: Path, output: Path, **choices: str | None) -> None:
    """Turn FILE, in the published layout (stage 1 or 2), into a checkpoint for fairseq-generate and fairseq-train.

    Its frozen speech encoder and LLM, if it holds them, are left out: a checkpoint here only names them.
    """
    from sparqle_fairseq.interop.released import import_released

    done = import_released(file, output, **choices)  # type: ignore[arg-type]
    click.echo(f"{output}: stage {done.stage}, {done.tensors} tensors")
    if done.left_out_bytes:
        click.echo(
            f"left out: {done.left_out_bytes} bytes of frozen weights, which a checkpoint names and does not hold"
        )
