"""docs/prompts.md: its example is a template file, its table has the keys and defaults that there are."""

from __future__ import annotations

import dataclasses
import re
import textwrap
from pathlib import Path

from sparqle_fairseq.data import wordings
from sparqle_fairseq.data.prompts import language_name
from sparqle_fairseq.data.wordings import PromptTemplates, profile_names

TEXT = (Path(__file__).parents[2] / "docs" / "prompts.md").read_text(encoding="utf-8")


def test_the_example_is_a_template_file(tmp_path):
    example = re.search(r"^    # instructions\.yaml\n(?:    .*\n)+", TEXT, flags=re.MULTILINE)
    assert example
    path = tmp_path / "instructions.yaml"
    path.write_text(textwrap.dedent(example[0]), encoding="utf-8")
    templates = PromptTemplates.load(path)
    wrapped = "<audio>{speech}</audio> "
    assert templates.instruction("translation", "de") == wrapped + "Translate the speech into German."
    assert templates.instruction("translation", "fr-CA") == wrapped + "Traduis ce que tu entends en français."
    assert templates.instruction("translation", "pt-BR") == wrapped + "Traduza para o português do Brasil."
    assert templates.instruction("transcription", "en") == wrapped + "Transcribe the speech."
    assert templates.system == "You translate speech. Answer with the translation alone."
    assert templates.before_answer == "\n"


def test_the_table_has_every_key():
    rows = re.findall(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \|", TEXT, flags=re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}
    fields = {field.name for field in dataclasses.fields(PromptTemplates)} - {"wordings", "file"}
    assert named == {*wordings.PROMPT_TASKS, *fields, "base"}


def test_every_file_that_ships_is_named():
    for name in profile_names():
        assert f"`{name}`" in TEXT


def test_the_names_of_languages_are_those_of_the_document():
    assert f"Portuguese (Brazil), `yue-Hant-HK`\n  {language_name('yue-Hant-HK')}." in TEXT
