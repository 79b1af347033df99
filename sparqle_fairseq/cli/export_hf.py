"""`sparqle export-hf`: a checkpoint of stage 2 for transformers."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="A checkpoint as a model of Hugging Face transformers.")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="the folder to write")
@click.option("--speech-encoder", metavar="PATH", help="the encoder as a Hugging Face folder or hub id")
@click.option("--llm", metavar="PATH", help="where the LLM is now, if it has moved")
@click.option("--self-contained", is_flag=True, help="put encoder and LLM into the folder")
@click.option("--scores", type=click.Path(path_type=Path), help="a text file with scores, for the model card")
@click.option("--stop", multiple=True, metavar="TEXT", help="end every text before this, such as \\n; repeatable")
@click.option("--with-code", is_flag=True, help="put the model's code beside it, for trust_remote_code")
@click.option("--licence", metavar="NAME", help="of the adapter, for the model card")
def command(
    checkpoint: Path,
    output: Path,
    speech_encoder: str | None,
    llm: str | None,
    self_contained: bool,
    scores: Path | None,
    licence: str | None,
    stop: tuple[str, ...],
    with_code: bool,
) -> None:
    """Write CHECKPOINT (stage 2) as a folder that transformers loads.

    The folder holds the adapter (some megabytes) and names its encoder and LLM; it is refused where they differ.
    """
    from sparqle_fairseq.tools.exchange.export_hf import export_hf

    done = export_hf(
        checkpoint,
        output,
        speech_encoder=speech_encoder,
        llm=llm,
        self_contained=self_contained,
        scores=scores,
        licence=licence,
        stop=stop,
        with_code=with_code,
    )
    where = "with encoder and LLM" if done.self_contained else f"for {done.speech_encoder} and {done.llm}"
    click.echo(f"{output}: {done.tensors} tensors, {done.parameters} parameters of the adapter, {where}")
