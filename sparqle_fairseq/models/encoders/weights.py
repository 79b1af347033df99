"""Stored tensors: whether they fit a network, and a hash of them."""

import hashlib
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from sparqle_fairseq.models.encoders.errors import EncoderError


def matching_tensors(
    where: str, remedy: str, stored: Mapping[str, Tensor], network: nn.Module, inside: Collection[str]
) -> dict[str, Tensor]:
    """The stored tensors of the network, each found and of the right shape.

    Tensors that belong to something else (projections, label embeddings, quantisers) are left out, but in the parts
    named `inside` nothing may be missing or left over.

    Args:
        where: file or folder and what it claims to hold, the beginning of the message.
        remedy: the end of the message.
        stored: tensors by name.
        network: what they are for.
        inside: first parts of names that belong to the network alone.

    Raises:
        EncoderError: they do not fit.
    """
    wanted = network.state_dict()
    problems = [f"{name} is missing" for name in wanted if name not in stored]
    problems += [
        f"{name} has shape {tuple(stored[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in stored and stored[name].shape != tensor.shape
    ]
    problems += [f"{name} is not expected" for name in stored if name.split(".")[0] in inside and name not in wanted]
    if problems:
        more = f" and {len(problems) - 8} more" if len(problems) > 8 else ""
        raise EncoderError(
            f"{where}, but its tensors do not fit its configuration: {', '.join(problems[:8])}{more}; {remedy}."
        )
    return {name: stored[name] for name in wanted}


def in_float32(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same in single precision; whole numbers as they are."""
    return {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """A hash of names, shapes, types and up to 256 evenly spaced values of each tensor, as they are stored.

    Two files with the same encoder give the same, whatever else is in them; further training gives another.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        flat = tensors[name].detach().reshape(-1)
        sample = flat[:: max(1, flat.numel() // 256)].contiguous().cpu()
        digest.update(f"{name} {tuple(tensors[name].shape)} {sample.dtype}\n".encode())
        digest.update(sample.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]
