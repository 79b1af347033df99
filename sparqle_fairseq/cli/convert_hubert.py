"""`sparqle convert-hubert`: a fairseq HuBERT into a Hugging Face folder, or the other way."""

from __future__ import annotations

import click


@click.command(short_help="HuBERT between fairseq and Hugging Face.")
@click.argument("source")
@click.argument("target", type=click.Path())
def command(source: str, target: str) -> None:
    """Convert a HuBERT between fairseq and Hugging Face; what SOURCE is tells the direction.

    SOURCE is a fairseq checkpoint (pre-trained, or fine-tuned with CTC: the encoder in it) or a Hugging Face folder or
    hub id. TARGET is what to write, a folder or a checkpoint (.pt); one that exists is not overwritten. Heads for
    pre-training are not carried over.
    """
    from sparqle_fairseq.tools.exchange.hubert import convert_hubert

    kind = convert_hubert(source, target)
    click.echo(f"wrote {target}, a {kind}")
