"""Every family of LLM: padding changes nothing, the cache changes nothing, training and generation see the same."""

from __future__ import annotations

import dataclasses
import random
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llm_families import FAMILIES, save_family
from tiny_models import batch, build_stage2

from sparqle_fairseq.data.instructions import InstructionSide
from sparqle_fairseq.data.manifest import ManifestRow
from sparqle_fairseq.data.wordings import PromptTemplates
from sparqle_fairseq.generate.limits import Limits
from sparqle_fairseq.generate.search import Hypothesis, SearchSettings, search
from sparqle_fairseq.models.stage2.prompted import splice

CLOSE = {"atol": 2e-4, "rtol": 1e-4}
ROWS = [0, 5, 3, 9]


@pytest.fixture(scope="module", params=FAMILIES)
def built(request, world, tmp_path_factory):
    llm = save_family(request.param, tmp_path_factory.mktemp("llms") / request.param)
    built = build_stage2(SimpleNamespace(**{**vars(world), "llm": llm}))
    # Answers must follow from the speech, or no test of it means anything.
    with torch.no_grad():
        built.model.adapter.projector.weight.mul_(2)
    return built


def prompted(built, text: str, answer: str = "Rouge Chien dort") -> SimpleNamespace:
    builder = PromptTemplates.load().builder(built.model.llm.tokenizer)
    return SimpleNamespace(prompt=builder.encode(text), answer=builder.encode_answer(answer))


def test_the_speech_matters(built):
    sample = batch(built, "train2", ROWS)
    logits = built.model(**sample["net_input"])
    sample["net_input"]["source"] = sample["net_input"]["source"].flip(0)
    sample["net_input"]["padding_mask"] = sample["net_input"]["padding_mask"].flip(0)
    assert logits.isfinite().all()
    assert (logits - built.model(**sample["net_input"])).abs().max() > 1e-2


def test_speech_enters_where_the_embeddings_of_text_enter(built):
    """Speech that equals the embeddings of words has the effect of the words, however the model scales embeddings."""
    llm = built.model.llm
    said = prompted(built, "{speech} Translate the speech into French.")
    words = torch.tensor(llm.tokenizer.encode("red fox runs", add_special_tokens=False))
    whole = torch.tensor([*said.prompt.before, *words, *said.prompt.after])[None]
    with torch.no_grad():
        expected = llm.model(input_ids=whole).logits[:, -1]
        prompt = torch.tensor([*said.prompt.before, -1, *said.prompt.after])[None]
        none = torch.zeros_like(prompt, dtype=torch.bool)
        embeddings, seen = splice(llm.embed(prompt), prompt, none, llm.embed(words)[None])
        found = llm(embeddings, seen, logits_to_keep=1)[0][:, -1]
    torch.testing.assert_close(found, expected, **CLOSE)


def test_batch_mates_change_no_logit(built):
    together = built.model(**batch(built, "train2", ROWS)["net_input"])
    for i, row in enumerate(ROWS):
        alone = built.model(**batch(built, "train2", [row])["net_input"])[0]
        torch.testing.assert_close(together[i, : len(alone)], alone, **CLOSE)


def found_by(built, rows: list[int]) -> list[list[Hypothesis]]:
    sample = batch(built, "train2", rows)
    model = built.model
    with torch.no_grad():
        return search(
            model.step_decoder(),
            sample["net_input"],
            SearchSettings(beam=3),
            Limits.at_most(torch.full((len(rows),), 12)),
            pad=model.llm.pad,
            end=model.llm.end,
            keys=sample["id"],
        )


def test_batch_mates_change_no_hypothesis(built):
    together = found_by(built, ROWS)
    for row, in_batch in zip(ROWS, together, strict=True):
        alone = found_by(built, [row])[0]
        assert [hypothesis.tokens for hypothesis in in_batch] == [hypothesis.tokens for hypothesis in alone]
        for one, other in zip(in_batch, alone, strict=True):
            torch.testing.assert_close(one.positional_scores, other.positional_scores, **CLOSE)
    assert len({round(hypotheses[0].score, 3) for hypotheses in together}) > 1, "the speech does not matter"


def stepwise(model, net_input) -> torch.Tensor:
    """Logits (B, L, V) of the answer, token by token with the cache, as generation goes."""
    decoder = model.step_decoder()
    with torch.no_grad():
        logits, state = decoder.start(net_input)
        columns = [logits]
        for token in net_input["answer"][:, :-1].T:
            state = decoder.reorder(state, torch.arange(len(token)))
            logits, state = decoder.step(token, state)
            columns.append(logits)
    return torch.stack(columns, dim=1)


def same_where_real(model, net_input) -> None:
    with torch.no_grad():
        whole = model(**net_input)
    joined = torch.stack([model.llm.join_ends(whole[:, j]) for j in range(whole.size(1))], dim=1)
    real = ~net_input["answer_padding_mask"]
    torch.testing.assert_close(stepwise(model, net_input)[real], joined[real], **CLOSE)


def test_the_cache_changes_nothing(built):
    net_input = batch(built, "train2", ROWS)["net_input"]
    assert net_input["prompt_padding_mask"].any()
    assert net_input["answer_padding_mask"].any()
    same_where_real(built.model, net_input)


def test_the_cache_changes_nothing_far_beyond_the_sliding_window(built):
    """30 answer tokens behind prompts longer than the windows of 8 positions."""
    net_input = batch(built, "train2", ROWS)["net_input"]
    answer = torch.randint(20, 100, (len(ROWS), 30), generator=torch.Generator().manual_seed(0))
    net_input |= {"answer": answer, "answer_padding_mask": torch.zeros_like(answer, dtype=torch.bool)}
    same_where_real(built.model, net_input)


words = st.text(st.characters(codec="utf-8", exclude_categories=["C"], exclude_characters="{}§"), max_size=12)
LANGUAGES = ("fr", "de", "pt-BR", "zh-Hant", "sw")


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    system=st.none() | words.filter(str.strip),
    profile=st.sampled_from(["default", "sparqle", "sparqle-plain"]),
    task=st.sampled_from(["transcription", "translation"]),
    lang=st.sampled_from(LANGUAGES),
    own=st.none() | st.tuples(words, words),
    answer=words.filter(str.strip),
    seed=st.integers(0, 99),
)
def test_what_is_seen_up_to_the_answer_is_the_same_in_training_and_generation(
    built, system, profile, task, lang, own, answer, seed
):
    model = built.model
    templates = PromptTemplates.load(profile)
    if system is not None:
        templates = dataclasses.replace(templates, system=system)
    prompt = None if own is None else f"{own[0]}{{speech}}{own[1]}"
    row = ManifestRow("a", "a.wav", 1, "x", answer, "en", lang, task, None, prompt, line=2)
    training = InstructionSide(templates.builder(model.llm.tokenizer), templates, model.llm.pad, 512, sample_seed=seed)
    items = [training.item(row, "row", epoch) for epoch in range(3)]
    # Generation takes the first wording: give it the drawn one as such.
    drawn = [
        templates.instruction(task, lang, prompt, random.Random(f"{seed} {epoch} {items[0]['utterance']}"))
        for epoch in range(3)
    ]
    for item, instruction in zip(items, drawn, strict=True):
        first = dataclasses.replace(templates, wordings={task: {"default": (instruction,)}}, speech="{speech}")
        generation = InstructionSide(first.builder(model.llm.tokenizer), first, model.llm.pad, 512)
        row = dataclasses.replace(row, prompt=None, tgt_text=None)
        assert generation.item(row, "row", 1)["prompt"] == item["prompt"]
    speech = batch(built, "train2", ROWS[:3])["net_input"]
    text = training.collate(items)["net_input"]
    text["utterance"] = speech["utterance"]
    recorded = []
    hook = model.llm.model.register_forward_pre_hook(lambda *given: recorded.append(given[2]), with_kwargs=True)
    try:
        same_where_real(model, {**speech, **text})
    finally:
        hook.remove()
    trained, generated = recorded[0], recorded[1]
    prefix = generated["inputs_embeds"].size(1)
    for name in ("inputs_embeds", "attention_mask", *(["position_ids"] if "position_ids" in trained else [])):
        assert torch.equal(trained[name][:, :prefix], generated[name]), name


def test_an_answer_can_be_read_back(built):
    """Tokens of an answer are its text again, case and accents kept (WordPiece parts punctuation)."""
    builder = PromptTemplates.load().builder(built.model.llm.tokenizer)
    for text in ("Rouge Chien", "il dort", "Chat Renard court"):
        tokens = builder.encode_answer(text)
        assert tokens[-1] == built.model.llm.end
        assert built.model.llm.decode(tokens) == text


def test_no_text_of_a_manifest_ends_an_answer_early(built):
    llm = built.model.llm
    builder = PromptTemplates.load().builder(llm.tokenizer)
    for token in llm.ends:
        text = llm.tokenizer.convert_ids_to_tokens(token)
        answer = builder.encode_answer(f"Rouge {text} Chien")
        assert not set(answer[:-1]) & set(llm.ends)
        assert answer[-1] == llm.end


def test_an_answer_stands_where_the_chat_template_puts_it(built):
    """Prompt and answer are, id for id, the beginning of the tokenizer's own rendering of the whole chat."""
    tokenizer = built.model.llm.tokenizer
    if not tokenizer.chat_template:
        pytest.skip("no chat template")
    said = prompted(built, "{speech} Translate.", "Rouge Chien")
    chat = [{"role": "user", "content": "§ Translate."}, {"role": "assistant", "content": "Rouge Chien"}]
    before, after = tokenizer.apply_chat_template(chat, tokenize=False, enable_thinking=False).split("§")
    text = tokenizer.decode([*said.prompt.after, *said.answer])
    assert tokenizer.decode(said.prompt.before) == before
    assert after.startswith(text)
