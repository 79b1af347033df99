"""A checkpoint of this plugin, written in the published SparQLe layout: the way back of `released`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sparqle_fairseq.data.checkpoint_files import allow_fairseq_checkpoints
from sparqle_fairseq.errors import SparqleError, reason
from sparqle_fairseq.models.identity import STATE_NAME
from sparqle_fairseq.models.qformer.projector import as_linear
from sparqle_fairseq.models.qformer.published_names import POSITION_IDS, SECOND_NAMES, published_names
from sparqle_fairseq.tools.exchange.released import RECORD, save

LAYOUTS = ("fairseq", "huggingface")
# Options that change what the same tensors compute, and their values in the published model.
_PUBLISHED = {
    "source": "audio",
    "adapter": "qformer",
    "query_start": "learned",
    "query_window_seconds": None,
    "query_windows": "equal",
    "speech_downsample": "none",
    "encoder_layer": "last",
    "compress_queries": False,
    "soft_tokens": False,
}
_ADAPTER = "adapter."
_PROJECTOR = "projector."


class Published(NamedTuple):
    """What was done."""

    stage: int
    tensors: int
    layout: str
    spelling: str
    heads: int


def publish(checkpoint: Path, output: Path, *, spelling: str | None = None, layout: str | None = None) -> Published:
    """Write the adapter of `checkpoint` under the published names.

    Args:
        checkpoint: of stage 1 or 2; mapped. Neither encoder nor LLM is needed.
        output: must not exist; appears when it is complete.
        spelling: a key of `SPELLINGS`; by default that of the file it was imported from, else "llama".
        layout: "fairseq" keeps the tensors in `model` beside `cfg`, with `cfg["model"]` and `cfg["task"]` as
            `argparse.Namespace`; "huggingface" is the bare tensors, as `Trainer.save_model` wrote them. By default that
            of the file it was imported from, else "fairseq".

    Raises:
        SparqleError: the checkpoint cannot be read, or has parts that the published model does not have.
    """
    if output.exists():
        raise SparqleError(f"{output} exists already; give another name with --output, or move it away")
    state, options = _read(checkpoint)
    record = (state.get("extra_state") or {}).get(RECORD) or {}
    own = _linear_projector(_adapter(checkpoint, state["model"]))
    _check_options(checkpoint, options)
    stage = 2 if any(name.startswith(_PROJECTOR) for name in own) else 1
    first = any("matching_head." in name or "projector." in name for name in record.get("names", {}))
    used = spelling or ("llm" if first or "projector.1.weight" in own else "llama")
    try:
        names = published_names(own, used)
    except KeyError as error:
        raise SparqleError(
            f"{checkpoint} has parts that the published model does not have ({error.args[0]}); it cannot be written in "
            "the published layout"
        ) from error
    if spelling is None:
        names |= {name: theirs for name, theirs in record.get("names", {}).items() if name in names}
    dtypes = record.get("dtypes", {})
    tensors = {}
    for name, theirs in names.items():
        kind = getattr(torch, str(dtypes.get(theirs, "")).removeprefix("torch."), None)
        back = own[name] if kind is None else own[name].to(kind)
        # Trained on since: single precision holds what half precision cannot.
        tensors[theirs] = back if torch.equal(back.to(own[name].dtype), own[name]) else own[name]
    left_out = record.get("left_out", (POSITION_IDS, *SECOND_NAMES) if stage == 1 else ())
    for name in left_out:
        if name == POSITION_IDS:
            tensors[name] = torch.arange(int(options["max_text_positions"]))[None]
        else:
            tensors[name] = tensors[SECOND_NAMES[name]]
    place = {"fairseq": "model", "huggingface": ""}[layout] if layout else record.get("place", "model")
    save(output, _file(tensors, options, place, stage))
    return Published(stage, len(tensors), "fairseq" if place == "model" else "huggingface", used, int(options["heads"]))


def _read(checkpoint: Path) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """The checkpoint, and its options of the model."""
    if not checkpoint.is_file():
        raise SparqleError(f"{checkpoint}: there is no such file; give a checkpoint of this plugin")
    allow_fairseq_checkpoints()
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        options = state["cfg"]["model"]
        known = STATE_NAME in state["model"]
    except Exception as error:  # torch raises many kinds on a file that is not a checkpoint
        raise SparqleError(f"{checkpoint} is not a checkpoint of this plugin ({reason(error)})") from error
    if not known:
        raise SparqleError(f"{checkpoint} is a checkpoint of another model; give one of this plugin's stage 1 or 2")
    return state, options if isinstance(options, Mapping) else vars(options)


def _adapter(checkpoint: Path, model: Mapping[str, Tensor]) -> dict[str, Tensor]:
    foreign = sorted(name for name in model if name != STATE_NAME and not name.startswith(_ADAPTER))
    if foreign:
        raise SparqleError(
            f"{checkpoint} has parts that the published model does not have ({', '.join(foreign[:5])}); it cannot be "
            "written in the published layout"
        )
    return {name.removeprefix(_ADAPTER): value for name, value in model.items() if name != STATE_NAME}


def _linear_projector(own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With `--projector scaled` as the linear one that computes the same; else as it is."""
    projector = {name.removeprefix(_PROJECTOR): value for name, value in own.items() if name.startswith(_PROJECTOR)}
    if "spread" not in projector:
        return dict(own)
    others = {name: value for name, value in own.items() if not name.startswith(_PROJECTOR)}
    return others | {f"{_PROJECTOR}{name}": value for name, value in as_linear(projector).items()}


def _check_options(checkpoint: Path, options: Mapping[str, Any]) -> None:
    for name, value in _PUBLISHED.items():
        found = options.get(name, value)
        if found != value:
            raise SparqleError(
                f"{checkpoint} was trained with --{name.replace('_', '-')} {found}, which the published model does not "
                "have; it cannot be written in the published layout"
            )


def _file(tensors: dict[str, Tensor], options: Mapping[str, Any], place: str, stage: int) -> dict[str, Any]:
    """The contents of the published file."""
    if place != "model":
        return {place: tensors} if place else dict(tensors)
    # The names of these options are those of the authors' fairseq code.
    model = argparse.Namespace(
        arch="speech_qformer_base" if stage == 1 else "speech_qformer_llama",
        num_query_token=int(options["queries"]),
        cross_attention_freq=int(options["cross_attention_freq"]),
        qformer_dim=str(options["hidden_size"]),
        num_attention_heads=int(options["heads"]),
        speech_model_file_path=options.get("speech_encoder"),
        llm=options.get("llm"),
        text_tokenizer=options.get("text_tokenizer") or options.get("bert"),
    )
    return {
        "args": None,
        "cfg": {"model": model, "task": argparse.Namespace(data=None)},
        "model": tensors,
        "criterion": None,
        "optimizer_history": [{"criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}],
        "task_state": {},
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}},
        "last_optimizer_state": None,
    }
