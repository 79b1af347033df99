"""A trained checkpoint, ready for use outside fairseq's own commands."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from fairseq import checkpoint_utils

from sparqle_fairseq.data.dataset import SpeechDataset, TextSide
from sparqle_fairseq.errors import SparqleError, reason, sentence_of
from sparqle_fairseq.generate.stopping import as_typed
from sparqle_fairseq.models.encoders.place import EncoderPlace
from sparqle_fairseq.models.llm.files import without_progress_bar
from sparqle_fairseq.tasks import registration as _registration  # noqa: F401
from sparqle_fairseq.tasks.base import SpeechTask


class Trained(NamedTuple):
    """What a checkpoint holds: its task (dictionary, prompts, generator), its model, and the options it was made by."""

    task: SpeechTask
    model: Any
    cfg: Any
    device: torch.device

    @property
    def spoken(self) -> str:
        """BCP-47 code of the language that it was trained to hear."""
        return str(getattr(self.cfg.task, "src_lang", None) or "en")

    @property
    def parts(self) -> tuple[str, str]:
        """Where its speech encoder and its LLM came from; an empty text for what it has none of."""
        options = self.cfg.model
        return str(getattr(options, "speech_encoder", "") or ""), str(getattr(options, "llm", "") or "")

    @property
    def stops(self) -> list[str]:
        """What its training's `--stop` named, as typed."""
        return as_typed(getattr(self.cfg.task, "stop", None))

    def text_side(self) -> TextSide:
        """What is made of the text of a row, with the prompts of its training."""
        return self.task.text_side(False, self.cfg.task)

    def use_templates(self, path: str) -> None:
        """Ask by this template file from now on."""
        self.task.cfg.prompt_templates = path


def load_trained(
    checkpoint: str | Path,
    *,
    speech_encoder: str | None = None,
    llm: str | None = None,
    text_tokenizer: str | None = None,
    without_lora: bool = False,
    cpu: bool = False,
) -> Trained:
    """Build the model of a stage-1 or stage-2 checkpoint, in eval mode, on the GPU where there is one.

    Args:
        checkpoint: as `fairseq-train` wrote it.
        speech_encoder: where the encoder lies now, if not where it lay in training; it must be the same one.
        llm: the same of the LLM; a stage-1 checkpoint has none.
        text_tokenizer: the same of the tokenizer of a stage-1 checkpoint; one of stage 2 has none.
        without_lora: run the LLM without the LoRA that was trained.
        cpu: stay on the CPU.

    Raises:
        SparqleError: the file is missing or no checkpoint of this plugin, or encoder or LLM is not the one it was
            trained with, or the checkpoint has none.
    """
    if not Path(checkpoint).is_file():
        raise SparqleError(f"{checkpoint}: there is no such file; give a checkpoint of fairseq-train")
    places = {"speech_encoder": speech_encoder, "llm": llm, "text_tokenizer": text_tokenizer}
    overrides: dict[str, Any] = {name: value for name, value in places.items() if value is not None}
    overrides["without_lora"] = without_lora
    # Training's data may be a store of features, for which no encoder is loaded; here audio may come.
    overrides["data"] = str(Path(checkpoint).parent)
    try:
        with _quietly():
            state = checkpoint_utils.load_checkpoint_to_cpu(str(checkpoint), overrides)
            _check_places(checkpoint, state["cfg"]["model"], places)
            if without_lora and not state["cfg"]["model"].get("lora_rank", 0):
                raise SparqleError(f"{checkpoint} was trained without LoRA; leave --without-lora out")
            models, cfg, task = checkpoint_utils.load_model_ensemble_and_task([str(checkpoint)], state=state)
    except Exception as error:  # torch, omegaconf and fairseq raise many kinds on a file that is not a checkpoint
        sentence = sentence_of(error)
        if sentence is not None:
            raise SparqleError(sentence if str(checkpoint) in sentence else f"{checkpoint}: {sentence}") from error
        raise SparqleError(
            f"{checkpoint} cannot be read as a checkpoint ({reason(error)}); give one of fairseq-train"
        ) from error
    if not isinstance(task, SpeechTask):
        raise SparqleError(f"{checkpoint} is a checkpoint of another fairseq task; give one of stage 1 or 2")
    device = torch.device("cuda" if torch.cuda.is_available() and not cpu else "cpu")
    model = models[0].to(device)
    model.eval()
    return Trained(task, model, cfg, device)


def load_rows(
    trained: Trained, manifest: Path, audio_root: Path | None = None, strict_audio: bool = True
) -> SpeechDataset:
    """The rows of a manifest as the checkpoint's task reads them; references are optional."""
    task = trained.task
    task.cfg.data, task.cfg.audio_root = str(manifest.parent), None if audio_root is None else str(audio_root)
    task.cfg.no_strict_audio = not strict_audio
    task.load_dataset(manifest.stem, task_cfg=trained.cfg.task)
    return task.dataset(manifest.stem)


def _check_places(checkpoint: str | Path, options: Any, places: Mapping[str, str | None]) -> None:
    """Whether what the checkpoint needs can be where it says, or where the caller says; more shows when it is read."""
    for name, given in places.items():
        what, option = name.replace("_", " ").replace("llm", "LLM"), f"--{name.replace('_', '-')}"
        if name not in options:
            if given is not None:  # fairseq passes over what a model has no option for
                raise SparqleError(f"{checkpoint} has no {what}; leave {option} out")
        elif options[name] and _is_path(options[name]) and not Path(options[name]).exists():
            raise SparqleError(f"{checkpoint}: its {what} is not at {options[name]}; say where it is with {option}")


def _is_path(place: str) -> bool:
    """Whether it names a file or folder, and not a model of the hub (`name` or `owner/name`) or of a toolkit."""
    if EncoderPlace(place).is_scheme:
        return False
    return place.partition("@")[0].count("/") > 1 or place.startswith((".", "/")) or place.endswith(".pt")


@contextmanager
def _quietly() -> Iterator[None]:
    """Without fairseq's warnings of the torch functions it still uses, and without transformers' progress bar."""
    with without_progress_bar(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield
