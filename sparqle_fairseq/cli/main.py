"""`sparqle`, the command beside fairseq's own: `sparqle extract-features …`."""

from __future__ import annotations

import argparse
import importlib
import sys

# Sub-command -> module with `add_arguments` and `run`, imported when it is asked for.
COMMANDS = {"extract-features": "extract_features"}


def main(arguments: list[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(prog="sparqle", description="Tools beside fairseq-train and fairseq-generate.")
    parser.add_argument("command", choices=sorted(COMMANDS), help="what to do; `sparqle COMMAND --help` tells more")
    command = parser.parse_args(arguments[:1]).command
    module = importlib.import_module(f"sparqle_fairseq.cli.{COMMANDS[command]}")
    own = argparse.ArgumentParser(prog=f"sparqle {command}", description=(module.__doc__ or "").splitlines()[0])
    module.add_arguments(own)
    module.run(own.parse_args(arguments[1:]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
