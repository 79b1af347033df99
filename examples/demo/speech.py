"""Speaks the demo's sentences with an offline synthesiser and writes the manifests of both training stages.

`python examples/demo/speech.py --out build/demo` reads `corpus/*.tsv` and writes 16 kHz mono `wav/*.wav` and
`manifests/*.tsv`. The synthesiser is hibari-tts with the one voice that is in its package (others would have to be
downloaded); the utterances differ in speed, loudness and the synthesiser's own noise.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy: one thread for each worker process

import numpy as np
import soundfile
from corpus import LANGUAGES, SEEN, read_rows
from lexicon import Phrase
from scipy.signal import resample_poly
from tqdm import tqdm

if TYPE_CHECKING:
    from hibari import Hibari

SAMPLE_RATE = 16000
SPEEDS = (1.0, 1.4)  # slowest and fastest
LOUDNESS = (0.6, 1.6)  # factor
SILENCE = 0.01  # amplitude below which the ends are cut, down to MARGIN
MARGIN = 800  # samples: 50 ms
COLUMNS = ("id", "audio", "n_frames", "src_text", "tgt_text", "src_lang", "tgt_lang", "task")


@dataclass(frozen=True)
class Utterance:
    """One spoken sentence; `n_frames` is its length in 16 kHz samples."""

    name: str
    text: Phrase
    n_frames: int
    audio: str  # relative to the manifests' folder


_voice: Hibari | None = None


def _load_voice() -> None:
    global _voice
    from hibari import Hibari

    _voice = Hibari(threads=1)


def _speak(job: tuple[str, str, Path, int]) -> int:
    """Write one utterance; returns its length in samples."""
    name, text, folder, seed = job
    assert _voice is not None
    wave = utter(_voice, name, text, seed).wave
    soundfile.write(folder / f"{name}.wav", np.clip(wave, -1, 1), SAMPLE_RATE, subtype="PCM_16")
    return len(wave)


@dataclass(frozen=True)
class Uttered:
    wave: np.ndarray  # (S,) at SAMPLE_RATE
    cut: int  # samples of silence that were taken off before it
    speed: float


def utter(voice: Hibari, name: str, text: str, seed: int) -> Uttered:
    """One utterance, with the pace, loudness and noise that its name and the seed decide."""
    rng = random.Random(f"{name} {seed}")
    speed = rng.uniform(*SPEEDS)
    wave = voice(text, speed=speed, seed=rng.getrandbits(32))
    wave = resample_poly(wave, SAMPLE_RATE, voice.sample_rate)
    loud = np.flatnonzero(np.abs(wave) > SILENCE)
    cut = max(0, loud[0] - MARGIN)
    return Uttered(wave[cut : loud[-1] + MARGIN] * rng.uniform(*LOUDNESS), int(cut), speed)


def speak(sentences: dict[str, Phrase], folder: Path, seed: int, workers: int) -> dict[str, Utterance]:
    """Synthesise sentences by name into WAV files, in parallel processes."""
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(name, text.en, folder, seed) for name, text in sentences.items()]
    with multiprocessing.get_context("spawn").Pool(workers, _load_voice) as pool:
        lengths = list(tqdm(pool.imap(_speak, jobs, chunksize=16), total=len(jobs), desc="speech"))
    return {
        name: Utterance(name, text, n_frames, f"../{folder.name}/{name}.wav")
        for (name, text), n_frames in zip(sentences.items(), lengths, strict=True)
    }


def derange(items: Sequence[Utterance], rng: random.Random) -> list[Utterance]:
    """The items with the audio of another one each: one random cycle through all of them."""
    order = list(range(len(items)))
    rng.shuffle(order)
    donor = dict(zip(order, [*order[1:], order[0]], strict=True))
    return [
        replace(item, n_frames=items[donor[i]].n_frames, audio=items[donor[i]].audio) for i, item in enumerate(items)
    ]


def write_manifest(path: Path, utterances: Iterable[Utterance], languages: Sequence[str]) -> None:
    """A manifest with one row for each utterance and target language; English as target means transcription."""
    lines = ["\t".join(COLUMNS)]
    for item in utterances:
        for lang in languages:
            task = "transcription" if lang == "en" else "translation"
            fields = (
                f"{item.name}-{lang}",
                item.audio,
                str(item.n_frames),
                item.text.en,
                getattr(item.text, lang),
                "en",
                lang,
                task,
            )
            lines.append("\t".join(fields))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="folder of the demo's files")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    splits = {name: read_rows(args.out / "corpus" / f"{name}.tsv") for name in ("train", "valid", "test")}
    named: dict[str, dict[str, Phrase]] = {}
    count = 0
    for split, rows in splits.items():
        named[split] = {f"s{count + i:05d}": row for i, row in enumerate(rows)}
        count += len(rows)
    spoken = speak(
        {name: row for part in named.values() for name, row in part.items()},
        args.out / "wav",
        args.seed,
        args.workers,
    )
    train, valid, test = ([spoken[name] for name in named[split]] for split in ("train", "valid", "test"))
    shuffled = derange(test, random.Random(f"shuffled {args.seed}"))

    manifests: dict[str, tuple[list[Utterance], tuple[str, ...]]] = {
        "train_stage1": (train, ("en",)),
        "valid_stage1": (valid, ("en",)),
        "train_stage2": (train, ("en", *SEEN)),
        "valid_stage2": (valid, ("en", *SEEN)),
    }
    for name, lang in {"asr": "en", **dict(zip(LANGUAGES, LANGUAGES, strict=True))}.items():
        manifests[f"valid_{name}"] = (valid, (lang,))
        manifests[f"test_{name}"] = (test, (lang,))
        manifests[f"test_{name}_shuffled"] = (shuffled, (lang,))
    for name, (utterances, languages) in manifests.items():
        write_manifest(args.out / "manifests" / f"{name}.tsv", utterances, languages)
    hours = sum(item.n_frames for item in spoken.values()) / SAMPLE_RATE / 3600
    print(f"{len(spoken)} utterances, {hours:.2f} hours, {hours * 3600 / len(spoken):.2f} seconds on average")


if __name__ == "__main__":
    main()
