"""docs/validate.md names every finding and every option, as they are."""

import re

from commands import ROOT

from sparqle_fairseq.cli.validate import command
from sparqle_fairseq.tools.validate.findings import KINDS
from sparqle_fairseq.tools.validate.settings import Settings

TEXT = (ROOT / "docs" / "validate.md").read_text(encoding="utf-8")


def test_every_finding_has_its_row_with_its_severity() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| (error|warning) \|", TEXT, flags=re.MULTILINE)
    assert rows == [(code, severity) for code, (severity, _) in KINDS.items()]


def test_every_option_in_the_document_exists() -> None:
    options = {name for parameter in command.params for name in parameter.opts}
    named = set(re.findall(r"`(--[a-z-]+)", TEXT)) - {"--train-subset"}
    assert named
    assert named <= options
    commands = re.findall(r"^    sparqle validate (.+)$", TEXT, flags=re.MULTILINE)
    assert commands
    assert all(set(re.findall(r"--[a-z-]+", line)) <= options for line in commands)


def test_thresholds_of_the_document_and_the_command_are_those_of_the_settings() -> None:
    defaults = {parameter.name: parameter.default for parameter in command.params}
    for name in ("silence_db", "clipped_percent", "script_share", "min_pace", "max_pace", "shared_letters"):
        assert defaults[name] == getattr(Settings, name)
    for option, value in (("silence-db", "-60"), ("clipped-percent", "0.1"), ("min-pace", "2"), ("max-pace", "30"),
                          ("shared-letters", "20")):  # fmt: skip
        assert f"`--{option}` ({value})" in TEXT
