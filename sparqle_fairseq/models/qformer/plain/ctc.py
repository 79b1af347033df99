"""`--adapter ctc`: a small encoder over stacked frames, of which stage 2 gives the LLM what CTC reads.

Layers after the Conformer (Gulati et al. 2020, arXiv 2005.08100) in short: attention, a depthwise convolution, which
knows the order, and one feed-forward block. CTC compression is that of Gaido et al. 2021 (arXiv 2102.01578), with the
labels of `llm-ctc`: outputs nearest to the blank are left out, neighbours nearest to the same token joined.

B utterances, Q outputs, H hidden size. Padding masks are True at padding.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sparqle_fairseq.models.qformer.front_end import FrontEnd
from sparqle_fairseq.models.qformer.plain.base import Outputs, PlainAdapter, PlainConfig, at_least_one
from sparqle_fairseq.models.qformer.precision import LayerNorm, Linear

KERNEL = 15  # outputs that the depthwise convolution sees


class EncoderLayer(nn.Module):
    """Self-attention, depthwise convolution and feed-forward block, each behind a LayerNorm and beside a residual."""

    def __init__(self, config: PlainConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.heads = config.heads
        self.attention_norm = LayerNorm(width)
        self.query_key_value = Linear(width, 3 * width)
        self.attention_output = Linear(width, width)
        self.convolution_norm = LayerNorm(width)
        self.convolution = nn.Conv1d(width, width, KERNEL, padding=KERNEL // 2, groups=width)
        self.convolution_output = Linear(width, width)
        self.ffn_norm = LayerNorm(width)
        self.expand = Linear(width, config.ffn_size)
        self.contract = Linear(config.ffn_size, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, padding_mask: Tensor) -> Tensor:
        """(B, Q, H) -> (B, Q, H); the first output of an utterance must count."""
        x = x + self.dropout(self._attend(self.attention_norm(x), padding_mask))
        x = x + self.dropout(self._convolve(self.convolution_norm(x), padding_mask))
        return x + self.dropout(self.contract(self.dropout(F.gelu(self.expand(self.ffn_norm(x))))))

    def _attend(self, x: Tensor, padding_mask: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.query_key_value(x).chunk(3, dim=-1)
        )  # each (B, heads, Q, H / heads)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=~padding_mask[:, None, None, :])
        return self.attention_output(mixed.transpose(1, 2).flatten(2))

    def _convolve(self, x: Tensor, padding_mask: Tensor) -> Tensor:
        x = x.masked_fill(padding_mask[..., None], 0).to(self.convolution.weight.dtype)
        return self.convolution_output(F.silu(self.convolution(x.transpose(1, 2))).transpose(1, 2))


class CtcAdapter(PlainAdapter):
    """In stage 1 the outputs are all there, and CTC learns over them; in stage 2 runs of them become one."""

    name = "ctc"
    reads = ("layers", "ffn_size")
    compresses = True

    def __init__(self, config: PlainConfig) -> None:
        super().__init__(config)
        self.front_end = FrontEnd("stack", config.speech_stride, config.speech_width)
        self.entry = Linear(config.speech_stride * config.speech_width, config.hidden_size)
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.layers))
        self.norm = LayerNorm(config.hidden_size)

    def forward(self, values: Tensor, padding_mask: Tensor) -> Outputs:
        stacked, padding_mask = self.front_end(self.speech_norm(values), padding_mask)  # (B, Q, K W)
        padding_mask = at_least_one(padding_mask)
        hidden = self.dropout(self.entry(stacked))
        for layer in self.layers:
            hidden = layer(hidden, padding_mask)
        return Outputs(self.norm(hidden), padding_mask)
