"""`sparqle extract-units`: discrete units of manifests by a SpeechTokenizer, to train with `--source units`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click


@click.command(short_help="Speech into discrete units, to train from these.")
@click.argument("manifests", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--speechtokenizer", required=True, metavar="FOLDER", type=click.Path(path_type=Path),
              help="folder of a released SpeechTokenizer: config.json, SpeechTokenizer.pt")  # fmt: skip
@click.option("--out", required=True, metavar="DIR", type=click.Path(path_type=Path),
              help="folder of the units and their manifests")  # fmt: skip
@click.option("--audio-root", type=click.Path(path_type=Path), help="folder of relative audio paths")
@click.option("--max-seconds", default=120.0, show_default=True, help="longest recording that is taken")
@click.option("--strict-audio/--no-strict-audio", default=True, show_default=True,
              help="refuse damaged recordings, or read what is left")  # fmt: skip
@click.option("--cpu", is_flag=True, help="do not use a GPU")
@click.option("--json", "as_json", is_flag=True, help="report on stdout as JSON")
def command(manifests: tuple[Path, ...], as_json: bool, **options: Any) -> None:
    """Write the units of MANIFESTS, to train on DIR with --source units.

    A unit is an entry of the SpeechTokenizer's first codebook. <split>.km gets the units of a row in each line,
    <split>.tsv beside it is the manifest. Needs pip install 'sparqle-fairseq[speechtokenizer]'.
    """
    from dataclasses import asdict

    from sparqle_fairseq.tools.extract.units import Options, extract_units

    done = extract_units(manifests, Options(**options))
    if as_json:
        click.echo(json.dumps(asdict(done)))
    click.echo(
        f"{done.folder}: {done.units} units of {done.utterances} utterances; train on it with --source units "
        f"--unit-vocabulary {done.vocabulary} --unit-rate {done.unit_rate:g}",
        err=True,
    )
