"""The cache with room holds what transformers' own holds, and copies less."""

from __future__ import annotations

import pytest
import torch
from transformers.cache_utils import DynamicCache, DynamicSlidingWindowLayer

from sparqle_fairseq.models.llm.cache import RoomyLayer, give_room

BEAMS = 3


def filled(utterances: int, positions: int) -> DynamicCache:
    cache = DynamicCache()
    for layer in range(2):
        prompts = torch.randn(2, utterances, 2, positions, 4, generator=torch.Generator().manual_seed(layer))
        cache.update(*prompts, layer)
    return cache


def test_it_holds_what_transformers_own_holds():
    """Tokens, beams that change places, utterances that leave: over more positions than there is room for at once."""
    plain, roomy = filled(4, 5), filled(4, 5)
    give_room(roomy, padded=True)
    assert all(type(layer) is RoomyLayer for layer in roomy.layers)
    draw = torch.Generator().manual_seed(7)
    utterances = 4
    start = torch.arange(4).repeat_interleave(BEAMS)
    plain.reorder_cache(start)
    roomy.reorder_cache(start)
    for step in range(150):
        if step % 5 == 4:  # beams change places among their utterance's
            within = torch.randint(BEAMS, (utterances, BEAMS), generator=draw)
            order = (torch.arange(utterances)[:, None] * BEAMS + within).flatten()
            plain.reorder_cache(order)
            roomy.reorder_cache(order)
        if step in (40, 90):  # an utterance leaves, and the others' beams change places
            order = order[: (utterances - 1) * BEAMS].roll(BEAMS) if step == 40 else torch.tensor([3, 3, 5])
            utterances = len(order) // BEAMS
            plain.reorder_cache(order)
            roomy.reorder_cache(order)
        for layer in range(2):
            new = torch.randn(2, utterances * BEAMS, 2, 1, 4, generator=draw)
            for own, other in zip(plain.update(*new, layer), roomy.update(*new, layer), strict=True):
                assert torch.equal(own, other)
    assert roomy.get_seq_length() == plain.get_seq_length() == 155
    assert roomy.get_mask_sizes(1, 0) == plain.get_mask_sizes(1, 0)


def test_a_token_is_written_where_there_is_room():
    cache = filled(2, 5)
    give_room(cache, padded=False)
    places = []
    for _ in range(60):
        keys, _ = cache.update(torch.zeros(2, 2, 1, 4), torch.zeros(2, 2, 1, 4), 0)
        places.append(keys.data_ptr())
        cache.reorder_cache(torch.tensor([0, 1]))
    assert len(set(places)) == 1


@pytest.mark.parametrize("padded", [False, True])
def test_windows_stay_as_they_are(padded):
    cache = DynamicCache()
    cache.layers = [DynamicSlidingWindowLayer(8)]
    cache.layer_class_to_replicate = None
    cache.update(torch.zeros(1, 1, 3, 2), torch.zeros(1, 1, 3, 2), 0)
    window = cache.layers[0]
    give_room(cache, padded)
    assert cache.layers == [window]
    assert cache.is_compileable == padded, "with padding, transformers is not to ask the device for it at each token"
