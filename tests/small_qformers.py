"""Configurations of Q-Formers of some thousand weights, and speech features for them."""

from __future__ import annotations

import torch

from sparqle_fairseq.models.qformer.qformer import QFormerConfig

CONFIG = QFormerConfig(
    vocab_size=50, speech_width=12, hidden_size=16, layers=4, heads=4, ffn_size=32, queries=5, max_text_positions=20
)
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
# Two layers without dropout: a step of training is the same wherever it is taken.
STILL = QFormerConfig(
    vocab_size=20, speech_width=6, hidden_size=16, layers=2, heads=2, ffn_size=32, queries=5, dropout=0.0
)


def speech(lengths, longest=None, seed=0):
    generator = torch.Generator().manual_seed(seed)
    longest = longest or max(lengths)
    values = torch.randn(len(lengths), longest, 12, generator=generator)
    return values, torch.arange(longest)[None] >= torch.tensor(lengths)[:, None]
