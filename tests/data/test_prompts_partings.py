"""A template that parts prompt and answer where the LLM's tokenizer would join them is named, with its key."""

from __future__ import annotations

import pytest
import tiny
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from sparqle_fairseq.data.instructions import InstructionSide
from sparqle_fairseq.data.manifest import ManifestRow
from sparqle_fairseq.data.wordings import PromptTemplates, profile_names

CHAT = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}"
CHAT_OPEN = CHAT + "{% if add_generation_prompt %}[assistant]END{% endif %}"


@pytest.fixture(scope="module")
def spaced(tmp_path_factory):
    """Tokens that begin with a space, as those of GPT-2 and Llama 3."""
    return AutoTokenizer.from_pretrained(tiny.save_base_llm(tmp_path_factory.mktemp("base") / "llm"))


@pytest.fixture(scope="module")
def joined():
    """Tokens that begin with the sign of a space, as sentencepiece's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    texts = [f"English: {word} French: {tiny.FRENCH[word]} and so on" for word in tiny.ENGLISH] * 3
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["</s>"], initial_alphabet=list("aeinostADEILMORST:\n▁"), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")


def partings(tokenizer, tmp_path, text):
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")
    found = PromptTemplates.load(path).partings(PromptTemplates.load(path).builder(tokenizer))
    assert all(str(path) in sentence for sentence in found)
    return found


@pytest.mark.parametrize("kind", ["spaced", "joined"])
@pytest.mark.parametrize(
    ("template", "key"),
    [
        ('before_answer: "\\nFrench: "\ntranslation: ["{speech}"]', "before_answer ('\\nFrench: ')"),
        ('before_answer: ""\ntranslation: {fr: ["{speech}\\nFrench: "]}', "translation (fr, '{speech}\\nFrench: ')"),
        ('before_answer: "\\nFrench:"\ntranslation: ["{speech}"]', None),
        ('before_answer: "\\n"\ntranslation: ["{speech} "]', None),
        ('translation: ["Into {language}: {speech}"]', None),
    ],
)
def test_a_space_before_the_answer_is_named_with_file_and_key(request, tmp_path, kind, template, key):
    found = partings(request.getfixturevalue(kind), tmp_path, template)
    if key is None:
        assert found == []
    else:
        (sentence,) = found
        assert f"own.yaml: {key} ends the prompt in ' '" in sentence


def test_one_sentence_for_a_key_however_many_wordings(spaced, tmp_path):
    template = 'before_answer: " "\ntranslation: ["{speech} a", "{speech} b"]\ntranscription: ["{speech} c"]'
    assert len(partings(spaced, tmp_path, template)) == 1


@pytest.mark.parametrize(("end", "warned"), [(" ", True), ("\\n", False)])
def test_a_chat_template_is_looked_at_too(spaced, tmp_path, end, warned, monkeypatch):
    monkeypatch.setattr(spaced, "chat_template", CHAT_OPEN.replace("END", end.replace("\\n", "\n")))
    found = partings(spaced, tmp_path, 'translation: ["{speech}"]')
    assert bool(found) == warned
    assert all("chat_template" in sentence for sentence in found)


@pytest.mark.parametrize("kind", ["spaced", "joined"])
def test_the_files_that_ship_part_nothing(request, kind):
    for name in profile_names():
        templates = PromptTemplates.load(name)
        assert templates.partings(templates.builder(request.getfixturevalue(kind))) == []


@pytest.mark.parametrize(("prompt", "warned"), [("{speech} French: ", True), ("{speech} French:", False)])
def test_a_rows_own_prompt_is_looked_at_once(spaced, caplog, prompt, warned):
    templates = PromptTemplates({}, before_answer="")
    side = InstructionSide(templates.builder(spaced), templates, pad=0, max_tokens=99)
    fields = {"src_text": None, "tgt_text": None, "src_lang": None, "tgt_lang": "fr", "speaker": None, "line": 2}
    row = ManifestRow(id="a", audio="a.wav", n_frames=9, task="translation", prompt=prompt, **fields)
    for _ in range(2):
        side.item(row, "x.tsv:2 (a)", epoch=1)
    said = [text for text in caplog.messages if "x.tsv:2 (a): its prompt ends in ' '" in text]
    assert len(said) == warned
