"""The commands of the documents: every option that they name exists, and every file that they link to."""

from __future__ import annotations

import re

import click
import pytest
from commands import ROOT
from documents import fairseq_commands, sparqle_commands
from fairseq import options

from sparqle_fairseq.cli.main import app

DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").glob("*/README.md")])


COMMANDS = [(path.relative_to(ROOT).as_posix(), words) for path in DOCUMENTS for words in fairseq_commands(path)]


def test_the_readme_has_both_stages_and_generation():
    kinds = [words[0] for name, words in COMMANDS if name == "README.md"]
    assert kinds == ["fairseq-train", "fairseq-train", "fairseq-generate"]


@pytest.mark.parametrize(("name", "words"), COMMANDS, ids=[f"{name}-{words[0]}" for name, words in COMMANDS])
def test_every_option_of_a_command_exists(name, words):  # noqa: ARG001
    training = words[0] == "fairseq-train"
    parser = options.get_training_parser() if training else options.get_generation_parser()
    if not training:
        parser.add_argument("--arch", default="wav2vec2")  # as fairseq_cli.generate does
    options.parse_args_and_arch(parser, words[1:])  # exits where an option is unknown


SPARQLE = [(path.relative_to(ROOT).as_posix(), words) for path in DOCUMENTS for words in sparqle_commands(path)]


@pytest.mark.parametrize(("name", "words"), SPARQLE, ids=[f"{name}-{' '.join(words[1:2])}" for name, words in SPARQLE])
def test_every_option_of_a_sparqle_command_exists(name, words):  # noqa: ARG001
    command = app.get_command(click.Context(app), words[1])
    assert command is not None, f"there is no sparqle {words[1]}"
    arguments = words[2:]
    if words[1] == "launch":  # what follows fairseq's command is fairseq's
        arguments = arguments[: next(i for i, word in enumerate(arguments) if word.startswith("fairseq-"))]
    if isinstance(command, click.Group):
        command = command.get_command(click.Context(command), arguments[0])
        assert command is not None, f"there is no sparqle {' '.join(words[1:3])}"
    known = {option for parameter in command.params for option in [*parameter.opts, *parameter.secondary_opts]}
    unknown = [word for word in arguments if word.startswith("--") and word.split("=")[0] not in known | {"--help"}]
    assert not unknown, f"sparqle {words[1]} has no {unknown[0]}"


def test_the_table_of_commands_has_them_all():
    rows = re.findall(
        r"^\| `sparqle ([a-z-]+)` \|", (ROOT / "docs" / "commands.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(rows) == sorted(app.list_commands(click.Context(app)))


def test_the_readme_names_its_test_command():
    assert re.search(r"^    make test ", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), f"{path.name} links to {target}, which is not there"
