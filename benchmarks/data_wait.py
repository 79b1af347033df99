"""How long does training wait for data, with audio read from flac by two loader processes?

The task's own batch iterator feeds training steps of a stage-1 model (HuBERT base with random weights, on the CPU). Two
ratios: the wall time inside next() to that of a whole step, which is what a trainer waits; and the CPU time of reading
a batch to that of the step, which does not depend on who else uses the machine. A GPU makes the step shorter and the
reading not: the last line tells how much faster a step may get before two loaders are the limit.

    python benchmarks/data_wait.py --out DIR
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import time
from pathlib import Path

import numpy as np
import soundfile
import torch
from feature_store import RATE, build, save_hubert

import sparqle_fairseq

WORDS = [a + b + c for a in "bdgkmnprst" for b in "aeiou" for c in ("", "n", "r", "l")]


def save_speech(folder: Path, count: int, seconds: float) -> None:
    """Flac as hard to decode as speech: noise under a moving envelope and filter, 16 bits."""
    from sparqle_fairseq.data.manifest import write_manifest

    rng, draw, rows = np.random.default_rng(0), random.Random(0), []
    for i in range(count):
        noise = rng.standard_normal(int(seconds * RATE))
        smooth = np.convolve(noise, np.hanning(24), mode="same")  # most energy below 1.5 kHz
        envelope = np.interp(np.arange(len(noise)), np.arange(0, len(noise), 800), rng.random(-(-len(noise) // 800)))
        soundfile.write(folder / f"{i}.flac", (0.02 * smooth * envelope).astype(np.float32), RATE)
        text = " ".join(draw.choices(WORDS, k=round(2.7 * seconds)))
        rows.append({"id": f"u{i}", "audio": f"{i}.flac", "n_frames": len(noise), "src_text": text})
    write_manifest(folder / "train.tsv", rows, ("id", "audio", "n_frames", "src_text"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for encoder and speech")
    parser.add_argument("--arch", default="base", choices=("tiny", "base"))
    parser.add_argument("--batch", type=int, default=4, help="utterances in a step")
    parser.add_argument("--seconds", type=float, default=12.3)
    parser.add_argument("--steps", type=int, default=6, help="the first does not count")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    sparqle_fairseq.register()
    torch.set_num_threads(1)
    from sparqle_fairseq.data.text import train_wordpiece

    data, encoder, tokenizer = args.out / "data", args.out / "base.pt", args.out / "tokenizer"
    data.mkdir(parents=True, exist_ok=True)
    save_speech(data, args.batch * args.steps, args.seconds)
    if not encoder.exists():
        save_hubert(encoder, "base")
    train_wordpiece(WORDS, tokenizer, 400)
    built = build(data, encoder, tokenizer, args.arch)
    task, model, criterion = built.task, built.model.train(), built.criterion
    dataset = task.dataset("train")
    started = time.process_time()
    for at in range(0, len(dataset), args.batch):
        dataset.collater([dataset[row] for row in range(at, at + args.batch)])
    reading = (time.process_time() - started) / args.steps
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    iterator = task.get_batch_iterator(
        dataset, max_sentences=args.batch, required_batch_size_multiple=1, num_workers=args.workers, seed=1, epoch=1
    ).next_epoch_itr(shuffle=True)
    waited = whole = working = 0.0
    for step in range(args.steps):
        begin = time.perf_counter()
        sample = next(iterator)
        got, cpu = time.perf_counter(), time.process_time()
        loss, size, _ = criterion(model, sample)
        (loss / size).backward()
        optimizer.step()
        optimizer.zero_grad()
        if step:  # while the first is awaited, loaders start
            waited += got - begin
            whole += time.perf_counter() - begin
            working += time.process_time() - cpu
    working /= args.steps - 1
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    print(f"{platform.machine()}, {os.cpu_count()} cores, 1 thread for the step; torch {torch.__version__}")
    print(f"HuBERT base, Q-Former {args.arch} ({trained / 1e6:.0f} M); {args.batch} x {args.seconds:g} s of flac")
    print(f"wall time inside next() / of a step, {args.workers} workers: {100 * waited / whole:.2f} %")
    print(f"CPU: reading {1000 * reading:.1f} ms, step {working:.1f} s a batch: {100 * reading / working:.2f} %")
    print(f"two loaders keep up with steps {2 * working / reading:.0f} times as fast")


if __name__ == "__main__":
    main()
