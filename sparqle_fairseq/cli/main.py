"""`sparqle`, the command beside fairseq's own.

A sub-command is a file in this folder with a `click` command named `command`. What is imported at the top of such a
file is imported for every `sparqle --help`: so only `click`, the standard library and `errors` are; the rest comes
inside the function that runs.
"""

from __future__ import annotations

import importlib
import os
import sys

import click

from sparqle_fairseq import __version__
from sparqle_fairseq.errors import SHOW_TRACEBACK, sentence_of

# Sub-command -> file in this folder, in the order in which a user meets them.
COMMANDS = {
    "prepare": "prepare",
    "validate": "validate",
    "plan": "plan",
    "extract-features": "extract_features",
    "extract-units": "extract_units",
    "convert-hubert": "convert_hubert",
    "import": "import_released",
    "export-hf": "export_hf",
    "import-hf": "import_hf",
    "export-llm": "export_llm",
    "average": "average",
    "translate": "translate",
    "page": "page",
    "retrieval": "retrieval",
    "inspect": "inspect",
    "launch": "launch",
    "merge-results": "merge_results",
    "score": "score",
    "report": "report",
    "user-dir": "user_dir",
    "completion": "completion",
}
FAILED, INTERRUPTED = 1, 130


class Commands(click.Group):
    """Sub-commands by name, in the order of `COMMANDS`; a file is imported when its command is looked at."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        return importlib.import_module(f"sparqle_fairseq.cli.{COMMANDS[name]}").command

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands alone: with the two options that every program has, they would not fit a screen."""
        self.format_commands(ctx, formatter)

    def get_help(self, ctx: click.Context) -> str:
        """Without empty lines, so that it fits a screen."""
        return "\n".join(line for line in super().get_help(ctx).splitlines() if line)


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sparqle")
def app() -> None:
    """The commands beside fairseq's own. `sparqle COMMAND --help` tells more."""


def main(arguments: list[str] | None = None) -> int:
    """Run a sub-command; returns 0, or 1 after an error (one sentence on stderr), 2 after a wrong command line."""
    try:
        result = app.main(args=arguments, prog_name="sparqle", standalone_mode=False)
        return int(result) if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader (`| head`) has gone; Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        sentence = sentence_of(error)
        if sentence is None or os.environ.get(SHOW_TRACEBACK):
            raise
        print(f"error: {sentence}", file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
