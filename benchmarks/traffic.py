"""What a step of the Q-Former has to move through memory beside its matrix products, counted by hand from shapes.

An operation between two products has to read its operands and write its result once, however it is written. So the time
of the products and that of the bytes counted here, at the speed at which the machine copies, is the least for a step.
Neighbouring operations count as one pass wherever one pass can do both: dropout, the sum with the residual and
LayerNorm; the sum of several gradients and the backward pass of the norm that they come from; a bias's gradient and the
pass that writes what it sums. Scores and probabilities of attention stay in a cache and count nothing.

Counted in elements: P positions (rows times queries) of hidden size H, their F of the feed-forward block's inner size,
S positions of speech.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

SIZE = 4  # bytes of an element
MEBI = 1 << 20


class Copy:
    """Memory that is copied, too much of it for a cache, as one more side: `bytes` read and written in a run."""

    def __init__(self, device: str = "cpu", mebibytes: int = 128) -> None:
        import torch

        self._from = torch.ones(mebibytes * MEBI // SIZE, device=device)
        self._to = self._from.clone()
        self._repeats = 2
        self.bytes = 2.0 * mebibytes * MEBI * self._repeats

    def __call__(self) -> None:
        for _ in range(self._repeats):
            self._to.copy_(self._from)


@dataclass(frozen=True)
class Step:
    """Forward and backward of rows of queries that read speech, which takes no gradient itself."""

    rows: int
    queries: int
    frames: int
    hidden: int
    ffn: int
    heads: int
    layers: int
    reading: int  # layers of these with attention to speech
    parameters: int  # whose gradients are there before, so that each is read, added to and written
    dropout: bool

    @property
    def parts(self) -> dict[str, float]:
        """Bytes by what they are moved for."""
        positions = self.rows * self.queries * self.hidden
        inner, speech = self.rows * self.queries * self.ffn, self.rows * self.frames * self.hidden
        dropped = int(self.dropout)
        norms = len(list(self._gradients()))
        blocks = 2 * self.layers + self.reading  # attention and feed-forward blocks, each with a norm
        elements = {
            # Forward: the block's result, the residual, what the norm gives. The first norm has no residual.
            "norms, dropout and residuals": (3 * blocks + 2) * positions
            # Backward: all gradients of the result, the result; for the block, and with dropout for the residual.
            + (sum(self._gradients()) + norms + blocks * (1 + dropped) + 1) * positions,
            "GELU": self.layers * (2 + 3) * inner,
            # Of each row of attention: the sum over what it mixed times its gradient.
            "softmax's gradient": (self.layers + self.reading) * 2 * positions,
            "biases of queries, keys and values": (3 * self.layers + self.reading) * positions
            + self.reading * 2 * speech,
            "gradients that are added": 3 * self.parameters,
            # Forward what is compared, backward its gradient.
            "loss": 3 * positions,
        }
        found = {name: float(SIZE * count) for name, count in elements.items()}
        if self.dropout:  # a bit for each element, written and read
            attended = self.rows * self.heads * self.queries
            attended *= self.layers * self.queries + self.reading * self.frames
            found["which elements are dropped"] = 2 * (attended + (blocks + 1) * positions) / 8
        return found

    @property
    def bytes(self) -> float:
        return sum(self.parts.values())

    def _gradients(self) -> Iterator[int]:
        """Of each norm's result: how many products and residuals give it a gradient."""
        entered = 4  # queries, keys, values, and the residual
        yield entered
        for layer in range(self.layers):
            if layer < self.reading:  # which layers these are does not matter
                yield 2  # the queries of attention to speech, and the residual
            yield 2  # the feed-forward block, and the residual
            yield entered if layer < self.layers - 1 else 1
