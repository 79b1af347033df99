"""`sparqle import-hf`: a model for transformers as a checkpoint of stage 2."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="A model of export-hf or Trainer as a checkpoint.")
@click.argument("folder")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="the checkpoint to write")
@click.option("--speech-encoder", metavar="PATH", help="where the encoder is now, if it has moved")
@click.option("--llm", metavar="PATH", help="where the LLM is now, if it has moved")
def command(folder: str, output: Path, speech_encoder: str | None, llm: str | None) -> None:
    """Write FOLDER, a model as export-hf or save_pretrained wrote it (or a hub id), as a checkpoint of stage 2.

    Of a model that came from export-hf, options and tensors are those of the first checkpoint.
    """
    from sparqle_fairseq.tools.exchange.import_hf import import_hf

    done = import_hf(folder, output, speech_encoder=speech_encoder, llm=llm)
    whence = "options of its training" if done.from_training else "options of its configuration"
    click.echo(f"{output}: {done.tensors} tensors, {done.parameters} parameters of the adapter, {whence}")
    if done.templates is not None:
        click.echo(f"{done.templates}: its instructions; the checkpoint names this file")
