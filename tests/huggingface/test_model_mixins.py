"""What transformers asks of every model: saved and loaded, generated from in every way, padded, trained, adapted."""

from __future__ import annotations

import copy
import shutil

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMultimodalLM, AutoProcessor, pipeline

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.huggingface import SparqleConfig, SparqleForConditionalGeneration

RATE = 16000


@pytest.fixture(scope="module")
def processor(tiny_hub):
    return AutoProcessor.from_pretrained(tiny_hub.folder)


@pytest.fixture(scope="module")
def model(tiny_hub):
    return AutoModelForMultimodalLM.from_pretrained(tiny_hub.folder)


@pytest.fixture(scope="module")
def asked(processor, tiny_hub):
    return processor.apply_translation_request(tiny_hub.waves, to=["fr", "de", "fr"], sampling_rate=RATE)


@pytest.fixture(scope="module")
def taught(processor, tiny_hub):
    answers = ["Rouge Renard", "Bleu Chien court", "Chat"]
    return processor.apply_translation_request(tiny_hub.waves, to="fr", sampling_rate=RATE, answers=answers)


@torch.no_grad()
def logits(model, inputs):
    return model(**inputs).logits


def new_tokens(model, inputs, **named):
    return model.generate(**inputs, **{"max_new_tokens": 6, "do_sample": False, **named})


def test_the_configuration_comes_back_whole(model, tmp_path):
    model.config.save_pretrained(tmp_path)
    back = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(back, SparqleConfig)
    assert back.to_diff_dict() | {"_name_or_path": ""} == model.config.to_diff_dict() | {"_name_or_path": ""}


@pytest.mark.parametrize("self_contained", [False, True])
def test_a_saved_model_is_the_same_model(model, asked, self_contained, tmp_path):
    model.save_pretrained(tmp_path, self_contained=self_contained)
    back = SparqleForConditionalGeneration.from_pretrained(tmp_path)
    assert back.config.adapter_only is not self_contained
    assert torch.equal(logits(back, asked), logits(model, asked))
    assert torch.equal(new_tokens(back, asked), new_tokens(model, asked))
    learns = {name for name, value in back.named_parameters() if value.requires_grad}
    assert learns == {name for name, _ in back.named_parameters() if name.startswith("adapter.")}


@pytest.mark.parametrize("self_contained", [False, True])
def test_a_model_in_bf16_is_saved_and_loaded_in_bf16(tiny_hub, asked, self_contained, tmp_path):
    half = SparqleForConditionalGeneration.from_pretrained(tiny_hub.folder, dtype=torch.bfloat16)
    assert {value.dtype for name, value in half.named_parameters() if name.startswith("adapter.")} == {torch.bfloat16}
    half.save_pretrained(tmp_path, self_contained=self_contained)
    back = SparqleForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {value.dtype for value in back.language_model.parameters()} == {torch.bfloat16}
    assert torch.equal(logits(back, asked), logits(half, asked))


def test_an_llm_of_bf16_stays_so_beside_an_adapter_of_fp32(tiny_hub, tmp_path):
    llm = shutil.copytree(tiny_hub.llm, tmp_path / "llm")
    AutoModelForCausalLM.from_pretrained(llm, dtype=torch.bfloat16).save_pretrained(llm)
    config = SparqleConfig.from_pretrained(tiny_hub.folder)
    config.llm, config.identity = str(llm), None
    one = SparqleForConditionalGeneration.from_pretrained(tiny_hub.folder, config=config)
    one.save_pretrained(tmp_path / "all", self_contained=True)
    for model in (one, SparqleForConditionalGeneration.from_pretrained(tmp_path / "all")):
        assert {value.dtype for value in model.language_model.parameters()} == {torch.bfloat16}
        assert {value.dtype for value in model.adapter.parameters()} == {torch.float32}
        assert {value.dtype for value in model.speech_encoder.parameters()} == {torch.float32}


def test_beams_samples_and_assistants_write_what_they_should(model, asked, tiny_hub):
    greedy = new_tokens(model, asked)
    torch.manual_seed(0)
    assert torch.equal(new_tokens(model, asked, do_sample=True, top_k=1), greedy)
    torch.manual_seed(0)
    assert new_tokens(model, asked, do_sample=True, temperature=5.0, num_return_sequences=2).size(0) == 6
    beam = new_tokens(
        model, asked, num_beams=3, num_return_sequences=3, output_scores=True, return_dict_in_generate=True
    )
    scores = beam.sequences_scores.view(3, 3)
    assert (scores[:, :-1] >= scores[:, 1:]).all()
    one = {name: value[:1] for name, value in asked.items()}
    one["input_values"] = one["input_values"][:, : len(tiny_hub.waves[0])]
    one["input_values_mask"] = one["input_values_mask"][:, : len(tiny_hub.waves[0])]
    alone = new_tokens(model, one)
    assert torch.equal(alone[0], greedy[0, : alone.size(1)])


def test_embeddings_in_place_of_ids_give_the_same(model, processor, tiny_hub):
    one = processor.apply_translation_request(tiny_hub.waves[0], to="fr", sampling_rate=RATE)
    embeddings = model.prompt_embeds(**one)[None]
    mask = torch.ones(embeddings.shape[:2], dtype=torch.long)
    with torch.no_grad():
        given = model(inputs_embeds=embeddings, attention_mask=mask).logits
    torch.testing.assert_close(given, logits(model, one))
    # The LLM alone, as a server has it.
    llm = AutoModelForCausalLM.from_pretrained(tiny_hub.llm, dtype=torch.float32)
    with torch.no_grad():
        torch.testing.assert_close(llm(inputs_embeds=embeddings).logits, given)
    with pytest.raises(ValueError, match="not both"):
        model(input_ids=one["input_ids"], inputs_embeds=embeddings)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_and_batch_mates_change_nothing(model, processor, tiny_hub, side):
    named = {"sampling_rate": RATE, "padding_side": side}
    together = processor.apply_translation_request(tiny_hub.waves, to=["fr", "pt-BR", "de"], **named)
    assert (together["attention_mask"] == 0).any()
    found = logits(model, together)
    for row, (wave, code) in enumerate(zip(tiny_hub.waves, ["fr", "pt-BR", "de"], strict=True)):
        alone = logits(model, processor.apply_translation_request(wave, to=code, sampling_rate=RATE))
        real = together["attention_mask"][row] == 1
        torch.testing.assert_close(found[row, real], alone[0], atol=1e-4, rtol=1e-4)


def test_several_recordings_stand_in_their_own_places(model, processor, tiny_hub):
    first, second, _ = tiny_hub.waves
    text = f"{processor.audio_token} and {processor.audio_token}"
    both = processor(text=text, audio=[first, second], sampling_rate=RATE)
    mask = both["input_ids"][0] == processor.audio_token_id
    with torch.no_grad():
        merged, _ = model.merge(both["input_ids"], None, model.get_audio_features(**speech(both)))
        alone = [processor(text=processor.audio_token, audio=one, sampling_rate=RATE) for one in (first, second)]
        single = [model.get_audio_features(**speech(one)) for one in alone]
    expected = torch.cat([one.pooler_output for one in single])
    torch.testing.assert_close(merged[0, mask], expected, atol=1e-4, rtol=1e-4)


def speech(inputs):
    return {name: value for name, value in inputs.items() if name.startswith("input_values")}


def test_recordings_and_places_that_do_not_match_are_refused(model, processor, asked, tiny_hub):
    with pytest.raises(SparqleError, match=r"2 recording\(s\) came, and the text has 1 place"):
        processor(text=processor.audio_token, audio=tiny_hub.waves[:2], sampling_rate=RATE)
    cut = {**asked, "input_ids": asked["input_ids"][:2], "attention_mask": asked["attention_mask"][:2]}
    with pytest.raises(ValueError, match="12 places for speech, and 3 recording"):
        model(**cut)
    with pytest.raises(ValueError, match="no recording came"):
        model.generate(input_ids=asked["input_ids"])


def test_recomputed_layers_have_the_same_gradients(tiny_hub, taught):
    gradients = []
    for recompute in (False, True):
        model = SparqleForConditionalGeneration.from_pretrained(tiny_hub.folder)
        if recompute:
            model.gradient_checkpointing_enable()
        model(**taught).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert all(name.startswith("adapter.") for name in gradients[0])
    for name, value in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], value)


def test_peft_adds_lora_to_the_llm(tiny_hub, taught):
    from peft import LoraConfig

    model = SparqleForConditionalGeneration.from_pretrained(tiny_hub.folder)
    before = logits(model, taught)
    model.add_adapter(LoraConfig(r=2, target_modules=r"language_model\..*\.q_proj"))
    torch.testing.assert_close(logits(model, taught), before)  # B is zero
    model(**taught).loss.backward()
    learned = {name for name, p in model.named_parameters() if p.grad is not None and "lora_B" in name}
    assert learned
    assert all(name.startswith("language_model.") for name in learned)


def test_new_tokens_of_the_llm_change_nothing_before_them(tiny_hub, asked):
    model = SparqleForConditionalGeneration.from_pretrained(tiny_hub.folder)
    before = logits(model, asked)
    size = model.get_input_embeddings().num_embeddings
    model.resize_token_embeddings(size + 8)
    after = logits(model, asked)
    assert after.size(-1) == size + 8
    torch.testing.assert_close(after[..., :size], before)


@pytest.mark.parametrize("kind", ["eager", "sdpa"])
def test_every_kind_of_attention_gives_the_same(tiny_hub, model, asked, kind):
    other = SparqleForConditionalGeneration.from_pretrained(tiny_hub.folder, attn_implementation=kind, device_map="cpu")
    assert other.language_model.config._attn_implementation == kind
    real = asked["attention_mask"] == 1
    torch.testing.assert_close(logits(other, asked)[real], logits(model, asked)[real], atol=1e-4, rtol=1e-4)


def test_prompt_lookup_writes_what_greedy_writes_and_an_assistant_is_refused(model, processor, tiny_hub):
    one = processor.apply_translation_request(tiny_hub.waves[0], to="fr", sampling_rate=RATE)
    assert torch.equal(new_tokens(model, one, prompt_lookup_num_tokens=2), new_tokens(model, one))
    with pytest.raises(ValueError, match="an assistant hears no speech"):
        new_tokens(model, one, assistant_model=copy.deepcopy(model))


def test_the_pipeline_answers_a_chat(model, processor, tiny_hub):
    chat = [{"role": "user", "content": [{"type": "audio", "array": tiny_hub.waves[0], "sampling_rate": RATE},
                                         {"type": "text", "text": "Say it in French."}]}]  # fmt: skip
    made = processor.apply_chat_template(chat, tokenize=True, return_dict=True)
    ids = new_tokens(model, made)[:, made["input_ids"].size(1) :]
    ask = pipeline("any-to-any", model=model, processor=processor)
    found = ask(chat, max_new_tokens=6, return_full_text=False, generate_kwargs={"do_sample": False})
    assert found[0]["generated_text"] == processor.decode(ids[0])
