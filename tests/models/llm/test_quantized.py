"""An LLM in 8 or 4 bits: the same LLM by its identity, close in its logits, with gradients to what it reads."""

from __future__ import annotations

import sys

import pytest
import torch
from generation import answers, generate
from tiny_models import batch, build, build_stage2, stage2_arguments

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.llm.quantized import quantize

pytest.importorskip("bitsandbytes", reason="the extra `quantized` is not installed")

# Root mean square of the difference of logits, as a share of their spread: measured 0.03 and 0.36.
CLOSE = {"8bit": 0.06, "4bit": 0.6}


@pytest.fixture(scope="module", params=["8bit", "4bit"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def built(world, kind):
    return build_stage2(world, "--llm-quantization", kind)


def logits_of(built):
    with torch.no_grad():
        return built.model(**batch(built, "train2", range(4))["net_input"])


def test_the_linear_layers_are_quantised_and_the_output_is_not(built, kind):
    model = built.model.llm.model
    assert {layer.self_attn.q_proj.weight.dtype for layer in model.model.layers} == {
        {"8bit": torch.int8, "4bit": torch.uint8}[kind]
    }
    stored = model.model.layers[0].mlp.up_proj.weight
    assert stored.numel() * stored.element_size() == {"8bit": 32 * 64, "4bit": 32 * 64 // 2}[kind]
    assert model.get_output_embeddings().weight.dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_logits_are_those_of_the_llm_as_it_is_stored(built, stage2, kind):
    expected, found = logits_of(stage2), logits_of(built)
    error = (found - expected).pow(2).mean().sqrt() / expected.std()
    assert 0 < error < CLOSE[kind]


def test_4_bits_give_the_logits_of_weights_that_were_rounded_to_4_bits(world):
    """NF4's places lie at most 0.304 of a block's largest weight apart; what is rounded is the weights alone."""
    rounded, found = build_stage2(world), build_stage2(world, "--llm-quantization", "4bit")
    layers = dict(rounded.model.llm.model.named_modules())
    count = 0
    for name, layer in found.model.llm.model.named_modules():
        if type(layer) is type(layers[name]):
            continue
        count += 1
        weight = layers[name].weight.data
        held = layer(torch.eye(weight.size(1))).t()  # (outputs, inputs)
        blocks, apart = weight.reshape(-1, 64), (held - weight).reshape(-1, 64)  # 64 weights a block
        assert (apart.abs() < 0.17 * blocks.abs().amax(dim=1, keepdim=True)).all()  # its scale is rounded too
        weight.copy_(held)
    assert count == 14
    torch.testing.assert_close(logits_of(found), logits_of(rounded), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("inputs", [16, 32, 48, 64, 72, 96, 160])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_of_any_length_are_multiplied_by_the_weights_they_were(inputs, dtype):
    """Rows of very different size, so that no scale can stand for another's."""
    model = torch.nn.Sequential(torch.nn.Linear(inputs, 64))
    model.get_output_embeddings = lambda: None
    weight = torch.randn(64, inputs) * torch.logspace(0, 1, 64).unsqueeze(1)
    model[0].weight.data.copy_(weight)
    bias = model[0].bias.detach().clone()
    quantize(model, "4bit", dtype, "sizes")
    x = torch.eye(inputs, dtype=dtype, requires_grad=True)
    y = model(x)
    held = (y.detach().float() - bias).t().reshape(-1, 64)
    blocks = weight.reshape(-1, 64)
    assert ((held - blocks).abs() < 0.25 * blocks.abs().amax(dim=1, keepdim=True)).all()
    y.sum().backward()
    assert x.grad.abs().sum() > 0


def test_a_pass_without_gradients_changes_no_gradient_after_it(world, kind):
    """bitsandbytes repacks 4-bit weights in such a pass, on some CPUs, for a product that has no backward pass."""
    gradients = []
    for validate in (False, True):
        built = build_stage2(world, "--llm-quantization", kind)
        built.model.llm.model.eval()
        if validate:
            logits_of(built)
        loss, _, _ = built.criterion(built.model, batch(built, "train2", range(4)))
        loss.backward()
        gradients.append([p.grad for p in built.model.parameters()])
    torch.testing.assert_close(gradients[1], gradients[0])


def test_its_identity_is_that_of_the_stored_weights(built, stage2):
    assert built.model.identity == stage2.model.identity
    built.model.load_state_dict(stage2.model.state_dict())
    assert list(built.model.state_dict()) == list(stage2.model.state_dict())


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_gradients_reach_the_adapter(world, kind, dtype):
    built = build_stage2(world, "--llm-quantization", kind, "--llm-dtype", dtype)
    loss, _, _ = built.criterion(built.model, batch(built, "train2", range(4)))
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in built.model.parameters())


def test_a_hypothesis_does_not_depend_on_its_batch(built):
    together = generate(built, batch(built, "test_fr", range(4)), beam=2)
    for i in range(4):
        assert answers(generate(built, batch(built, "test_fr", [i]), beam=2)) == answers(together[i : i + 1])


def test_lora_learns_on_top(world, kind):
    built = build_stage2(world, "--llm-quantization", kind, "--lora-rank", "4", "--lora-target", "all-linear")
    lora = dict(built.model.adapter.lora.named_parameters())
    before = logits_of(built)
    optimizer = torch.optim.SGD(lora.values(), lr=0.1)
    loss, _, _ = built.criterion(built.model, batch(built, "train2", range(4)))
    loss.backward()
    assert all(value.grad.abs().sum() > 0 for name, value in lora.items() if name.endswith("B.weight"))
    optimizer.step()
    assert (logits_of(built) - before).abs().max() > 1e-3


def test_without_bitsandbytes_one_sentence_says_what_to_install(world, monkeypatch, kind):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(SparqleError, match=r"pip install 'sparqle-fairseq\[quantized\]'"):
        build([*stage2_arguments(world), "--llm-quantization", kind])


def test_a_model_without_linear_layers_is_named():
    class Odd(torch.nn.Module):
        def get_output_embeddings(self):
            return None

    with pytest.raises(SparqleError, match="odd has no linear layer"):
        quantize(Odd(), "4bit", torch.float32, "odd")
