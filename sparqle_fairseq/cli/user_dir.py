"""`sparqle user-dir`: where the plugin lies, for fairseq's `--user-dir`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Print the folder for fairseq's --user-dir.")
def command() -> None:
    """Print the plugin's folder: fairseq-train --user-dir "$(sparqle user-dir)" works from any folder."""
    click.echo(str(Path(__file__).parent.parent))
