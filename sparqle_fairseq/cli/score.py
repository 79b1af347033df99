"""`sparqle score`: BLEU, chrF and word error rate of fairseq-generate's output, with intervals."""

from __future__ import annotations

from pathlib import Path

import click

from sparqle_fairseq.errors import SparqleError


@click.command(short_help="BLEU, chrF, WER with intervals.")
@click.argument("files", nargs=-1, required=True, metavar="[NAME=]FILE...")
@click.option("--metric", "metrics", multiple=True, type=click.Choice(["bleu", "chrf", "wer"]), help="default: all")
@click.option("--bootstrap", default=1000, show_default=True, help="resamples of the utterances for the intervals")
@click.option("--seed", default=12345, show_default=True, help="seed of the resampling")
@click.option("--json", "as_json", is_flag=True, help="print the scores as JSON")
def command(files: tuple[str, ...], metrics: tuple[str, ...], bootstrap: int, seed: int, as_json: bool) -> None:
    """Score what fairseq-generate printed (T- and D- lines) to FILE, with 95 % bootstrap intervals and signatures."""
    import json
    from dataclasses import asdict

    from rich.console import Console
    from rich.table import Table

    from sparqle_fairseq.scoring.scores import METRICS, read_generation, score

    results = {}
    for file in files:
        name, equals, path = file.partition("=")
        if not equals:
            name, path = Path(file).stem, file
        if name in results:
            raise SparqleError(f"two files are called {name}; tell them apart with NAME=FILE")
        if not Path(path).is_file():
            raise SparqleError(f"{path}: there is no such file; give what fairseq-generate printed")
        utterances = read_generation(path)
        references, hypotheses = [ref for _, ref, _ in utterances], [hyp for _, _, hyp in utterances]
        results[name] = score(references, hypotheses, metrics or METRICS, bootstrap, seed)
    if as_json:
        click.echo(json.dumps({name: {m: asdict(s) for m, s in scores.items()} for name, scores in results.items()}))
        return
    table = Table("output", "n", *(f"{metric} [95 %]" for metric in metrics or METRICS))
    for name, scores in results.items():
        table.add_row(name, str(next(iter(scores.values())).n), *(str(found) for found in scores.values()))
    Console().print(table)
    for metric, made in next(iter(results.values())).items():
        click.echo(f"{metric}: {made.signature}")
