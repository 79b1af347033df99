"""Checkpoints are whole under their names, damage is found, and the newest whole one is taken."""

from __future__ import annotations

import errno
import os

import pytest
import torch
from fairseq import checkpoint_utils

from sparqle_fairseq.data import checkpoint_files
from sparqle_fairseq.data.checkpoint_files import copy_whole, save_whole, whole, write_whole
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.fairseq_fixes.resuming import newest_whole, remove_leftovers


def save(folder, name, updates, optimizer=True):
    path = folder / name
    state = {
        "model": {"weight": torch.arange(3000.0) + updates},
        "optimizer_history": [{"num_updates": updates}],
        "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": updates}},
    }
    if optimizer:
        state["last_optimizer_state"] = {"state": {}}
    checkpoint_utils.torch_persistent_save(state, str(path))
    return path


def flip(path, place=0.5):
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)


class FullDisk:
    """A file of a disk that has room for so many bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        self.room -= memoryview(data).nbytes
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.fixture
def full(monkeypatch):
    """Let the disk become full after 5,000 bytes of a file."""
    monkeypatch.setattr(
        checkpoint_files, "_Witness", lambda file, kind=checkpoint_files._Witness: kind(FullDisk(file, 5000))
    )


@pytest.mark.parametrize("what", ["save", "copy"])
def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(tmp_path, what, request):
    old, source = save(tmp_path, "checkpoint_last.pt", 1), save(tmp_path, "checkpoint_1_2.pt", 2)
    request.getfixturevalue("full")
    copy = checkpoint_utils.PathManager.copy
    with pytest.raises(SparqleError, match=r"checkpoint_last\.pt could not be written, the disk is full") as error:
        save(tmp_path, old.name, 2) if what == "save" else copy(str(source), str(old), overwrite=True)
    assert "\n" not in str(error.value)
    assert whole(str(old)).updates == 1
    assert sorted(os.listdir(tmp_path)) == ["checkpoint_1_2.pt", "checkpoint_last.pt"]


def test_another_failure_is_tried_again_from_the_start_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_files, "PAUSE_SECONDS", 0)
    calls = []

    def write(file):
        calls.append(file.write(b"half"))
        if len(calls) < 3:
            raise OSError(errno.EIO, "input/output error")

    write_whole(str(tmp_path / "x"), write)
    assert (tmp_path / "x").read_bytes() == b"half"
    calls.clear()
    monkeypatch.setattr(checkpoint_files, "ATTEMPTS", 2)
    with pytest.raises(SparqleError, match="the disk refused"):
        write_whole(str(tmp_path / "y"), write)
    assert not list(tmp_path.glob("y*"))


def test_a_copy_never_shows_half_a_file(tmp_path, monkeypatch):
    source, target = save(tmp_path, "a.pt", 2), save(tmp_path, "b.pt", 1)
    seen = []
    usual = os.replace
    monkeypatch.setattr(os, "replace", lambda one, two: (seen.append(whole(str(target)).updates), usual(one, two)))
    copy_whole(str(source), str(target))
    assert seen == [1]
    assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("damage", ["cut", "empty", "a flipped bit", "zeros at the end", "foreign"])
def test_damage_is_found_and_the_newest_whole_one_is_taken(tmp_path, caplog, damage):
    save(tmp_path, "checkpoint1.pt", 4)
    save(tmp_path, "checkpoint_2_6.pt", 6)
    save(tmp_path, "checkpoint_best.pt", 5)
    flip(save(tmp_path, "checkpoint_2_7.pt", 7))
    last = save(tmp_path, "checkpoint_last.pt", 8)
    content = last.read_bytes()
    if damage == "a flipped bit":
        flip(last)
    elif damage == "zeros at the end":
        last.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))
    else:
        last.write_bytes({"cut": content[:-900], "empty": b"", "foreign": b"PK\x03\x04 text"}[damage])
    found = newest_whole(tmp_path)
    assert found is not None
    assert (os.path.basename(found.path), found.updates) == ("checkpoint_2_6.pt", 6)
    assert len(caplog.messages) == 1
    for name in ("checkpoint_last.pt is damaged", "checkpoint_2_6.pt"):
        assert name in caplog.messages[0]


def test_a_missing_last_one_is_no_new_start(tmp_path, caplog):
    assert newest_whole(tmp_path) is None
    assert newest_whole(tmp_path / "nowhere") is None
    save(tmp_path, "checkpoint_1_3.pt", 3)
    assert newest_whole(tmp_path).updates == 3
    assert "checkpoint_last.pt is missing" in caplog.text


def test_where_none_is_whole_training_does_not_start(tmp_path):
    for name in ("checkpoint_last.pt", "checkpoint_best.pt", "checkpoint_1_3.pt"):
        flip(save(tmp_path, name, 3))
    with pytest.raises(SparqleError, match=r"checkpoint_last\.pt is damaged .* none of the other 2 there is whole"):
        newest_whole(tmp_path)


def test_one_without_its_optimizer_comes_last(tmp_path):
    save(tmp_path, "checkpoint_1_3.pt", 3)
    save(tmp_path, "checkpoint_1_9.pt", 9, optimizer=False)
    assert newest_whole(tmp_path).updates == 3


def test_what_was_half_written_is_removed_and_nothing_else(tmp_path):
    old = ("checkpoint_last.pt.tmp", "checkpoint.best_loss_2.1.pt.tmp")  # as versions before called them
    new = (".checkpoint_last.pt.x1y2.part", ".checkpoint.best_loss_2.1.pt.z3.part")
    kept = [".notes.part", "checkpoint_last.pt", "notes.tmp"]
    for name in (*old, *new, *kept):
        (tmp_path / name).write_bytes(b"")
    remove_leftovers(tmp_path)
    assert sorted(os.listdir(tmp_path)) == kept


def test_what_is_saved_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    order = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (order.append("sync"), sync(handle)))
    monkeypatch.setattr(os, "replace", lambda *names: (order.append("name"), replace(*names)))
    save_whole({}, str(tmp_path / "x.pt"))
    assert order[:2] == ["sync", "name"]
