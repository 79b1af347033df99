"""What a person reads when something is wrong: one sentence, with the place and the remedy, and no traceback."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import tiny
import torch
from commands import ROOT, command, pretrain, pretrain_arguments, train_here

from sparqle_fairseq.data.manifest import write_manifest
from sparqle_fairseq.errors import SparqleError, sentence_of


@pytest.fixture
def broken(world, tmp_path):
    """A copy of the tiny world whose training manifest a test may break."""
    data = tmp_path / "broken"
    shutil.copytree(world.data, data)
    return SimpleNamespace(**{**vars(world), "data": data})


def rewrite(world, change):
    path = world.data / "train.tsv"
    path.write_text(change(path.read_text()))


def spoil_audio(make):
    """Write something else in place of the recording of training's third row."""

    def apply(world):
        make(world.data / "audio" / "train_2.wav")

    return apply


def edit(line, column, value):
    def apply(world):
        def change(text):
            rows = [row.split("\t") for row in text.splitlines()]
            rows[line][rows[0].index(column)] = value
            return "\n".join("\t".join(row) for row in rows) + "\n"

        rewrite(world, change)

    return apply


def write(wave, rate=16000):
    return lambda path: soundfile.write(path, wave, rate)


def nan(path):
    soundfile.write(path, np.full(4000, np.nan, dtype=np.float32), 16000, subtype="FLOAT")


BAD = {
    "missing audio": (spoil_audio(lambda path: path.unlink()), "train_2.wav"),
    "truncated audio": (spoil_audio(lambda path: path.write_bytes(path.read_bytes()[:60])), "train_2.wav"),
    "no audio at all": (spoil_audio(lambda path: path.write_bytes(b"hello")), "train_2.wav"),
    "zero samples": (spoil_audio(write(np.zeros(0))), "train_2.wav"),
    "5 ms of audio": (lambda w: five_milliseconds(w), "train.tsv:4"),
    "NaN samples": (spoil_audio(nan), "train_2.wav"),
    "wrong n_frames": (edit(3, "n_frames", "99999"), "train.tsv:4"),
    "n_frames that is no number": (edit(3, "n_frames", "long"), "train.tsv:4"),
    "duplicate id": (edit(3, "id", "train_0-en"), "train.tsv:4"),
    "empty transcript": (edit(3, "src_text", ""), "train.tsv:4"),
    "missing column": (lambda w: rewrite(w, lambda text: text.replace("n_frames", "frames")), "n_frames"),
    "too few fields": (lambda w: rewrite(w, lambda text: text + "only\ttwo\n"), "train.tsv:34"),
    "not UTF-8": (
        lambda w: (w.data / "train.tsv").write_bytes(
            (w.data / "train.tsv").read_bytes().replace(b"red", b"\xff\xfe", 1)
        ),
        "UTF-8",
    ),
    "no manifest": (lambda w: (w.data / "train.tsv").unlink(), "there is no such manifest"),
    "no encoder": (lambda w: setattr(w, "encoder", w.data / "nothing.pt"), "nothing.pt"),
    "an encoder that is none": (lambda w: setattr(w, "encoder", w.data / "train.tsv"), "train.tsv"),
    "a checkpoint that is no encoder": (lambda w: save_foreign(w), "foreign.pt"),
    "no tokenizer": (lambda w: setattr(w, "tokenizer", w.data), "no tokenizer could be read"),
}


def five_milliseconds(world):
    write(np.zeros(80))(world.data / "audio" / "train_2.wav")
    edit(3, "n_frames", "80")(world)


def save_foreign(world):
    world.encoder = world.data / "foreign.pt"
    torch.save({"cfg": {"model": {"_name": "transformer"}, "task": {}}, "model": {"x": torch.zeros(1)}}, world.encoder)


def refused(arguments) -> str:
    """The sentence that training ends with."""
    with pytest.raises(Exception) as error:  # noqa: PT011
        train_here(arguments)
    sentence = sentence_of(error.value)
    assert sentence is not None, error.value
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("name", BAD)
def test_bad_input_stops_with_one_sentence(broken, tmp_path, name):
    spoil, mentioned = BAD[name]
    spoil(broken)
    assert mentioned in refused(pretrain_arguments(broken, tmp_path / "run", "--num-workers", 0))
    assert not (tmp_path / "run" / "checkpoint_last.pt").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_the_command_shows_the_sentence_alone(broken, tmp_path, workers):
    """Also where a data-loader process met the bad file."""
    (broken.data / "audio" / "train_2.wav").unlink()
    done = pretrain(broken, tmp_path / "run", "--num-workers", workers, check=False)
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "train_2.wav" in last
    assert "Traceback" not in done.stderr, done.stderr[-3000:]


def test_skip_bad_audio_skips_and_says_so(broken, tmp_path, caplog):
    (broken.data / "audio" / "train_2.wav").unlink()
    with caplog.at_level("INFO"):
        train_here(pretrain_arguments(broken, tmp_path / "run", "--skip-bad-audio", updates=4))
    assert "skipped 1 utterance" in caplog.text
    assert "num_updates 4" in caplog.text


def test_training_stops_at_a_damaged_recording_or_reads_what_is_left(broken, tmp_path, caplog):
    path = broken.data / "audio" / "train_2.wav"
    path.write_bytes(path.read_bytes()[:-5])
    sentence = refused(pretrain_arguments(broken, tmp_path / "run"))
    assert "train_2.wav: about 0.16 ms are lost: the file is truncated, it ends 5 bytes" in sentence
    assert sentence.endswith("or give --no-strict-audio to read what is left")
    with caplog.at_level("INFO"):
        train_here(pretrain_arguments(broken, tmp_path / "run", "--no-strict-audio", updates=4))
    assert "train_2.wav: about 0.16 ms are lost" in caplog.text
    assert "num_updates 4" in caplog.text


def test_a_layer_that_is_none_is_named(world, tmp_path):
    with pytest.raises(SparqleError, match="--encoder-layer top is neither"):
        train_here(pretrain_arguments(world, tmp_path / "run", "--encoder-layer", "top"))
    with pytest.raises(SparqleError, match="give 'last', 'weighted' or a number from 1 to 2"):
        train_here(pretrain_arguments(world, tmp_path / "run", "--encoder-layer", "3"))


def test_a_limit_names_what_it_leaves_out(world, tmp_path):
    with pytest.raises(
        SparqleError, match=r"longer than 2000 \(--max-source-positions 2000 or --max-t.*valid\.tsv:\d+ "
    ):
        train_here(pretrain_arguments(world, tmp_path / "run", "--max-source-positions", 2000))


def test_another_encoder_stops_a_resumed_run_with_one_sentence(world, tmp_path):
    from factories import save_tiny_hubert

    train_here(pretrain_arguments(world, tmp_path / "run", updates=1))
    save_tiny_hubert(tmp_path / "other.pt", seed=4)
    other = SimpleNamespace(**{**vars(world), "encoder": tmp_path / "other.pt"})
    sentence = refused(pretrain_arguments(other, tmp_path / "run", updates=2))
    assert sentence.startswith("the checkpoint was trained with another speech encoder")


def test_a_sentence_is_found_behind_other_errors():
    outer = RuntimeError("cannot load")
    outer.__context__ = SparqleError("a.tsv:3: found nothing; write something")
    assert sentence_of(outer) == "a.tsv:3: found nothing; write something"
    assert sentence_of(RuntimeError("no")) is None


def test_silence_trains_without_nan(world, tmp_path):
    data = tmp_path / "data"
    (data / "audio").mkdir(parents=True)
    for split in ("train", "valid"):
        rows = []
        for i, sentence in enumerate(tiny.sentences(8)):
            audio = data / "audio" / f"{split}_{i}.wav"
            wave = np.zeros(4000, dtype=np.float32)
            soundfile.write(audio, wave, 16000)
            rows.append(tiny.row(f"{split}_{i}", audio, wave, sentence))
        write_manifest(data / f"{split}.tsv", rows, tiny.COLUMNS)
    from factories import save_tiny_hubert

    save_tiny_hubert(tmp_path / "normalizing.pt", extractor_mode="layer_norm", normalize=True)
    silent = SimpleNamespace(**{**vars(world), "data": data, "encoder": tmp_path / "normalizing.pt"})
    train_here(pretrain_arguments(silent, tmp_path / "run", updates=2))
    state = torch.load(tmp_path / "run" / "checkpoint_last.pt", weights_only=True)["model"]
    assert all(value.isfinite().all() for value in state.values())


def test_the_package_is_imported_as_a_user_directory_from_anywhere(world, tmp_path):
    arguments = pretrain_arguments(world, tmp_path / "run", updates=1)
    arguments[arguments.index("sparqle_fairseq")] = ROOT / "sparqle_fairseq"
    command("fairseq-train", *arguments, cwd=tmp_path)
    assert (tmp_path / "run" / "checkpoint_last.pt").exists()
