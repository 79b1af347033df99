"""How much time does a stage-1 step save when its features come from a store, and what does the store cost?

For encoders of the size of HuBERT base and large (random weights: time does not depend on them) and utterances as long
as LibriSpeech's it measures, one after the other and in turns,

* a training step of a base-size Q-Former (reading, forward, backward, Adam) from audio and from the store, as a ratio;
* reading an entry of the store, against `np.load` of one .npy file a recording;
* how fast the store is filled, in seconds of audio a second, and the bytes of an hour;
* the memory in which two processes hold one shard.

    python benchmarks/feature_store.py --out build/feature_store
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import random
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import soundfile
import torch

import sparqle_fairseq

RATE = 16000
SIZES = {"base": {}, "large": {"final_dim": 768}}  # of the pre-training head, which a checkpoint has too
VOCABULARY = 30522  # BERT's


def save_hubert(path: Path, size: str) -> None:
    """A HuBERT with random weights, as fairseq saves one."""
    from fairseq.data import Dictionary
    from fairseq.models.hubert.hubert import HubertConfig, HubertModel
    from fairseq.tasks.hubert_pretraining import HubertPretrainingConfig

    from sparqle_fairseq.tools.plan.parts import ENCODERS

    config = HubertConfig(label_rate=50, **ENCODERS[size], **SIZES[size])
    labels = Dictionary()
    for label in range(500):
        labels.add_symbol(str(label))
    torch.manual_seed(0)
    model = HubertModel(config, HubertPretrainingConfig(), [labels])
    options = {"model": {**asdict(config), "_name": "hubert"}, "task": {"normalize": size == "large"}}
    torch.save({"args": None, "cfg": options, "model": model.state_dict()}, path)


def save_speech(folder: Path, count: int) -> None:
    """`train.tsv`: noise of 2 to 17 seconds, 12.3 in the mean as in LibriSpeech, with 2.7 random words a second."""
    from sparqle_fairseq.data.manifest import write_manifest

    draw = random.Random(0)
    rng = np.random.default_rng(0)
    words = _words(draw, 5000)
    rows = []
    for i in range(count):
        seconds = min(17.0, max(2.0, draw.gauss(13.0, 4.0)))
        wave = (0.1 * rng.standard_normal(int(seconds * RATE))).astype(np.float32)
        soundfile.write(folder / f"{i}.flac", wave, RATE)
        text = " ".join(draw.choices(words, k=round(2.7 * seconds)))
        rows.append({"id": f"u{i}", "audio": f"{i}.flac", "n_frames": len(wave), "src_text": text})
    write_manifest(folder / "train.tsv", rows, ("id", "audio", "n_frames", "src_text"))


def save_tokenizer(folder: Path) -> None:
    """A vocabulary as large as BERT's: the Q-Former's share of a step depends on it."""
    from sparqle_fairseq.data.text import train_wordpiece

    train_wordpiece(_words(random.Random(0), 60_000), folder, VOCABULARY)


def _words(draw: random.Random, count: int) -> list[str]:
    syllables = [a + b for a in "bcdfghjklmnpqrstvwxyz" for b in ("a", "e", "i", "o", "u", "en", "or", "al")]
    return ["".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(count)]


def build(data: Path, encoder: Path, tokenizer: Path, arch: str = "base") -> SimpleNamespace:
    """Task, model, criterion and dataset as fairseq-train builds them."""
    from fairseq import options, tasks
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    words = [data, "--task", "sparqle_pretrain", "--arch", f"sparqle_qformer_{arch}", "--criterion", "sparqle_pretrain"]
    words += ["--speech-encoder", encoder, "--text-tokenizer", tokenizer, "--cpu"]
    parser = options.get_training_parser()
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, [str(word) for word in words]))
    task = tasks.setup_task(cfg.task)
    model = task.build_model(cfg.model)
    task.load_dataset("train")
    return SimpleNamespace(task=task, model=model, criterion=task.build_criterion(cfg.criterion))


def load_dataset(built: SimpleNamespace, data: Path) -> Any:
    built.task.cfg.data = str(data)
    built.task.load_dataset("train")
    return built.task.dataset("train")


def steps(built: SimpleNamespace, datasets: dict[str, Any], batch: int, count: int) -> dict[str, dict[str, float]]:
    """Median CPU seconds of reading a batch and of a whole step, from each dataset; the first of each counts not."""
    model = built.model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in datasets}
    for k in range(count + 1):
        rows = [(k * batch + i) % len(next(iter(datasets.values()))) for i in range(batch)]
        for name, dataset in datasets.items():
            start = time.process_time()  # of this process alone: others may share the machine
            sample = dataset.collater([dataset[row] for row in rows])
            read = time.process_time() - start
            loss, size, _ = built.criterion(model, sample)
            (loss / size).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            if k:
                times[name].append((read, time.process_time() - start))
    return {
        name: {"read": statistics.median(r for r, _ in found), "step": statistics.median(s for _, s in found)}
        for name, found in times.items()
    }


def reading(data: Path, store: Path, repeats: int = 20) -> dict[str, float]:
    """Milliseconds to read an entry of the store as float32, the same without its checksum, and the .npy peer."""
    from sparqle_fairseq.data import feature_store
    from sparqle_fairseq.data.audio import read_features
    from sparqle_fairseq.data.manifest import read_manifest

    manifest = read_manifest(store / "train.tsv")
    entries = [manifest.audio(i) for i in range(len(manifest))]
    files = []
    for i, entry in enumerate(entries):
        files.append(str(data / f"{i}.npy"))
        np.save(files[-1], feature_store.read_entry(feature_store.parse_entry(entry)))  # type: ignore[arg-type]

    def unchecked(cell: str) -> np.ndarray:
        entry = feature_store.parse_entry(cell)
        shard = feature_store._open(entry.shard)  # type: ignore[union-attr]
        first = entry.offset // shard.frame_bytes  # type: ignore[union-attr]
        return np.array(shard.frames[first : first + entry.frames], dtype=np.float32)  # type: ignore[union-attr]

    cases: dict[str, tuple[Callable[[str], Any], list[str]]] = {
        "store": (read_features, entries),
        "store unchecked": (unchecked, entries),
        "npy": (read_features, files),
    }
    found: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(repeats):
        for name, (read, cells) in cases.items():
            start = time.perf_counter()
            for cell in cells:
                read(cell)
            found[name].append(1000 * (time.perf_counter() - start) / len(cells))
    return {name: min(times) for name, times in found.items()}


def _hold(store: str, barrier: Any) -> tuple[int, int]:
    """In a process of its own: read every entry, wait for the others, and count the shards' resident kB."""
    from sparqle_fairseq.data.audio import read_features
    from sparqle_fairseq.data.manifest import read_manifest

    manifest = read_manifest(Path(store) / "train.tsv")
    for i in range(len(manifest)):
        read_features(manifest.audio(i))
    barrier.wait()
    resident = shared = 0
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            inside = line.endswith(".bin")
        elif inside and line.startswith("Rss:"):
            resident += int(line.split()[1])
        elif inside and line.startswith("Pss:"):
            shared += int(line.split()[1])
    barrier.wait()
    return resident, shared


def sharing(store: Path) -> dict[str, float]:
    """MB of the shards that two processes hold: each by itself, and together as the machine counts it."""
    from sparqle_fairseq.data.feature_store import close_shards

    close_shards()  # this process shall not be a third
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager, context.Pool(2) as pool:
        barrier = manager.Barrier(2)
        found = pool.starmap(_hold, [(str(store), barrier)] * 2, chunksize=1)
    return {"each": found[0][0] / 1000, "together": sum(pss for _, pss in found) / 1000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for encoders, speech and stores")
    parser.add_argument("--utterances", type=int, default=16)
    parser.add_argument("--batch", type=int, default=4, help="utterances in a step")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    args = parser.parse_args()
    sparqle_fairseq.register()
    torch.set_num_threads(args.threads)
    from sparqle_fairseq.tools.extract.extraction import Options, extract

    data, tokenizer = args.out / "data", args.out / "tokenizer"
    data.mkdir(parents=True, exist_ok=True)
    save_speech(data, args.utterances)
    if not tokenizer.exists():
        save_tokenizer(tokenizer)
    print(f"{platform.machine()}, {os.cpu_count()} cores, {args.threads} used; torch {torch.__version__}")
    for size in args.sizes:
        encoder, store = args.out / f"{size}.pt", args.out / f"store_{size}"
        if not encoder.exists():
            save_hubert(encoder, size)
        start = time.process_time()
        done = extract([data / "train.tsv"], Options(str(encoder), store, dtype="fp16", cpu=True))
        extraction = time.process_time() - start  # and the reading of the encoder
        built = build(data, encoder, tokenizer)
        parameters = sum(p.numel() for p in built.model.speech_encoder.frozen.module.parameters())
        datasets = {"audio": load_dataset(built, data), "store": load_dataset(built, store)}
        found = steps(built, datasets, args.batch, args.steps)
        seconds = sum(row / RATE for row in datasets["audio"].sizes)
        result = {
            "size": size,
            "encoder_parameters": parameters,
            "encoder_megabytes": 4 * parameters / 1e6,
            "step_from_audio_over_step_from_store": found["audio"]["step"] / found["store"]["step"],
            "times": found,
            "extraction_times_real_time": done.speed,
            "extraction_times_real_time_by_cpu_time": done.audio_seconds / extraction,
            "megabytes_an_hour": done.feature_bytes / seconds * 3600 / 1e6,
            "reading_milliseconds": reading(data, store),
            "two_processes_megabytes": sharing(store),
            "seconds_of_audio_in_a_step": seconds / args.utterances * args.batch,
        }
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
