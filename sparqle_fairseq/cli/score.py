"""`sparqle score`: BLEU, chrF, word and character error rate of fairseq-generate's output, with intervals."""

from __future__ import annotations

from pathlib import Path

import click

from sparqle_fairseq.errors import SparqleError

WIDE = 160
METRICS = ("bleu", "chrf", "chrf++", "ter", "wer", "cer")


@click.command(short_help="BLEU, chrF, WER, CER with intervals.")
@click.argument("files", nargs=-1, required=True, metavar="[NAME=]FILE...")
@click.option("--metric", "metrics", multiple=True, type=click.Choice(METRICS), help="default: bleu chrf wer cer")
@click.option("--tgt-lang", metavar="CODE", help="language of the texts [default: by their script]")
@click.option("--tokenizer", metavar="NAME", help="sacrebleu's, in place of the language's, such as zh or char")
@click.option("--normaliser", default="lower", show_default=True, metavar="NAME",
              help="of WER and CER: none, lower, whisper, whisper:FILE")  # fmt: skip
@click.option("--bootstrap", default=1000, show_default=True, help="resamples of the utterances for the intervals")
@click.option("--seed", default=12345, show_default=True, help="seed of the resampling")
@click.option("--json", "as_json", is_flag=True, help="print the scores as JSON")
def command(
    files: tuple[str, ...],
    metrics: tuple[str, ...],
    tgt_lang: str | None,
    tokenizer: str | None,
    normaliser: str,
    bootstrap: int,
    seed: int,
    as_json: bool,
) -> None:
    """Score what fairseq-generate printed (T- and D- lines) to FILE, with 95 % bootstrap intervals and signatures.

    BLEU's tokens are those of the target language: sacrebleu's zh, ja-mecab and ko-mecab, characters where a script
    puts no spaces between words, else 13a. A row without a reference is left out and counted.
    """
    import json
    import sys
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from sparqle_fairseq.scoring.languages import choose_tokenizers, of_language
    from sparqle_fairseq.scoring.outputs import read_generation
    from sparqle_fairseq.scoring.scores import DEFAULT_METRICS, score

    if tgt_lang is not None and of_language(tgt_lang) is None:
        raise SparqleError(f"--tgt-lang {tgt_lang}: this is no language code; write for example zh, ja or pt-BR")
    results, notes = {}, []
    for file in files:
        name, equals, path = file.partition("=")
        if not equals:
            name, path = Path(file).stem, file
        if name in results:
            raise SparqleError(f"two files are called {name}; tell them apart with NAME=FILE")
        if not Path(path).is_file():
            raise SparqleError(f"{path}: there is no such file; give what fairseq-generate printed")
        utterances = read_generation(path)
        references, hypotheses = [row.reference for row in utterances], [row.hypothesis for row in utterances]
        try:
            results[name] = score(
                references,
                hypotheses,
                metrics or DEFAULT_METRICS,
                bootstrap,
                seed,
                languages=tgt_lang,
                tokenizer=tokenizer,
                normaliser=normaliser,
            )
        except SparqleError as error:
            raise SparqleError(f"{path}: {error}") from error
        if without := [row.row for row in utterances if row.reference is None]:
            notes.append(
                f"{name}: {len(without)} of {len(utterances)} utterances have no reference and are not scored "
                f"(the first is {without[0]})"
            )
        notes += [f"{name}: {note}" for note in choose_tokenizers(references, tgt_lang, tokenizer).notes]
    for note in notes:
        click.echo(note, err=True)
    if as_json:
        click.echo(json.dumps({name: {m: asdict(s) for m, s in scores.items()} for name, scores in results.items()}))
        return
    table = Table("output", "n", *(f"{metric} [95 %]" for metric in metrics or DEFAULT_METRICS))
    for name, scores in results.items():
        one = next(iter(scores.values()))
        counted = f"{one.n} of {one.n + one.without_reference}" if one.without_reference else str(one.n)
        table.add_row(name, counted, *(str(found) for found in scores.values()))
    # A file or a pipe has no width that rows would have to be broken at.
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)
    signatures = [f"{metric}: {made.signature}" for scores in results.values() for metric, made in scores.items()]
    click.echo("\n".join(dict.fromkeys(signatures)))
