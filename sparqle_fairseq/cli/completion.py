"""`sparqle completion SHELL`: the script that lets a shell complete `sparqle`."""

from __future__ import annotations

import click


@click.command(short_help="Print the script of shell completion.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the script that completes sparqle in SHELL.

    \b
    bash:  echo 'eval "$(sparqle completion bash)"' >> ~/.bashrc
    zsh:   echo 'eval "$(sparqle completion zsh)"' >> ~/.zshrc
    fish:  sparqle completion fish > ~/.config/fish/completions/sparqle.fish
    """
    from click.shell_completion import get_completion_class

    from sparqle_fairseq.cli.main import app

    complete = get_completion_class(shell)
    if complete is None:
        raise click.UsageError(f"click has no completion for {shell}")
    click.echo(complete(app, {}, "sparqle", "_SPARQLE_COMPLETE").source())
