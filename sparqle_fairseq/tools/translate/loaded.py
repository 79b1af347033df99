"""What a translator needs of a model: a checkpoint of fairseq-train and an exported folder both have it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from sparqle_fairseq.data.dataset import RoomCheck, TextSide
from sparqle_fairseq.data.text import TextDictionary
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate.generator import HypothesisGenerator
from sparqle_fairseq.generate.options import DecodingOptions


class Asker(Protocol):
    """Asks a model and reads its answers."""

    @property
    def target_dictionary(self) -> TextDictionary: ...

    def room_check(self) -> RoomCheck | None:
        """What looks at each utterance with its text, where a model can run out of room for the two."""
        ...

    def build_generator(
        self, models: Sequence[Any], args: Any, *, decoding: DecodingOptions | None = None, seed: int | None = None
    ) -> HypothesisGenerator:
        """A generator by fairseq's options `args`, by `decoding` and a `seed` of draws, by default training's."""
        ...


class Loaded(Protocol):
    """A model that is ready to write text; `tasks.loading.Trained` and `huggingface.asked.Exported` are two."""

    @property
    def task(self) -> Asker: ...

    @property
    def model(self) -> Any: ...

    @property
    def device(self) -> torch.device: ...

    @property
    def spoken(self) -> str:
        """BCP-47 code of the language that it was trained to hear."""
        ...

    @property
    def parts(self) -> tuple[str, str]:
        """Where its speech encoder and its LLM came from; an empty text for no LLM."""
        ...

    @property
    def stops(self) -> list[str]:
        """What its training's `--stop` named, as typed."""
        ...

    def text_side(self) -> TextSide:
        """What is made of the text of a row, with the prompts of its training."""
        ...

    def use_templates(self, path: str) -> None:
        """Ask by this template file from now on."""
        ...


def open_model(
    place: str,
    *,
    speech_encoder: str | None = None,
    llm: str | None = None,
    text_tokenizer: str | None = None,
    without_lora: bool = False,
    cpu: bool = False,
) -> Loaded:
    """A checkpoint of fairseq-train, or a folder of `sparqle export-hf` (told by its config.json).

    Args:
        place: the file or folder.
        speech_encoder, llm, text_tokenizer, without_lora, cpu: as for `tasks.loading.load_trained`.

    Raises:
        SparqleError: there is neither, or it cannot be read.
    """
    opened: Callable[..., Loaded] = open_folder
    if not Path(place).is_dir():
        from sparqle_fairseq.tasks.loading import load_trained

        opened = load_trained
    return opened(
        place,
        speech_encoder=speech_encoder,
        llm=llm,
        text_tokenizer=text_tokenizer,
        without_lora=without_lora,
        cpu=cpu,
    )


def open_folder(
    place: str,
    *,
    speech_encoder: str | None = None,
    llm: str | None = None,
    text_tokenizer: str | None = None,
    without_lora: bool = False,
    cpu: bool = False,
) -> Loaded:
    """A folder of `sparqle export-hf` or its hub id; without fairseq. See `open_model`. Raises `SparqleError`."""
    from sparqle_fairseq.huggingface.asked import load_exported

    if text_tokenizer is not None:
        raise SparqleError(f"{place} is of stage 2, which has no tokenizer of stage 1; leave --text-tokenizer out")
    return load_exported(place, speech_encoder=speech_encoder, llm=llm, without_lora=without_lora, cpu=cpu)
