"""`sparqle prepare CORPUS`: manifests of a corpus as its owners ship it, and of targets that the LLM makes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from sparqle_fairseq import files
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.tools.prepare.ledger import Ledger

Command = TypeVar("Command", bound=Callable[..., Any])
FOLDER = click.Path(path_type=Path)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    short_help="A corpus, as its owners ship it, into manifests.",
)
def command() -> None:
    """Make manifests of a corpus as its owners ship it; audio is read where it lies.

    llm-targets makes one of translations by the LLM itself, join-segments one of long segments.
    """


def _shared(function: Command) -> Command:
    """The options that every corpus has."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="report on stdout as JSON"),
        click.option("--left-out", type=FOLDER, help="write all that was left out, with its reason, into this file"),
        click.option("--workers", default=8, show_default=True, help="threads that read recordings"),
        click.option(
            "--strict-audio/--no-strict-audio",
            default=True,
            show_default=True,
            help="refuse damaged recordings, or take what is left",
        ),
        click.option("--skip-bad-audio", is_flag=True, help="leave out what cannot be read, and count it"),
        click.option("--out", required=True, type=FOLDER, help="folder of the manifests"),
    ):
        function = option(function)
    return function


def _rows(function: Command) -> Command:
    choice = click.Choice(["translation", "transcription", "both"])
    return click.option("--rows", type=choice, default="both", show_default=True, help="which manifests to write")(
        function
    )


def _splits(names: tuple[str, ...]) -> Callable[[Command], Command]:
    return click.option("--splits", default="", help=f"some of {', '.join(names)}; by default all that are there")


@command.command()
@click.argument("root", type=FOLDER)
@_splits(("train-clean-100", "train-clean-360", "…", "test-other"))
@click.option(
    "--case",
    type=click.Choice(["lower", "keep", "sentence"]),
    default="lower",
    show_default=True,
    help="of the transcripts, which come in capitals",
)
@_shared
def librispeech(root: Path, splits: str, case: str, **options: Any) -> None:
    """LibriSpeech: <split>.tsv for stage 1. ROOT holds LibriSpeech/."""
    from sparqle_fairseq.tools.prepare.librispeech import SPLITS, read_librispeech

    ledger = Ledger()
    manifests = read_librispeech(root, _named(splits, SPLITS), case, ledger)
    if case != "keep":
        click.echo(f"transcripts were put in {case} case (--case keep leaves their capitals)", err=True)
    _write(root, manifests, ledger, **options)


@command.command()
@click.argument("root", type=FOLDER)
@click.option("--src-lang", help="language of the speech; by default that of the only folder <lang>-TGT_LANG")
@click.option("--tgt-lang", required=True, help="fr, or several: de,fr")
@_splits(("train", "dev", "tst-COMMON", "tst-HE", "…"))
@_rows
@_shared
def mustc(root: Path, src_lang: str | None, tgt_lang: str, splits: str, rows: str, **options: Any) -> None:
    """MuST-C, mTEDx: <split>_<lang>.tsv. ROOT holds en-<lang>/, es-<lang>/, …"""
    from sparqle_fairseq.tools.prepare.mustc import read_mustc

    ledger = Ledger()
    manifests = read_mustc(root, _languages(tgt_lang), rows, _named(splits), src_lang, ledger)
    _write(root, manifests, ledger, **options)


@command.command("europarl-st")
@click.argument("root", type=FOLDER)
@click.option("--src-lang", default="en", show_default=True, help="language of the speech")
@click.option("--tgt-lang", required=True, help="fr, or several: de,fr")
@_splits(("train", "train-noisy", "dev", "test"))
@_rows
@_shared
def europarl_st(root: Path, src_lang: str, tgt_lang: str, splits: str, rows: str, **options: Any) -> None:
    """Europarl-ST: <split>_<lang>.tsv. ROOT holds en/audios, en/fr, …"""
    from sparqle_fairseq.tools.prepare.europarl_st import read_europarl_st

    manifests = read_europarl_st(root, src_lang, _languages(tgt_lang), rows, _named(splits))
    _write(root, manifests, Ledger(), **options)


@command.command()
@click.argument("root", type=FOLDER)
@click.option("--translations", type=FOLDER, help="folder of covost_v2.*.tsv[.tar.gz]; by default ROOT")
@click.option("--src-lang", default="en", show_default=True, help="language of the speech")
@click.option("--tgt-lang", required=True, help="de, or several: de,ca")
@_splits(("train", "dev", "test"))
@_rows
@_shared
def covost2(
    root: Path, translations: Path | None, src_lang: str, tgt_lang: str, splits: str, rows: str, **options: Any
) -> None:
    """CoVoST 2: <split>_<lang>.tsv. ROOT is Common Voice 4's folder of the spoken language."""
    from sparqle_fairseq.tools.prepare.covost2 import SPLITS, read_covost2

    ledger, named = Ledger(), _named(splits, SPLITS)
    languages = _languages(tgt_lang)
    manifests = read_covost2(root, translations or root, src_lang, languages, rows, named, ledger)
    _write(root, manifests, ledger, **options)


@command.command()
@click.argument("root", type=FOLDER)
@click.option("--src-lang", default="en_us", show_default=True, help="folder of the spoken language")
@click.option("--tgt-lang", required=True, help="fr_fr, or several: fr_fr,de_de; all: all")
@click.option(
    "--text",
    type=click.Choice(["raw", "normalized"]),
    default="raw",
    show_default=True,
    help="raw: with case and punctuation",
)
@_splits(("train", "dev", "test"))
@_rows
@_shared
def fleurs(root: Path, src_lang: str, tgt_lang: str, text: str, splits: str, rows: str, **options: Any) -> None:
    """FLEURS: <split>_<lang>.tsv. ROOT holds en_us/, fr_fr/, …"""
    from sparqle_fairseq.tools.prepare.fleurs import SPLITS, read_fleurs

    ledger, named = Ledger(), _named(splits, SPLITS)
    manifests = read_fleurs(root, src_lang, _languages(tgt_lang), rows, named, text, ledger)
    _write(root, manifests, ledger, **options)


@command.command("own-audio")
@click.argument("root", type=FOLDER)
@click.option(
    "--table",
    type=FOLDER,
    multiple=True,
    help="csv, tsv, json(l), NeMo's, lhotse's; by default those in ROOT; repeat it",
)
@click.option("--src-lang", required=True, help="language of the speech, where the table does not say it")
@click.option("--tgt-lang", help="language of the translations, where the table does not say it")
@click.option("--dev", default=0.05, show_default=True, help="share for dev, where the table has no split")
@click.option("--test", default=0.05, show_default=True, help="share for test, where the table has no split")
@click.option(
    "--keep-together",
    type=click.Choice(["text", "speaker"]),
    default="text",
    show_default=True,
    help="what is never in two splits",
)
@click.option("--seed", default=1, show_default=True, help="another one draws other splits")
@_shared
def own_audio(
    root: Path,
    table: tuple[Path, ...],
    src_lang: str,
    tgt_lang: str | None,
    dev: float,
    test: float,
    keep_together: str,
    seed: int,
    **options: Any,
) -> None:
    """Your own recordings: a table, texts beside them, Kaldi's, lhotse's, NeMo's."""
    from sparqle_fairseq.tools.prepare.own_audio import read_own_audio

    ledger, shares = Ledger(), {"dev": dev, "test": test}
    manifests = read_own_audio(
        root,
        table=table,
        source=src_lang,
        target=tgt_lang,
        shares=shares,
        group=keep_together,
        seed=seed,
        ledger=ledger,
    )
    _write(root, manifests, ledger, **options)


@command.command("llm-targets")
@click.argument("manifest", type=FOLDER)
@click.option("--llm", required=True, help="the LLM of stage 2, folder or hub id")
@click.option("--to", "languages", required=True, help="languages to translate into: fr, or several: de,fr")
@click.option("--out", required=True, type=FOLDER, help="the manifest to write")
@click.option("--src-lang", help="language of the speech, where the manifest does not say it")
@click.option("--with-transcriptions", "transcriptions", is_flag=True, help="write each transcript as an answer too")
@click.option("--llm-dtype", type=click.Choice(["fp32", "fp16", "bf16"]), default="bf16", show_default=True)
@click.option("--prompt-templates", help="own instructions, as in training")
@click.option("--beam", type=click.IntRange(1, 64), default=1, show_default=True, help="hypotheses that are followed")
@click.option("--sampling", is_flag=True, help="draw tokens at random")
@click.option("--temperature", type=click.FloatRange(0.05, 10), default=1.0, show_default=True, help="of the draws")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="of the draws")
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True, help="transcripts at a time")
@click.option(
    "--length-ratio",
    "longest",
    type=click.FloatRange(1, min_open=True),
    default=2.0,
    show_default=True,
    help="leave out what is so many times longer or shorter than translations usually are",
)
@click.option("--identify/--no-identify", default=True, show_default=True, help="leave out what is in another language")
@click.option("--left-out", type=FOLDER, help="write all that was left out, with its reason, into this file")
@click.option("--json", "as_json", is_flag=True, help="report on stdout as JSON")
@click.option("--cpu", is_flag=True, help="do not use a GPU")
def llm_targets(
    manifest: Path,
    languages: str,
    beam: int,
    sampling: bool,
    temperature: float,
    seed: int,
    left_out: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """MANIFEST's transcripts, translated by the LLM itself."""
    from tqdm import tqdm

    from sparqle_fairseq.generate.search import SearchSettings
    from sparqle_fairseq.tools.llm_targets.run import Request, run

    def progress(items: Iterable[int], total: int) -> Iterable[int]:
        return tqdm(items, total=total, desc="the LLM reads", unit="batch")

    settings = SearchSettings(beam=beam, sampling=sampling, temperature=temperature, seed=seed)
    made = run(Request(manifest, languages=_languages(languages), search=settings, **options), progress)
    ledger = made.ledger
    _write_left_out(left_out, ledger)
    if as_json:
        reasons = dict(ledger.reasons())
        found = {"rows": made.rows, "left_out": reasons, "notes": ledger.notes, "cpu_seconds": made.cpu_seconds}
        click.echo(json.dumps(found, ensure_ascii=False, indent=1))
        return
    click.echo(f"{options['out']}: " + ", ".join(f"{count:,} {name}" for name, count in made.rows.items()))
    click.echo(f"{made.cpu_seconds:.1f} CPU seconds of the LLM", err=True)
    for sentence in (ledger.sentence(), *ledger.notes):
        if sentence:
            click.echo(sentence, err=True)


@command.command("join-segments")
@click.argument("manifest", type=FOLDER)
@click.option("--out", required=True, type=FOLDER, help="the manifest to write; it holds the joined segments alone")
@click.option(
    "--seconds", "longest", type=click.FloatRange(0, min_open=True), default=30.0, show_default=True, help="at most"
)
@click.option("--gap", type=click.FloatRange(0), default=1.0, show_default=True, help="seconds between two at most")
@click.option("--left-out", type=FOLDER, help="write all that was not joined, with its reason, into this file")
@click.option("--json", "as_json", is_flag=True, help="report on stdout as JSON")
def join_segments(manifest: Path, out: Path, longest: float, gap: float, left_out: Path | None, as_json: bool) -> None:
    """MANIFEST's neighbours in one recording, joined to long segments."""
    from sparqle_fairseq.tools.prepare.joined import join_manifest

    made = join_manifest(manifest, out, longest, gap)
    _write_left_out(left_out, made.ledger)
    if as_json:
        found = {"rows": made.rows, "segments": made.segments, "hours": made.hours}
        click.echo(json.dumps(found | {"left_out": made.ledger.reasons()}, ensure_ascii=False, indent=1))
        return
    click.echo(f"{out}: {made.rows:,} rows of {made.segments:,} segments, {made.hours:.2f} hours")
    if sentence := made.ledger.sentence():
        click.echo(sentence, err=True)


def _write_left_out(path: Path | None, ledger: Ledger) -> None:
    if path is not None:
        lines = ["\t".join(entry).replace("\n", " ") + "\n" for entry in ledger.left_out]
        files.write_text(path, "what\treason\n" + "".join(lines))


def _named(names: str, known: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The splits of a list; where `known` is given, each by its own name there."""
    from sparqle_fairseq.tools.prepare.splits import spelled

    chosen = [name.strip() for name in names.split(",") if name.strip()]
    meant = [spelled(name, known) if known else name for name in chosen]
    for name, split in zip(chosen, meant, strict=True):
        if split is None:
            raise click.UsageError(f"there is no split {name!r}; there are {', '.join(known)}")
    return tuple(dict.fromkeys(split for split in meant if split))


def _languages(names: str) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if not chosen:
        raise click.UsageError("--tgt-lang names no language")
    return chosen


def _write(
    root: Path,
    manifests: Any,
    ledger: Ledger,
    *,
    out: Path,
    skip_bad_audio: bool,
    strict_audio: bool,
    workers: int,
    as_json: bool,
    left_out: Path | None,
) -> None:
    from tqdm import tqdm

    from sparqle_fairseq.tools.prepare.common import Written, write_manifests

    def progress(items: Iterable[str], total: int) -> Iterable[str]:
        return tqdm(items, total=total, desc="reading lengths", unit="file")

    try:
        reports = write_manifests(
            manifests, out, skip_bad_audio=skip_bad_audio, strict_audio=strict_audio, workers=workers, progress=progress
        )
    except OSError as error:
        raise SparqleError(f"{out}: cannot be written ({error}); choose another folder") from error
    if ledger.left_out or ledger.notes:
        reports.append(Written(root.name or str(root), str(root), ledger=ledger))
    if left_out is not None:
        lines = [
            "\t".join((report.name, *entry)).replace("\n", " ") + "\n"
            for report in reports
            for entry in report.ledger.left_out
        ]
        files.write_text(left_out, "manifest\twhat\treason\n" + "".join(lines))
    if as_json:
        click.echo(json.dumps([report.as_dict() for report in reports], ensure_ascii=False, indent=1))
    else:
        _print_table(reports)
    for report in reports:
        for note in report.ledger.notes:
            click.echo(f"{report.name}: {note}", err=True)
    if as_json:
        return
    if left_out is None and any(len(report.ledger.left_out) > len(report.ledger.named()) for report in reports):
        click.echo("--left-out FILE names all that was left out", err=True)
    click.echo(f"written to {out}", err=True)


def _print_table(reports: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("manifest", box=None)
    for title in ("rows", "hours", "left out"):
        table.add_column(title, justify="right")
    for report in reports:
        name, rows, hours = f"{report.name}.tsv", str(report.rows), f"{report.hours:.2f}"
        if not report.rows:  # what no manifest has
            name, rows, hours = report.name, "", ""
        table.add_row(name, rows, hours, str(len(report.ledger.left_out)))
    Console().print(table)
    for report in reports:
        sentence = report.ledger.sentence()
        if sentence:
            click.echo(f"{report.name}: {sentence}", err=True)
        if report.corrected:
            click.echo(
                f"{report.name}: corrected {report.corrected} lengths that were up to half a second off", err=True
            )
