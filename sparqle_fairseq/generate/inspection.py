"""One utterance looked into: speech, what the queries attend to, the hypothesis and where in time its tokens are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sparqle_fairseq.data.audio import is_features, read_audio
from sparqle_fairseq.data.dataset import SpeechDataset, to_device
from sparqle_fairseq.generate.attention import query_map, reading_rate, token_centres, token_excess, token_map
from sparqle_fairseq.generate.generator import HypothesisGenerator
from sparqle_fairseq.generate.limits import Ended, LengthRule
from sparqle_fairseq.generate.options import decoding_options
from sparqle_fairseq.generate.search import SearchSettings
from sparqle_fairseq.models.stage1.losses import similarity
from sparqle_fairseq.models.stage1.model import PretrainModel

LONGEST_ANSWER = 200  # tokens


@dataclass(frozen=True)
class Look:
    """Arrays hold real frames only. Q queries, T frames, L tokens without the end."""

    name: str
    reference: str | None
    hypothesis: str
    ended: Ended
    reading_rate: float  # frames per second, as the queries read them
    waveform: np.ndarray | None  # (S,) as recorded; None where features or units are read
    sample_rate: int
    features: np.ndarray  # (encoder frames, W)
    frame_rate: float  # encoder frames per second
    layers: np.ndarray  # (layers that read speech, Q, T)
    tokens: list[str]
    token_excess: np.ndarray  # (L, T) what a token reads above the mean of its text
    token_seconds: np.ndarray  # (L,)

    @property
    def queries(self) -> np.ndarray:
        """(Q, T), mean over layers."""
        return self.layers.mean(axis=0)

    @property
    def seconds(self) -> float:
        if self.waveform is not None:
            return len(self.waveform) / self.sample_rate
        return len(self.features) / self.frame_rate

    @property
    def query_seconds(self) -> np.ndarray:
        """(Q,) the frame that each query reads most."""
        return (self.queries.argmax(axis=1) + 0.5) / self.reading_rate


@dataclass(frozen=True)
class Similarities:
    """Stage 1's contrastive view of a batch: cosine of each recording's best query with each transcript's [CLS]."""

    names: list[str]
    texts: list[str]
    cosines: np.ndarray  # (recordings, transcripts)

    @property
    def found(self) -> float:
        """Share of recordings whose own transcript is the most similar one."""
        return float((self.cosines.argmax(axis=1) == np.arange(len(self.names))).mean())


@dataclass(frozen=True)
class Heard:
    """One utterance of a batch as it is shown: its waveform as recorded, None where features or units were read."""

    name: str
    waveform: np.ndarray | None  # (S,)
    reference: str | None = None


@torch.no_grad()
def look_into(task: Any, model: Any, dataset: SpeechDataset, indices: Sequence[int], beam: int = 4) -> list[Look]:
    """Look into rows of a dataset with a model in eval mode; what --skip-bad-audio leaves out is not among them."""
    sample = _batch(dataset, indices, model)
    if not sample:
        return []
    dictionary, encoder = task.target_dictionary, model.speech_encoder
    generator = HypothesisGenerator(
        SearchSettings(beam=beam),
        LengthRule(0, LONGEST_ANSWER, encoder.frame_rate, encoder.sample_rate / encoder.frame_rate),
        pad=dictionary.pad(),
        end=dictionary.eos(),
        stop=task.stopping(model, decoding_options(task.cfg).stop),
    )
    heard = []
    for index, reference in zip(sample["id"].tolist(), sample["reference"], strict=True):
        row = dataset.row(index)
        spoken = dataset.units is None and not is_features(row.audio)
        waveform = None
        if spoken:
            waveform = read_audio(row.audio, sample_rate=encoder.sample_rate, strict=dataset.strict_audio)
        heard.append(Heard(row.id, waveform, reference))
    return look_at(dictionary, model, sample, heard, generator.generate([model], sample))


@torch.no_grad()
def look_at(
    dictionary: Any,
    model: Any,
    sample: dict[str, Any],
    heard: Sequence[Heard],
    found: Sequence[Sequence[dict[str, Any]]],
) -> list[Look]:
    """Look into a batch whose hypotheses were found already.

    Args:
        dictionary: of the task that the model belongs to.
        model: in eval mode.
        sample: a batch as a dataset collates it.
        heard: each of its utterances.
        found: the hypotheses of each of them, as a generator gives them; the best is looked into.

    Raises:
        SparqleError: the model's text cannot be followed back to the speech; see `check_can_look`.
    """
    encoder = model.speech_encoder
    best = [row[0] for row in found]
    texts = [hypothesis["tokens"].tolist() for hypothesis in best]
    features = model.hear(sample["net_input"]["source"], sample["net_input"]["padding_mask"])
    # What was heard passes the encoder as it is, so that all that follows hears once.
    net_input = {**sample["net_input"], "source": features.values, "padding_mask": features.padding_mask}
    speech = model.encode_speech(features.values, features.padding_mask)
    # What is shown is cut on the host, out of what is read there once for all utterances.
    layers, padding_mask = (part.cpu() for part in query_map(model, net_input))
    frames = token_map(model, net_input, texts, range(len(texts))).frames.cpu()
    heard_frames, heard_padding = speech.values.float().cpu(), speech.padding_mask.cpu()
    rate = reading_rate(model)
    looks = []
    for i, utterance in enumerate(heard):
        real = ~padding_mask[i]
        tokens = texts[i][:-1]
        own = frames[i, : len(tokens)][:, real]  # (L, T)
        looks.append(
            Look(
                name=utterance.name,
                reference=utterance.reference,
                hypothesis=dictionary.text(torch.tensor(texts[i])),
                ended=best[i]["ended"],
                reading_rate=rate,
                waveform=utterance.waveform,
                sample_rate=encoder.sample_rate,
                features=heard_frames[i][~heard_padding[i]].numpy(),
                frame_rate=encoder.frame_rate,
                layers=layers[:, i, :, real].numpy(),
                tokens=[dictionary.text(torch.tensor([token])) for token in tokens],
                token_excess=token_excess(own).numpy(),
                token_seconds=token_centres(own).numpy() / rate,
            )
        )
    return looks


@torch.no_grad()
def compare_batch(model: Any, dataset: SpeechDataset, indices: Sequence[int]) -> Similarities | None:
    """Similarities of the rows of a dataset; None where the model has not learned any (stage 2, or without stc)."""
    if not isinstance(model, PretrainModel) or "stc" not in model.objective:
        return None
    sample = _batch(dataset, indices, model)
    net_input, adapter = sample["net_input"], model.adapter
    speech = model.encode_speech(net_input["source"], net_input["padding_mask"])
    queries = adapter.qformer.query(adapter.qformer.read_speech(speech.values, speech.padding_mask))
    cosines = similarity(
        adapter.speech_features(queries.hidden),
        adapter.text_features(net_input["text"], net_input["text_padding_mask"]),
        torch.ones((), device=queries.hidden.device),
        queries.padding_mask,
    )
    rows = [dataset.row(index) for index in sample["id"].tolist()]
    return Similarities([row.id for row in rows], [row.src_text or "" for row in rows], cosines.cpu().numpy())


def batch_around(dataset: SpeechDataset, index: int, count: int) -> list[int]:
    """`index` and the rows that follow it (from the top again at the end), `count` with different transcripts."""
    chosen: list[int] = []
    texts: set[str] = set()
    for step in range(len(dataset)):
        if len(chosen) == count:
            break
        candidate = (index + step) % len(dataset)
        text = dataset.row(candidate).src_text
        if text and text not in texts:
            texts.add(text)
            chosen.append(candidate)
    return chosen


def _batch(dataset: SpeechDataset, indices: Sequence[int], model: Any) -> dict[str, Any]:
    device = next(model.parameters()).device
    return to_device(dataset.collater([dataset[i] for i in indices]), device)
