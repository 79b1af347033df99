"""A data set of the package `datasets` as a manifest.

python examples/huggingface/from_datasets.py NAME --split train --src-text sentence --out FOLDER
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sparqle_fairseq.errors import install_hook

install_hook()

import sparqle_fairseq.huggingface  # noqa: E402, F401  (before transformers is imported)
from sparqle_fairseq.huggingface.training.from_datasets import open_dataset, write_from_dataset  # noqa: E402


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description="Write the manifest of a data set of the package datasets.")
    parser.add_argument("name", help="hub id, folder of save_to_disk, or what else load_dataset takes")
    parser.add_argument("--config", help="the data set's configuration, such as en_de")
    parser.add_argument("--split", default="train", help="its split, such as train or validation")
    parser.add_argument("--out", type=Path, required=True, help="folder of the manifest")
    parser.add_argument("--as-split", help="name of the manifest; default: the split's")
    parser.add_argument("--audio", default="audio", help="column of the recordings")
    parser.add_argument("--src-text", help="column of the transcripts")
    parser.add_argument("--tgt-text", help="column of the translations; without it rows are transcriptions")
    parser.add_argument("--src-lang", help="BCP-47 code of what is spoken")
    parser.add_argument("--tgt-lang", help="BCP-47 code of the translations")
    parser.add_argument("--id", help="column of the rows' names; default: they are numbered")
    args = parser.parse_args(arguments)
    rows = open_dataset(args.name, args.config, args.split, args.audio)
    split = args.as_split or args.split
    count = write_from_dataset(
        rows,
        args.out,
        split,
        audio=args.audio,
        src_text=args.src_text,
        tgt_text=args.tgt_text,
        src_lang=args.src_lang,
        tgt_lang=args.tgt_lang,
        name=args.id,
    )
    print(f"{count} rows in {args.out / f'{split}.tsv'}")


if __name__ == "__main__":
    main(sys.argv[1:])
