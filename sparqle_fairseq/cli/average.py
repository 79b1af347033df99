"""`sparqle average`: one checkpoint of several."""

from __future__ import annotations

import json as json_module
from pathlib import Path

import click


@click.command(short_help="Average checkpoints, or take the moving average of one.")
@click.argument("checkpoints", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="the checkpoint to write")
@click.option("--ema", is_flag=True, help="take the moving averages that --store-ema kept, not the weights")
@click.option("--json", is_flag=True, help="say what was written as JSON")
def command(checkpoints: tuple[Path, ...], output: Path, ema: bool, json: bool) -> None:
    """Write the mean of the weights of CHECKPOINTS: one to translate with.

    \b
    sparqle average stage2/checkpoint8.pt stage2/checkpoint9.pt stage2/checkpoint10.pt -o stage2/average.pt
    sparqle average --ema stage2/checkpoint_last.pt -o stage2/ema.pt
    """
    from sparqle_fairseq.tools.average import average_checkpoints

    values = average_checkpoints(checkpoints, output, ema)
    if json:
        click.echo(json_module.dumps({"output": str(output), "checkpoints": len(checkpoints), "values": values}))
    else:
        what = "moving averages" if ema else "weights"
        click.echo(f"{output}: the {what} of {len(checkpoints)} checkpoints, {values:,} values", err=True)
