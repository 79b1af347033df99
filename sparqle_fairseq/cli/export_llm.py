"""`sparqle export-llm`: a checkpoint's LLM with its LoRA, for Hugging Face's libraries."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="A checkpoint's LLM with its LoRA, for Hugging Face.")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="the folder to write")
@click.option("--merge-lora", is_flag=True, help="the whole LLM, LoRA added to its weights")
@click.option("--dtype", type=click.Choice(["fp32", "fp16", "bf16"]), help="of the merged LLM; default: as stored")
@click.option("--llm", metavar="PATH", help="where the LLM is now, if it has moved")
@click.option("--speech-encoder", metavar="PATH", help="the same of the speech encoder")
def command(
    checkpoint: Path, output: Path, merge_lora: bool, dtype: str | None, llm: str | None, speech_encoder: str | None
) -> None:
    """Write what --lora-rank trained in CHECKPOINT's LLM.

    Without --merge-lora it is peft's adapter folder (some megabytes), which peft loads on top of the LLM.
    """
    if dtype and not merge_lora:
        raise click.UsageError("--dtype is the precision of the merged LLM; it needs --merge-lora")
    from sparqle_fairseq.tools.exchange.export_llm import export_llm

    done = export_llm(checkpoint, output, merge=merge_lora, dtype=dtype, llm=llm, speech_encoder=speech_encoder)
    what = "the LLM with LoRA merged into it" if merge_lora else "LoRA alone (peft)"
    click.echo(f"{output}: {what}, {done.layers} layers, {done.parameters} parameters of LoRA, {done.dtype}")
