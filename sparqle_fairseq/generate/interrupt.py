"""A search that somebody may stop: between two tokens it asks whether to go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate.search import StepDecoder

# Returns to let the search go on, or raises what ends it.
Watch = Callable[[], None]


class Watched:
    """A step decoder that calls `watch` before each token of its answer."""

    def __init__(self, decoder: StepDecoder, watch: Watch) -> None:
        self.decoder, self.watch = decoder, watch
        self.vocab_size = decoder.vocab_size

    def start(self, net_input: dict[str, Any]) -> tuple[Tensor, Any]:
        self.watch()
        return self.decoder.start(net_input)

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        self.watch()
        return self.decoder.step(tokens, state)

    def reorder(self, state: Any, rows: Tensor) -> Any:
        return self.decoder.reorder(state, rows)

    def not_finite(self) -> SparqleError:
        return self.decoder.not_finite()


class Interruptible:
    """A model as the generator takes it, whose decoders are watched; all else is the model's own."""

    def __init__(self, model: Any, watch: Watch) -> None:
        self._model, self._watch = model, watch

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._model, name)
        if name in ("step_decoder", "deaf_decoder"):
            return lambda: Watched(found(), self._watch)
        return found


class Deaf(Interruptible):
    """The same for a model that answers without the speech: its prompt holds text alone."""

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__("deaf_decoder" if name == "step_decoder" else name)
