"""Validates manifests: reads them, checks their rows in several processes, then across rows and splits."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from sparqle_fairseq.data.feature_store import close_shards
from sparqle_fairseq.data.manifest import Manifest, ManifestError, RowFault, read_manifest
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.tools.validate.findings import Finding
from sparqle_fairseq.tools.validate.recordings import look_at
from sparqle_fairseq.tools.validate.rows import IDENTITY, Checked, check_rows
from sparqle_fairseq.tools.validate.settings import Settings
from sparqle_fairseq.tools.validate.splits import Shared, equal_keys, odd_widths, overlaps, ranks
from sparqle_fairseq.tools.validate.store import FindingStore

# Rows that a worker takes at a time, with and without their audio; small enough to stop soon after Ctrl-C.
AUDIO_PIECE, TEXT_PIECE = 32, 2000
_AHEAD = 4  # pieces that wait for each worker


@dataclass
class Source:
    """One manifest that is validated."""

    path: str
    split: int
    manifest: Manifest | None = None  # None: cannot be read
    lines_lost: int = 0  # lines that are no rows
    seconds: float = 0.0

    @property
    def rows(self) -> int:
        return 0 if self.manifest is None else len(self.manifest)


@dataclass
class _Gathered:
    """What the checks across rows need of a manifest."""

    widths: list[np.ndarray] = field(default_factory=list)
    identity: list[np.ndarray] = field(default_factory=list)


def splits_of(names: Sequence[str]) -> list[Source]:
    """One split a name; `a.tsv,b.tsv` is one split in two manifests, as in fairseq's --train-subset."""
    sources = []
    for split, name in enumerate(names):
        parts = [name] if Path(name).exists() else name.split(",")
        sources += [Source(part, split) for part in parts if part]
    paths = [Path(source.path).resolve() for source in sources]
    for path in paths:
        if paths.count(path) > 1:
            raise SparqleError(f"{path}: this manifest was named twice; name it once")
    return sources


def validate(
    sources: Sequence[Source],
    settings: Settings,
    store: FindingStore,
    *,
    workers: int = 1,
    progress: bool = True,
    audio_root: Path | None = None,
    src_lang: str | None = None,
    tgt_lang: str | None = None,
    row_task: str | None = None,
) -> None:
    """Put every finding about `sources` into `store`, and fill in their manifests and seconds."""
    look_at.cache_clear()  # files may have changed since another run in this process
    close_shards()
    for k, source in enumerate(sources):
        defaults = {"src_lang": src_lang, "tgt_lang": tgt_lang, "row_task": row_task}
        _read(source, k, store, audio_root, defaults)
    settings = replace(settings, splits=len({source.split for source in sources}) > 1)
    manifests = [source.manifest for source in sources]
    gathered = [_Gathered() for _ in sources]
    pieces = list(_pieces(manifests, AUDIO_PIECE if settings.audio else TEXT_PIECE))
    checked = _check_all(manifests, pieces, settings, workers)
    total = sum(source.rows for source in sources)
    with closing(checked), tqdm(total=total, unit="row", disable=not progress) as bar:
        for k, part in checked:
            store.add(k, part.findings)
            sources[k].seconds += part.seconds
            gathered[k].widths.append(part.widths)
            gathered[k].identity.append(part.identity)
            bar.update(part.stop - part.start)
    for k, (source, parts) in enumerate(zip(sources, gathered, strict=True)):
        if source.manifest is not None:
            store.add(k, _width_findings(source.manifest, np.concatenate(parts.widths)))
    if settings.splits:
        for k, finding in _split_findings(sources, gathered):
            store.add(k, [finding])
    store.finish()


def _read(source: Source, k: int, store: FindingStore, audio_root: Path | None, defaults: dict[str, Any]) -> None:
    faults: list[Finding] = []

    def collect(fault: RowFault) -> None:
        if fault.code == "n-frames-invalid":  # the check of the row tells it, with the length that was found
            return
        source.lines_lost += fault.code in ("not-utf8", "fields")
        if fault.path == source.path:
            faults.append(Finding(fault.line, fault.code, fault.id, fault.message))
        else:  # a label file: line k belongs to row k, below the root folder
            message = f"{fault.path}:{fault.line}: {fault.message}"
            faults.append(Finding(fault.line + 1, fault.code, fault.id, message))

    try:
        source.manifest = read_manifest(source.path, audio_root=audio_root, on_fault=collect, **defaults)
    except ManifestError as error:
        faults.append(Finding(0, "manifest", None, str(error)))
    store.add(k, faults)


def _pieces(manifests: Sequence[Manifest | None], size: int) -> Iterator[tuple[int, int, int]]:
    for k, manifest in enumerate(manifests):
        rows = 0 if manifest is None else len(manifest)
        for start in range(0, rows, size):
            yield k, start, min(start + size, rows)


# ---- processes

_shared: tuple[Sequence[Manifest | None], Settings] | None = None


def _begin(manifests: Sequence[Manifest | None], settings: Settings) -> None:
    """In a worker: keep what all pieces need, and leave Ctrl-C to the main process."""
    global _shared
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _shared = manifests, settings


def _check_piece(piece: tuple[int, int, int]) -> Checked:
    assert _shared is not None
    manifests, settings = _shared
    k, start, stop = piece
    manifest = manifests[k]
    assert manifest is not None
    return check_rows(manifest, start, stop, settings)


def _check_all(
    manifests: Sequence[Manifest | None], pieces: Sequence[tuple[int, int, int]], settings: Settings, workers: int
) -> Generator[tuple[int, Checked], None, None]:
    """Checked pieces in their order; at most a few for each worker are under way or waiting."""
    workers = min(workers, len(pieces))
    if workers <= 1:
        for k, start, stop in pieces:
            manifest = manifests[k]
            assert manifest is not None
            yield k, check_rows(manifest, start, stop, settings)
        return
    # Forked processes share the manifests; others get a copy.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    executor = ProcessPoolExecutor(workers, context, _begin, (manifests, settings))
    try:
        waiting: deque[tuple[tuple[int, int, int], Future[Checked]]] = deque()
        for piece in pieces:
            with _interrupt_later():
                waiting.append((piece, executor.submit(_check_piece, piece)))
            if len(waiting) >= _AHEAD * workers:
                yield _result(manifests, *waiting.popleft())
        while waiting:
            yield _result(manifests, *waiting.popleft())
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _interrupt_later() -> Iterator[None]:
    """Hold Ctrl-C back while processes start: halfway through, it would leave workers that nobody ends.

    A blocked signal would not do, any other thread (the progress bar has one) would take it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: caught.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if caught:
        raise KeyboardInterrupt


def _result(
    manifests: Sequence[Manifest | None], piece: tuple[int, int, int], future: Future[Checked]
) -> tuple[int, Checked]:
    k, start, stop = piece
    try:
        return k, future.result()
    except BrokenProcessPool as error:
        manifest = manifests[k]
        assert manifest is not None
        raise SparqleError(
            f"{manifest.path}: a worker process died at or near lines {manifest.line_number(start)} to "
            f"{manifest.line_number(stop - 1)}; try --workers 1, and look whether memory was short"
        ) from error


# ---- across rows


def _width_findings(manifest: Manifest, widths: np.ndarray) -> Iterator[Finding]:
    width, other, mixed = odd_widths(widths)
    for i in other:
        message = f"found features of width {widths[i]} where others have {width}; extract them again with one encoder"
        yield Finding(manifest.line_number(i), "features-width", manifest.id(i), message)
    kinds = ("a waveform", "features") if width else ("features", "a waveform")
    for i in mixed:
        message = f"found {kinds[0]} where the first row has {kinds[1]}; keep them in manifests of their own"
        yield Finding(manifest.line_number(i), "features-mixed", manifest.id(i), message)


def _split_findings(sources: Sequence[Source], gathered: Sequence[_Gathered]) -> Iterator[tuple[int, Finding]]:
    sizes = [0] * (1 + max(source.split for source in sources))
    for source in sources:
        sizes[source.split] += source.rows
    starts = np.cumsum([0, *(source.rows for source in sources)])
    identity = np.concatenate([np.zeros(0, IDENTITY), *(part for parts in gathered for part in parts.identity)])
    rank = np.repeat(ranks(sizes)[[source.split for source in sources]], [source.rows for source in sources])
    told: set[int] = set()

    def findings(code: str, what: str, found: Iterable[Shared]) -> Iterator[tuple[int, Finding]]:
        for row, owner in found:
            if code == "audio-in-two-splits":
                if row in told:
                    continue
                told.add(row)
            k, j = (int(np.searchsorted(starts, at, side="right")) - 1 for at in (row, owner))
            mine, its = sources[k].manifest, sources[j].manifest
            assert mine is not None
            assert its is not None
            i = int(row - starts[k])
            message = f"{what} {its.where(int(owner - starts[j]))}; keep it in one split"
            yield k, Finding(mine.line_number(i), code, mine.id(i), message)

    code = "audio-in-two-splits"
    yield from findings(
        code, "the speech is that of", overlaps(identity["file"], identity["start"], identity["end"], rank)
    )
    yield from findings(code, "every sample is equal to those of", equal_keys(identity["sound"], rank))
    yield from findings("text-in-two-splits", "the text is that of", equal_keys(identity["text"], rank))
