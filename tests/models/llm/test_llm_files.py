"""`--llm`: what is read, and one sentence for what is not a causal language model, or not whole."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import tiny
import torch
from gguf_file import write_gguf

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.llm.llm import LLMOptions, load_llm


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    return tiny.save_llm(tmp_path_factory.mktemp("llama") / "llm")


def copy(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to))


def changed(folder: Path, file: str, **values: object) -> Path:
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return folder


def sentence(path: Path | str, options: LLMOptions | None = None) -> str:
    with pytest.raises(SparqleError) as caught:
        load_llm(str(path), options)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value) or options is not None
    return str(caught.value)


# ---- precision


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_bfloat16_is_what_transformers_makes_of_it(tmp_path, name):
    """Rotary frequencies stay in float32: rounded, they change what stands far from the start."""
    from llm_families import save_family
    from transformers import AutoModelForCausalLM

    folder = save_family(name, tmp_path / name)
    ours = load_llm(str(folder), LLMOptions(torch.bfloat16))
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).eval()
    tokens = torch.randint(10, 90, (1, 200), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        embeddings = ours.embed(tokens)
        found = ours(embeddings, torch.ones_like(tokens, dtype=torch.bool), logits_to_keep=5)[0]
        expected = theirs(input_ids=tokens, logits_to_keep=5).logits
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, expected)


def test_the_identity_does_not_depend_on_precision_or_attention(llama):
    one = load_llm(str(llama), LLMOptions(torch.bfloat16, "eager")).identity
    other = load_llm(str(llama)).identity
    assert {**one, "dtype": None} == {**other, "dtype": None}


# ---- GGUF


@pytest.fixture(scope="module")
def gguf_folder(llama, tmp_path_factory) -> Path:
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("gguf")
    write_gguf(llama, folder / "tiny.gguf", AutoModelForCausalLM.from_pretrained(llama))
    return folder


@pytest.mark.parametrize("place", ["", "tiny.gguf"], ids=["folder", "file"])
def test_a_gguf_model_is_the_model_it_was_written_from(llama, gguf_folder, place):
    source, found = load_llm(str(llama)), load_llm(str(gguf_folder / place))
    assert found.tokenizer.get_vocab() == source.tokenizer.get_vocab()
    assert found.tokenizer.chat_template == source.tokenizer.chat_template
    assert found.end == source.end
    text = "<s><|user|>Rouge Chien dort<|end|><|assistant|>"
    tokens = torch.tensor([found.tokenizer.encode(text, add_special_tokens=False)])
    assert tokens.tolist() == [source.tokenizer.encode(text, add_special_tokens=False)]
    with torch.no_grad():
        torch.testing.assert_close(
            found.model(input_ids=tokens).logits, source.model(input_ids=tokens).logits, atol=1e-4, rtol=1e-4
        )


def test_a_quantised_gguf_model_is_near_the_model_it_was_written_from(llama, tmp_path):
    source = load_llm(str(llama))
    write_gguf(llama, tmp_path / "q8.gguf", source.model, "Q8_0")
    tokens = torch.tensor([[9, 30, 40, 50]])
    found = load_llm(str(tmp_path / "q8.gguf")).model(input_ids=tokens).logits
    expected = source.model(input_ids=tokens).logits
    assert 0 < (found - expected).abs().max() < 0.1 * expected.abs().max()


def test_of_several_gguf_files_one_must_be_named(gguf_folder, tmp_path):
    for name in ("a.gguf", "b.gguf"):
        shutil.copy(gguf_folder / "tiny.gguf", tmp_path / name)
    assert "holds 2 GGUF files" in sentence(tmp_path)
    assert str(tmp_path / "a.gguf") in sentence(tmp_path)


def test_a_folder_with_a_config_is_read_as_ever_beside_a_gguf_file(llama, gguf_folder, tmp_path):
    folder = copy(llama, tmp_path / "both")
    shutil.copy(gguf_folder / "tiny.gguf", folder / "tiny.gguf")
    assert load_llm(str(folder)).identity["weights"] == load_llm(str(llama)).identity["weights"]


def test_a_gguf_file_that_is_missing_or_damaged_is_named(gguf_folder, tmp_path):
    assert "no such GGUF file" in sentence(tmp_path / "none.gguf")
    (tmp_path / "cut.gguf").write_bytes((gguf_folder / "tiny.gguf").read_bytes()[:900])
    assert "no causal language model could be read" in sentence(tmp_path / "cut.gguf")


def test_a_gguf_model_without_the_package_says_what_to_install(gguf_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert "pip install 'sparqle-fairseq[gguf]'" in sentence(gguf_folder / "tiny.gguf")


# ---- what is no causal language model

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 400,
}


@pytest.mark.parametrize("kind", ["Bert", "Roberta", "Electra"])
def test_a_bidirectional_model_is_refused(llama, tmp_path, kind):
    import transformers

    config = getattr(transformers, f"{kind}Config")(**SMALL, embedding_size=16)
    folder = copy(llama, tmp_path / "llm")
    getattr(transformers, f"{kind}Model")(config).save_pretrained(folder)
    assert "words see the words after them" in sentence(folder)


def test_a_bert_that_was_made_a_decoder_is_taken(llama, tmp_path):
    from transformers import BertConfig, BertLMHeadModel

    folder = copy(llama, tmp_path / "llm")
    BertLMHeadModel(BertConfig(**SMALL, is_decoder=True)).save_pretrained(folder)
    assert load_llm(str(folder)).width == 16


@pytest.mark.parametrize("kind", ["T5ForConditionalGeneration", "BartForConditionalGeneration"])
def test_an_encoder_decoder_is_refused(llama, tmp_path, kind):
    import transformers

    name = kind.removesuffix("ForConditionalGeneration")
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    if name == "Bart":
        sizes = {f"{side}_{what}": 1 for side in ("encoder", "decoder") for what in ("layers", "attention_heads")}
        sizes |= {"d_model": 16, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}
    folder = copy(llama, tmp_path / "llm")
    config = getattr(transformers, f"{name}Config")(**sizes, vocab_size=400)
    getattr(transformers, kind)(config).save_pretrained(folder)
    assert "encoder-decoder" in sentence(folder)


def test_a_speech_encoder_is_refused(tmp_path):
    from factories import save_tiny_hugging_face

    save_tiny_hugging_face(tmp_path / "hubert")
    assert "is a hubert model, not a causal language model" in sentence(tmp_path / "hubert")


def test_a_model_without_keys_and_values_is_refused(llama, tmp_path):
    from transformers import MambaConfig, MambaForCausalLM

    folder = copy(llama, tmp_path / "llm")
    MambaForCausalLM(MambaConfig(vocab_size=400, hidden_size=16, num_hidden_layers=1, state_size=4)).save_pretrained(
        folder
    )
    assert "no cache of keys and values" in sentence(folder)


def test_code_beside_a_model_is_never_run(llama, tmp_path):
    folder = copy(llama, tmp_path / "llm")
    trap = tmp_path / "was-run"
    (folder / "own.py").write_text(f"open({str(trap)!r}, 'w')\nclass Config: pass\nclass Model: pass\n")
    own = {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model", "AutoTokenizer": ["own.Model", None]}
    changed(folder, "config.json", model_type="mystery", auto_map=own)
    assert "such code is never run here" in sentence(folder)
    # A kind that transformers knows is read by transformers' own code.
    changed(folder, "config.json", model_type="llama")
    changed(folder, "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Model", None]})
    assert load_llm(str(folder)).identity["weights"] == load_llm(str(llama)).identity["weights"]
    assert not trap.exists()


def test_attention_from_the_hub_is_never_fetched(llama):
    found = sentence(llama, LLMOptions(attention="someone/attention"))
    assert "--attn-implementation someone/attention" in found
    assert "never run" in found


def test_attention_that_cannot_be_had_is_named(llama):
    assert "flash" in sentence(llama, LLMOptions(attention="flash_attention_2"))
    assert "quick" in sentence(llama, LLMOptions(attention="quick"))


# ---- what is not whole


def test_a_folder_without_weights_is_named(llama, tmp_path):
    folder = copy(llama, tmp_path / "llm")
    (folder / "model.safetensors").unlink()
    assert "no causal language model could be read" in sentence(folder)


def test_weights_that_lack_a_tensor_are_refused(llama, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = copy(llama, tmp_path / "llm")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    assert "model.layers.1.mlp.up_proj.weight" in sentence(folder)


def test_weights_of_another_shape_are_refused(llama, tmp_path):
    folder = copy(llama, tmp_path / "llm")
    changed(folder, "config.json", intermediate_size=20)
    assert "no causal language model could be read" in sentence(folder)


@pytest.mark.parametrize("files", [["tokenizer.json"], ["tokenizer.json", "tokenizer_config.json"]])
def test_missing_tokenizer_files_are_named(llama, tmp_path, files):
    folder = copy(llama, tmp_path / "llm")
    for file in files:
        (folder / file).unlink()
    assert "no tokenizer could be read" in sentence(folder)


def test_a_tokenizer_larger_than_the_embedding_is_refused(llama, tmp_path):
    folder = copy(llama, tmp_path / "llm")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    tokenizer["added_tokens"].append({**tokenizer["added_tokens"][0], "id": size, "content": "<|more|>"})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert f"has ids up to {size}, but the model embeds only {size}" in sentence(folder)


def test_a_tokenizer_that_cannot_end_an_answer_is_refused(llama, tmp_path):
    folder = copy(llama, tmp_path / "llm")
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    changed(folder, "tokenizer_config.json", eos_token=None, chat_template=None)
    found = sentence(folder)
    assert "neither an eos_token nor a chat template" in found
    assert "tokenizer_config.json" in found


def test_a_chat_template_that_cannot_be_rendered_is_refused(llama, tmp_path):
    folder = copy(llama, tmp_path / "llm")
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content")
    assert "cannot be rendered" in sentence(folder)
