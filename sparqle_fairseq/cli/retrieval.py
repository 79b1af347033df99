"""`sparqle retrieval MANIFEST`: how often a stage-1 model finds the transcript of a recording, and the reverse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


def _ranks(_: click.Context, __: click.Parameter, text: str) -> tuple[int, ...]:
    numbers = [part.strip() for part in text.split(",")]
    if not all(number.isdecimal() and int(number) for number in numbers):
        raise click.BadParameter(f"{text!r} is no list of numbers from 1, such as 1,10")
    return tuple(dict.fromkeys(map(int, numbers)))


@click.command(short_help="Speech-text retrieval of a stage-1 model.")
@click.argument("manifest", type=click.Path(path_type=Path))
@click.option("--model", required=True, type=click.Path(path_type=Path), help="checkpoint of stage 1")
@click.option("--at", "ks", default="1,10", show_default=True, callback=_ranks, help="recall among the first so many")
@click.option("--batch-size", default=16, show_default=True, help="recordings in a batch")
@click.option("--speech-encoder", help="where the encoder lies now, if not where it lay in training")
@click.option("--audio-root", type=click.Path(path_type=Path), help="folder of relative audio paths")
@click.option("--strict-audio/--no-strict-audio", default=True, show_default=True,
              help="refuse damaged recordings, or read what is left")  # fmt: skip
@click.option("--cpu", is_flag=True, help="do not use a GPU")
@click.option("--json", "as_json", is_flag=True, help="print the scores as JSON")
def command(manifest: Path, model: Path, as_json: bool, **options: Any) -> None:
    """Score speech-text retrieval over the recordings and transcripts of MANIFEST."""
    import json

    from sparqle_fairseq.tools.retrieval import evaluate_retrieval

    report = evaluate_retrieval(manifest, model, **options)
    if as_json:
        click.echo(json.dumps(report.as_dict(), ensure_ascii=False, indent=2))
        return
    _print_table(report)


def _print_table(report: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "queries", "candidates", "score", box=None)
    for title in ("%", "95 % interval", "chance"):
        table.add_column(title, justify="right")
    directions = {"speech to text": report.speech_to_text, "text to speech": report.text_to_speech}
    for name, found in directions.items():
        for recall in found.recall:
            table.add_row(
                name,
                str(found.queries),
                str(found.candidates),
                f"recall@{recall.k}",
                f"{recall.value:.1f}",
                f"[{recall.low:.1f}, {recall.high:.1f}]".replace("[", r"\["),
                f"{recall.chance:.1f}",
            )
    console = Console()
    console.print(table)
    console.print(report.signature, highlight=False)
