"""Reading text and writing files whole."""

from __future__ import annotations

import os

import pytest

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import lines_of, read_lines, read_text, write_text, written_whole


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
