"""Trains the demo's HuBERT on its own speech with fairseq's commands: MFCC k-means labels, then masked prediction.

`python examples/demo/hubert.py --out build/demo` reads `manifests/train_stage1.tsv` (audio only, never
the texts) and writes `hubert/checkpoint_last.pt`. The configuration is `hubert.yaml`.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and torch

import numpy as np
import soundfile
import torch
from tqdm import tqdm

import sparqle_fairseq
from sparqle_fairseq.data.torchaudio_import import ensure_torchaudio
from sparqle_fairseq.files import read_lines, write_text

HERE = Path(__file__).resolve().parent
PLUGIN = Path(sparqle_fairseq.__file__).parent
SAMPLE_RATE = 16000


def audio_files(manifest: Path) -> list[tuple[Path, int]]:
    """Absolute paths and lengths in samples of a manifest's utterances."""
    rows = csv.DictReader(read_lines(manifest), delimiter="\t", quoting=csv.QUOTE_NONE)
    return [((manifest.parent / row["audio"]).resolve(), int(row["n_frames"])) for row in rows]


def write_audio_list(path: Path, files: list[tuple[Path, int]]) -> None:
    """The manifest of fairseq's HuBERT: the root folder, then one path and length a line."""
    root = files[0][0].parent
    lines = [str(root), *(f"{file.relative_to(root)}\t{length}" for file, length in files)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "\n".join(lines) + "\n")


def mfcc(wave: torch.Tensor) -> torch.Tensor:
    """MFCC with first and second differences, (samples,) -> (T, 39) at 100 Hz, as fairseq's dump_mfcc_feature.py."""
    import torchaudio

    base = torchaudio.compliance.kaldi.mfcc(wave.view(1, -1), sample_frequency=SAMPLE_RATE, use_energy=False)
    base = base.transpose(0, 1)
    deltas = torchaudio.functional.compute_deltas(base)
    return torch.cat([base, deltas, torchaudio.functional.compute_deltas(deltas)]).transpose(0, 1).contiguous()


def dump_mfcc(files: list[tuple[Path, int]], folder: Path) -> None:
    """Write features as simple_kmeans reads them.

    fairseq's own dump_mfcc_feature.py cannot run here: it reads audio through torchaudio.sox_effects, which
    torchaudio no longer has. What comes after it (learn_kmeans.py, dump_km_label.py) is fairseq's.
    """
    import torchaudio.compliance.kaldi  # noqa: F401

    folder.mkdir(parents=True, exist_ok=True)
    features = []
    for path, _ in tqdm(files, desc="mfcc"):
        wave, _ = soundfile.read(path, dtype="float32")
        features.append(mfcc(torch.from_numpy(wave)).numpy())
    np.save(folder / "train_0_1.npy", np.concatenate(features))
    write_text(folder / "train_0_1.len", "".join(f"{len(feature)}\n" for feature in features))


def kmeans_script(name: str) -> str:
    """Path of one of fairseq's simple_kmeans scripts."""
    spec = importlib.util.find_spec("fairseq")
    assert spec
    assert spec.submodule_search_locations
    return str(Path(spec.submodule_search_locations[0]) / "examples" / "hubert" / "simple_kmeans" / name)


def run(*command: object) -> None:
    """Run a command of fairseq's, its output in view."""
    words = [str(word) for word in command]
    print("+", *words, flush=True)
    subprocess.run(words, check=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})


def make_labels(work: Path, clusters: int, seed: int) -> None:
    """k-means labels of every frame and their dictionary, from features in `work/features`."""
    features, labels, model = work / "features", work / "labels", work / "kmeans.joblib"
    run(sys.executable, kmeans_script("learn_kmeans.py"), features, "train", 1, model, clusters,
        "--seed", seed, "--percent", 0.1, "--n_init", 3, "--max_no_improvement", 30)  # fmt: skip
    run(sys.executable, kmeans_script("dump_km_label.py"), features, "train", model, 1, 0, labels)
    shutil.move(labels / "train_0_1.km", labels / "train.km")
    write_text(labels / "dict.km.txt", "".join(f"{cluster} 1\n" for cluster in range(clusters)))


def train(work: Path, save_dir: Path, seed: int, overrides: list[str]) -> None:
    """fairseq-hydra-train with hubert.yaml; the plugin is loaded because with it the masks follow the seed."""
    command = shutil.which("fairseq-hydra-train", path=str(Path(sys.executable).parent)) or "fairseq-hydra-train"
    run(command, "--config-dir", HERE, "--config-name", "hubert",
        f"task.data={work.resolve()}", f"task.label_dir={(work / 'labels').resolve()}",
        f"checkpoint.save_dir={save_dir.resolve()}", f"common.seed={seed}",
        f"common.user_dir={PLUGIN}", *overrides)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("build/demo"), help="folder of the demo's files")
    parser.add_argument("--clusters", type=int, default=100, help="k-means labels")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("overrides", nargs="*", help="settings of hubert.yaml, e.g. optimization.max_update=100")
    args = parser.parse_args()

    torch.set_num_threads(1)
    ensure_torchaudio()
    work, save_dir = args.out / "hubert" / "data", args.out / "hubert"
    files = audio_files(args.out / "manifests" / "train_stage1.tsv")
    write_audio_list(work / "train.tsv", files)
    dump_mfcc(files, work / "features")
    make_labels(work, args.clusters, args.seed)
    (save_dir / "checkpoint_last.pt").unlink(missing_ok=True)  # else fairseq would resume it
    train(work, save_dir, args.seed, args.overrides)


if __name__ == "__main__":
    main()
