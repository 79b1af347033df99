"""Reading text and writing files whole."""

from __future__ import annotations

import errno
import os

import pytest
import torch

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import (
    DiskFullError,
    PartFile,
    folder_written_whole,
    lines_of,
    read_json,
    read_lines,
    read_text,
    write_text,
    written_whole,
)


def test_a_line_ends_at_a_newline_and_nowhere_else():
    assert lines_of("a\u2028b\x85c\x0cd\r\ne\rf\n") == ["a\u2028b\x85c\x0cd", "e\rf"]
    assert lines_of("") == []
    assert lines_of("a\n\n") == ["a", ""]


def test_a_byte_order_mark_is_no_text_and_another_encoding_is_refused_with_its_line(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfeins\r\nzwei\n")
    assert read_lines(tmp_path / "a.txt") == ["eins", "zwei"]
    (tmp_path / "b.txt").write_bytes(b"eins\nz\xfcei\n")
    with pytest.raises(
        SparqleError, match=r"b\.txt:2: found a byte that is not UTF-8 \(0xfc\); save the list as UTF-8"
    ):
        read_text(tmp_path / "b.txt", "list")
    with pytest.raises(SparqleError, match="there is no such list"):
        read_text(tmp_path / "c.txt", "list")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le", "utf-32"])
def test_a_mark_of_another_unicode_form_is_believed(tmp_path, encoding):
    mark = "" if encoding in ("utf-16", "utf-32") else "\ufeff"  # the first two write it themselves
    (tmp_path / "a.txt").write_bytes((mark + "Grüße\r\n你好\n").encode(encoding))
    assert read_lines(tmp_path / "a.txt") == ["Grüße", "你好"]


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old\n")

    def half():
        with written_whole(path, "w") as file:
            file.write("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert path.read_text() == "old\n"
    assert os.listdir(tmp_path) == ["a.txt"]
    write_text(path, "new\n")
    assert path.read_text() == "new\n"
    plain = tmp_path / "b.txt"
    plain.touch()
    assert path.stat().st_mode == plain.stat().st_mode, "others may read it as any new file"


def test_a_folder_that_is_not_there_is_a_sentence(tmp_path):
    with pytest.raises(SparqleError, match=r"a\.txt could not be written \(.*No such file"):
        write_text(tmp_path / "gone" / "a.txt", "")


def test_an_error_about_another_file_is_not_told_of_the_one_that_is_written(tmp_path):
    def copy():
        with written_whole(tmp_path / "new.txt", "w") as file:
            file.write((tmp_path / "source.txt").read_text())

    with pytest.raises(FileNotFoundError, match=r"source\.txt"):
        copy()

    def gather():
        with folder_written_whole(tmp_path / "new") as folder:
            (folder / "a").write_text((tmp_path / "source.txt").read_text())

    with pytest.raises(FileNotFoundError, match=r"source\.txt"):
        gather()
    assert os.listdir(tmp_path) == []


class Full:
    """A file on a disk that is full after some bytes."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.file.write(data)

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_a_full_disk_is_a_sentence_of_its_own_also_behind_an_error_of_torch(tmp_path):
    def save(write):
        with written_whole(tmp_path / "x.pt") as file:
            write(Full(file, 5000))

    for write in (lambda file: file.write(bytes(6000)), lambda file: torch.save(torch.zeros(10_000), file)):
        with pytest.raises(DiskFullError, match=r"x\.pt could not be written, the disk is full \(No space"):
            save(write)
    assert os.listdir(tmp_path) == []


def test_a_folder_has_its_name_when_it_is_whole(tmp_path):
    def half():
        with folder_written_whole(tmp_path / "deep" / "new") as folder:
            (folder / "a").write_text("1")
            assert not (tmp_path / "deep" / "new").exists()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half()
    assert os.listdir(tmp_path / "deep") == []
    with folder_written_whole(tmp_path / "deep" / "new") as folder:
        (folder / "a").write_text("1")
    (tmp_path / "plain").mkdir()
    assert os.listdir(tmp_path / "deep") == ["new"]
    assert os.listdir(tmp_path / "deep" / "new") == ["a"]
    assert (tmp_path / "deep" / "new").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_name_that_is_taken_is_a_sentence_and_what_has_it_stays(tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "old").touch()

    def write():
        with folder_written_whole(tmp_path / "new"):
            pass

    with pytest.raises(SparqleError, match=r"new could not be written \(.*not empty"):
        write()
    assert [path.name for path in tmp_path.rglob("*")] == ["new", "old"]


def test_a_part_that_is_given_up_stays_where_it_is_wanted(tmp_path):
    for keep in (False, True):
        part = PartFile(tmp_path / "a.txt", "w", part=tmp_path / ".a.txt.part")
        with part.writing() as file:
            file.write("first line\n")
        part.abandon(keep)
        assert os.listdir(tmp_path) == ([".a.txt.part"] if keep else [])
    part = PartFile(tmp_path / "a.txt", "w", part=tmp_path / ".a.txt.part")
    part.finish()
    part.abandon()
    assert os.listdir(tmp_path) == ["a.txt"]


def test_what_is_not_json_is_named_with_its_line(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a":\n 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}
    (tmp_path / "a.json").write_text('{"a":\n 1')
    with pytest.raises(SparqleError, match=r"a\.json:2: the file is not JSON"):
        read_json(tmp_path / "a.json")


def test_a_folder_gives_way_only_to_a_complete_one(tmp_path, monkeypatch):
    path = tmp_path / "report"
    path.mkdir()
    (path / "old").touch()
    moves = []

    def write(fails=False):
        with folder_written_whole(path, replace=True) as folder:
            (folder / "new").touch()
            if fails:
                raise KeyboardInterrupt

    def second_fails(source, target, replace=os.replace):
        moves.append(target)
        if len(moves) == 2:
            raise OSError(5, "Input/output error")
        replace(source, target)

    with pytest.raises(KeyboardInterrupt):
        write(fails=True)
    assert os.listdir(path) == ["old"]
    monkeypatch.setattr(os, "replace", second_fails)
    with pytest.raises(SparqleError, match="could not be written"):
        write()
    assert os.listdir(path) == ["old"], "the old one is back"
    monkeypatch.undo()
    write()
    assert os.listdir(path) == ["new"]
    assert os.listdir(tmp_path) == ["report"]
