"""The datasets of a run: the rows of its manifests, as fairseq-train reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparqle_fairseq.data.augment import SpeedPerturbation
from sparqle_fairseq.data.dataset import RoomCheck, SpeechDataset, TextSide
from sparqle_fairseq.data.manifest import Manifest, read_manifest
from sparqle_fairseq.data.sampling import Sampler, SamplingOptions
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.huggingface.training.options import DataOptions
from sparqle_fairseq.models.encoders.stored_features import check_sources


def read_manifests(options: DataOptions, subset: str, needed: str) -> list[Manifest]:
    """Those of 'a,b', in which no row may lack the column `needed`. Raises `SparqleError`."""
    folder = Path(str(options.data))
    found = []
    for name in subset.split(","):
        path = folder / f"{name}.tsv"
        if not path.is_file():
            there = ", ".join(sorted(file.stem for file in folder.glob("*.tsv"))) or "no .tsv file"
            raise SparqleError(f"{path}: there is no such manifest; {folder} holds {there}")
        found.append(
            read_manifest(
                path,
                audio_root=options.audio_root,
                src_lang=options.src_lang,
                tgt_lang=options.tgt_lang,
                row_task=options.row_task,
                require=(needed,),
            )
        )
    return found


def speech_dataset(
    options: DataOptions,
    manifests: Sequence[Manifest],
    side: TextSide,
    encoder: Any,
    *,
    seed: int,
    training: bool,
    check: RoomCheck | None = None,
) -> SpeechDataset:
    """The rows of `manifests` for a model that hears through `encoder`. Raises `SparqleError`."""
    for manifest in manifests:
        check_sources(manifest, encoder)
    sampling = SamplingOptions.parse(options.sampling_temperature, options.sampling_by, options.task_ratio)
    speeds = SpeedPerturbation.parse(options.speed_perturb, seed) if options.speed_perturb else None
    return SpeechDataset(
        manifests,
        side,
        normalize=encoder.normalize,
        sample_rate=encoder.sample_rate,
        shuffle=training,
        strict_audio=not options.no_strict_audio,
        feature_width=encoder.width,
        speeds=speeds if training else None,
        check=check,
        min_samples=encoder.min_samples,
        sampler=Sampler(manifests, sampling, seed) if training and sampling is not None else None,
    )
