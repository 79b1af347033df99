"""Runs the frozen encoder once over manifests and fills a feature store with what it hears."""

from __future__ import annotations

import shutil
import sys
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from sparqle_fairseq.data.audio import SAMPLE_RATE, AudioError
from sparqle_fairseq.data.dataset import load_waveform, pad_sources
from sparqle_fairseq.data.feature_store import PART_SUFFIX, PRECISIONS, SHARD_SUFFIX
from sparqle_fairseq.data.manifest import Manifest, read_manifest, write_manifest
from sparqle_fairseq.data.torchaudio_import import ensure_torchaudio
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.config import DTYPES
from sparqle_fairseq.models.encoders import SpeechEncoder, load_speech_encoder, parse_layer
from sparqle_fairseq.models.encoders.stored_features import StoredEncoder, write_stored_encoder
from sparqle_fairseq.tools.extract.plan import (
    ALL,
    Clip,
    Contents,
    Share,
    batches,
    contents_of,
    cut,
    recordings_of,
    shard_names,
    source_of,
)
from sparqle_fairseq.tools.extract.shard_file import ShardFile, check_room, only_one, size_text

_READERS = 4  # threads that read and resample audio while the encoder runs
_AHEAD = 2  # batches that they read ahead
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.3f}/{total:.3f} h of audio [{elapsed}<{remaining}{postfix}]"


@dataclass(frozen=True)
class Options:
    """How to extract; see `sparqle extract-features --help`."""

    speech_encoder: str
    out: Path
    encoder_layer: str = "last"
    encoder_dtype: str = "fp32"
    audio_root: Path | None = None
    dtype: str = "fp32"
    share: Share = ALL
    shard_bytes: int = 1_000_000_000
    batch_seconds: float = 80.0
    max_seconds: float = 120.0
    skip_bad_audio: bool = False
    strict_audio: bool = True
    cpu: bool = False


@dataclass(frozen=True)
class Summary:
    """What an extraction did."""

    folder: str
    recordings: int  # that this run stored
    audio_seconds: float  # of them
    wall_seconds: float
    feature_bytes: int  # of all that the manifests name and the store holds
    skipped: dict[str, str]  # source -> why, of all that the manifests name
    missing: int  # recordings that other shares of the work have yet to store
    manifests: list[str]  # written, when none is missing

    @property
    def speed(self) -> float:
        """Seconds of audio per second."""
        return self.audio_seconds / self.wall_seconds if self.wall_seconds else 0.0


def extract(paths: Sequence[Path], options: Options) -> Summary:
    """Store the features of every recording of the manifests; write manifests of the features when all are there.

    Raises:
        SparqleError: no such manifest, encoder or layer; features of another encoder in the folder; audio that cannot
            be used; no room on the disk. What was finished is kept, and the same call goes on from there.
    """
    if options.encoder_layer == "weighted":
        raise SparqleError(
            "--encoder-layer weighted needs every layer, and a store holds one; extract a single layer, or train from "
            "audio"
        )
    manifests = [read_manifest(path, audio_root=options.audio_root) for path in paths]
    names = [path.with_suffix(".tsv").name for path in paths]
    if len(set(names)) < len(names):
        raise SparqleError(f"two of the manifests are called {_repeated(names)}; rename one, or extract it elsewhere")
    recordings = recordings_of(manifests)
    _check_lengths(recordings, manifests, options.max_seconds)
    ensure_torchaudio()  # what reads audio needs it, and does so in threads
    device = "cuda" if torch.cuda.is_available() and not options.cpu else "cpu"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # fairseq's layers use what torch has newer names for
        encoder = load_speech_encoder(
            options.speech_encoder, layer=parse_layer(options.encoder_layer), dtype=DTYPES[options.encoder_dtype]
        ).to(device)
    options.out.mkdir(parents=True, exist_ok=True)
    with only_one(options.out, options.share.name):
        write_stored_encoder(options.out, StoredEncoder.of(encoder, options.dtype))
        run = _Run(manifests, recordings, encoder, options)
        run.announce()
        started = time.perf_counter()
        run.store()
        seconds = time.perf_counter() - started
        return run.summary(names, seconds)


class _Run:
    """One extraction: the recordings, the encoder, and what is in the store."""

    def __init__(
        self, manifests: Sequence[Manifest], recordings: Sequence[Clip], encoder: SpeechEncoder, options: Options
    ) -> None:
        self.manifests = manifests
        self.recordings = recordings
        self.encoder = encoder
        self.options = options
        self.frame_bytes = encoder.width * PRECISIONS[options.dtype].itemsize
        self.done = contents_of(options.out)
        self.missing = [recording for recording in recordings if not self._known(self.done, recording)]
        self.todo = [recording for recording in self.missing if options.share.holds(recording)]
        self.stored: list[Clip] = []

    def _known(self, contents: Contents, recording: Clip) -> bool:
        """Whether a recording needs no work. What was left out before is tried again unless it may be left out."""
        skipped = contents.skipped if self.options.skip_bad_audio else ()
        return recording.source in contents.entries or recording.source in skipped

    def size(self, recording: Clip) -> int:
        """Bytes of a recording's features, as its n_frames lets expect."""
        samples = recording.n_frames * self.encoder.sample_rate / SAMPLE_RATE
        hop = self.encoder.sample_rate / self.encoder.frame_rate
        return max(1, int((samples - self.encoder.min_samples) // hop) + 1) * self.frame_bytes

    def announce(self) -> None:
        """Say what will be written, and stop where it does not fit."""
        hourly = round(3600 * self.encoder.frame_rate) * self.frame_bytes
        hours = sum(recording.seconds for recording in self.todo) / 3600
        share = self.options.share
        free = shutil.disk_usage(self.options.out).free
        _say(
            f"to store: {len(self.todo)} of {len(self.recordings)} recordings"
            f"{f' (share {share.part}/{share.parts})' if share.parts > 1 else ''}, {hours:.3f} hours of audio, "
            f"{size_text(sum(map(self.size, self.todo)))} as {self.options.dtype} ({size_text(hourly)} an hour); "
            f"{size_text(free)} are free"
        )
        if self.todo:
            # Other shares of the work fill the same disk; what they have written so far is no longer free.
            started = (path.stat().st_size for path in self.options.out.glob(f"*{SHARD_SUFFIX}{PART_SUFFIX}"))
            check_room(self.options.out, max(0, sum(map(self.size, self.missing)) - sum(started)))

    def store(self) -> None:
        """Write shard after shard until nothing of this share is missing."""
        hours = sum(recording.seconds for recording in self.todo) / 3600
        names = shard_names(self.options.share, self.done.shards)
        with tqdm(total=hours, desc="features", bar_format=_BAR, disable=not self.todo) as progress:
            for run in cut(self.todo, self.size, self.options.shard_bytes):
                check_room(self.options.out, sum(map(self.size, run)))
                path = self.options.out / next(names)
                with ShardFile(path, self.options.dtype, self.encoder.width) as shard:
                    for batch, waveforms in self._read(batches(run, self.options.batch_seconds)):
                        self._append(shard, batch, waveforms)
                        self.stored += batch
                        progress.set_postfix_str(f"{self._speed(progress):.1f} s of audio per second", refresh=False)
                        heard = sum(recording.seconds for recording in batch) / 3600
                        progress.update(min(heard, hours - progress.n))  # sums in another order round otherwise
                    shard.finish()

    def summary(self, names: Sequence[str], wall_seconds: float) -> Summary:
        """Write the manifests where nothing is missing, and say what was done."""
        contents = contents_of(self.options.out)
        missing = sum(not self._known(contents, recording) for recording in self.recordings)
        written = []
        if not missing:
            for name, manifest in zip(names, self.manifests, strict=True):
                _write_manifest(self.options.out / name, manifest, contents)
                written.append(str(self.options.out / name))
        here = [recording.source for recording in self.recordings]
        return Summary(
            folder=str(self.options.out),
            recordings=len(self.stored),
            audio_seconds=sum(recording.seconds for recording in self.stored),
            wall_seconds=wall_seconds,
            feature_bytes=self.frame_bytes * sum(contents.entries[s].frames for s in here if s in contents.entries),
            skipped={source: contents.skipped[source] for source in here if source in contents.skipped},
            missing=missing,
            manifests=written,
        )

    def _speed(self, progress: tqdm) -> float:
        elapsed = progress.format_dict["elapsed"]
        return sum(recording.seconds for recording in self.stored) / elapsed if elapsed else 0.0

    def _append(self, shard: ShardFile, batch: Sequence[Clip], waveforms: Sequence[Tensor | AudioError]) -> None:
        good: list[tuple[Clip, Tensor]] = []
        for recording, waveform in zip(batch, waveforms, strict=True):
            if isinstance(waveform, AudioError):
                if not self.options.skip_bad_audio:
                    raise waveform
                _say(f"left out (--skip-bad-audio): {waveform}")
                shard.skip(recording.source, str(waveform))
            else:
                good.append((recording, waveform))
        if not good:
            return
        source, padding_mask = pad_sources([waveform for _, waveform in good])
        device = self.encoder.frozen.device
        try:
            features = self.encoder(source.to(device), padding_mask.to(device))
        except torch.OutOfMemoryError as error:
            where = self.manifests[batch[0].manifest].where(batch[0].row)
            raise SparqleError(
                f"{where}: the memory of the GPU is too small for a batch of {len(good)} recordings of up to "
                f"{batch[0].seconds:.0f} seconds; give a smaller --batch-seconds"
            ) from error
        every, padded = features.values.float().cpu(), features.padding_mask.cpu()  # read once, and cut here
        for (recording, _), values, padding in zip(good, every, padded, strict=True):
            shard.append(recording.source, self._checked(recording, values[~padding]))

    def _checked(self, recording: Clip, values: Tensor) -> np.ndarray:
        """fp32 values (frames, width) in the store's precision. Raises `SparqleError` where it cannot hold them."""
        wide = values.numpy()
        with np.errstate(over="ignore"):
            array = wide.astype(PRECISIONS[self.options.dtype])
        if not np.isfinite(array).all():
            where = self.manifests[recording.manifest].where(recording.row)
            remedy = "give --dtype fp32" if np.isfinite(wide).all() else "look at the recording and the encoder"
            raise SparqleError(f"{where}: {self.options.dtype} cannot hold the features of this recording; {remedy}")
        return array

    def _read(self, runs: Iterable[list[Clip]]) -> Iterator[tuple[list[Clip], list[Tensor | AudioError]]]:
        """Each batch with its waveforms (S,), in order, read ahead by threads."""
        waiting: deque[tuple[list[Clip], list[Future[Tensor | AudioError]]]] = deque()
        with ThreadPoolExecutor(_READERS) as pool:
            try:
                for run in runs:
                    waiting.append((run, [pool.submit(self._waveform, recording) for recording in run]))
                    if len(waiting) > _AHEAD:
                        batch, jobs = waiting.popleft()
                        yield batch, [job.result() for job in jobs]
                while waiting:
                    batch, jobs = waiting.popleft()
                    yield batch, [job.result() for job in jobs]
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _waveform(self, recording: Clip) -> Tensor | AudioError:
        manifest = self.manifests[recording.manifest]
        where = manifest.where(recording.row)
        try:
            waveform = load_waveform(
                manifest.row(recording.row),
                where,
                self.encoder.sample_rate,
                self.encoder.normalize,
                strict=self.options.strict_audio,
            )
            if len(waveform) < self.encoder.min_samples:
                raise AudioError(
                    f"{where}: found {len(waveform)} samples, and the speech encoder needs at least "
                    f"{self.encoder.min_samples}; remove the row"
                )
        except AudioError as error:
            return error
        return waveform


def _say(text: str) -> None:
    tqdm.write(text, file=sys.stderr)


def _check_lengths(recordings: Sequence[Clip], manifests: Sequence[Manifest], limit: float) -> None:
    longest = recordings[0]  # the longest comes first
    if longest.seconds > limit:
        count = sum(recording.seconds > limit for recording in recordings)
        raise SparqleError(
            f"{manifests[longest.manifest].where(longest.row)}: found {longest.seconds:.0f} seconds of audio, the "
            f"longest of {count} above {limit:.0f} seconds, which take memory by the square of their length; cut them "
            f"into segments, or raise --max-seconds"
        )


def _write_manifest(path: Path, manifest: Manifest, contents: Contents) -> None:
    """The manifest with entries of the store in place of recordings; rows of skipped recordings are left out."""

    def rows() -> Iterator[dict[str, object]]:
        for i in range(len(manifest)):
            entry = contents.entries.get(source_of(manifest.audio(i)))
            if entry is not None:
                cells: dict[str, object] = {column: manifest.text(column, i) for column in columns}
                yield {**cells, "audio": entry, "n_frames": entry.frames}

    columns = manifest.columns
    write_manifest(path, rows(), columns)


def _repeated(names: Sequence[str]) -> str:
    return next(name for k, name in enumerate(names) if name in names[:k])
