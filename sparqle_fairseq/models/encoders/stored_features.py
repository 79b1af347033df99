"""A feature store in the speech encoder's place: which encoder made it, and whether that is the one that is wanted."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sparqle_fairseq.data.audio import is_features
from sparqle_fairseq.data.feature_store import PRECISIONS, StoreError, parse_entry, read_index
from sparqle_fairseq.data.manifest import Manifest
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import write_text
from sparqle_fairseq.models.encoders.base import SpeechFeatures, parse_layer
from sparqle_fairseq.models.encoders.registry import load_speech_encoder
from sparqle_fairseq.models.identity import IdentityError, check_identity

logger = logging.getLogger(__name__)

IDENTITY_FILE = "encoder.json"
_FORMAT = 1


@dataclass(frozen=True)
class StoredEncoder:
    """What a store says of the encoder that made it: the contents of `encoder.json`."""

    identity: dict[str, Any]  # as in `SpeechEncoder.identity`
    frame_rate: float  # frames per second
    min_samples: int  # fewest samples that give a frame
    precision: str  # of the features, one of PRECISIONS
    stamp: str  # of the encoder's file; an unchanged file needs no second look
    format: int = _FORMAT

    @classmethod
    def of(cls, encoder: Any, precision: str) -> StoredEncoder:
        identity = dict(encoder.identity)
        if os.path.exists(identity["path"]):
            identity["path"] = os.path.abspath(identity["path"])
        return cls(identity, encoder.frame_rate, encoder.min_samples, precision, _stamp(identity["path"]))


class FeatureReader(nn.Module):
    """What the rest asks of a speech encoder, where all speech comes as features: nothing is loaded, nothing runs."""

    mixed_layers = 0

    def __init__(self, stored: StoredEncoder, folder: str) -> None:
        super().__init__()
        self.folder = folder
        self.width = int(stored.identity["width"])
        self.sample_rate = int(stored.identity["sample_rate"])
        self.normalize = bool(stored.identity["normalize"])
        self.layer = stored.identity["layer"]
        self.frame_rate = stored.frame_rate
        self.min_samples = stored.min_samples
        self.identity: dict[str, Any] = {**stored.identity, "features": folder}

    def forward(self, source: Tensor, padding_mask: Tensor | None = None) -> SpeechFeatures:
        """Raises `SparqleError`: features do not come here, and waveforms need an encoder."""
        raise SparqleError(
            f"{self.folder} holds features, for which no speech encoder is loaded, and a waveform came; keep audio and "
            f"features in folders of their own"
        )


# ---- encoder.json


def read_stored_encoder(folder: str | os.PathLike[str]) -> StoredEncoder | None:
    """What the store in `folder` says of its encoder; None where there is no store. Raises `StoreError`."""
    path = Path(folder) / IDENTITY_FILE
    try:
        found = json.loads(path.read_bytes())
        missing = [part.name for part in fields(StoredEncoder) if part.name not in found]
        if missing:
            raise ValueError(f"it lacks {', '.join(missing)}")
        stored = StoredEncoder(**{part.name: found[part.name] for part in fields(StoredEncoder)})
        if stored.format != _FORMAT or stored.precision not in PRECISIONS:
            raise ValueError(f"format {stored.format}, precision {stored.precision}")
        FeatureReader(stored, str(folder))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StoreError(
            f"{path} cannot be read as the description of a feature store ({error}); extract the features again, into "
            f"a new folder"
        ) from error
    return stored


def write_stored_encoder(folder: Path, stored: StoredEncoder) -> None:
    """Say in `folder` which encoder its features come from. Raises `SparqleError` where they are of another kind."""
    before = read_stored_encoder(folder)
    if before is not None:
        _check_same(folder, before.identity, stored.identity)
        if before.precision != stored.precision:
            raise SparqleError(
                f"{folder} holds features in {before.precision}, and {stored.precision} is wanted now; give "
                f"--dtype {before.precision}, or another folder with --out"
            )
        return
    write_text(folder / IDENTITY_FILE, json.dumps(asdict(stored), indent=2) + "\n")


def _check_same(folder: str | os.PathLike[str], stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    try:
        check_identity({"speech encoder": stored}, {"speech encoder": wanted})
    except IdentityError:
        different = [key for key, value in stored.items() if key not in ("path", "dtype") and wanted.get(key) != value]
        was = ", ".join(f"{key} {stored[key]}" for key in different)
        now = ", ".join(f"{key} {wanted.get(key)}" for key in different)
        raise IdentityError(
            f"{folder} holds features of another speech encoder ({stored.get('path')}: {was}) than "
            f"{wanted.get('path')} ({now}); give the encoder and layer that made them, or extract them again"
        ) from None


# ---- the store of a task


def open_feature_reader(folders: Sequence[str]) -> FeatureReader | None:
    """What stands in for the encoder where the data folders are stores; else None. Raises `SparqleError`."""
    found = {folder: read_stored_encoder(folder) for folder in folders}
    stores = {folder: stored for folder, stored in found.items() if stored is not None}
    if not stores:
        return None
    without = [folder for folder in folders if folder not in stores]
    if without:
        raise SparqleError(
            f"{next(iter(stores))} holds features and {without[0]} does not; give data folders of one kind"
        )
    (first, stored), *others = stores.items()
    for folder, other in others:
        _check_same(folder, other.identity, {**stored.identity, "path": f"that of {first}"})
    return FeatureReader(stored, first)


def settle_encoder(config: Any, folders: Sequence[str], check: bool) -> None:
    """Make the options of a model agree with the stores it will read.

    Where no encoder was named, the store's and its layer become the options, so that a checkpoint knows them. Where one
    was named it must be the store's: by its path if the file there is unchanged, else it is read and compared.

    Args:
        config: plain options of the model, changed in place.
        folders: the task's data folders.
        check: compare a named encoder; needless where a checkpoint tells the encoder, which is compared on loading.

    Raises:
        SparqleError: the named encoder, or the layer, is not the store's.
    """
    reader = open_feature_reader(folders)
    if reader is None or config.source == "units":
        return
    layer, path = str(reader.layer), str(reader.identity["path"])
    if not config.speech_encoder:
        if config.encoder_layer not in ("last", layer):
            raise _other_layer(reader, config.encoder_layer)
        config.speech_encoder, config.encoder_layer = path, layer
    elif check:
        if config.encoder_layer != layer:
            raise _other_layer(reader, config.encoder_layer)
        stored = read_stored_encoder(reader.folder)
        here = _stamp(config.speech_encoder)
        if stored is not None and _same_path(config.speech_encoder, path) and here in ("", stored.stamp):
            return
        logger.info("is %s the encoder of the features in %s? reading it", config.speech_encoder, reader.folder)
        encoder = load_speech_encoder(config.speech_encoder, layer=parse_layer(layer))
        _check_same(reader.folder, reader.identity, {**encoder.identity, "features": reader.folder})


def check_sources(manifest: Manifest, encoder: Any) -> None:
    """Before training starts: are the manifest's entries there, and of this encoder; is there an encoder for its audio?

    Raises `SparqleError`. Manifests of audio and of .npy files are left to the reading of their rows, but for features
    beside an encoder that learns: they are of the frozen one.
    """
    if getattr(encoder, "learns", False):
        for i in range(len(manifest)):
            if is_features(manifest.audio(i)):
                raise SparqleError(
                    f"{manifest.where(i)}: {manifest.audio(i)} holds features of the encoder as it was, and it has "
                    "learned; give audio"
                )
    if not len(manifest) or (parse_entry(manifest.audio(0)) is None and not isinstance(encoder, FeatureReader)):
        return
    shards: set[str] = set()
    for i in range(len(manifest)):
        audio = manifest.audio(i)
        entry = parse_entry(audio)
        if entry is None:
            raise SparqleError(
                f"{manifest.where(i)}: {audio} is no entry of a feature store, and others in this folder or manifest "
                f"are; keep audio and features in folders of their own"
            )
        shards.add(entry.shard)
    for folder in sorted({os.path.dirname(shard) for shard in shards}):
        stored = read_stored_encoder(folder)
        if stored is None:
            raise StoreError(
                f"{folder} holds features and no {IDENTITY_FILE}, which says what made them; copy it here too"
            )
        _check_same(folder, stored.identity, encoder.identity)
    for shard in sorted(shards):
        read_index(shard)


def _other_layer(reader: FeatureReader, wanted: Any) -> SparqleError:
    again = "train from audio" if str(wanted) == "weighted" else "extract the features again"
    return SparqleError(
        f"{reader.folder} holds features of layer {reader.layer}, and --encoder-layer is {wanted}; give "
        f"--encoder-layer {reader.layer}, or {again}"
    )


def _same_path(one: str, other: str) -> bool:
    return one == other or os.path.realpath(one) == os.path.realpath(other)


def _stamp(path: str) -> str:
    """Sizes and times of the files at a path; empty where there is none, as for a hub id."""
    place = Path(path)
    files = sorted(place.iterdir()) if place.is_dir() else [place]
    stats = [(file.name, file.stat()) for file in files if file.is_file()]
    return " ".join(f"{name}:{stat.st_size}:{stat.st_mtime_ns}" for name, stat in stats)
