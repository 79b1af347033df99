"""`sparqle page`: a page in the browser to try a model."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Try a model in the browser.")
@click.option("--model", required=True, metavar="CKPT", help="checkpoint of fairseq-train")
@click.option("--compare-with", metavar="CKPT", help="a second one, for the tab Compare")
@click.option("--host", default="127.0.0.1", show_default=True, help="who may reach it; 0.0.0.0 is everyone")
@click.option("--port", type=click.IntRange(1, 65535), help="default: the first free one from 7860")
@click.option("--auth", type=click.Path(path_type=Path), metavar="FILE", help="lines name:password of who may enter")
@click.option("--languages", metavar="LANGS", help="what it was trained on, where its manifest has moved: fr,de")
@click.option("--example", multiple=True, type=click.Path(path_type=Path), help="a recording to try, or a manifest")
@click.option("--minutes", type=click.FloatRange(0.05, 600), default=10, show_default=True, help="longest recording")
@click.option("--megabytes", type=click.FloatRange(0.1, 10000), default=100, show_default=True, help="largest file")
@click.option("--waiting", type=click.IntRange(0, 1000), default=8, show_default=True, help="requests that may wait")
@click.option("--keep-minutes", type=click.FloatRange(1, 10000), default=60, show_default=True, help="age of uploads")
@click.option("--speech-encoder", metavar="PATH", help="where it is now, if it has moved")
@click.option("--llm", metavar="PATH", help="the same of the LLM")
@click.option("--text-tokenizer", metavar="PATH", help="the same of stage 1's tokenizer")
@click.option("--cpu", is_flag=True, help="do not use a GPU")
def command(
    minutes: float, megabytes: float, waiting: int, keep_minutes: float, example: tuple[Path, ...], **options: object
) -> None:
    """Open a page on this machine for a checkpoint: translate, transcribe, look inside, compare, many files at once.

    \b
      sparqle page --model checkpoints/stage2/checkpoint_best.pt
    """
    from sparqle_fairseq.tools.page.limits import Limits
    from sparqle_fairseq.tools.page.serve import Options, run

    limits = Limits(minutes=minutes, megabytes=megabytes, waiting=waiting, keep_minutes=keep_minutes)
    run(Options(limits=limits, example=example, **options), lambda text: click.echo(text, err=True))  # type: ignore[arg-type]
