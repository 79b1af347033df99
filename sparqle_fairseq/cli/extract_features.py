"""`sparqle extract-features`: run the frozen encoder once over manifests, and train from its features.

Writes one `.npy` per recording, a manifest of the same name that points at them, and `encoder.json`, the identity of
the encoder: training and generation refuse features of another one.
"""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("manifests", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--speech-encoder", required=True, help="fairseq checkpoint of the speech encoder")
@click.option("--encoder-layer", default="last", help="last, or 1 for the first layer, and so on")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="folder for features and manifests")
@click.option("--audio-root", type=click.Path(path_type=Path), help="folder of relative audio paths")
@click.option("--dtype", type=click.Choice(["fp16", "fp32"]), default="fp32", help="precision of the features")
@click.option("--batch-size", default=8, show_default=True, help="recordings in a batch")
@click.option("--cpu", is_flag=True, help="do not use a GPU")
def command(manifests: tuple[Path, ...], **options: object) -> None:
    """Run the frozen encoder once over MANIFESTS, to train from its features."""
    from sparqle_fairseq.features.extraction import extract_manifests

    extract_manifests(list(manifests), **options)  # type: ignore[arg-type]
