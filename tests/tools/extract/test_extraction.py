"""`sparqle extract-features`: everything is stored once, whatever happens on the way, and nothing that does not fit."""

from __future__ import annotations

import json
import resource
import shutil
import signal
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny
import torch
from commands import script
from factories import save_tiny_hubert, save_tiny_hugging_face, save_tiny_whisper

from sparqle_fairseq.cli.main import main
from sparqle_fairseq.data.audio import normalize_waveform, read_audio, read_features
from sparqle_fairseq.data.feature_store import read_index
from sparqle_fairseq.data.manifest import read_manifest, write_manifest
from sparqle_fairseq.models.encoders import load_speech_encoder
from sparqle_fairseq.tools.extract.plan import Clip, Share, batches, cut
from sparqle_fairseq.tools.extract.shard_file import only_one


@pytest.fixture
def extract(world, tmp_path, capfd):
    """Run the command here; returns what it wrote on stdout, or its error sentence where it fails."""

    def run(*arguments, encoder=world.encoder, out=tmp_path / "store", manifests=("train", "valid"), root=world.data):
        paths = [root / f"{name}.tsv" for name in manifests]
        words = ["extract-features", *paths, "--speech-encoder", encoder, "--out", out, "--cpu", *arguments]
        status = main([str(word) for word in words])
        captured = capfd.readouterr()
        return captured.out if status == 0 else captured.err.strip().splitlines()[-1]

    return run


@pytest.fixture
def verify(tmp_path, capfd):
    def run(folder=tmp_path / "store"):
        status = main(["extract-features", "--verify", str(folder), "--json"])
        captured = capfd.readouterr()
        report = json.loads(captured.out) if captured.out else None
        assert status == (1 if report is None or report["faults"] else 0)
        return report if report is not None else captured.err.strip().splitlines()[-1]

    return run


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.startswith(".")}


def features(folder: Path, split: str) -> dict[str, np.ndarray]:
    manifest = read_manifest(folder / f"{split}.tsv")
    return {manifest.id(i): read_features(manifest.audio(i)) for i in range(len(manifest))}


SMALL = ("--shard-megabytes", 0.01)


def test_every_utterances_features_are_the_encoders_alone(world, tmp_path, extract):
    """No matter how the recordings were batched and cut into shards."""
    encoder = load_speech_encoder(world.encoder)
    extract("--batch-seconds", 0.1)
    extract("--batch-seconds", 1000, *SMALL, out=tmp_path / "together")
    source = read_manifest(world.data / "train.tsv")
    alone, together = features(tmp_path / "store", "train"), features(tmp_path / "together", "train")
    assert len(list((tmp_path / "together").glob("*.bin"))) > 2
    assert len(alone) == len(together) == 32
    for i in range(len(source)):
        wave = torch.from_numpy(read_audio(source.audio(i)))[None]
        expected = encoder(wave).values[0].numpy()
        np.testing.assert_allclose(alone[source.id(i)], expected, atol=1e-5)
        np.testing.assert_allclose(together[source.id(i)], expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["wavlm", "whisper"])
def test_encoders_of_other_kinds_fill_a_store(world, tmp_path, extract, verify, kind):
    """Folders of Hugging Face models, and a front end that is no convolution of samples."""
    if kind == "whisper":
        save_tiny_whisper(tmp_path / kind)
    else:
        save_tiny_hugging_face(tmp_path / kind, kind, large=True, normalize=True)
    extract(encoder=tmp_path / kind, manifests=("valid",))
    assert not verify()["faults"]
    encoder, source = load_speech_encoder(tmp_path / kind), read_manifest(world.data / "valid.tsv")
    for i, (name, stored) in enumerate(features(tmp_path / "store", "valid").items()):
        wave = read_audio(source.audio(i))
        wave = torch.from_numpy(normalize_waveform(wave) if encoder.normalize else wave)
        assert name == source.id(i)
        np.testing.assert_allclose(stored, encoder(wave[None]).values[0].numpy(), atol=1e-5)


def test_the_manifests_keep_every_column_but_where_the_speech_is(world, tmp_path, extract):
    data = tmp_path / "data"
    shutil.copytree(world.data, data)
    lines = (data / "train.tsv").read_text().splitlines()
    lines = [f"{line}\t{'mood' if i == 0 else f'mood {i}'}" for i, line in enumerate(lines)]
    (data / "train.tsv").write_text("\n".join(lines) + "\n")
    extract(root=data)
    before, after = read_manifest(data / "train.tsv"), read_manifest(tmp_path / "store" / "train.tsv")
    assert after.columns == before.columns
    for column in (*before.columns[3:], "id"):
        assert [after.text(column, i) for i in range(32)] == [before.text(column, i) for i in range(32)]
    assert all(len(read_features(after.audio(i))) == after.n_frames[i] for i in range(32))


def test_a_recording_of_several_rows_is_stored_once(world, tmp_path, extract, verify):
    """train2 holds each of its recordings in two rows; the manifest beside it holds them again under other paths."""
    rows = [vars(row) for row in map(read_manifest(world.data / "train2.tsv").row, range(32))]
    data = tmp_path / "data"
    data.mkdir()
    columns = tiny.COLUMNS
    again = [
        {**{c: row[c] for c in columns}, "audio": f"{world.data}/audio/../{row['audio'][len(str(world.data)) + 1 :]}"}
        for row in rows
    ]
    write_manifest(data / "again.tsv", again, columns)
    shutil.copy(world.data / "train2.tsv", data / "train2.tsv")
    done = json.loads(extract("--json", "--audio-root", world.data, manifests=("train2", "again"), root=data))
    assert done["recordings"] == 16
    report = verify()
    assert (report["entries"], report["rows"], report["manifests"]) == (16, 64, 2)


def test_shares_of_the_work_make_one_store(tmp_path, extract, verify):
    extract(out=tmp_path / "whole")
    for share in ("1/3", "3/3"):
        done = json.loads(extract("--shard", share, "--json"))
        assert done["missing"] > 0
        assert not list((tmp_path / "store").glob("*.tsv")), "a manifest before all is there"
    last = json.loads(extract("--shard", "2/3", "--json"))
    assert last["missing"] == 0
    assert not verify()["faults"]
    whole, shared = features(tmp_path / "whole", "train"), features(tmp_path / "store", "train")
    assert whole.keys() == shared.keys()
    for name in whole:
        np.testing.assert_allclose(shared[name], whole[name], atol=1e-5)
    stored = [source for path in (tmp_path / "store").glob("*.bin") for source in read_index(path).sources]
    assert len(stored) == len(set(stored)) == 40


def test_shares_are_of_about_one_size():
    recordings = [Clip(f"/audio/{i}.wav", 16000, 0, i) for i in range(10_000)]
    sizes = [sum(Share(part, 8).holds(recording) for recording in recordings) for part in range(1, 9)]
    assert sum(sizes) == 10_000
    assert min(sizes) > 1100


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "1/0", "a/b", "1/2/3", "-1/2"])
def test_a_share_that_is_none(extract, text):
    assert "give i/n with i from 1 to n" in extract("--shard", text)


KILLED = """
import os, signal, sys
from sparqle_fairseq.cli.main import main
from sparqle_fairseq.tools.extract.shard_file import ShardFile

append, left = ShardFile.append, int(sys.argv[1])

def counting(self, *arguments):
    global left
    append(self, *arguments)
    self._part.file.flush()
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)

ShardFile.append = counting
main(sys.argv[2:])
"""


def killed_at(world, out: Path, recording: int) -> int:
    """The command, killed by SIGKILL when it has written so many recordings; returns its exit status."""
    words = [recording, "extract-features", world.data / "train.tsv", world.data / "valid.tsv", "--out", out, "--cpu"]
    words += ["--speech-encoder", world.encoder, *SMALL]
    return script(KILLED, *words).returncode


def test_a_killed_run_goes_on_and_ends_in_the_same_bytes(world, tmp_path, extract, verify):
    extract(*SMALL, out=tmp_path / "whole")
    out = tmp_path / "store"
    assert killed_at(world, out, 17) == -signal.SIGKILL
    finished = {path.name: path.stat().st_mtime_ns for path in out.glob("*.json") if path.name != "encoder.json"}
    assert finished
    assert list(out.glob("*.part"))
    assert not list(out.glob("*.tsv"))
    done = json.loads(extract(*SMALL, "--json"))
    kept = sum(len(read_index(out / name).sources) for name in (n.replace(".json", ".bin") for n in finished))
    assert done["recordings"] == 40 - kept
    now = {name: (out / name).stat().st_mtime_ns for name in finished}
    assert now == finished, "a finished shard was written again"
    assert files(out) == files(tmp_path / "whole")
    assert not verify()["unfinished"]


def test_a_finished_store_takes_more_manifests(tmp_path, extract, verify):
    extract(*SMALL)
    before = files(tmp_path / "store")
    done = json.loads(extract(*SMALL, "--json", manifests=("train", "test")))
    assert done["recordings"] == 16
    after = files(tmp_path / "store")
    assert all(after[name] == before[name] for name in before)
    report = verify()
    assert (report["entries"], report["manifests"]) == (56, 3)
    assert json.loads(extract(*SMALL, "--json"))["recordings"] == 0


def test_two_runs_do_not_write_the_same_share(tmp_path, extract):
    (tmp_path / "store").mkdir()
    with only_one(tmp_path / "store", Share(1, 2).name):
        assert "another process is writing this share" in extract("--shard", "1/2")
        extract("--shard", "2/2")


def test_a_damaged_store_is_found_and_mended(tmp_path, extract, verify):
    extract(*SMALL)
    store, good = tmp_path / "store", files(tmp_path / "store")
    shards = sorted(store.glob("*.bin"))
    data = bytearray(shards[1].read_bytes())
    data[1000] ^= 64
    shards[1].write_bytes(data)
    shards[2].unlink()
    (fault, missing, *rows) = verify()["faults"]
    assert f"{shards[1]}:" in fault
    assert "are damaged" in fault
    assert f"{shards[2]}: this part of a feature store is missing" in missing
    assert all("is no entry of this store" in row for row in rows)
    shards[1].unlink()
    assert json.loads(extract(*SMALL, "--json"))["recordings"] < 40
    assert not verify()["faults"]
    assert files(store) == good


def test_a_folder_that_is_no_store(world, verify):
    assert "holds no feature store" in verify(world.data)


Usage = namedtuple("Usage", "total used free")


def test_what_does_not_fit_is_not_begun(tmp_path, extract, monkeypatch):
    """Though the first of its shards would fit."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 10**12, 100_020_000))
    sentence = extract(*SMALL)
    assert "57.1 kB of features do not fit, the disk has 100.0 MB free" in sentence
    assert not list((tmp_path / "store").glob("features*"))


def test_it_stops_before_the_disk_is_full(tmp_path, extract, monkeypatch, verify):
    """Another program fills the disk meanwhile: finished shards stay, and the same command goes on later."""
    free = iter([10**12] * 4)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, next(free, 0)))
    assert "do not fit" in extract(*SMALL)
    assert len(list((tmp_path / "store").glob("features-*.json"))) == 2
    assert not list((tmp_path / "store").glob("*.part"))
    monkeypatch.undo()
    extract(*SMALL)
    assert verify()["entries"] == 40


def test_a_write_that_fails_is_one_sentence(extract, verify):
    """A limit on the size of files stands for the full disk: the system refuses the write in the middle of a shard."""
    extract(*SMALL, manifests=("valid",))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        sentence = extract(manifests=("train",))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sentence.startswith("error: ")
    assert "the disk became full" in sentence
    report = verify()
    assert (report["entries"], report["faults"], report["unfinished"]) == (8, [], [])
    extract()
    assert verify()["entries"] == 40


def test_the_bytes_are_told_beforehand(tmp_path, capfd):
    """For a real HuBERT large: 369 MB an hour in fp16. The encoder's width and rate are all that matters."""
    from sparqle_fairseq.tools.extract.extraction import Options, _Run

    class Large:
        width, frame_rate, sample_rate, min_samples, normalize = 1024, 50.0, 16000, 400, True

    hour = [Clip(f"/{i}.wav", 16000 * 12, 0, i) for i in range(300)]
    run = _Run([], hour, Large(), Options("large.pt", tmp_path, dtype="fp16"))
    run.announce()
    told = capfd.readouterr().err
    assert "300 of 300 recordings, 1.000 hours of audio, 368.0 MB as fp16 (368.6 MB an hour)" in told


def bad_audio(world, tmp_path, make):
    data = tmp_path / "data"
    shutil.copytree(world.data, data)
    make(data / "audio" / "train_2.wav")
    return data


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda path: path.unlink(), "there is no such file"),
        (lambda path: soundfile.write(path, np.full(4000, np.nan, np.float32), 16000, subtype="FLOAT"), "NaN"),
        (lambda path: soundfile.write(path, np.zeros(80, np.float32), 16000), "where n_frames says"),
    ],
)
def test_bad_audio_stops_or_is_left_out(world, tmp_path, extract, verify, make, found):
    data = bad_audio(world, tmp_path, make)
    sentence = extract(*SMALL, root=data)
    assert found in sentence
    assert "train_2.wav" in sentence or "train_2-en" in sentence
    done = json.loads(extract(*SMALL, "--json", "--skip-bad-audio", root=data))
    (source,) = done["skipped"]
    assert source.endswith("train_2.wav")
    assert done["missing"] == 0
    manifest = read_manifest(tmp_path / "store" / "train.tsv")
    assert len(manifest) == 31
    assert "train_2-en" not in set(manifest.ids())
    assert verify()["skipped"] == 1
    shutil.copy(world.data / "audio" / "train_2.wav", data / "audio" / "train_2.wav")
    extract(*SMALL, root=data)  # mended, and tried again because nothing may be left out now
    assert len(read_manifest(tmp_path / "store" / "train.tsv")) == 32


def test_audio_shorter_than_a_frame_is_named(tmp_path, extract):
    rows = []
    for name, samples in (("short", 80), ("fine", 4000)):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(samples, np.float32), 16000)
        rows.append({"id": name, "audio": f"{name}.wav", "n_frames": samples})
    write_manifest(tmp_path / "t.tsv", rows, ("id", "audio", "n_frames"))
    assert "(utterance short): found 80 samples, and the speech encoder needs at least 400" in extract(
        manifests=("t",), root=tmp_path
    )


def test_refused_before_the_encoder_is_read(world, tmp_path, extract):
    """These sentences come though the encoder does not exist."""
    none = {"encoder": tmp_path / "none.pt"}
    assert "found 0 seconds of audio, the longest of 40 above 0 seconds" in extract("--max-seconds", 0.1, **none)
    assert "--encoder-layer weighted needs every layer, and a store holds one" in extract(
        "--encoder-layer", "weighted", **none
    )
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(world.data / "train.tsv", tmp_path / "elsewhere")
    twice = ("train", tmp_path / "elsewhere" / "train")
    assert "two of the manifests are called train.tsv" in extract(manifests=twice, **none)


def test_features_are_no_input(tmp_path, extract):
    extract()
    assert "holds features already; give a manifest of audio" in extract(root=tmp_path / "store", out=tmp_path / "two")


def test_a_folder_keeps_to_one_encoder_layer_and_precision(tmp_path, extract):
    extract()
    save_tiny_hubert(tmp_path / "other.pt", seed=4)
    save_tiny_hubert(tmp_path / "normalizing.pt", normalize=True)
    assert "features of another speech encoder" in extract(encoder=tmp_path / "other.pt")
    assert "layer last) than" in extract("--encoder-layer", 1)
    assert "normalize False) than" in extract(encoder=tmp_path / "normalizing.pt")
    assert "holds features in fp32, and fp16 is wanted now" in extract("--dtype", "fp16")


def test_what_fp16_cannot_hold_is_refused(world, tmp_path, extract):
    state = torch.load(world.encoder, weights_only=True)
    state["model"]["encoder.layers.1.final_layer_norm.weight"].mul_(1e6)
    torch.save(state, tmp_path / "loud.pt")
    assert "fp16 cannot hold the features of this recording; give --dtype fp32" in extract(
        "--dtype", "fp16", encoder=tmp_path / "loud.pt"
    )
    extract(encoder=tmp_path / "loud.pt")


def test_shards_and_batches_are_cut_without_loss():
    recordings = [Clip(str(i), 16000 * (30 - i), 0, i) for i in range(30)]
    runs = list(cut(recordings, lambda recording: recording.n_frames, 16000 * 100))
    assert [r for run in runs for r in run] == recordings
    assert all(sum(r.n_frames for r in run[:-1]) < 1_600_000 <= sum(r.n_frames for r in run) for run in runs[:-1])
    groups = list(batches(recordings, 60))
    assert [r for group in groups for r in group] == recordings
    assert all(group[0].seconds * len(group) <= 60 for group in groups)
    assert [len(group) for group in batches(recordings[:3], 5)] == [1, 1, 1]
