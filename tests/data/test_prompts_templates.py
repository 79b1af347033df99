"""Template files: languages of their own, profiles that ship, and faults that are named."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm_families import FAMILIES, byte_bpe

from sparqle_fairseq.data.prompts import PromptError, language_name
from sparqle_fairseq.data.wordings import PROFILES, PromptTemplates, profile_names, template_file


def load(tmp_path, text: str) -> PromptTemplates:
    path = tmp_path / "t.yaml"
    path.write_text(text, encoding="utf-8")
    return PromptTemplates.load(path)


LANGUAGES = """
translation:
  default: ["{speech} Into {language}."]
  fr: ["{speech} En français.", "{speech} Traduis."]
  pt: ["{speech} Em português."]
  pt-br: ["{speech} Em português do Brasil."]
  no: ["{speech} På norsk."]
transcription: ["{speech} Write."]
"""


@pytest.mark.parametrize(
    ("code", "instruction"),
    [
        ("fr", "{speech} En français."),
        ("fr-CA", "{speech} En français."),
        ("pt-BR", "{speech} Em português do Brasil."),
        ("pt-PT", "{speech} Em português."),
        ("no", "{speech} På norsk."),
        ("de", "{speech} Into German."),
        ("zh-Hant", "{speech} Into Chinese (Traditional)."),
    ],
)
def test_a_language_has_wordings_of_its_own(tmp_path, code, instruction):
    assert load(tmp_path, LANGUAGES).instruction("translation", code) == instruction


def test_wordings_of_a_language_are_drawn_by_seed(tmp_path):
    templates = load(tmp_path, LANGUAGES)
    drawn = [templates.instruction("translation", "fr", rng=random.Random(seed)) for seed in range(30)]
    assert set(drawn) == {"{speech} En français.", "{speech} Traduis."}
    assert drawn == [templates.instruction("translation", "fr", rng=random.Random(seed)) for seed in range(30)]
    assert {templates.instruction("translation", "fr") for _ in range(30)} == {"{speech} En français."}


def test_a_transcription_needs_no_language(tmp_path):
    assert load(tmp_path, LANGUAGES).instruction("transcription", None) == "{speech} Write."


def test_a_file_without_the_language_and_without_default_says_what_it_has(tmp_path):
    templates = load(tmp_path, "translation: {fr: ['{speech} En français.']}")
    with pytest.raises(PromptError, match=r"into de; .*t\.yaml has fr: add the language or default"):
        templates.instruction("translation", "de")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("translation: {default: ['{speech}'], french: ['{speech}']}", "has the key 'french'"),
        ("translation: {fr: []}", "must be a list of texts, or a mapping"),
        ("translation: {fr: '{speech}'}", "must be a list of texts, or a mapping"),
        ("translation: {fr: ['no place']}", "has {speech} 0 times; write it once"),
        ("translation: {fr: ['{speech} and {speech}']}", "has {speech} 2 times; write it once"),
        ("translation: ['{speech} into {lang}']", "has {lang}, which nothing fills in; write {speech} or {language}"),
        ("speech: <Speech>", "has {speech} 0 times"),
        ("speech: '{speech} {language}'", "has {language}, which nothing fills in"),
        ("speech: [a]", "'speech' must be a text"),
        ("chat_template: sometimes", "'chat_template' must be true or false, found 'sometimes'"),
        ("before_answer: 3", "'before_answer' must be a text"),
        ("base: nowhere.yaml", "nowhere.yaml: there is no such template file"),
        ("base: sparqle-plain", "has a base itself; name that one"),
        ("sistem: x", "unknown key 'sistem'; expected transcription, translation, "),
    ],
)
def test_a_fault_is_named(tmp_path, content, message):
    with pytest.raises(PromptError) as error:
        load(tmp_path, content)
    assert message in str(error.value)
    assert str(tmp_path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_profile_says_which_there_are(tmp_path):
    with pytest.raises(PromptError, match="default, sparqle, sparqle-plain"):
        PromptTemplates.load(tmp_path / "spraqle")


def test_every_file_that_ships_has_both_tasks():
    assert profile_names() == ["default", "sparqle", "sparqle-plain"]
    for name in profile_names():
        assert template_file(name).parent == PROFILES
        templates = PromptTemplates.load(name)
        for task in ("transcription", "translation"):
            assert "{speech}" in templates.instruction(task, "fr")


def test_a_base_gives_what_a_file_does_not_say(tmp_path):
    templates = load(tmp_path, "base: sparqle\ntranslation: ['{speech} To {language}!']")
    assert templates.system == PromptTemplates.load("sparqle").system
    assert templates.wordings["transcription"] == PromptTemplates.load("sparqle").wordings["transcription"]
    assert templates.instruction("translation", "fr") == "<Speech>{speech}</Speech> To French!"
    (tmp_path / "own.yaml").write_text("base: t.yaml\nsystem: null\n")
    with pytest.raises(PromptError, match="has a base itself"):
        PromptTemplates.load(tmp_path / "own.yaml")


# ---- the published prompts

LLAMA_TOKENS = {"special": ("<|start_header|>", "<|end_header|>", "<|eot|>")}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    family = FAMILIES["llama"]
    return byte_bpe(tmp_path_factory.mktemp("t"), family.template, family.special, **family.roles)


def test_the_published_prompts_have_their_number_of_wordings():
    wordings = PromptTemplates.load("sparqle").wordings
    assert len(wordings["transcription"]["default"]) == 7
    assert len(wordings["translation"]["default"]) == 4
    assert wordings == PromptTemplates.load("sparqle-plain").wordings


def test_the_published_prompt_of_generation(tokenizer):
    """System message and user's turn of the LLM's own chat template, the speech wrapped."""
    templates = PromptTemplates.load("sparqle")
    prompt = templates.builder(tokenizer).encode(templates.instruction("translation", "fr"))
    before, after = tokenizer.decode(prompt.before), tokenizer.decode(prompt.after)
    assert before == (
        "<|begin|><|start_header|>system<|end_header|>\n\nYou are a speech-to-text conversion model. Your tasks "
        "include accurately transcribing spoken language and translating audio samples as per user instructions. "
        "Please ensure clarity and precision in both transcription and translation processes.<|eot|>"
        "<|start_header|>user<|end_header|>\n\n<Speech>"
    )
    assert after == (
        "</Speech> Can you translate the speech into French?<|eot|><|start_header|>assistant<|end_header|>\n\n"
    )


def test_the_published_prompt_of_training(tokenizer):
    """The beginning of the sequence and the text alone; the answer follows at once."""
    templates = PromptTemplates.load("sparqle-plain")
    prompt = templates.builder(tokenizer).encode(templates.instruction("transcription", "en"))
    assert tokenizer.decode(prompt.before) == "<|begin|><Speech>"
    assert tokenizer.decode(prompt.after) == "</Speech> Can you transcribe the speech into a written format?"


def test_a_prompt_column_is_wrapped_too():
    instruction = PromptTemplates.load("sparqle").instruction("transcription", None, "Write it down.")
    assert instruction == "<Speech>{speech}</Speech> Write it down."


# ---- chat templates


def builder(tmp_path, template: str, system: str | None = None, **more):
    from dataclasses import replace

    family = FAMILIES["llama"]
    tokenizer = byte_bpe(tmp_path, template, family.special, **family.roles)
    return replace(PromptTemplates.load(), system=system, **more).builder(tokenizer)


TURNS = "{% for m in messages %}<|start_header|>{{ m['role'] }}: {{ m['content'] }}<|eot|>{% endfor %}"


@pytest.mark.parametrize(
    "template",
    [
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}" + TURNS,
        TURNS.replace("messages", "messages if m['role'] != 'system'"),
    ],
    ids=["refuses", "drops"],
)
def test_a_template_without_system_role_gets_the_system_text_in_the_users_turn(tmp_path, template):
    built = builder(tmp_path, template, system="Be exact.")
    assert built.tokenizer.decode(built.encode("Hear {speech}").before) == "<|start_header|>user: Be exact.\n\nHear "


def test_a_template_with_system_role_gets_it_as_such(tmp_path):
    built = builder(tmp_path, TURNS, system="Be exact.")
    expected = "<|start_header|>system: Be exact.<|eot|><|start_header|>user: Hear "
    assert built.tokenizer.decode(built.encode("Hear {speech}").before) == expected


def test_a_template_that_writes_the_date_writes_the_same_one_for_ever(tmp_path):
    date = "{%- if strftime_now is defined %}{% set day = strftime_now('%d %b %Y') %}{% endif %}"
    shown = "{%- macro show() %}{{ day ~ strftime_now(' %Y-%m-%d %B') }}{% endmacro %}{{ show() }}"
    built = builder(tmp_path, date + shown + TURNS)
    text = built.tokenizer.decode(built.encode("{speech}").before)
    assert text.startswith("26 Jul 2024 2024-07-26 July<|start_header|>")


def test_a_template_that_can_think_is_asked_not_to(tmp_path):
    template = TURNS + "{% if add_generation_prompt and enable_thinking is not false %}<think>{% endif %}"
    built = builder(tmp_path, template)
    assert "<think>" not in built.tokenizer.decode(built.encode("{speech}").after)


def test_without_chat_template_a_system_message_is_a_line_of_its_own(tmp_path):
    built = builder(tmp_path, TURNS, system="Be exact.", chat_template=False)
    prompt = built.encode("Hear {speech} now.")
    assert built.tokenizer.decode(prompt.before) == "<|begin|>Be exact.\nHear "
    assert built.tokenizer.decode(prompt.after) == " now.\n"
    assert built.encode_answer("x")[-1] == built.tokenizer.convert_tokens_to_ids("<|eot|>"), "the same end as in a chat"


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("always the same", "drops the assistant's text"),
        (TURNS + "{{ messages[0]['content'] }}", "repeats or drops the user's text"),
        ("{{ raise_exception('never') }}", "cannot be rendered (never)"),
    ],
)
def test_a_chat_template_that_cannot_be_used_is_named(tmp_path, template, message):
    with pytest.raises(PromptError) as error:
        builder(tmp_path, template).encode("Hear {speech}")
    assert message in str(error.value)


def test_sentencepiece_makes_up_no_space_before_an_answer(tmp_path):
    """Alone, a text starts with a space of LlamaTokenizer's own; behind the prompt it has none."""
    family = FAMILIES["phi3"]
    tokenizer = family.tokenizer(tmp_path, family.template, family.special, **family.roles)
    built = PromptTemplates.load().builder(tokenizer)
    prompt, answer = built.encode("Translate {speech}"), built.encode_answer("Rouge Chien")
    alone = tokenizer.encode("Rouge Chien", add_special_tokens=False)
    assert tokenizer.convert_ids_to_tokens(alone)[0].startswith("▁")
    whole = tokenizer.encode("<|end|>\n<|assistant|>\nRouge Chien", add_special_tokens=False)
    assert [*prompt.after, *answer[:-1]] == whole != [*prompt.after, *alone]


# ---- names of languages

# ISO 639-1 whole; then regions, scripts and ISO 639-3 codes of the corpora that `sparqle prepare` reads, and others.
TWO_LETTERS = (
    "aa ab ae af ak am an ar as av ay az ba be bg bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo "
    "es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka "
    "kg ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng "
    "nl nn no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg si sk sl sm sn so sq sr ss st su "
    "sv sw ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu"
)
LONGER = (
    "zh-CN zh-TW zh-Hans zh-Hant yue-Hant-HK cmn-Hans-CN sv-SE ga-IE rm-sursilv pt-BR pt-PT es-419 sr-Latn sr-Cyrl "
    "ast ceb ckb fil hsb kea kmr lij luo nso sah umb wol haw yue kab en-US mn-MN fa-IR az-Latn"
)


@pytest.mark.parametrize("code", f"{TWO_LETTERS} {LONGER}".split())
def test_every_language_code_has_an_english_name(code):
    name = language_name(code)
    assert name[0].isupper()
    assert name.lower() != code.lower()
    assert "unknown" not in name.lower()


def test_languages_have_different_names():
    names = [language_name(code) for code in TWO_LETTERS.split()]
    same = {name for name in names if names.count(name) > 1}
    assert same <= {"Akan"}, "ak and tw are one language"


@given(st.text(max_size=12))
def test_a_language_code_has_a_name_or_is_refused_in_one_sentence(code):
    try:
        answer = language_name(code)
    except PromptError as error:
        answer = str(error)
        assert "is not a BCP-47 language code" in answer
    assert len(answer.splitlines()) == 1
