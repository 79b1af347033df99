"""A model's folder that holds the adapter's weights: encoder and LLM are read from where they lie, and compared."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import GenerationConfig

from sparqle_fairseq.data.hub import SETTINGS, downloaded
from sparqle_fairseq.errors import SparqleError, reason
from sparqle_fairseq.files import read_json, read_text
from sparqle_fairseq.huggingface.configuration import SparqleConfig
from sparqle_fairseq.huggingface.encoder import settle_network
from sparqle_fairseq.models.adapted import check_names
from sparqle_fairseq.models.encoders import load_speech_encoder, parse_layer
from sparqle_fairseq.models.identity import check_identity
from sparqle_fairseq.models.llm.files import LLMFiles
from sparqle_fairseq.models.llm.llm import LanguageModel, cast_parameters

CONFIG, WEIGHTS, GENERATION = "config.json", "model.safetensors", "generation_config.json"
INDEX = "model.safetensors.index.json"
# What a fairseq checkpoint says of its training, for the way back.
TRAINING = "fairseq.json"
# Of a hub's repository: what a model and its processor are made of, and no code.
PATTERNS = (*SETTINGS, "*.safetensors")
_FROZEN = ("language_model.", "speech_encoder.")
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class Parts(NamedTuple):
    """What the adapter stands between."""

    config: SparqleConfig
    speech_encoder: nn.Module
    language_model: Any
    dtype: torch.dtype  # of the adapter


def find_folder(name: str | Path, hub: Mapping[str, Any]) -> Path:
    """The folder, or the local copy of a hub's repository. Raises `SparqleError`."""
    path = Path(name)
    if path.is_dir():
        return path
    if path.exists():
        raise SparqleError(f"{name} is a file; give the folder of a SparQLe model")
    return downloaded(str(name), PATTERNS, hub)


def read_config(folder: Path) -> SparqleConfig:
    """Raises `SparqleError` where the folder is not one of this model."""
    path = folder / CONFIG
    if not path.is_file():
        raise SparqleError(
            f"{folder} has no {CONFIG}; give the folder of a SparQLe model, as sparqle export-hf wrote it"
        )
    try:
        content = json.loads(read_text(path))
        kind = content.get("model_type")
        if kind != SparqleConfig.model_type:
            raise SparqleError(f"{folder} holds a model of type {kind!r}, not a SparQLe model; give another folder")
        return SparqleConfig.from_dict(content)
    except SparqleError:
        raise
    except Exception as error:  # json, and whatever transformers finds in it
        raise SparqleError(f"{path} cannot be read ({reason(error)}); copy or export the model again") from error


def is_folder_of_parts(
    name: str | Path, config: Any, speech_encoder: str | None, llm: str | None, hub: Mapping[str, Any]
) -> tuple[Path, SparqleConfig]:
    """The folder and its configuration, with the places of encoder and LLM as they are now. Raises `SparqleError`."""
    folder = find_folder(name, hub)
    found = read_config(folder) if config is None else config
    if speech_encoder is None and llm is None:
        return folder, found
    if not found.adapter_only:
        raise SparqleError(f"{name} holds its encoder and its LLM; leave speech_encoder and llm out")
    found.speech_encoder = speech_encoder or found.speech_encoder
    found.llm = llm or found.llm
    return folder, found


def read_parts(config: SparqleConfig, dtype: Any = None, **options: Any) -> Parts:
    """Encoder and LLM of an adapter; `options` go to the LLM's `from_pretrained`.

    Raises:
        SparqleError: one is missing, or is not the one that the adapter was trained with.
    """
    assert config.speech_encoder is not None
    assert config.llm is not None
    encoder = load_speech_encoder(config.speech_encoder, layer=parse_layer(config.encoder_layer))
    files = LLMFiles.find(config.llm)
    model = files.read_model(**options)
    stored = next(model.parameters()).dtype
    wanted = _dtype(dtype, stored)
    tokenizer = files.read_tokenizer(model.get_input_embeddings().num_embeddings)
    quantized = getattr(model, "hf_quantizer", None) is not None
    llm = LanguageModel(model, tokenizer, config.llm, stored if quantized else wanted)
    trained = {part: dict(values) for part, values in (config.identity or {}).items()}
    if quantized:  # its weights are no longer those of the files
        trained.get("LLM", {}).pop("weights", None)
    check_identity(trained, {"speech encoder": encoder.identity, "LLM": llm.identity})
    # A copy: the whole model's choice of attention, which knows nothing of this LLM's, is written into its parts.
    config.text_config = copy.deepcopy(model.config)
    network: Any = encoder.frozen.module
    settle_network(network, config)
    # The adapter stays as it was trained, unless a precision was named.
    return Parts(config, network, llm.model, torch.float32 if dtype is None else wanted)


def hold_parts(model: Any, folder: Path, parts: Parts) -> None:
    """Give the model the adapter's weights and put it beside its LLM. Raises `SparqleError`."""
    path = folder / WEIGHTS
    state = read_tensors(folder)
    own = {name.removeprefix("adapter."): value for name, value in state.items()}
    check_names(own, model.adapter, str(path))
    model.adapter.load_state_dict(own)
    if (folder / GENERATION).is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    device = model.get_input_embeddings().weight.device
    model.adapter.to(device=device, dtype=parts.dtype)
    model.speech_encoder.to(device)
    if model.adapter.lora is not None:
        model.adapter.lora.install(model.language_model)


def check_generation(folder: Path) -> None:
    """Raise `SparqleError` where what ends an answer is not said; transformers would go on without."""
    path = folder / GENERATION
    if not isinstance(read_json(path, "configuration of generation"), Mapping):
        raise SparqleError(f"{path} holds no settings of generation; copy, download or export the model again")


def keep_precision(llm: nn.Module, config: Any) -> None:
    """Run an LLM that lay in the folder in the precision it is stored in, as one that lies elsewhere.

    transformers reads a whole model in one precision, that of its adapter. LoRA keeps the adapter's.
    """
    own = {parameter for name, parameter in llm.named_parameters() if ".lora_" not in name}
    cast_parameters(llm, _dtype(getattr(config, "dtype", None), next(llm.parameters()).dtype), own)


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """What is in the folder's safetensors file, or files. Raises `SparqleError` where one is missing or damaged."""
    from safetensors.torch import load_file

    state: dict[str, Tensor] = {}
    for path in weight_files(folder):
        with _readable(path):
            state |= load_file(path)
    return state


def weight_files(folder: Path) -> list[Path]:
    """The safetensors file of a folder, or those that its index names. Raises `SparqleError`."""
    index = folder / INDEX
    if (folder / WEIGHTS).is_file() or not index.is_file():
        return [folder / WEIGHTS]
    content = read_json(index, "index of the weights")
    table = content.get("weight_map") if isinstance(content, Mapping) else None
    names = set(table.values()) if isinstance(table, Mapping) else set()
    if not names or not all(isinstance(name, str) and os.path.basename(name) == name for name in names):
        raise SparqleError(f"{index} names no files of weights beside it; copy, download or export the model again")
    return [folder / name for name in sorted(names)]


def check_weight_files(folder: Path) -> None:
    """Look at the head of each file of weights, which says how long it is. Raises `SparqleError`."""
    from safetensors import safe_open

    for path in weight_files(folder):
        with _readable(path), safe_open(path, framework="pt"):
            pass


def check_all_loaded(folder: Path, report: Mapping[str, Any]) -> None:
    """Raise `SparqleError` where transformers found no tensor, or one of another shape, and would go on with random."""
    missing = sorted(report["missing_keys"])
    other = sorted(str(one[0] if isinstance(one, tuple) else one) for one in report.get("mismatched_keys") or ())
    if missing or other:
        what = "lacks" if missing else "has in another shape"
        names = missing or other
        raise SparqleError(
            f"{folder} {what} {len(names)} tensors ({', '.join(names[:3])}{', …' if len(names) > 3 else ''}); copy, "
            "download or export the model again"
        )


@contextmanager
def fitting(folder: Path) -> Iterator[None]:
    """Say in one sentence what transformers says in many of tensors that are not of the configuration's shapes."""
    try:
        yield
    except RuntimeError as error:
        if "mismatch" not in str(error):
            raise
        raise SparqleError(
            f"the weights in {folder} do not fit its {CONFIG} ({reason(error, 160)}); copy, download or export the "
            "model again"
        ) from error


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # those of safetensors do not derive from OSError or ValueError
        said = "it is not there" if not path.exists() else reason(error, 120)
        raise SparqleError(f"{path} cannot be read ({said}); copy, download or export the model again") from error


def keep_trained(state: Mapping[str, Tensor], whole: bool) -> dict[str, Tensor]:
    """What is written of a model's tensors: those of the adapter, or all; LoRA's once, under the adapter's names."""
    if not whole:
        return {name: value for name, value in state.items() if not name.startswith(_FROZEN)}
    own_lora = any(name.startswith("adapter.lora.") for name in state)
    return {
        name: value
        for name, value in state.items()
        if not (own_lora and name.startswith("language_model.") and ".lora_" in name)
    }


def _dtype(asked: Any, stored: torch.dtype) -> torch.dtype:
    if asked is None or asked == "auto":
        return stored
    known = asked if isinstance(asked, torch.dtype) else _DTYPES.get(str(asked).removeprefix("torch."))
    if known is None:
        raise SparqleError(f"dtype {asked!r} is unknown; give one of {', '.join(_DTYPES)}, or auto")
    return known
