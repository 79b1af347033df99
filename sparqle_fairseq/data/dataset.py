"""Dataset of utterances: source (waveform or features) and what a stage wants of the text."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from sparqle_fairseq.data.audio import (
    FEATURE_SLACK,
    SAMPLE_RATE,
    AudioError,
    check_length,
    is_features,
    normalize_waveform,
    read_audio,
    read_features,
)
from sparqle_fairseq.data.augment import SpeedPerturbation, change_speed
from sparqle_fairseq.data.manifest import Manifest, ManifestRow
from sparqle_fairseq.data.order import stable_order
from sparqle_fairseq.data.sampling import Sampler
from sparqle_fairseq.data.signals import guard_loader
from sparqle_fairseq.data.units import UnitFile
from sparqle_fairseq.errors import SparqleError

logger = logging.getLogger(__name__)

# Lengths are shuffled by up to this share, so that batches differ between epochs and hold little padding still.
LENGTH_JITTER = 0.05


# Looks at what `TextSide.item` made, the source (waveform, features or units) and what names them in errors.
RoomCheck = Callable[[dict[str, Any], Tensor, str], None]


class TextSide(Protocol):
    """What a stage makes of the text of a row."""

    prefix: str

    def scored(self, row: ManifestRow) -> dict[str, str | None]:
        """What scores of generated text know of a row: `reference`, its `language`, in stage 2 its `task`."""
        ...

    def item(self, row: ManifestRow, where: str, epoch: int) -> dict[str, Any]:
        """Ids and keys of one row; `where` names it in errors."""
        ...

    def collate(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """`{"net_input": …, "target": (B, L), "ntokens": n, …}` of a batch."""
        ...


class SpeechDataset(Dataset[dict[str, Any]]):
    """Rows of one or more manifests, in their order, and batches of them.

    What `collater` makes of B utterances. S samples or T frames, W width, L tokens, P prompt ids; every mask is bool
    and True at padding (`.`). In square brackets what only some objectives ask for.

        id (B,)  nsentences  ntokens  prefix: B lists of ids  reference, language, in stage 2 task: B texts or None
        source_lengths, text_lengths, [llm_text_lengths]: B numbers, so that nobody asks the device for them
        learned_lengths: B numbers of tokens, in stage 2
        target (B, L), None where no row has a text
        net_input:
            both stages
                source        (B, S)  | s s s s s s . . |   waveform; (B, T, W) features; (B, T) units
                padding_mask  (B, S)  | 0 0 0 0 0 0 1 1 |
                utterance     (B,)      key of the row's id, for all random draws
            stage 1 (`TranscriptSide`)
                text          (B, L)  | CLS a b c SEP . . |   the target is what follows CLS
                text_padding_mask (B, L)
                identity      (B,)      key of the transcript, equal where transcripts are
                [llm_text     (B, L)    the transcript in the LLM's tokens, `NO_TOKEN` at padding]
                [foreign_text, foreign_padding_mask (N, L), foreign_rows (N,)   translations of N of the transcripts]
            stage 2 (`InstructionSide`; no answer where there is no target)
                prompt        (B, P)  | . . i i <speech> i i |   padded at its left, `SPEECH_PLACE` once
                prompt_padding_mask (B, P)
                answer        (B, L)  | a b c END . . |   the target
                answer_padding_mask (B, L)
        [reading, reading_padding_mask (B, R)   of stage 2: the prompt with the transcript before the speech's place]

    Args:
        manifests: read manifests; several are concatenated.
        text: the stage's side of the text.
        normalize: whether the encoder wants layer-normalised waveforms.
        sample_rate: what the encoder hears, in Hz.
        shuffle: whether batches are composed anew in each epoch (training).
        skip_bad_audio: leave an utterance with bad audio out, and say so, in place of stopping.
        strict_audio: a recording of which a part is lost is bad audio; else what is left is read, and the loss logged.
        feature_width: width that feature entries must have; None refuses features.
        units: discrete units of each manifest, read in place of its audio.
        speeds: speed perturbation (training); sizes are then those of the slowest speed, so that batches fit.
        check: called with every utterance, to raise where text and speech do not fit together.
        min_samples: fewest samples that the encoder makes a frame of.
        sampler: draws the rows of each epoch (training); by default each row comes once.
        shards: how many folders take turns, of which these manifests are one.
    """

    def __init__(
        self,
        manifests: Sequence[Manifest],
        text: TextSide,
        *,
        normalize: bool,
        sample_rate: int = 16000,
        shuffle: bool = False,
        skip_bad_audio: bool = False,
        strict_audio: bool = True,
        feature_width: int | None = None,
        units: Sequence[UnitFile] | None = None,
        speeds: SpeedPerturbation | None = None,
        check: RoomCheck | None = None,
        min_samples: int = 0,
        sampler: Sampler | None = None,
        shards: int = 1,
    ) -> None:
        super().__init__()
        self.manifests = list(manifests)
        self.starts = np.cumsum([0, *(len(manifest) for manifest in self.manifests)])
        self.sizes = np.concatenate([manifest.n_frames for manifest in self.manifests])
        self.units = units
        self.speeds = speeds
        self.check = check
        self.min_samples = min_samples
        self.sampler = sampler
        self.shards = shards
        if units is not None:
            self.sizes = np.concatenate([file.lengths for file in units])
        if speeds is not None:
            if units is not None:
                raise SparqleError(
                    "--speed-perturb changes audio, and --source units reads none; leave one of them out"
                )
            self.sizes = np.ceil(self.sizes / speeds.slowest).astype(np.int64)
        self.text = text
        self.normalize = normalize
        self.sample_rate = sample_rate
        self.shuffle = shuffle
        self.skip_bad_audio = skip_bad_audio
        self.strict_audio = strict_audio
        self.feature_width = feature_width
        self.epoch = 1
        self._first_trouble = ""

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if get_worker_info() is not None:
            guard_loader()
        manifest, i = self._place(index)
        row = manifest.row(i)
        item = {"id": index, **self.text.item(row, manifest.where(i), self.epoch)}
        try:
            source = self._source(row, manifest.where(i)) if self.units is None else self._unit_ids(index)
        except AudioError as error:
            if not self.skip_bad_audio:
                raise
            logger.warning("skipped 1 utterance (--skip-bad-audio): %s", error)
            self._first_trouble = self._first_trouble or str(error)
            return {**item, "source": None}
        if self.check is not None:
            self.check(item, source, manifest.where(i))
        return {**item, "source": source}

    def where(self, index: int) -> str:
        """`file:line (utterance)` of a row, for messages."""
        manifest, i = self._place(index)
        return manifest.where(i)

    def nothing_left(self) -> str:
        """What to say where all utterances were looked at and none could be read; for --skip-bad-audio."""
        names = ", ".join(str(manifest.path) for manifest in self.manifests)
        return (
            f"{names}: none of the {len(self)} utterances can be read, so --skip-bad-audio leaves nothing; the first: "
            f"{self._first_trouble}"
        )

    def row(self, index: int) -> ManifestRow:
        manifest, i = self._place(index)
        return manifest.row(i)

    def collater(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """A batch: `id`, `nsentences`, and what the stage makes of it; empty when every utterance was skipped."""
        kept = [sample for sample in samples if sample["source"] is not None]
        if not kept:
            return {}
        batch = self.text.collate(kept)
        source, padding_mask = pad_sources([sample["source"] for sample in kept])
        batch["net_input"] |= {"source": source, "padding_mask": padding_mask}
        return {
            **batch,
            "id": torch.tensor([sample["id"] for sample in kept]),
            "nsentences": len(kept),
            "source_lengths": [len(sample["source"]) for sample in kept],
        }

    def num_tokens(self, index: int) -> int:
        return int(self.sizes[index])

    def num_tokens_vec(self, indices: np.ndarray) -> np.ndarray:
        return self.sizes[indices]

    def size(self, index: int) -> int:
        return int(self.sizes[index])

    def ordered_indices(self) -> np.ndarray:
        """Shortest first; with `shuffle`, by lengths that fairseq's seeded numpy jitters anew in each epoch.

        With a sampler, the rows of this epoch: some not at all, some more than once.
        """
        rows = None if self.sampler is None else self.sampler.epoch((self.epoch - 1) // self.shards)
        sizes = self.sizes if rows is None else self.sizes[rows]
        if self.shuffle:
            sizes = sizes * np.random.uniform(1 - LENGTH_JITTER, 1 + LENGTH_JITTER, len(sizes))
        order = stable_order(sizes)
        return order if rows is None else rows[order]

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def _place(self, index: int) -> tuple[Manifest, int]:
        part = int(np.searchsorted(self.starts, index, side="right")) - 1
        return self.manifests[part], int(index - self.starts[part])

    def _source(self, row: ManifestRow, where: str) -> Tensor:
        if is_features(row.audio):
            if self.speeds is not None:
                raise SparqleError(
                    f"{where}: --speed-perturb changes audio, and {row.audio} holds features; leave the option out or "
                    "give a manifest of audio"
                )
            features = read_features(row.audio)
            if self.feature_width is not None and features.shape[1] != self.feature_width:
                raise AudioError(
                    f"{where}: {row.audio} has features of width {features.shape[1]}, the encoder gives "
                    f"{self.feature_width}; extract them again with this encoder"
                )
            check_length(len(features), row.n_frames, where, slack=FEATURE_SLACK)
            return torch.from_numpy(np.ascontiguousarray(features))  # (T, W)
        speed = 1.0 if self.speeds is None else self.speeds.draw(row.id, self.epoch)
        return load_waveform(row, where, self.sample_rate, self.normalize, speed, self.min_samples, self.strict_audio)

    def _unit_ids(self, index: int) -> Tensor:
        assert self.units is not None
        part = int(np.searchsorted(self.starts, index, side="right")) - 1
        return torch.from_numpy(self.units[part][int(index - self.starts[part])])  # (T,)


def load_waveform(
    row: ManifestRow,
    where: str,
    sample_rate: int,
    normalize: bool,
    speed: float = 1.0,
    min_samples: int = 0,
    strict: bool = True,
) -> Tensor:
    """The waveform (S,) of a row, as its encoder wants it, `speed` times as fast; `strict` as of `read_audio`.

    Raises `AudioError`.
    """
    waveform = read_audio(row.audio, sample_rate=sample_rate, strict=strict)
    check_length(round(len(waveform) * SAMPLE_RATE / sample_rate), row.n_frames, where)
    if speed != 1:
        waveform = change_speed(waveform, speed)
    if len(waveform) < min_samples:
        raise AudioError(
            f"{where}: {row.audio} has {len(waveform)} samples at {sample_rate} Hz, and the speech encoder needs "
            f"{min_samples}; leave the row out of the manifest"
        )
    return torch.from_numpy(normalize_waveform(waveform) if normalize else waveform)


def pad_sources(sources: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Waveforms (S,) or features (T, W) -> zero-padded batch and its padding mask (B, S or T), True at padding."""
    if len({source.dim() for source in sources}) > 1:
        raise AudioError("a batch mixes waveforms and features; keep them in manifests of their own")
    padded = torch.nn.utils.rnn.pad_sequence(list(sources), batch_first=True)
    lengths = torch.tensor([len(source) for source in sources])
    return padded, torch.arange(padded.size(1))[None, :] >= lengths[:, None]


def to_device(batch: Any, device: torch.device) -> Any:
    """The same batch, or part of one, with its tensors on a device."""
    if isinstance(batch, Tensor):
        return batch.to(device)
    return {name: to_device(value, device) for name, value in batch.items()} if isinstance(batch, dict) else batch


def pad_ids(ids: Sequence[Sequence[int]], pad: int, left: bool = False) -> tuple[Tensor, Tensor]:
    """Id lists -> (B, L) tensor padded to the longest, and its padding mask."""
    longest = max(len(row) for row in ids)
    tokens = torch.full((len(ids), longest), pad, dtype=torch.long)
    padding_mask = torch.ones(len(ids), longest, dtype=torch.bool)
    for i, row in enumerate(ids):
        place = slice(longest - len(row), longest) if left else slice(0, len(row))
        tokens[i, place] = torch.tensor(row, dtype=torch.long)
        padding_mask[i, place] = False
    return tokens, padding_mask
