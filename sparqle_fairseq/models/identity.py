"""The identity of what a model was trained with but does not keep: encoder, LLM, vocabulary.

It travels in the checkpoint as a tensor of byte values. Floats hold these exactly (fp16 and bf16 too), so that
fairseq's half-precision saving and its checkpoint averaging leave it as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sparqle_fairseq.errors import SparqleError

STATE_NAME = "frozen_identity"

# Where a thing lies, in which precision it runs and which folder holds what it made may change.
_MAY_CHANGE = frozenset({"path", "dtype", "features"})


class IdentityError(SparqleError):
    """A checkpoint that was trained with another encoder, LLM or vocabulary."""


def encode_identity(identity: Mapping[str, Mapping[str, Any]]) -> Tensor:
    """Nested identity -> (n,) float32 tensor of bytes."""
    return torch.tensor(list(json.dumps(identity, sort_keys=True).encode()), dtype=torch.float32)


def decode_identity(state: Tensor) -> dict[str, dict[str, Any]]:
    """The reverse of `encode_identity`. Raises `IdentityError` where the tensor holds no identity."""
    try:
        return json.loads(bytes(state.float().round().to(torch.uint8).tolist()))
    except (ValueError, RuntimeError) as error:
        raise IdentityError("the checkpoint's record of its encoder, LLM and vocabulary is damaged") from error


def check_identity(trained: Mapping[str, Mapping[str, Any]], given: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise `IdentityError` naming the first part that is not what the checkpoint was trained with."""
    for part, of_training in trained.items():
        of_now = given.get(part)
        if of_now is None:
            raise IdentityError(f"the checkpoint was trained with a {part}, but none is given now")
        for key, value in of_training.items():
            if key not in _MAY_CHANGE and of_now.get(key) != value:
                features = of_now.get("features")
                raise IdentityError(
                    f"the checkpoint was trained with another {part}: its {key} was {value} "
                    f"({of_training.get('path')}), and is {of_now.get(key)} in {of_now.get('path')}"
                    + (f", whose features {features} holds" if features else "")
                    + f"; give the {part} it was trained with"
                    + (", or features that it made" if features else "")
                )
