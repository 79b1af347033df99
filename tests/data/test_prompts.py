"""Prompts: templates, the place of the speech, the end of a turn."""

from __future__ import annotations

import random

import pytest
import tiny
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sparqle_fairseq.data.prompts import PromptBuilder, PromptError, language_name
from sparqle_fairseq.data.text import load_tokenizer
from sparqle_fairseq.data.wordings import PromptTemplates


@pytest.fixture(scope="module", params=[True, False], ids=["chat template", "plain"])
def builder(request, tmp_path_factory):
    folder = tiny.save_llm(tmp_path_factory.mktemp("llm"), chat=request.param)
    return PromptBuilder(load_tokenizer(str(folder)))


def test_an_answer_ends_with_the_end_of_turn(builder):
    answer = builder.encode_answer("Rouge Chien")
    expected = "<|end|>" if builder.tokenizer.chat_template else "</s>"
    assert answer[-1] == builder.tokenizer.convert_tokens_to_ids(expected)
    assert answer.count(answer[-1]) == 1
    assert builder.tokenizer.decode(answer[:-1]) == "Rouge Chien"


def test_speech_stands_where_the_instruction_has_it(builder):
    prompt = builder.encode("Listen: {speech} Now write.")
    text = builder.tokenizer.decode
    assert text(prompt.before).endswith("Listen: ")
    assert text(prompt.after).startswith(" Now write.")
    if builder.tokenizer.chat_template:
        assert text(prompt.before) == "<s><|user|>Listen: "
        assert text(prompt.after) == " Now write.<|end|><|assistant|>"


@given(words=st.text(alphabet=st.characters(codec="utf-8", exclude_characters="{}§"), max_size=30))
def test_any_wording_keeps_the_place_of_the_speech(builder, words):
    prompt = builder.encode(f"{words}{{speech}}{words}")
    joined = builder.tokenizer.decode([*prompt.before, *prompt.after])
    assert joined.replace("<s>", "").count(words) >= (2 if words.strip() else 0)


def test_a_prompt_column_takes_the_templates_place():
    templates = PromptTemplates.load()
    assert (
        templates.instruction("translation", "fr", "Sag es auf {language}: {speech}") == "Sag es auf French: {speech}"
    )
    assert templates.instruction("transcription", None, "Write.") == "{speech} Write."


def test_wordings_are_sampled_in_training_and_fixed_in_generation():
    templates = PromptTemplates.load()
    fixed = {templates.instruction("translation", "de") for _ in range(20)}
    drawn = {templates.instruction("translation", "de", rng=random.Random(i)) for i in range(50)}
    assert fixed == {"{speech} Translate the speech into German."}
    assert drawn == {line.replace("{language}", "German") for line in templates.wordings["translation"]["default"]}


@pytest.mark.parametrize(
    ("code", "name"), [("fr", "French"), ("pt-BR", "Portuguese (Brazil)"), ("zh-Hant", "Chinese (Traditional)")]
)
def test_language_names(code, name):
    assert language_name(code) == name


@pytest.mark.parametrize("code", ["", "french!", "xx-yy-zz-ww", "q"])
def test_an_unknown_language_code_is_refused(code):
    with pytest.raises(PromptError, match="BCP-47"):
        language_name(code)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- a list", "expected a mapping"),
        ("translation: ['no place']", "has {speech} 0 times"),
        ("translation: ['{speech} {speech}']", "has {speech} 2 times"),
        ("translate: ['{speech}']", "unknown key 'translate'"),
        ("translation: '{speech}'", "must be a list"),
        ("translation: [", "cannot be read"),
        ("system: 3", "must be a text"),
    ],
)
def test_a_bad_template_file_is_named(tmp_path, content, message):
    path = tmp_path / "t.yaml"
    path.write_text(content)
    with pytest.raises(PromptError) as error:
        PromptTemplates.load(path)
    assert str(path) in str(error.value)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_task_without_template_says_what_there_is(tmp_path):
    path = tmp_path / "t.yaml"
    path.write_text(yaml.safe_dump({"transcription": ["{speech} Write."]}))
    with pytest.raises(PromptError, match=r"no template for task 'translation'; .* has: transcription"):
        PromptTemplates.load(path).instruction("translation", "fr")


def test_a_template_that_names_the_language_needs_one():
    with pytest.raises(PromptError, match="no tgt_lang"):
        PromptTemplates.load().instruction("translation", None)
