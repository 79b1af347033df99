"""`sparqle extract-features`: run the frozen encoder once over manifests, and train from the features it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from sparqle_fairseq.errors import SparqleError


@click.command(short_help="Run the frozen encoder once, and train from its features.")
@click.argument("manifests", nargs=-1, type=click.Path(path_type=Path))
@click.option("--speech-encoder", help="encoder that the training would get, path or hub id")
@click.option("--encoder-layer", default="last", show_default=True, help="last, or 1 for the first layer, and so on")
@click.option("--encoder-dtype", type=click.Choice(["fp32", "fp16", "bf16"]), default="fp32", show_default=True,
              help="precision that the encoder runs in")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), help="folder of the feature store and its manifests")
@click.option("--audio-root", type=click.Path(path_type=Path), help="folder of relative audio paths")
@click.option("--dtype", type=click.Choice(["fp16", "fp32"]), default="fp32", show_default=True,
              help="precision of the features")  # fmt: skip
@click.option("--shard", default="1/1", metavar="i/n", show_default=True,
              help="do the i-th of n parts; give each process its own i and all else alike")  # fmt: skip
@click.option("--shard-megabytes", type=click.FloatRange(0, min_open=True), default=1000.0, show_default=True,
              help="size of a shard")  # fmt: skip
@click.option("--batch-seconds", default=80.0, show_default=True, help="audio in a batch, with its padding")
@click.option("--max-seconds", default=120.0, show_default=True, help="longest recording that is taken")
@click.option("--skip-bad-audio", is_flag=True, help="leave out recordings that cannot be used, and say which")
@click.option("--strict-audio/--no-strict-audio", default=True, show_default=True,
              help="refuse damaged recordings, or read what is left")  # fmt: skip
@click.option("--cpu", is_flag=True, help="do not use a GPU")
@click.option("--verify", type=click.Path(path_type=Path), help="compare every checksum of the store in this folder")
@click.option("--json", "as_json", is_flag=True, help="report on stdout as JSON")
def command(manifests: tuple[Path, ...], verify: Path | None, as_json: bool, **options: Any) -> None:
    """Run the frozen encoder once over MANIFESTS, to train from its features.

    The same command again goes on where the last one stopped. The folder is then given to fairseq-train and
    fairseq-generate in place of that of the audio; they load no encoder.
    """
    if verify is not None:
        if manifests:
            raise click.UsageError("--verify takes a folder and no manifests")
        _verify(verify, as_json)
        return
    if not manifests:
        raise click.UsageError("Missing argument 'MANIFESTS...'.")
    for name in ("speech_encoder", "out"):
        if options[name] is None:
            raise click.UsageError(f"Missing option '--{name.replace('_', '-')}'.")
    _extract(list(manifests), as_json, **options)


def _extract(manifests: list[Path], as_json: bool, shard: str, shard_megabytes: float, **options: Any) -> None:
    from dataclasses import asdict

    from sparqle_fairseq.tools.extract.extraction import Options, extract
    from sparqle_fairseq.tools.extract.plan import Share
    from sparqle_fairseq.tools.extract.shard_file import size_text

    done = extract(manifests, Options(share=Share.parse(shard), shard_bytes=round(shard_megabytes * 1e6), **options))
    if as_json:
        click.echo(json.dumps({**asdict(done), "speed": done.speed}))
    if done.recordings:
        click.echo(
            f"stored {done.recordings} recordings, {done.audio_seconds / 3600:.3f} hours of audio in "
            f"{done.wall_seconds:.0f} s, {done.speed:.1f} times real time",
            err=True,
        )
    if done.missing:
        click.echo(
            f"{done.missing} recordings of other shares are missing; the last share to finish writes the manifests (or "
            f"give any of the commands again)",
            err=True,
        )
    else:
        click.echo(f"{done.folder}: {size_text(done.feature_bytes)} of features, and {len(done.manifests)} manifests "
                   f"of them", err=True)  # fmt: skip
    if done.skipped:
        click.echo(f"{len(done.skipped)} recordings were left out: their audio could not be used", err=True)


def _verify(folder: Path, as_json: bool) -> None:
    from sparqle_fairseq.tools.extract.shard_file import size_text
    from sparqle_fairseq.tools.extract.verification import faults_sentence, verify

    report = verify(folder)
    if as_json:
        click.echo(json.dumps(report.as_dict()))
    else:
        click.echo(
            f"{folder}: {report.entries} recordings, {report.hours:.3f} hours, {size_text(report.feature_bytes)} in "
            f"{report.shards} shards; {report.rows} rows in {report.manifests} manifests"
        )
        if report.unfinished:
            click.echo(f"unfinished: {', '.join(report.unfinished)}")
    if report.faults:
        raise SparqleError(faults_sentence(report))
