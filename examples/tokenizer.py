"""Trains a WordPiece tokenizer for stage 1 on the transcripts of manifests."""

from __future__ import annotations

import argparse
from pathlib import Path

from sparqle_fairseq.data.manifest import read_manifest
from sparqle_fairseq.data.text import train_wordpiece


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("manifest", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, required=True, help="folder of the tokenizer")
    parser.add_argument("--vocab", type=int, default=8000, help="tokens")
    args = parser.parse_args()
    manifests = [read_manifest(path, require=("src_text",)) for path in args.manifest]
    texts = (manifest.text("src_text", i) or "" for manifest in manifests for i in range(len(manifest)))
    train_wordpiece(texts, args.out, args.vocab)


if __name__ == "__main__":
    main()
