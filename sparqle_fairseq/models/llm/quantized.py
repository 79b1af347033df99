"""A frozen LLM with its linear layers in 8 or 4 bits, by `bitsandbytes`.

8 bits: LLM.int8(), Dettmers et al., 2022, arXiv 2208.07339. 4 bits: NormalFloat of QLoRA, Dettmers et al., 2023, arXiv
2305.14314. Embeddings, norms and the output layer stay as they are.
"""

from __future__ import annotations

from copy import copy
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparqle_fairseq.errors import SparqleError

QUANTIZATIONS = ("none", "8bit", "4bit")
MISSING = (
    "--llm-quantization needs the package bitsandbytes, which is not installed; run: pip install "
    "'sparqle-fairseq[quantized]'"
)


def quantize(model: Any, quantization: str, dtype: torch.dtype, name: str) -> None:
    """Put 8-bit or 4-bit layers in the place of the model's linear layers, one after the other.

    Args:
        model: a Hugging Face causal LM with its stored weights.
        quantization: one of `QUANTIZATIONS`.
        dtype: precision to compute in.
        name: of the model, for messages.

    Raises:
        SparqleError: the package is missing, or the model has no linear layer.
    """
    if quantization == "none":
        return
    try:
        import bitsandbytes as bnb
    except ImportError as error:
        raise SparqleError(MISSING) from error
    make = _in_8_bits if quantization == "8bit" else _in_4_bits
    output = model.get_output_embeddings()
    places = [
        (parent, child_name, child)
        for parent in model.modules()
        for child_name, child in parent.named_children()
        if type(child) is nn.Linear and child is not output
    ]
    if not places:
        raise SparqleError(
            f"{name} has no linear layer that --llm-quantization {quantization} knows; leave the option out"
        )
    for parent, child_name, child in places:
        setattr(parent, child_name, make(bnb, child, dtype))
    # What peft looks at to put LoRA on such layers.
    setattr(model, f"is_loaded_in_{quantization}", True)


def _in_8_bits(bnb: Any, layer: nn.Linear, dtype: torch.dtype) -> nn.Module:
    made = bnb.nn.Linear8bitLt(
        layer.in_features, layer.out_features, bias=layer.bias is not None, has_fp16_weights=False, device="meta"
    )
    made.weight = bnb.nn.Int8Params(layer.weight.detach().clone(), requires_grad=False, has_fp16_weights=False)
    return _finished(made, layer, dtype)


def _in_4_bits(bnb: Any, layer: nn.Linear, dtype: torch.dtype) -> nn.Module:
    made = bnb.nn.Linear4bit(
        layer.in_features,
        layer.out_features,
        bias=layer.bias is not None,
        compute_dtype=dtype,
        quant_type="nf4",
        device="meta",
    )
    # On CPUs with AVX512-BF16 the first call without gradients would repack the weights for a product that has no
    # backward pass, that cannot hold layers of fewer than 64 inputs, and for which a kernel is looked for on the hub.
    made.support_avx512bf16_for_cpu = False
    made.weight = bnb.nn.Params4bit(layer.weight.detach().clone(), requires_grad=False, quant_type="nf4", module=made)
    if layer.in_features % 64:
        setattr(made, "forward", partial(_read_as_one_row, made, made.forward))  # noqa: B010
    return _finished(made, layer, dtype)


def _read_as_one_row(layer: Any, forward: Any, x: Tensor) -> Tensor:
    """The layer's outputs; on CPUs its weights are read from their 4 bits as one long row.

    Blocks of 64 weights go on from row to row. On CPUs with AVX512, bitsandbytes 0.50 takes the wrong blocks' scales
    for rows of, say, 32 or 96 weights.
    """
    if x.device.type != "cpu":
        return forward(x)
    from bitsandbytes.functional import dequantize_4bit

    state = copy(layer.weight.quant_state)
    state.shape = torch.Size([1, state.shape.numel()])
    weight = dequantize_4bit(layer.weight.data, state).view(layer.out_features, layer.in_features)
    kind = layer.compute_dtype
    bias = None if layer.bias is None else layer.bias.to(kind)
    return F.linear(x.to(kind), weight.to(kind), bias).to(x.dtype)


def _finished(made: nn.Module, layer: nn.Linear, dtype: torch.dtype) -> nn.Module:
    if layer.bias is not None:
        made.bias = nn.Parameter(layer.bias.detach().to(dtype), requires_grad=False)
    # bitsandbytes quantises a layer when it is moved to a device, and moving it to where it is counts.
    return made.to(layer.weight.device)
