"""How many texts of an exported model are those of fairseq-generate?

Two ways: transformers' `generate`, and the plugin's own search over the folder (`sparqle translate --hf`).

    sparqle export-hf build/demo/stage2/checkpoint_last.pt -o DIR --self-contained
    python benchmarks/exported_texts.py DIR build/demo/manifests/test_fr.tsv build/demo/generated/test_fr.txt
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sparqle_fairseq.data.audio import read_audio
from sparqle_fairseq.data.manifest import ManifestRow, read_manifest
from sparqle_fairseq.data.segments import Segment
from sparqle_fairseq.huggingface import SparqleForConditionalGeneration, SparqleProcessor
from sparqle_fairseq.huggingface.asked import load_exported
from sparqle_fairseq.scoring.outputs import read_generation
from sparqle_fairseq.tools.translate.translator import Settings, Target, Translator

BATCH = 32


def parts(rows: Sequence[ManifestRow]) -> Iterator[Sequence[ManifestRow]]:
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]


def of_generate(folder: str, rows: Sequence[ManifestRow], beam: int, longest: int) -> list[str]:
    processor, model = SparqleProcessor.from_pretrained(folder), SparqleForConditionalGeneration.from_pretrained(folder)
    texts: list[str] = []
    for part in parts(rows):
        audio = [row.audio for row in part]
        if part[0].task == "translation":
            asked = processor.apply_translation_request(audio, to=[str(row.tgt_lang) for row in part])
        else:
            asked = processor.apply_transcription_request(audio)
        found: Any = model.generate(**asked, num_beams=beam, do_sample=False, max_new_tokens=longest)
        texts += processor.batch_decode(found[:, asked["input_ids"].size(1) :])
    return texts


def of_translate(folder: str, rows: Sequence[ManifestRow], beam: int) -> list[str]:
    translator = Translator(load_exported(folder, cpu=True), Settings(beam=beam, guard=False))
    texts: list[str] = []
    for part in parts(rows):
        segments = [Segment(0, read_audio(row.audio)) for row in part]
        target = Target(part[0].task, str(part[0].tgt_lang or part[0].src_lang))
        texts += [text.text for (text,) in translator(segments, [target])]
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="of sparqle export-hf")
    parser.add_argument("manifest", type=Path, help="rows of one task and language")
    parser.add_argument("results", type=Path, help="what fairseq-generate wrote for it")
    parser.add_argument("--beam", type=int, default=4)
    parser.add_argument("--max-len-b", type=int, default=40)
    args = parser.parse_args()
    manifest = read_manifest(args.manifest)
    rows = [manifest.row(i) for i in range(len(manifest))]
    expected = [found.hypothesis for found in read_generation(args.results)]
    for name, texts in (
        ("generate", of_generate(args.folder, rows, args.beam, args.max_len_b + 1)),
        ("translate --hf", of_translate(args.folder, rows, args.beam)),
    ):
        pairs = [(text.strip(), other.strip()) for text, other in zip(texts, expected, strict=True)]
        print(f"{name}: {sum(one == other for one, other in pairs)} of {len(pairs)} texts are equal")
        for one, other in pairs:
            if one != other:
                print(f"  {one}\n  {other}")


if __name__ == "__main__":
    main()
