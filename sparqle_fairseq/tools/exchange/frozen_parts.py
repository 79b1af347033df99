"""The frozen speech encoder and LLM inside a published checkpoint: compared with given ones, or exported.

Everything is read from mapped files and one tensor, or one shard, at a time.
"""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sparqle_fairseq.data.hub import folder_with_weights, is_hub_id
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import folder_written_whole, read_json, write_text
from sparqle_fairseq.models.encoders.fairseq_checkpoint import read_checkpoint
from sparqle_fairseq.models.encoders.hugging_face import MODELS, modern_name
from sparqle_fairseq.models.encoders.place import (
    CONFIG,
    PICKLED_WEIGHTS,
    PREPROCESSOR,
    WEIGHTS,
    WEIGHTS_INDEX,
    EncoderPlace,
)
from sparqle_fairseq.tools.exchange.hubert import hugging_face_config, name_pairs, shape_of_fairseq

ENCODER, LLM = "speech encoder", "LLM"
_PARTS = {ENCODER: ("speech_encoder.",), LLM: ("llama_model.", "llm_model.")}
# What a published file may hold of the parts that were not trained.
PREFIXES = tuple(prefix for prefixes in _PARTS.values() for prefix in prefixes)
# What models made from others put before the names of theirs.
_INNER = ("", *(prefix for _, prefix in MODELS.values()), "model.encoder.", "encoder.", "model.", "base_model.model.")
# Buffers that some versions of transformers stored: they follow from the configuration.
_BUFFERS = ("rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias", "position_ids")
_TIED = ("lm_head.weight", "model.embed_tokens.weight")
_SHARD_BYTES = 1 << 30
_AT_A_TIME = 1 << 22  # numbers compared at a time
_WEIGHT_FILES = (".safetensors", ".bin", ".pt", ".gguf", ".h5", ".msgpack", ".index.json")


class Comparison(NamedTuple):
    """A frozen part that is the given one."""

    part: str
    tensors: int
    only_given: int  # tensors that the given one has and the file has not


@dataclass(frozen=True)
class Job:
    """What is to be done with one frozen part of a published file."""

    file: Path
    part: str  # ENCODER or LLM
    tensors: Mapping[str, Tensor]  # by Hugging Face's names
    given: str  # what the user says it is
    check: bool
    export: Path | None

    def compare(self) -> Comparison:
        """Raises `SparqleError` where a tensor is not the given one's, naming that which differs most."""
        with ExitStack() as stack:
            given = open_weights(self.given, self.part, stack)
            names = _matched(self, given)
            worst, where = 0.0, ""
            for name, theirs in names.items():
                distance = largest_difference(self.tensors[name], given.get(theirs))
                # Written so that NaN counts as different.
                if not distance <= worst:
                    worst, where = distance, name
                if worst != worst:
                    break
            if where:
                raise SparqleError(
                    f"{self.file}: its {self.part} is not {self.given}: the largest difference of a weight is "
                    f"{worst:.3g}, in {where}; give the {self.part} it was trained with, or export the one inside"
                )
            return Comparison(self.part, len(names), len(given.names) - len(set(names.values())))

    def write(self) -> Path:
        """Write the part as a Hugging Face folder, configured as the given one is. Raises `SparqleError`."""
        assert self.export is not None
        with folder_written_whole(self.export) as folder, ExitStack() as stack:
            given = open_weights(self.given, self.part, stack)
            names = _matched(self, given)
            _check_whole(self, given, names)
            tensors = {_plain_name(theirs, self.part): self.tensors[name] for name, theirs in names.items()}
            given.write_settings(folder)
            write_shards(tensors, folder, self.export.name)
        return self.export


def split(state: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The tensors of each frozen part, by Hugging Face's names as they are spelt today."""
    found: dict[str, dict[str, Tensor]] = {}
    for part, prefixes in _PARTS.items():
        inside = {
            modern_name(name.removeprefix(prefix)): tensor
            for prefix in prefixes
            for name, tensor in state.items()
            if name.startswith(prefix)
        }
        if inside:
            found[part] = inside
    return found


def plan(
    file: Path,
    frozen: Mapping[str, Mapping[str, Tensor]],
    encoder: str,
    llm: str | None,
    check: bool,
    export_encoder: Path | None,
    export_llm: Path | None,
) -> list[Job]:
    """The jobs that the options ask for. Raises `SparqleError` where the file has nothing to do them with."""
    jobs = []
    for part, given, export in ((ENCODER, encoder, export_encoder), (LLM, llm, export_llm)):
        option = f"--export-{part.lower().replace(' ', '-')}"
        if export is not None and part not in frozen:
            raise SparqleError(f"{file} holds no {part}; leave {option} out")
        if export is not None and export.exists():
            raise SparqleError(f"{export} exists already; give {option} another name, or move it away")
        if part not in frozen or not (check or export):
            continue
        if given is None:
            raise SparqleError(f"{file} holds an {part}; name the one it was trained with (--llm)")
        jobs.append(Job(file, part, frozen[part], given, check, export))
    if check and not jobs:
        raise SparqleError(f"{file} holds neither speech encoder nor LLM; leave --check-frozen out")
    return jobs


def largest_difference(stored: Tensor, given: Tensor) -> float:
    """Largest absolute difference of two tensors of one shape, in the precision of `stored`."""
    one, other = stored.reshape(-1), given.reshape(-1)
    worst = 0.0
    for start in range(0, one.numel(), _AT_A_TIME):
        part = slice(start, start + _AT_A_TIME)
        distance = (one[part].double() - other[part].to(one.dtype).double()).abs().max().item()
        worst = distance if not distance <= worst else worst
        if worst != worst:
            break
    return worst


# ---- what the user gives


class Weights(ABC):
    """Tensors of a model by name, fetched one at a time, and how it is configured."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = frozenset(names)

    @abstractmethod
    def get(self, name: str) -> Tensor:
        """The tensor of that name."""

    @abstractmethod
    def write_settings(self, folder: Path) -> None:
        """The files beside the weights: configuration, and tokenizer or preprocessor."""


class _FolderWeights(Weights):
    """A Hugging Face folder."""

    def __init__(self, folder: Path, part: str, stack: ExitStack) -> None:
        from safetensors import safe_open

        self.folder, self.part = folder, part
        self._readers: dict[str, Any] = {}
        pickled = folder / PICKLED_WEIGHTS
        for shard in sorted(folder.glob("*.safetensors")):
            reader = stack.enter_context(safe_open(shard, framework="pt"))
            self._readers |= dict.fromkeys(reader.keys(), reader)
        self._tensors: Mapping[str, Tensor] = {}
        if not self._readers and pickled.is_file():
            self._tensors = torch.load(pickled, map_location="cpu", weights_only=True, mmap=True)
        if not self._readers and not self._tensors:
            raise SparqleError(f"{folder} has no {WEIGHTS}, {WEIGHTS_INDEX} or {PICKLED_WEIGHTS} to compare with")
        # Today's spelling -> the folder's.
        self._stored = {modern_name(name): name for name in (*self._readers, *self._tensors)}
        super().__init__(self._stored)

    def get(self, name: str) -> Tensor:
        stored = self._stored[name]
        return self._readers[stored].get_tensor(stored) if self._readers else self._tensors[stored]

    def write_settings(self, folder: Path) -> None:
        config = read_json(self.folder / CONFIG)
        if self.part == ENCODER:
            kind = str(config.get("model_type"))
            if kind not in MODELS:
                raise SparqleError(
                    f"{self.folder} is a {kind} model; a speech encoder is exported where it is one of "
                    f"{', '.join(MODELS)}"
                )
            # The file holds the encoder alone, whatever the given folder has on top of it.
            config["architectures"] = [f"{MODELS[kind][0]}Model"]
            if (self.folder / PREPROCESSOR).is_file():
                shutil.copy(self.folder / PREPROCESSOR, folder)
        else:
            for file in sorted(self.folder.iterdir()):
                # Never code that comes with a model.
                if file.is_file() and not file.name.endswith((*_WEIGHT_FILES, ".py")) and file.name != CONFIG:
                    shutil.copy(file, folder)
        write_text(folder / CONFIG, json.dumps(config, indent=2))


class _FairseqHubert(Weights):
    """A fairseq checkpoint of HuBERT under Hugging Face's names."""

    def __init__(self, place: EncoderPlace) -> None:
        stored = read_checkpoint(place.path)
        try:
            shape = shape_of_fairseq(stored.model)
            pairs = name_pairs(shape)
        except ValueError as error:
            raise SparqleError(f"{place} has no names in Hugging Face's models: {error}") from error
        self._tensors = {pairs[name]: value for name, value in stored.tensors.items() if name in pairs}
        if not shape.projects:  # Hugging Face always projects: by nothing
            self._tensors["feature_projection.projection.weight"] = torch.eye(shape.width)
            self._tensors["feature_projection.projection.bias"] = torch.zeros(shape.width)
        self._shape, self._stored = shape, stored
        super().__init__(self._tensors)

    def get(self, name: str) -> Tensor:
        return self._tensors[name]

    def write_settings(self, folder: Path) -> None:
        from transformers import Wav2Vec2FeatureExtractor

        config = hugging_face_config(self._shape, self._stored.model)
        config.architectures = ["HubertModel"]
        config.save_pretrained(folder)
        task = self._stored.task
        Wav2Vec2FeatureExtractor(
            sampling_rate=int(task.get("sample_rate") or 16000),
            do_normalize=bool(task.get("normalize", False)),
            return_attention_mask=self._shape.layer_norms,
        ).save_pretrained(folder)


def open_weights(given: str, part: str, stack: ExitStack) -> Weights:
    """The weights of a folder, hub id or fairseq checkpoint of HuBERT. Raises `SparqleError`."""
    place = EncoderPlace(given)
    if part == ENCODER and place.names_a_file:
        return _FairseqHubert(place)
    folder = place.path
    if not folder.is_dir():
        if not is_hub_id(given):
            raise SparqleError(f"{given} is no folder here and no hub id; give the folder of the {part}")
        folder = Path(folder_with_weights(given))
    if not (folder / CONFIG).is_file():
        raise SparqleError(f"{given} has no {CONFIG}, so the {part} in the file cannot be held against it")
    return _FolderWeights(folder, part, stack)


# ---- names and files


def _matched(job: Job, given: Weights) -> dict[str, str]:
    """{name in the file: name in what is given}. Raises `SparqleError` where one has no counterpart of its shape."""
    names = [name for name in job.tensors if not name.endswith(_BUFFERS)]

    def pairs(inner: str, outer: str) -> dict[str, str]:
        return {name: outer + name.removeprefix(inner) for name in names if name.startswith(inner)}

    candidates = [pairs(inner, outer) for inner in _INNER for outer in _INNER]
    best = max(candidates, key=lambda found: sum(theirs in given.names for theirs in found.values()))
    found = {name: best.get(name, name) for name in names}
    head, embedding = _TIED
    twin = next((name for name, theirs in found.items() if theirs == embedding), None)
    if found.get(head, embedding) not in given.names and twin and torch.equal(job.tensors[head], job.tensors[twin]):
        found[head] = embedding  # tied: stored once in the folder
    unknown = sorted(name for name, theirs in found.items() if theirs not in given.names)
    if unknown:
        raise SparqleError(
            f"{job.file}: its {job.part} has {len(unknown)} tensors that {job.given} lacks "
            f"({', '.join(unknown[:5])}{', …' if len(unknown) > 5 else ''}); give the {job.part} it was trained with"
        )
    for name, theirs in found.items():
        stored, other = job.tensors[name].shape, given.get(theirs).shape
        if stored != other:
            raise SparqleError(
                f"{job.file}: its {job.part} is not {job.given}: {name} is {tuple(stored)} and {tuple(other)} there; "
                f"give the {job.part} it was trained with"
            )
    return found


def _check_whole(job: Job, given: Weights, names: Mapping[str, str]) -> None:
    """What is exported must be a whole model. Raises `SparqleError`."""
    have = {_plain_name(theirs, job.part) for theirs in names.values()}
    needed = {_plain_name(theirs, job.part) for theirs in given.names}
    if job.part == ENCODER:
        # The mask of pre-training and heads on top play no part in listening.
        needed = {name for name in needed if name.startswith(("feature_extractor.", "feature_projection.", "encoder."))}
    missing = sorted(name for name in needed - have if not name.endswith(_BUFFERS))
    if missing:
        raise SparqleError(
            f"{job.file}: its {job.part} lacks {len(missing)} tensors of {job.given} ({', '.join(missing[:5])}"
            f"{', …' if len(missing) > 5 else ''}), so that it cannot be exported as a whole model"
        )


def _plain_name(name: str, part: str) -> str:
    if part == ENCODER:
        for _, prefix in MODELS.values():
            name = name.removeprefix(prefix)
    return name


def write_shards(tensors: Mapping[str, Tensor], folder: Path, shown: str) -> None:
    """`model.safetensors`, or shards and their index, each written from the mapped tensors; progress as `shown`."""
    from safetensors.torch import save_file
    from tqdm import tqdm

    shards: list[dict[str, Tensor]] = [{}]
    filled = 0
    for name in sorted(tensors):
        size = tensors[name].nbytes
        if filled and filled + size > _SHARD_BYTES:
            shards.append({})
            filled = 0
        shards[-1][name] = tensors[name]
        filled += size
    index: dict[str, str] = {}
    for i, shard in enumerate(tqdm(shards, desc=shown, unit="shard", disable=None)):
        file = WEIGHTS if len(shards) == 1 else f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
        save_file({name: tensor.contiguous() for name, tensor in shard.items()}, folder / file, {"format": "pt"})
        index |= dict.fromkeys(shard, file)
    if len(shards) > 1:
        total = sum(tensor.nbytes for tensor in tensors.values())
        content = {"metadata": {"total_size": total}, "weight_map": index}
        write_text(folder / WEIGHTS_INDEX, json.dumps(content, indent=2))
