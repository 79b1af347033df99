"""A manifest of as many rows as a large corpus has."""

from __future__ import annotations

from pathlib import Path


def save_many(path: Path, rows: int) -> int:
    with path.open("w") as file:
        file.write("id\taudio\tn_frames\tsrc_text\ttgt_text\tsrc_lang\ttgt_lang\tspeaker\n")
        for i in range(rows):
            file.write(
                f"utt-{i:08d}\tclips/{i % 100:03d}/utt-{i:08d}.flac\t{16000 + i % 300000}\tthe train leaves from "
                f"platform {i} at noon\tle train part du quai numéro {i} à midi\ten\tfr\tspk{i % 997}\n"
            )
    return path.stat().st_size
