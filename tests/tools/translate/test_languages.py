from __future__ import annotations

import pytest

from sparqle_fairseq.data.prompts import PromptError
from sparqle_fairseq.tools.translate.languages import parse_languages


def test_codes_are_brought_to_their_usual_spelling_and_named_once():
    assert parse_languages("fr, DE,pt-br,fr,zh-hans") == ["fr", "de", "pt-BR", "zh-Hans"]


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("french", r"did you mean fr \(French\)\?"),
        ("fr,Deutsch", r"'Deutsch' is not a language code; did you mean de \(German\)\?"),
        ("spanisch", r"es \(Spanish\)"),
        ("q9", "is not a BCP-47 language code; write for example"),
        ("../x", "is not a BCP-47 language code"),
        (" , ", "no target language was named"),
    ],
)
def test_what_is_no_code_is_an_error_with_the_codes_that_may_be_meant(typed, says):
    with pytest.raises(PromptError, match=says):
        parse_languages(typed)
