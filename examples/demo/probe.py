"""Asks how well the words can be read off speech features: a small CTC model on frozen HuBERT or log-mel features.

`python examples/demo/probe.py --out build/demo --features hubert` prints the word error rate on the validation split.
It is a quick stand-in for stage 1 when the HuBERT's configuration is changed; the demo itself does not need it.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch

import editdistance
import soundfile
import torch
from corpus import words
from torch import Tensor, nn
from tqdm import tqdm

from sparqle_fairseq.fairseq_fixes import apply as apply_workarounds
from sparqle_fairseq.files import read_lines


def load_rows(manifest: Path) -> list[tuple[Tensor, list[str]]]:
    """Waveform and words of every utterance."""
    rows = list(csv.DictReader(read_lines(manifest), delimiter="\t", quoting=csv.QUOTE_NONE))
    waves = (soundfile.read(manifest.parent / row["audio"], dtype="float32")[0] for row in rows)
    return [(torch.from_numpy(wave), words(row["src_text"])) for row, wave in zip(rows, waves, strict=True)]


@torch.no_grad()
def hubert_features(waves: list[Tensor], checkpoint: Path, layer: int | None) -> list[Tensor]:
    """(T, W) at 50 Hz for each waveform; `layer` counts from 1, None is the last."""
    from fairseq.checkpoint_utils import load_model_ensemble_and_task

    models, _, _ = load_model_ensemble_and_task([str(checkpoint)])
    model = models[0].eval()
    return [
        model.extract_features(wave[None], padding_mask=None, mask=False, output_layer=layer)[0][0]
        for wave in tqdm(waves, desc="features")
    ]


def logmel_features(waves: list[Tensor]) -> list[Tensor]:
    """(T, 160): two frames of 80 log-mel energies side by side, 50 Hz."""
    import torchaudio.compliance.kaldi as kaldi

    features = []
    for wave in tqdm(waves, desc="features"):
        mel = kaldi.fbank(wave[None] * 2**15, num_mel_bins=80)
        features.append(mel[: len(mel) // 2 * 2].reshape(-1, 160))
    return features


class Probe(nn.Module):
    """Features (B, T, W) -> word log-probabilities (B, T / 2, V)."""

    def __init__(self, width: int, vocabulary: int, mean: Tensor, deviation: Tensor) -> None:
        super().__init__()
        self.mean, self.deviation = nn.Parameter(mean, False), nn.Parameter(deviation, False)
        self.down = nn.Conv1d(width, 128, 5, stride=2, padding=2)
        self.mix = nn.Sequential(*(Mix(128) for _ in range(2)))
        self.out = nn.Linear(128, vocabulary)

    def forward(self, features: Tensor) -> Tensor:
        x = self.down(((features - self.mean) / self.deviation).transpose(1, 2))
        return self.out(self.mix(x).transpose(1, 2)).log_softmax(-1)


class Mix(nn.Module):
    """Residual convolution over 15 frames of 40 ms, then a feed-forward layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, width)
        self.depth = nn.Conv1d(width, width, 15, padding=7, groups=width)
        self.feed = nn.Sequential(nn.Conv1d(width, 2 * width, 1), nn.GELU(), nn.Conv1d(2 * width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.feed(self.depth(self.norm(x)))


def collate(batch: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Padded features, their lengths after the probe, joined targets, target lengths."""
    features = nn.utils.rnn.pad_sequence([feature for feature, _ in batch], batch_first=True)
    lengths = torch.tensor([(len(feature) + 1) // 2 for feature, _ in batch])
    targets = [target for _, target in batch]
    return features, lengths, torch.cat(targets), torch.tensor([len(target) for target in targets])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="folder of the demo's files")
    parser.add_argument("--features", choices=("hubert", "logmel"), default="hubert")
    parser.add_argument("--checkpoint", type=Path, help="default: hubert/checkpoint_last.pt of the demo")
    parser.add_argument("--layer", type=int, help="HuBERT layer, counted from 1; default: the last")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    apply_workarounds()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    parts = {name: load_rows(args.out / "manifests" / f"{name}_stage1.tsv") for name in ("train", "valid")}
    vocabulary = sorted({word for _, text in parts["train"] for word in text})
    index = {word: i + 1 for i, word in enumerate(vocabulary)}  # 0: CTC's blank
    data = {}
    for name, rows in parts.items():
        waves = [wave for wave, _ in rows]
        if args.features == "logmel":
            features = logmel_features(waves)
        else:
            checkpoint = args.checkpoint or args.out / "hubert" / "checkpoint_last.pt"
            features = hubert_features(waves, checkpoint, args.layer)
        targets = [torch.tensor([index.get(word, 0) for word in text]) for _, text in rows]
        data[name] = list(zip(features, targets, strict=True))

    frames = torch.cat([feature for feature, _ in data["train"]])
    probe = Probe(frames.shape[1], len(index) + 1, frames.mean(0), frames.std(0) + 1e-5)
    steps = args.epochs * len(data["train"]) // 16
    optimizer = torch.optim.AdamW(probe.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    started = time.process_time()
    for _ in tqdm(range(steps), desc="probe"):
        batch, lengths, joined, joined_lengths = collate(rng.sample(data["train"], 16))
        scores = probe(batch).transpose(0, 1)
        loss = nn.functional.ctc_loss(scores, joined, lengths, joined_lengths, zero_infinity=True)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(probe.parameters(), 1.0)
        optimizer.step()
        schedule.step()

    errors = total = 0
    with torch.no_grad():
        for feature, target in data["valid"]:
            best = probe(feature[None])[0].argmax(-1).unique_consecutive()
            errors += editdistance.eval([i for i in best.tolist() if i], target.tolist())
            total += len(target)
    print(f"{args.features}: word error rate {errors / total:.1%} after {time.process_time() - started:.0f} s")


if __name__ == "__main__":
    main()
