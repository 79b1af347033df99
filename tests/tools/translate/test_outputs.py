"""Names of output files, and that nothing unfinished has a finished name."""

from __future__ import annotations

import json

import pytest

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.tools.translate.formats import Line
from sparqle_fairseq.tools.translate.outputs import FileOutput, JsonOutput, format_of, output_paths
from sparqle_fairseq.tools.translate.recordings import Recording
from sparqle_fairseq.tools.translate.translator import Target

FRENCH, GERMAN = Target("translation", "fr"), Target("translation", "de")
TALK = Recording("/in/talk.wav", "talk.wav", "talk")
OTHER = Recording("/in/day2/talk.wav", "day2/talk.wav", "day2/talk")


def names(recordings, targets, output, folder, tmp_path):
    paths = output_paths(recordings, targets, tmp_path / output, folder, "srt", False)
    return [str(path.relative_to(tmp_path)) for path in paths.values()]


def test_one_text_has_the_name_that_was_given(tmp_path):
    assert names([TALK], [FRENCH], "out.srt", False, tmp_path) == ["out.srt"]


def test_several_languages_are_in_the_name(tmp_path):
    assert names([TALK], [FRENCH, GERMAN], "out.srt", False, tmp_path) == ["out.fr.srt", "out.de.srt"]
    assert names([TALK], [FRENCH, GERMAN], "out", False, tmp_path) == ["out.fr.srt", "out.de.srt"]


def test_in_a_folder_recordings_keep_their_names_and_folders(tmp_path):
    assert names([TALK, OTHER], [FRENCH], "out", True, tmp_path) == ["out/talk.fr.srt", "out/day2/talk.fr.srt"]


def test_what_exists_is_replaced_with_force_only(tmp_path):
    (tmp_path / "out.srt").write_text("mine")
    with pytest.raises(SparqleError, match=r"out\.srt exists; name another --output, or replace it with --force"):
        output_paths([TALK], [FRENCH], tmp_path / "out.srt", False, "srt", False)
    assert output_paths([TALK], [FRENCH], tmp_path / "out.srt", False, "srt", True)
    with pytest.raises(SparqleError, match="is a file, but there are several recordings"):
        output_paths([TALK, OTHER], [FRENCH], tmp_path / "out.srt", True, "srt", True)


def test_a_recording_is_never_replaced(tmp_path):
    path = tmp_path / "talk.wav"
    path.write_bytes(b"sound")
    with pytest.raises(SparqleError, match="is a recording to be translated"):
        output_paths([Recording(str(path), "talk.wav", "talk")], [FRENCH], path, False, "txt", True)


def test_the_format_is_that_of_the_ending_unless_named(tmp_path):
    assert format_of(tmp_path / "a.vtt", None) == "vtt"
    assert format_of(tmp_path / "a.vtt", "srt") == "srt"
    assert format_of(tmp_path / "a.text", None) == format_of(None, None) == "txt"


def test_a_file_has_its_name_when_it_is_finished_and_not_before(tmp_path):
    path = tmp_path / "new" / "talk.fr.txt"
    output = FileOutput({("talk", "fr"): path}, [FRENCH], "txt")
    output.begin(TALK)
    output.add([Line(0, 1, "Bonjour.", 0.0)])
    assert not path.exists()
    output.end()
    assert path.read_text() == "Bonjour.\n"
    assert list(path.parent.iterdir()) == [path]


def test_what_was_done_of_a_failed_recording_stays_under_its_temporary_name(tmp_path):
    path = tmp_path / "talk.fr.txt"
    output = FileOutput({("talk", "fr"): path}, [FRENCH], "txt")
    output.begin(TALK)
    assert output.fail("damaged") is None
    assert list(tmp_path.iterdir()) == []
    output.begin(TALK)
    output.add([Line(0, 1, "Bonjour.", 0.0)])
    assert output.fail("damaged") == str(tmp_path / ".talk.fr.txt.part")
    assert not path.exists()


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    output = FileOutput({("talk", "fr"): tmp_path / "file" / "a.txt"}, [FRENCH], "txt")
    with pytest.raises(SparqleError, match=r"a\.txt cannot be written"):
        output.begin(TALK)


def test_json_on_standard_output_is_one_array_also_where_a_recording_failed():
    said: list[str] = []
    output = JsonOutput(said.append, [FRENCH, GERMAN])
    output.begin(TALK)
    output.add([Line(0, 1, "Bonjour.", 0.0), Line(0, 1, "Hallo.", 0.0)])
    output.end()
    output.begin(OTHER)
    output.fail("damaged")
    output.close()
    read = json.loads("".join(said))
    assert [document.get("language") for document in read] == ["fr", "de", None]
    assert read[1]["segments"][0]["text"] == "Hallo."
    assert read[2] == {"audio": "day2/talk.wav", "error": "damaged"}
    said.clear()
    JsonOutput(said.append, [FRENCH]).close()
    assert json.loads("".join(said)) == []
