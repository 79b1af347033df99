"""A cache of keys and values with room for the tokens to come, in which beams change places.

transformers' own layer joins all it holds and the new token's into new memory at each token, and once more where beams
are reordered. Here a token is written into room that is there, and of beams that change places among their utterance's
only the answers are copied: the prompt is the same for all of them.

N rows, H heads, T positions, D width of a head.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicLayer

# Positions that a layer makes room for when it is full.
_ROOM = 64


class RoomyLayer(DynamicLayer):
    """One layer's keys and values, over what a layer of transformers has of the prompts."""

    def __init__(self, prompt: DynamicLayer) -> None:
        super().__init__()
        assert prompt.keys is not None
        assert prompt.values is not None
        self.lazy_initialization(prompt.keys, prompt.values)
        # (N, H, T, D), views of what has room for more.
        self.keys, self.values = prompt.keys, prompt.values
        self._shared = self.keys.size(2)  # positions that an utterance's rows have in common
        self._roomy: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Everything that is held, with the keys and values (N, H, new, D) of the next positions."""
        assert self.keys is not None
        assert self.values is not None
        old, new = self.keys.size(2), self.keys.size(2) + key_states.size(2)
        if self._roomy is None or self._roomy[0].size(2) < new:
            self._roomy = (_with_room(self.keys, new + _ROOM), _with_room(self.values, new + _ROOM))
        keys, values = self._roomy
        keys[:, :, old:new] = key_states
        values[:, :, old:new] = value_states
        self.keys, self.values = keys[:, :, :new], values[:, :, :new]
        return self.keys, self.values

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Row i becomes what row `beam_idx[i]` was; of as many as there are, each one of its own utterance."""
        assert self.keys is not None
        assert self.values is not None
        if beam_idx.numel() == self.keys.size(0):
            for held in (self.keys, self.values):
                answers = held[:, :, self._shared :]
                if answers.size(2):
                    answers.copy_(answers.index_select(0, beam_idx))
        else:
            self.keys, self.values = (held.index_select(0, beam_idx) for held in (self.keys, self.values))
            self._roomy = None


def _with_room(held: Tensor, positions: int) -> Tensor:
    roomy = held.new_empty(*held.shape[:2], positions, held.size(3))
    roomy[:, :, : held.size(2)] = held
    return roomy


def give_room(cache: Any, padded: bool) -> None:
    """Put such layers in the place of a cache's plain ones, in place; sliding windows and states stay as they are.

    Args:
        cache: what a model made of prompts alone.
        padded: whether some of their positions are padding.
    """
    layers = getattr(cache, "layers", None)
    if not isinstance(layers, list):
        return
    for i, layer in enumerate(layers):
        if type(layer) is DynamicLayer and layer.is_initialized:
            layers[i] = RoomyLayer(layer)
    if padded:
        # transformers asks at each token whether there is padding, which waits for the device. It does not ask where
        # a cache says that it is compiled over, and always makes the mask.
        for layer in layers:
            layer.is_compileable = True
