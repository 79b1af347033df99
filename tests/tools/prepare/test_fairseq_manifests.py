"""Manifests that fairseq's own speech-to-text scripts make are trained on as they are.

The zip files and their offsets are made by fairseq's functions. Of its scripts, prep_mustc_data.py (and that of mTEDx)
has a raw-audio mode, `--use-audio-input`: FLAC files in a zip. prep_librispeech_data.py and prep_covost_data.py write
filter banks only, which no speech encoder of this plugin hears.
"""

from __future__ import annotations

import csv
import importlib
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny
from commands import QUIET, TINY, train_here

from sparqle_fairseq.data.audio import read_audio
from sparqle_fairseq.data.manifest import read_manifest
from sparqle_fairseq.errors import SparqleError

COLUMNS = ("id", "audio", "n_frames", "tgt_text", "speaker")


@pytest.fixture
def fairseq_tables(monkeypatch):
    """fairseq's `data_utils` of its speech-to-text example; it imports pandas, which its zip functions do not use."""
    if importlib.util.find_spec("pandas") is None:
        pandas = types.ModuleType("pandas")
        pandas.DataFrame = object
        monkeypatch.setitem(sys.modules, "pandas", pandas)
    return importlib.import_module("fairseq.examples.speech_to_text.data_utils")


def save_tsv(path: Path, rows: list[dict[str, object]]) -> None:
    """What `save_df_to_tsv` writes: tabs, no quotes, a backslash before what would break a cell."""
    with path.open("w", encoding="utf-8", newline="") as file:
        options = {"delimiter": "\t", "quoting": csv.QUOTE_NONE, "quotechar": None, "escapechar": "\\"}
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", **options)
        writer.writeheader()
        writer.writerows(rows)


def make(fairseq_tables, root: Path, splits: dict[str, int], target, *, features: bool = False) -> None:
    """`<split>.tsv` and one zip of all recordings (or of filter banks), as the scripts lay them out."""
    folder = root / ("fbank80" if features else "flac")
    folder.mkdir()
    sentences = {f"ted_{k}_{i}": (name, sentence)
                 for k, (name, count) in enumerate(splits.items())
                 for i, sentence in enumerate(tiny.sentences(count, seed=k))}  # fmt: skip
    for name, (_, sentence) in sentences.items():
        speech = tiny.tones(sentence)
        if features:
            np.save(folder / f"{name}.npy", np.zeros((len(speech) // 160, 80), np.float32))
        else:
            soundfile.write(folder / f"{name}.flac", speech, tiny.RATE)
    packed = root / f"{folder.name}.zip"
    fairseq_tables.create_zip(folder, packed)
    paths, lengths = fairseq_tables.get_zip_manifest(packed, is_audio=not features)
    for split in splits:
        save_tsv(
            root / f"{split}.tsv",
            [
                {
                    "id": name,
                    "audio": paths[name],
                    "n_frames": lengths[name],
                    "tgt_text": target(text),
                    "speaker": "spk.1",
                }
                for name, (where, text) in sentences.items()
                if where == split
            ],
        )


def train(data: Path, save_dir: Path, *more: object) -> None:
    train_here([data, *QUIET, "--save-dir", save_dir, "--optimizer", "adam", "--lr", 1e-3, "--max-update", 1,
                "--max-tokens", 100_000, "--num-workers", 0, *more])  # fmt: skip
    assert (save_dir / "checkpoint_last.pt").exists()


def stage1(world) -> list[object]:
    return ["--task", "sparqle_pretrain", "--arch", "sparqle_qformer_tiny", "--criterion", "sparqle_pretrain", *TINY,
            "--speech-encoder", world.encoder, "--text-tokenizer", world.tokenizer]  # fmt: skip


def test_mustc_transcripts_in_raw_audio_mode_train_stage_1(world, fairseq_tables, tmp_path):
    make(fairseq_tables, tmp_path, {"train_asr": 8, "dev_asr": 4}, lambda text: f'He said "{text}".')
    manifest = read_manifest(tmp_path / "dev_asr.tsv", src_lang="en", tgt_lang="en", require=("src_text",))
    assert manifest.row(0).src_text.startswith('He said "')
    assert manifest.row(0).audio.startswith(f"{tmp_path}/flac.zip:")
    for i in range(len(manifest)):
        assert len(read_audio(manifest.row(i).audio)) == manifest.row(i).n_frames
    train(
        tmp_path, tmp_path / "out", *stage1(world), "--src-lang", "en", "--tgt-lang", "en",
        "--train-subset", "train_asr", "--valid-subset", "dev_asr",
    )  # fmt: skip


def test_mustc_translations_in_raw_audio_mode_train_stage_2(world, fairseq_tables, tmp_path):
    make(fairseq_tables, tmp_path, {"train_st": 8, "dev_st": 4}, lambda text: tiny.FRENCH[text.split()[0]])
    train(
        tmp_path, tmp_path / "out", "--task", "sparqle_finetune", "--arch", "sparqle_llm_tiny",
        "--criterion", "sparqle_finetune", *TINY, "--speech-encoder", world.encoder, "--llm", world.llm,
        "--llm-dtype", "fp32", "--src-lang", "en", "--tgt-lang", "fr", "--train-subset", "train_st",
        "--valid-subset", "dev_st",
    )  # fmt: skip


def test_a_zip_named_relative_to_where_the_script_ran_needs_the_audio_root(fairseq_tables, tmp_path, monkeypatch):
    (tmp_path / "en-fr").mkdir()
    monkeypatch.chdir(tmp_path)
    make(fairseq_tables, Path("en-fr"), {"train_asr": 4, "dev_asr": 2}, str)
    row = read_manifest("en-fr/dev_asr.tsv", audio_root=tmp_path).row(0)
    assert row.audio.startswith(f"{tmp_path}/en-fr/flac.zip:")
    assert len(read_audio(row.audio)) == row.n_frames


def test_filter_banks_of_the_librispeech_and_covost_scripts_are_refused_with_a_sentence(
    world, fairseq_tables, tmp_path
):
    make(fairseq_tables, tmp_path, {"train-clean-100": 4, "dev-clean": 2}, str, features=True)
    with pytest.raises(SparqleError, match=r"train-clean-100\.tsv:\d+ \(utterance ted_0_\d\): .*80"):
        train(
            tmp_path, tmp_path / "out", *stage1(world), "--src-lang", "en", "--tgt-lang", "en",
            "--train-subset", "train-clean-100", "--valid-subset", "dev-clean",
        )  # fmt: skip
