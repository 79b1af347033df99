"""Whisper itself, its own decoder included, transcribes a manifest: proof of the conversion, and what is within reach.

`python examples/whisper_encoder/transcribe.py MODEL_DIR MANIFEST` prints references and hypotheses as T- and D- lines,
as `fairseq-generate` does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer
from tqdm import tqdm

from sparqle_fairseq.data.audio import read_audio
from sparqle_fairseq.data.manifest import read_manifest
from sparqle_fairseq.data.torchaudio_import import ensure_torchaudio
from sparqle_fairseq.errors import SparqleError

LONGEST_ANSWER = 100  # tokens


@torch.no_grad()
def transcribe(model_dir: Path, manifest_path: Path) -> Iterator[tuple[str, str]]:
    """(reference, hypothesis) of each row; English, greedy, on 30 padded seconds as Whisper was trained."""
    ensure_torchaudio()
    manifest = read_manifest(manifest_path, require=("src_text",))
    model = transformers.WhisperForConditionalGeneration.from_pretrained(model_dir, dtype=torch.float32).eval()
    front_end = transformers.WhisperFeatureExtractor.from_pretrained(model_dir)
    tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
    for i in tqdm(range(len(manifest)), desc="whisper"):
        row = manifest.row(i)
        waveform = read_audio(row.audio, sample_rate=front_end.sampling_rate)
        mel = front_end(waveform, sampling_rate=front_end.sampling_rate, return_tensors="pt").input_features
        tokens = model.generate(mel, language="en", task="transcribe", num_beams=1, max_length=LONGEST_ANSWER)
        yield row.src_text or "", " ".join(tokenizer.decode(tokens[0].tolist(), skip_special_tokens=True).split())


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="what convert.py wrote")
    parser.add_argument("manifest", type=Path)
    args = parser.parse_args(argv)
    transformers.logging.set_verbosity_error()
    try:
        found = list(transcribe(args.model, args.manifest))  # first all: a line must not begin behind a progress bar
    except (SparqleError, OSError) as error:
        sys.exit(f"transcribe: {error}")
    for i, (reference, hypothesis) in enumerate(found):
        print(f"T-{i}\t{reference}\nD-{i}\t0\t{hypothesis}")


if __name__ == "__main__":
    main()
