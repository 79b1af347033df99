"""`--attn-implementation` and `--llm-gradient-checkpointing`: another way to the same numbers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from llm_families import FAMILIES, save_family
from tiny_models import batch, build_stage2

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.llm.recompute import recompute_layers

CLOSE = {"atol": 2e-4, "rtol": 1e-3}


@pytest.fixture(scope="module", params=["llama", "mistral", "gemma3", "gpt2"])
def llm(request, world, tmp_path_factory):
    folder = save_family(request.param, tmp_path_factory.mktemp("llms") / request.param)
    return SimpleNamespace(**{**vars(world), "llm": folder})


def test_attention_is_computed_as_asked_and_gives_the_same(llm):
    found = {}
    for name in ("eager", "sdpa"):
        built = build_stage2(llm, "--attn-implementation", name)
        assert built.model.llm.model.config._attn_implementation == name
        with torch.no_grad():
            found[name] = built.model(**batch(built, "train2", [0, 5, 3])["net_input"])
    assert not torch.equal(found["eager"], found["sdpa"]), "one of them ran twice"
    torch.testing.assert_close(found["eager"], found["sdpa"], **CLOSE)


def train_once(world, *more):
    """Gradients of the adapter, and the bytes that the forward pass keeps of the LLM for the backward pass."""
    built = build_stage2(world, "--dropout", "0", *more)
    built.model.train()
    sample = batch(built, "train2", [0, 5, 3])
    kept: dict[int, int] = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    names = ("source", "padding_mask", "prompt", "prompt_padding_mask")
    embeddings, seen = built.model.prompt_embeddings(*(sample["net_input"][name] for name in names))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = built.model.llm(embeddings, seen, logits_to_keep=1)[0]
    own = {parameter.untyped_storage().data_ptr() for parameter in built.model.llm.model.parameters()}
    logits.float().square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in built.model.named_parameters()}
    return gradients, sum(size for place, size in kept.items() if place not in own)


def test_checkpointing_keeps_less_and_gives_the_same_gradient(llm):
    plain, plain_bytes = train_once(llm)
    checkpointed, checkpointed_bytes = train_once(llm, "--llm-gradient-checkpointing")
    assert checkpointed_bytes < 0.35 * plain_bytes
    assert plain.keys() == checkpointed.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, atol=1e-6, rtol=1e-5)
        assert gradient.abs().sum() > 0


def test_checkpointing_leaves_the_llm_in_eval_mode_and_generation_as_it_is(llm):
    found = []
    for more in ([], ["--llm-gradient-checkpointing"]):
        built = build_stage2(llm, *more)
        built.model.train()
        assert not any(module.training for module in built.model.llm.model.modules())
        net_input = batch(built, "train2", [0, 5])["net_input"]
        decoder = built.model.step_decoder()
        with torch.no_grad():
            _, state = decoder.start(net_input)
            found.append(decoder.step(torch.tensor([30, 31]), state)[0])
    assert torch.equal(*found)


def test_a_model_whose_layers_cannot_be_recomputed_is_named():
    with pytest.raises(SparqleError, match="cannot recompute the layers of this model; leave"):
        recompute_layers(torch.nn.Linear(2, 2), "x")


def test_every_family_can_be_checkpointed(tmp_path):
    from sparqle_fairseq.models.llm.llm import LLMOptions, load_llm

    for name in FAMILIES:
        load_llm(str(save_family(name, tmp_path / name)), LLMOptions(gradient_checkpointing=True))
