"""Every family of LLM through the commands: an update of stage 2, and a translation of each row."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
from commands import TINY, command, finetune_arguments, generate, lines, train_here
from gguf_file import write_gguf
from llm_families import FAMILIES, save_family

from sparqle_fairseq.errors import sentence_of


def train_and_generate(world, llm: Path, out: Path, *more: str) -> dict[int, str]:
    here = SimpleNamespace(**{**vars(world), "llm": llm})
    arguments = finetune_arguments(here, out, "--speech-encoder", world.encoder, *TINY, *more, updates=1)
    command("fairseq-train", *arguments)
    done = generate(here, out / "checkpoint_last.pt", "sparqle_finetune", "test_fr", "--beam", "2")
    return lines(done.stdout, "D")


QUICK = ("gemma3",)


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.long) for name in FAMILIES]
)
def test_a_family_trains_and_translates(world, tmp_path, name):
    llm = save_family(name, tmp_path / "llm")
    more = ["--attn-implementation", "eager", "--llm-gradient-checkpointing", "--prompt-templates", "sparqle"]
    found = train_and_generate(world, llm, tmp_path / "run", *more)
    assert sorted(found) == list(range(16)), "a row of the manifest has no translation"


@pytest.mark.long
def test_a_gguf_model_trains_and_translates(world, tmp_path):
    from transformers import AutoModelForCausalLM

    source = tiny.save_llm(tmp_path / "llm")
    (tmp_path / "gguf").mkdir()
    write_gguf(source, tmp_path / "gguf" / "tiny.gguf", AutoModelForCausalLM.from_pretrained(source), "Q8_0")
    assert len(train_and_generate(world, tmp_path / "gguf", tmp_path / "run")) == 16


def refused(world, llm: Path | str, out: Path, *more: str) -> str:
    """The sentence with which training stops before it writes anything."""
    here = SimpleNamespace(**{**vars(world), "llm": llm})
    with pytest.raises(BaseException) as caught:  # noqa: PT011
        train_here(finetune_arguments(here, out, "--speech-encoder", world.encoder, *TINY, *more, updates=1))
    sentence = sentence_of(caught.value)
    assert sentence, caught.value
    assert not list(out.glob("*.pt")), "something was written"
    return sentence


def test_training_refuses_what_is_no_causal_language_model(world, tmp_path):
    from transformers import BertConfig, BertModel

    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(**size, vocab_size=400)).save_pretrained(tmp_path / "bert")
    assert "not a causal language model" in refused(world, tmp_path / "bert", tmp_path / "run")


def test_an_answer_longer_than_the_context_is_named(world, tmp_path):
    """32 positions: 8 queries, the prompt, and no room for the answer of some row."""
    llm = tiny.save_llm(tmp_path / "llm")
    config = (llm / "config.json").read_text()
    (llm / "config.json").write_text(config.replace('"max_position_embeddings": 512', '"max_position_embeddings": 32'))
    found = refused(world, llm, tmp_path / "run")
    assert "train2.tsv" in found
    assert "utterance" in found
    assert "longer context" in found


def test_training_refuses_an_unknown_language_code(world, tmp_path):
    manifest = (world.data / "train2.tsv").read_text().replace("\tfr\t", "\tfrench\t")
    data = tmp_path / "data"
    data.mkdir()
    (data / "train2.tsv").write_text(manifest)
    (data / "dev2.tsv").write_text((world.data / "dev2.tsv").read_text())
    here = SimpleNamespace(**{**vars(world), "data": data})
    found = refused(here, world.llm, tmp_path / "run", "--audio-root", str(world.data))
    assert "'french' is not a BCP-47 language code" in found
    assert "train2.tsv" in found
