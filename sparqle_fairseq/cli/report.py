"""`sparqle report`: systems side by side with intervals, paired tests, breakdowns and examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

# What --control may be; with spaces they are the names of the report.
CONTROLS = ("shuffled-audio", "silence", "text-only", "transcript", "cascade")
METRICS = ("bleu", "chrf", "chrf++", "ter", "wer", "cer")
FILE = click.Path(path_type=Path)
WIDE = 160


@click.command(short_help="Systems side by side, as a paper needs them.")
@click.argument("systems", nargs=-1, metavar="[NAME=]FILE[,FILE]...")
@click.option("--output", "-o", required=True, type=FILE, metavar="DIR", help="folder to write")
@click.option("--force", is_flag=True, help="replace a report that is there")
@click.option(
    "--manifest", "manifests", multiple=True, type=FILE, metavar="TSV", help="a test set, or 'test_*.tsv'; repeatable"
)
@click.option("--references", type=FILE, metavar="FILE", help="or its references, one a line")
@click.option("--sources", type=FILE, metavar="FILE", help="and its transcripts, for COMET")
@click.option("--src-lang", metavar="CODE", help="language that is spoken, of rows that do not say it")
@click.option("--tgt-lang", metavar="CODE", help="language of the references, the same")
@click.option("--row-task", type=click.Choice(["translation", "transcription"]), help="task, the same")
@click.option("--baseline", metavar="NAME", help="what the others are tested against [default: the first]")
@click.option("--metric", "metrics", multiple=True, type=click.Choice(METRICS), help="default: those of the task")
@click.option("--tokenizer", metavar="NAME", help="sacrebleu's, in place of the language's, such as zh or char")
@click.option("--normaliser", default="lower", show_default=True, metavar="NAME",
              help="of WER and CER: none, lower, whisper, whisper:FILE")  # fmt: skip
@click.option("--by", "columns", multiple=True, metavar="COLUMN", help="break scores down by it; repeatable")
@click.option("--seen", metavar="CODES", help="languages trained on, such as fr,de; others are zero-shot")
@click.option("--comet", type=FILE, metavar="DIR", help="a report's folder comet, with scores.json in it")
@click.option("--missing-as-empty", is_flag=True, help="count rows without a hypothesis as empty")
@click.option("--controls", is_flag=True, help="run --model, and what it writes without the right speech")
@click.option("--control", "only", multiple=True, type=click.Choice(CONTROLS), help="this one alone; repeatable")
@click.option("--model", metavar="CKPT", help="with --controls: checkpoint or exported folder")
@click.option("--asr", metavar="DIR", help="with --controls: recogniser of Hugging Face or CTranslate2, for a cascade")
@click.option("--speech-encoder", metavar="PATH", help="with --controls: where the encoder is now, if it has moved")
@click.option("--llm", metavar="PATH", help="with --controls: the same of the LLM")
@click.option("--beam", type=click.IntRange(1, 64), metavar="N", help="with --controls: beam of the search (5)")
@click.option("--batch-seconds", type=click.FloatRange(1), metavar="S", help="with --controls: audio at a time (120)")
@click.option("--cpu", is_flag=True, help="with --controls: do not use a GPU")
@click.option("--bootstrap", type=click.IntRange(40), default=1000, show_default=True, help="draws of utterances")
@click.option("--trials", type=click.IntRange(100), default=10000, show_default=True, help="of the randomisation")
@click.option("--seed", type=click.IntRange(0), default=12345, show_default=True, help="of both")
def command(
    systems: tuple[str, ...],
    metrics: tuple[str, ...],
    tokenizer: str | None,
    normaliser: str,
    bootstrap: int,
    trials: int,
    seed: int,
    seen: str | None,
    controls: bool,
    only: tuple[str, ...],
    model: str | None,
    asr: str | None,
    speech_encoder: str | None,
    llm: str | None,
    beam: int | None,
    batch_seconds: float | None,
    cpu: bool,
    output: Path,
    **options: Any,
) -> None:
    """Compare systems by what they wrote: fairseq-generate's output, sparqle translate's, lines of text, TSV, JSON.

    \b
      sparqle report A=a.txt B=b.txt --manifest test.tsv -o report
      sparqle report A=asr_a.txt,fr_a.txt B=asr_b.txt,fr_b.txt --manifest asr.tsv --manifest fr.tsv -o report
      sparqle report --controls --model CKPT --asr whisper-base --manifest test.tsv -o report
      sparqle report --controls --control transcript --model CKPT --manifest 'test_*.tsv' --seen fr -o report
    """
    given: dict[str, Any] = {
        name: value
        for name, value in {
            "model": model, "asr": asr, "speech_encoder": speech_encoder, "llm": llm, "beam": beam,
            "batch_seconds": batch_seconds, "cpu": cpu or None,
            "only": tuple(name.replace("-", " ") for name in only) or None,
        }.items()
        if value is not None
    }  # fmt: skip
    if controls and model is None:
        raise click.UsageError("--controls runs a model; give its --model")
    if given and not controls:
        option = next(iter(given)).replace("_", "-")
        raise click.UsageError(f"--{'control' if option == 'only' else option} belongs to --controls")
    import sys

    from rich.console import Console
    from rich.table import Table

    from sparqle_fairseq.tools.report.measure import Rules
    from sparqle_fairseq.tools.report.run import Request, run
    from sparqle_fairseq.tools.report.tables import language_tables, score_table
    from sparqle_fairseq.tools.report.write import HTML

    asked = None
    if controls:
        from sparqle_fairseq import register

        register()
        from sparqle_fairseq.tools.report.controls import Controls

        asked = Controls(**given)
    made = run(
        Request(
            systems,
            rules=Rules(metrics, tokenizer, normaliser, bootstrap, trials, seed),
            seen=None if seen is None else [code.strip() for code in seen.split(",") if code.strip()],
            controls=asked,
            output=output,
            **options,
        )
    )
    console = Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)
    parts, languages = made.content["parts"], made.content["languages"]
    tables = [score_table(part, made.content["baseline"]) for part in parts]
    for shown in [*tables, *(language_tables(languages) if languages is not None else ())]:
        table = Table(*shown.head, title=shown.title, title_justify="left", caption=shown.note, caption_justify="left")
        for row in shown.rows:
            table.add_row(*(cell.replace("[", r"\[") for cell in row))
        console.print(table)
    for part in parts:
        for note in part["notes"]:
            click.echo(f"{part['title']}: {note}", err=True)
    for note in made.notes:
        click.echo(note, err=True)
    click.echo(str(output / HTML))
