"""`sparqle validate`: find every bad row of manifests before a training does, and write clean ones."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from sparqle_fairseq.errors import SparqleError


@click.command(short_help="Find what is wrong with manifests.")
@click.argument("manifests", nargs=-1, required=True, type=click.Path(), metavar="MANIFEST...")
@click.option("--report", metavar="FILE", type=click.Path(path_type=Path), help="write every finding to this JSON file")
@click.option("--json", "as_json", is_flag=True, help="print that JSON in place of the table")
@click.option("--fix", is_flag=True, help="write NAME.clean.tsv without the bad rows")
@click.option("--force", is_flag=True, help="let --fix replace clean manifests")
@click.option("--strict", is_flag=True, help="let warnings count as errors")
@click.option("--no-audio", is_flag=True, help="check the texts, open no recording")
@click.option("--workers", metavar="N", type=click.IntRange(1), help="processes [default: one a CPU]")
@click.option("--audio-root", metavar="DIR", type=click.Path(path_type=Path), help="folder of relative audio paths")
@click.option("--src-lang", metavar="CODE", help="source language of rows without one")
@click.option("--tgt-lang", metavar="CODE", help="target language of rows without one")
@click.option(
    "--row-task", metavar="TASK", type=click.Choice(["transcription", "translation"]), help="task of rows without one"
)
@click.option("--stage", type=click.Choice(["1", "2"]), help="refuse empty texts that the stage needs")
@click.option("--sample-rate", metavar="HZ", type=click.IntRange(1), help="report recordings of another rate")
@click.option("--limit-seconds", metavar="S", type=click.FloatRange(0, min_open=True), help="report longer utterances")
@click.option("--max-source-positions", metavar="N", type=click.IntRange(1), help="the same in samples at 16 kHz")
@click.option("--min-pace", metavar="X", default=2.0, show_default=True, help="letters per second, at least")
@click.option("--max-pace", metavar="X", default=30.0, show_default=True, help="letters per second, at most")
@click.option("--silence-db", metavar="DB", default=-60.0, show_default=True, help="peak of a silent recording")
@click.option("--clipped-percent", metavar="P", default=0.1, show_default=True, help="samples that may be clipped")
@click.option("--script-share", metavar="X", default=0.5, show_default=True, help="letters of the right script")
@click.option("--shared-letters", metavar="N", default=20.0, show_default=True, help="shorter texts may be shared")
def command(
    manifests: tuple[str, ...],
    report: Path | None,
    as_json: bool,
    fix: bool,
    force: bool,
    strict: bool,
    no_audio: bool,
    workers: int | None,
    audio_root: Path | None,
    src_lang: str | None,
    tgt_lang: str | None,
    row_task: str | None,
    stage: str | None,
    **thresholds: object,
) -> int:
    """Find what is wrong with the rows of manifests.

    Each MANIFEST is a split; a.tsv,b.tsv is one split in two files. The exit code is 1 where errors remain.
    """
    from sparqle_fairseq.tools.validate.findings import ERROR, WARNING
    from sparqle_fairseq.tools.validate.fix import refuse_to_overwrite, write_clean
    from sparqle_fairseq.tools.validate.report import json_report, print_table, write_report
    from sparqle_fairseq.tools.validate.run import splits_of, validate
    from sparqle_fairseq.tools.validate.settings import Settings
    from sparqle_fairseq.tools.validate.store import FindingStore

    if force and not fix:
        raise click.UsageError("--force belongs to --fix")
    if report is not None and not report.absolute().parent.is_dir():
        raise SparqleError(f"{report}: there is no folder {report.absolute().parent}; make it first")
    sources = splits_of(manifests)
    if fix and not force:
        refuse_to_overwrite(sources)
    settings = Settings(audio=not no_audio, stage=int(stage) if stage else None, **thresholds)  # type: ignore[arg-type]
    defaults = {"src_lang": src_lang, "tgt_lang": tgt_lang, "row_task": row_task}
    with FindingStore() as store:
        count = workers or os.cpu_count() or 1
        validate(sources, settings, store, workers=count, audio_root=audio_root, **defaults)  # type: ignore[arg-type]
        cleaned = write_clean(sources, store, strict) if fix else []
        if report is not None:
            write_report(report, sources, store, cleaned)
        if as_json:
            sys.stdout.writelines(json_report(sources, store, cleaned))
        else:
            print_table(sources, store, cleaned)
        if fix:
            return int(any(clean.path is None for clean in cleaned))
        return int(bool(store.total(ERROR) or (strict and store.total(WARNING))))
