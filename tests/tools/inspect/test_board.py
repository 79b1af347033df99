"""--visualize-interval: texts, audio and pictures in tensorboard, and training none the wiser."""

from __future__ import annotations

import struct
from collections import defaultdict

import pytest
import torch
import torch.distributed as dist
from commands import finetune_arguments, pretrain_arguments, train_here
from fairseq.logging import progress_bar
from tensorboardX.proto.event_pb2 import Event

from sparqle_fairseq.data.manifest import read_manifest
from sparqle_fairseq.errors import SparqleError


def written(folder):
    """`{tag: {step: value}}` of all event files in a folder."""
    found = defaultdict(dict)
    for path in folder.glob("events.*"):
        data, at = path.read_bytes(), 0
        while at < len(data):  # length (8 bytes), its checksum (4), the event, its checksum (4)
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            at += length + 16
            for value in event.summary.value:
                found[value.tag][event.step] = value
    return found


@pytest.mark.parametrize(("arguments", "split"), [(pretrain_arguments, "valid"), (finetune_arguments, "dev2")])
def test_samples_are_written_and_training_is_not_disturbed(world, tmp_path, monkeypatch, arguments, split):
    # fairseq keeps its writers for the life of the process, and this process trains more than once.
    monkeypatch.setattr(progress_bar, "_tensorboard_writers", {})
    more = ["--dropout", 0.3] if arguments is pretrain_arguments else ["--speech-encoder", world.encoder]
    more += [] if arguments is pretrain_arguments else ["--arch", "sparqle_llm_tiny", "--dropout", 0.3]
    shown = ["--visualize-interval", 3, "--visualize-samples", 2, "--tensorboard-logdir", tmp_path / "board"]
    train_here(arguments(world, tmp_path / "with", *more, *shown, updates=6))  # 4 updates are an epoch of stage 1
    train_here(arguments(world, tmp_path / "without", *more, updates=6))
    found = written(tmp_path / "board" / "samples")
    manifest = read_manifest(world.data / f"{split}.tsv")
    for i in range(2):
        name = manifest.id(i)
        texts, pictures, sounds = (found[f"{name}/{kind}"] for kind in ("text/text_summary", "attention", "audio"))
        assert sorted(texts) == sorted(pictures) == [3, 6]
        text = texts[6].tensor.string_val[0].decode()
        assert manifest.row(i).tgt_text in text
        assert "hypothesis:" in text
        assert pictures[6].image.encoded_image_string.startswith(b"\x89PNG")
        assert pictures[6].image.width == 1200
        assert pictures[3].image.encoded_image_string != pictures[6].image.encoded_image_string, "the model learned"
        assert list(sounds) == [3], "the recording stays the same: once is enough"
        assert sounds[3].audio.encoded_audio_string.startswith(b"RIFF")
        assert sounds[3].audio.length_frames == manifest.n_frames[i]
    assert f"{manifest.id(2)}/attention" not in found
    assert written(tmp_path / "board" / "train"), "fairseq's scalars lie beside it"
    states = [
        torch.load(tmp_path / run / "checkpoint_last.pt", weights_only=True)["model"] for run in ("with", "without")
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


def test_only_the_first_process_writes(world, tmp_path, monkeypatch):
    from tiny_models import build_stage1

    from sparqle_fairseq.tasks.tensorboard import SampleBoard

    built = build_stage1(world)
    built.task.load_dataset("valid")
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    for rank in (1, 0):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        built.model.train()
        SampleBoard(str(tmp_path), 1).write(built.task, built.model, "valid", 1)
        assert built.model.training
        assert (tmp_path / "samples").exists() == (rank == 0)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "give its folder with --tensorboard-logdir"),
        (["--tensorboard-logdir", "{folder}", "--visualize-samples", 0], "--visualize-samples 0"),
    ],
)
def test_what_could_not_be_written_later_is_said_at_once(world, tmp_path, options, sentence):
    options = [str(option).format(folder=tmp_path) for option in options]
    with pytest.raises(SparqleError, match=sentence):
        train_here(pretrain_arguments(world, tmp_path / "run", "--visualize-interval", 2, *options, updates=1))


def test_off_costs_nothing(world):
    from tiny_models import build_stage1

    assert build_stage1(world).task._board is None
