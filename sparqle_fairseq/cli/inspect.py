"""`sparqle inspect`: pictures of what a trained model does with one utterance."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Draw what a model does with an utterance.")
@click.argument("utterance", type=click.Path(path_type=Path))
@click.option("--model", required=True, type=click.Path(path_type=Path), help="checkpoint of stage 1 or 2")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="picture FILE.png, or a folder for several")
@click.option("--utterance", "name", metavar="ID", help="id in the manifest; default: its first row")
@click.option("--rows", default=8, show_default=True, help="transcripts in the similarity matrix (stage 1)")
@click.option("--to", metavar="LANG", help="translate an audio file to this language; default: transcribe")
@click.option("--prefix", metavar="TEXT", help="what the hypothesis begins with; a row's own prefix is first")
@click.option("--stop", multiple=True, metavar="TEXT", help="what the hypothesis ends before, such as \\n; repeatable")
@click.option("--beam", default=4, show_default=True, help="beam of the search for the hypothesis")
@click.option("--speech-encoder", help="where the encoder lies now, if not where it lay in training")
@click.option("--llm", help="where the LLM lies now, if not where it lay in training")
@click.option("--audio-root", type=click.Path(path_type=Path), help="folder of relative audio paths")
@click.option("--strict-audio/--no-strict-audio", default=True, show_default=True,
              help="refuse damaged recordings, or read what is left")  # fmt: skip
@click.option("--cpu", is_flag=True, help="do not use a GPU")
@click.option("--json", "as_json", is_flag=True, help="print what the pictures show as JSON")
def command(utterance: Path, model: Path, out: Path, as_json: bool, **options: object) -> None:
    """Draw what a model does with UTTERANCE, a manifest (.tsv) or an audio file: waveform, spectrogram, which frames
    each query attends to, where in time the tokens of the hypothesis are, and, in stage 1, how similar the recordings
    and transcripts of a batch are."""
    import json

    from sparqle_fairseq.tools.inspect.report import draw_report, summary

    report = draw_report(utterance, model, out, **options)  # type: ignore[arg-type]
    if as_json:
        click.echo(json.dumps(summary(report), ensure_ascii=False, indent=2))
        return
    click.echo(f"{report.look.name}: {report.look.hypothesis}")
    for file in report.files:
        click.echo(str(file))
    if report.similarities is None:
        click.echo(report.without_similarities, err=True)
