"""Checkpoints in the published SparQLe layout, turned into checkpoints of this plugin.

Sizes are read from the tensors, which are mapped and never read as a whole: a file may be larger than the memory. It
may hold the frozen speech encoder and LLM too. These are left out, because this plugin's checkpoints name them and
never contain them; `frozen_parts` compares or exports them.
"""

from __future__ import annotations

import logging
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from omegaconf import OmegaConf
from torch import Tensor

import sparqle_fairseq
from sparqle_fairseq.data.checkpoint_files import allow_fairseq_checkpoints
from sparqle_fairseq.errors import SparqleError, reason
from sparqle_fairseq.files import written_whole
from sparqle_fairseq.models.adapted import check_names
from sparqle_fairseq.models.qformer.published_names import (
    POSITION_IDS,
    SECOND_NAMES,
    from_published,
    own_names,
    published_names,
)
from sparqle_fairseq.tools.exchange import frozen_parts

logger = logging.getLogger(__name__)

# Where a published file keeps its tensors: fairseq's place, those of a training loop of one's own, or its top.
_PLACES = ("model", "model_state_dict", "state_dict")
# Key of `extra_state` in an imported checkpoint: what the way back needs to write the same file again.
RECORD = "published"
_BERT_HEAD_WIDTH = 64


class Imported(NamedTuple):
    """What was done."""

    stage: int
    tensors: int  # of the adapter
    left_out_bytes: int  # frozen weights that the file holds and the checkpoint does not
    options: dict[str, str]  # that it was found to need, other than the published ones
    compared: list[frozen_parts.Comparison]  # frozen parts that are the given ones
    exported: list[Path]  # folders of frozen parts


def import_released(
    file: Path,
    output: Path,
    *,
    speech_encoder: str,
    llm: str | None = None,
    text_tokenizer: str | None = None,
    heads: int | None = None,
    encoder_layer: str = "last",
    encoder_dtype: str = "fp32",
    llm_dtype: str = "bf16",
    check_frozen: bool = False,
    export_speech_encoder: Path | None = None,
    export_llm: Path | None = None,
) -> Imported:
    """Write the adapter in `file` as a checkpoint of this plugin.

    Args:
        file: published layout, stage 1 or 2, of the authors' fairseq code or Hugging Face trainer.
        output: must not exist; appears when it is complete.
        speech_encoder, llm, text_tokenizer: what the adapter was trained with; stage 1 has a tokenizer and no LLM.
        heads: attention heads, which no tensor tells; by default one for every 64 of the width, as in BERT.
        encoder_layer, encoder_dtype, llm_dtype: as for training.
        check_frozen: compare the speech encoder and LLM in the file with the given ones, tensor by tensor.
        export_speech_encoder, export_llm: folders to write them to, with the given ones' configuration and tokenizer.

    Raises:
        SparqleError: the file cannot be read, holds names that are not known, lacks some, or is of other sizes than
            encoder, LLM or tokenizer; its frozen parts are not the given ones.
    """
    sparqle_fairseq.register()
    from fairseq import options, tasks
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    if output.exists():
        raise SparqleError(f"{output} exists already; give another name with --output, or move it away")
    state, place = read_published(file)
    frozen = frozen_parts.split(state)
    adapter = {name: value for name, value in state.items() if not name.startswith(frozen_parts.PREFIXES)}
    try:
        tensors = from_published(adapter)
    except KeyError as error:
        raise SparqleError(f"{file}: {error.args[0]}") from error
    _check_second_names(file, adapter)
    projector = [name for name in tensors if name.startswith("projector.")]
    stage = 2 if projector else 1
    if stage == 2 and llm is None:
        raise SparqleError(f"{file} is of stage 2; give the LLM that it was trained with (--llm)")
    if stage == 1 and text_tokenizer is None:
        raise SparqleError(f"{file} is of stage 1; give the tokenizer that it was trained with (--text-tokenizer)")
    jobs = frozen_parts.plan(file, frozen, speech_encoder, llm, check_frozen, export_speech_encoder, export_llm)
    special = _special_options(file, tensors)
    words = _words(file, tensors, adapter, heads)
    words += [word for name, value in special.items() for word in (f"--{name}", value)]
    words += ["--speech-encoder", speech_encoder, "--encoder-layer", encoder_layer, "--encoder-dtype", encoder_dtype]
    if stage == 2:
        words += ["--task", "sparqle_finetune", "--arch", "sparqle_llm", "--criterion", "sparqle_finetune"]
        words += ["--llm", str(llm), "--llm-dtype", llm_dtype]
    else:
        words += ["--task", "sparqle_pretrain", "--arch", "sparqle_qformer_base", "--criterion", "sparqle_pretrain"]
        words += ["--text-tokenizer", str(text_tokenizer)]
        words += ["--contrastive-width", str(_tensor(file, tensors, "speech_projection.weight").size(0))]
    compared = [job.compare() for job in jobs if job.check]
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(options.get_training_parser(), words))
    model = tasks.setup_task(cfg.task).build_model(cfg.model)
    reader = "qformer.speech_linear.weight"
    if reader not in tensors:
        reader = "qformer.layers.0.cross_attention.key.weight"
    width = _tensor(file, tensors, reader).size(1)
    if model.speech_encoder.width != width:
        raise SparqleError(
            f"{file} was trained on speech features of width {width}, and {speech_encoder} gives "
            f"{model.speech_encoder.width}; give the encoder it was trained with"
        )
    if stage == 2 and model.llm.width != tensors[projector[0]].size(0):
        raise SparqleError(
            f"{file} was trained for an LLM of width {tensors[projector[0]].size(0)}, and {llm} has "
            f"{model.llm.width}; give the LLM it was trained with"
        )
    check_names(tensors, model.adapter, str(file))
    model.adapter.load_state_dict(tensors)
    exported = [job.write() for job in jobs if job.export is not None]
    _write(output, cfg, model.state_dict(), _record(adapter, place))
    left_out = sum(value.nbytes for part in frozen.values() for value in part.values())
    return Imported(stage, len(tensors), left_out, special, compared, exported)


def read_published(file: Path) -> tuple[Mapping[str, Tensor], str]:
    """The tensors of a published file, mapped, and its place for them: one of `_PLACES`, or "" at its top."""
    if not file.is_file():
        raise SparqleError(f"{file}: there is no such file; give a published SparQLe checkpoint")
    allow_fairseq_checkpoints()
    # What torch wrote before version 1.6 cannot be mapped.
    archive = zipfile.is_zipfile(file)
    if not archive:
        logger.warning("%s is of torch's old format and is read into memory as a whole", file)
    try:
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=archive)
        place = next((key for key in _PLACES if isinstance(state.get(key), Mapping)), "")
        tensors = state[place] if place else state
        if not tensors or not all(isinstance(value, Tensor) for value in tensors.values()):
            raise ValueError(f"{place or 'its top'} holds something else than tensors")
    except Exception as error:  # torch raises many kinds on a file that is not a checkpoint
        raise SparqleError(
            f"{file} cannot be read as a published SparQLe checkpoint ({reason(error)}); copy it again, and if it "
            "holds code ask its maker for the weights alone"
        ) from error
    return cast(Mapping[str, Tensor], tensors), place


def _check_second_names(file: Path, adapter: Mapping[str, Tensor]) -> None:
    """What is left out must say nothing new. Raises `SparqleError`."""
    for name, first in SECOND_NAMES.items():
        if name in adapter and (first not in adapter or not torch.equal(adapter[name], adapter[first])):
            raise SparqleError(
                f"{file}: {name} is not {first}, and here the two are one; such a file cannot be imported"
            )
    ids = adapter.get(POSITION_IDS)
    if ids is not None and not torch.equal(ids.flatten(), torch.arange(ids.numel())):
        raise SparqleError(f"{file}: {POSITION_IDS} does not count from 0, as positions do here; it cannot be imported")


def _record(adapter: Mapping[str, Tensor], place: str) -> dict[str, Any]:
    """How the file's tensors were called and stored, as far as the names here do not tell."""
    own = own_names(adapter)
    usual = published_names(own.values(), "llama")
    return {
        "place": place,
        "names": {new: name for name, new in own.items() if usual[new] != name},
        "left_out": [name for name in adapter if name not in own],
        "dtypes": {name: str(adapter[name].dtype) for name in own if adapter[name].dtype != torch.float32},
    }


def _tensor(file: Path, tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise SparqleError(f"{file} lacks {name} (this plugin's name); it is no whole SparQLe adapter")
    return tensors[name]


def _special_options(file: Path, tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Options of fairseq-train for what the authors' Hugging Face trainer does in its own way."""
    found = {}
    if "qformer.speech_linear.weight" in tensors:
        found["speech-entry"] = "linear"
        if "qformer.speech_norm.weight" in tensors:
            raise SparqleError(
                f"{file} has both ln_speech and speech_proj_adapter, and nothing says which comes first; no such model "
                "was published"
            )
    elif "qformer.speech_norm.weight" not in tensors:
        found["speech-entry"] = "none"
    if "projector.1.weight" in tensors:
        found["projector"] = "linear-norm"
    if "domain_classifier.hidden.weight" in tensors:
        width = tensors["domain_classifier.hidden.weight"].size(1)
        reads = "features" if width == _tensor(file, tensors, "text_projection.weight").size(0) else "hidden"
        norm = "batch" if "domain_classifier.norm.weight" in tensors else "none"
        found |= {"objective": "sparqle+adversarial", "adversarial-input": reads, "adversarial-norm": norm}
    return found


def _words(file: Path, tensors: Mapping[str, Tensor], adapter: Mapping[str, Tensor], heads: int | None) -> list[str]:
    """The options of fairseq-train that make an adapter of the tensors' sizes."""
    _, queries, hidden = _tensor(file, tensors, "qformer.query_tokens").shape
    found = [re.match(r"qformer\.layers\.(\d+)\.(cross_attention\.key\.weight)?", name) for name in tensors]
    layers = 1 + max(int(match[1]) for match in found if match)
    reading = sorted(int(match[1]) for match in found if match and match[2])
    frequency = reading[1] - reading[0] if len(reading) > 1 else layers
    if reading != list(range(0, layers, frequency)):
        raise SparqleError(f"{file}: layers {reading} of {layers} read the speech, which is no regular spacing")
    sizes = {
        "hidden-size": hidden,
        "queries": queries,
        "layers": layers,
        "heads": heads or max(1, hidden // _BERT_HEAD_WIDTH),
        "ffn-size": _tensor(file, tensors, "qformer.layers.0.query_ffn.expand.weight").size(0),
        "cross-attention-freq": frequency,
    }
    if "qformer.text.positions.weight" in tensors:
        sizes["max-text-positions"] = tensors["qformer.text.positions.weight"].size(0)
    elif POSITION_IDS in adapter:
        sizes["max-text-positions"] = adapter[POSITION_IDS].numel()
    return [".", "--cpu", *(word for name, value in sizes.items() for word in (f"--{name}", str(value)))]


def _write(output: Path, cfg: Any, model: Mapping[str, Tensor], record: dict[str, Any]) -> None:
    save(output, checkpoint_state(OmegaConf.to_container(cfg, resolve=True, enum_to_str=True), model, {RECORD: record}))


def checkpoint_state(cfg: Any, model: Mapping[str, Tensor], extra: Mapping[str, Any]) -> dict[str, Any]:
    """What fairseq's trainer writes, before the first update.

    Args:
        cfg: options in plain containers.
        model: the tensors.
        extra: goes into `extra_state`.
    """
    return {
        "args": None,
        "cfg": cfg,
        "model": dict(model),
        "criterion": None,
        "optimizer_history": [{"criterion_name": "", "optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}],
        "task_state": {},
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}, **extra},
        "last_optimizer_state": None,
    }


def save(output: Path, state: dict[str, Any]) -> None:
    """Write a file that appears when it is whole. Raises `SparqleError`."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(output) as file:
        torch.save(state, file)
