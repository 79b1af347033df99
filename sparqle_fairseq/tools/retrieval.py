"""Speech-text retrieval with a stage-1 checkpoint: the transcript of a recording among all, and the other way round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from sparqle_fairseq.data.dataset import SpeechDataset, to_device
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.stage1.losses import similarity
from sparqle_fairseq.models.stage1.model import PretrainModel
from sparqle_fairseq.scoring.ranking import RESAMPLES, SEED, Retrieval, retrieval_scores


@dataclass(frozen=True)
class RetrievalReport:
    """Both directions: recordings that look for their transcript, different transcripts that look for a recording."""

    manifest: str
    model: str
    speech_to_text: Retrieval
    text_to_speech: Retrieval
    signature: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def evaluate_retrieval(
    manifest: Path,
    model: Path,
    *,
    ks: Sequence[int] = (1, 10),
    batch_size: int = 16,
    audio_root: Path | None = None,
    speech_encoder: str | None = None,
    strict_audio: bool = True,
    cpu: bool = False,
) -> RetrievalReport:
    """Recall@k of the recordings and transcripts of a manifest.

    As in training: cosine of the transcript with every query, the largest over the queries; equal transcripts are one.

    Args:
        manifest: of recordings or features, each with its `src_text`.
        model: checkpoint of stage 1.
        ks: at which ranks to score.
        batch_size: recordings in a batch.
        strict_audio: stop at a damaged recording; else what is left of it is heard.
        audio_root, speech_encoder, cpu: as for `load_trained` and `read_manifest`.

    Raises:
        SparqleError: no such file, a checkpoint without a text branch (stage 2), a row without transcript, or fewer
            than two different ones.
    """
    if not manifest.is_file():
        raise SparqleError(f"{manifest}: there is no such file; give a manifest (.tsv)")
    if batch_size < 1 or not ks or min(ks) < 1:
        raise SparqleError(f"recall at {', '.join(map(str, ks))} in batches of {batch_size}: give numbers from 1")
    from sparqle_fairseq.tasks.loading import load_rows, load_trained

    trained = load_trained(model, speech_encoder=speech_encoder, cpu=cpu)
    if not isinstance(trained.model, PretrainModel):
        raise SparqleError(f"{model} is of stage 2, which has no text branch; give a checkpoint of stage 1")
    if "stc" not in trained.model.objective:
        raise SparqleError(
            f"{model} was trained with --objective {'+'.join(trained.model.objective)}, and only stc compares speech "
            "with text; give a checkpoint of another objective"
        )
    trained.task.cfg.skip_bad_audio = False  # a recording left out would make the others easier to find
    dataset = load_rows(trained, manifest, audio_root, strict_audio)
    similarities, belongs = similarity_matrix(trained.model, dataset, batch_size)
    return RetrievalReport(
        str(manifest),
        str(model),
        retrieval_scores(similarities, belongs, ks),
        retrieval_scores(similarities.T, belongs.T, ks),
        f"sim:cosine-max-over-queries|texts:distinct|ties:against|bs:{RESAMPLES}|rs:{SEED}|ci:percentile",
    )


@torch.no_grad()
def similarity_matrix(model: Any, dataset: SpeechDataset, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """Similarities of N recordings with M different transcripts, (N, M), and bool (N, M): which belong together."""
    place = _distinct_transcripts(dataset)
    first = {column: index for index, column in reversed(list(enumerate(place)))}
    device = next(model.parameters()).device

    def batches(indices: Sequence[int], what: str) -> Any:
        starts = range(0, len(indices), batch_size)
        return (indices[start : start + batch_size] for start in tqdm(starts, desc=what, unit="batch"))

    words = []
    for columns in batches(range(len(first)), "transcripts"):
        items = [dataset.text.item(dataset.row(first[i]), dataset.where(first[i]), dataset.epoch) for i in columns]
        net_input = to_device(dataset.text.collate(items)["net_input"], device)
        words.append(model.adapter.text_features(net_input["text"], net_input["text_padding_mask"]))
    texts = torch.cat(words)  # (M, D)

    similarities = np.empty((len(dataset), len(first)), np.float32)
    for rows in batches(dataset.ordered_indices().tolist(), "recordings"):
        sample = dataset.collater([dataset[i] for i in rows])
        net_input = to_device(sample["net_input"], device)
        heard = model.hear(net_input["source"], net_input["padding_mask"], sample["source_lengths"])
        speech = model.encode_speech(*heard)
        queries = model.adapter.qformer.query(
            model.adapter.qformer.read_speech(speech.values, speech.padding_mask)
        )  # (B, Q, H)
        cosines = similarity(
            model.adapter.speech_features(queries.hidden),
            texts,
            torch.ones((), device=device),
            queries.padding_mask,
        )
        similarities[sample["id"].numpy()] = cosines.cpu().numpy()
    if not np.isfinite(similarities).all():
        raise SparqleError("the model gives similarities that are no numbers; its training went wrong")
    return similarities, np.array(place)[:, None] == np.arange(len(first))[None, :]


def _distinct_transcripts(dataset: SpeechDataset) -> list[int]:
    """Number of each row's transcript among the different ones, in order of appearance."""
    numbers: dict[str, int] = {}
    place = []
    for index in range(len(dataset)):
        text = dataset.row(index).src_text
        if not text:
            raise SparqleError(
                f"{dataset.where(index)}: found no transcript in src_text; retrieval needs one in each row"
            )
        place.append(numbers.setdefault(text, len(numbers)))
    if len(numbers) < 2:
        raise SparqleError(f"{dataset.where(0)}: all rows have this transcript; retrieval needs two different ones")
    return place
