"""Subtitles can be read: two lines of some letters, some seconds, cut between words, in the time of their segment."""
# ruff: noqa: RUF001

from __future__ import annotations

from itertools import pairwise

import pysubs2
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from sparqle_fairseq.cli.main import app
from sparqle_fairseq.tools.translate.cues import CueRule, cues_of, text_width
from sparqle_fairseq.tools.translate.formats import About, Line, open_format

LONG = (
    "Chaque jour, Anna boit du thé à l'hôtel avec sa tante, qui habite près de la gare. Mon frère va à l'église le "
    "dimanche, et l'année dernière il y est allé tous les jours ! Il y a un chat noir à côté de l'hôtel : tu le vois ?"
)
TEXTS = {
    "French": (LONG, 20.0),
    "Chinese": ("渡船因为大雾晚点了，所以我们在码头等了三个小时。" * 4, 25.0),
    "Japanese": ("渡し船は霧のため遅れています。「お待ちください」と彼は言いました。" * 3, 20.0),
    "Thai": ("เรือข้ามฟากมาช้าเพราะหมอกลงหนามากในตอนเช้าวันนี้" * 3, 15.0),
    "mixed": ("我们用iPhone拍照，then we go home in the rain，因为今天天气不好。" * 3, 18.0),
    "fast": (LONG * 2, 4.0),
    "slow": ("Oui, mais non.", 20.0),
    "short": ("Oui.", 1.0),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_cue_has_two_lines_some_seconds_and_whole_words(name):
    text, seconds = TEXTS[name]
    cues = cues_of(text, 10.0, 10.0 + seconds, CueRule())
    for cue in cues:
        assert 1 <= len(cue.lines) <= 2
        assert all(0 < text_width(line) <= 42 for line in cue.lines)
        assert 0 < cue.end - cue.start <= 7 + 1e-9
    assert all(before.end <= after.start for before, after in pairwise(cues))
    assert cues[0].start == 10
    lines = [line for cue in cues for line in cue.lines]
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")  # all of it, once, in its order
    if name in ("French", "fast"):
        assert [word for line in lines for word in line.split()] == text.split()
    if name != "slow":
        assert cues[-1].end == 10 + seconds
        assert all(before.end == after.start for before, after in pairwise(cues))


def test_cues_end_with_sentences_where_they_can_and_are_few():
    cues = cues_of(LONG, 0, 20, CueRule())
    assert len(cues) == 4
    assert cues[-1].lines[-1].endswith("tu le vois ?")
    assert sum(cue.lines[-1].endswith((".", "!", "?", ",")) for cue in cues) >= 3


def test_no_line_begins_with_a_mark_that_closes_nor_ends_with_one_that_opens():
    for name in ("Chinese", "Japanese", "mixed", "French"):
        for width in range(10, 43, 3):
            for cue in cues_of(TEXTS[name][0], 0.0, TEXTS[name][1], CueRule(width)):
                assert not any(line[0] in "，。」、？！!?:;,." or line[-1] in "「(" for line in cue.lines), cue


def test_a_word_is_never_split_and_what_holds_words_together_does():
    url = "https://example.org/" + "a" * 60
    cues = cues_of(f"Voir {url} demain", 0, 6, CueRule())
    assert url in [line for cue in cues for line in cue.lines]
    lines = [line for cue in cues_of("Il dit 10\u00a0000\u202f% " * 9, 0, 14, CueRule(12)) for line in cue.lines]
    assert sum("10\u00a0000\u202f%" in line for line in lines) == 9


def test_thai_breaks_where_it_says_before_it_breaks_elsewhere():
    words = ["ฉัน", "เป็น", "นักเรียน", "ที่", "โรงเรียน"] * 3
    lines = [line for cue in cues_of("\u200b".join(words), 0, 8, CueRule(12)) for line in cue.lines]
    assert "".join(lines) == "".join(words)
    rest = list(words)
    for line in lines:  # each line is some whole words
        taken = ""
        while taken != line:
            taken += rest.pop(0)
            assert line.startswith(taken)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.text(st.sampled_from("ab é渡，。ก่"), min_size=1, max_size=9), min_size=1, max_size=40).map(" ".join),
    st.floats(0.05, 60),
    st.integers(10, 60),
)
def test_any_text_fills_its_time_in_order(text, seconds, width):
    cues = cues_of(text, 1.0, 1.0 + seconds, CueRule(width))
    assert "".join(line for cue in cues for line in cue.lines).replace(" ", "") == text.replace(" ", "")
    assert all(len(cue.lines) <= 2 and cue.start < cue.end <= cue.start + 7 + 1e-9 for cue in cues)
    assert all(before.end <= after.start for before, after in pairwise(cues))
    assert all(cue.start >= 1 and cue.end <= 1 + seconds for cue in cues)


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_players_read_the_cues(form):
    document = open_format(form, CueRule())
    lines = [Line(0, 20, LONG, 0.0), Line(20.5, 22, "Oui & --> <non>", 0.0), Line(23, 24, " \n", 0.0)]
    text = document.head(About("a", "fr", "translation")) + "".join(map(document.line, lines)) + document.tail()
    read = pysubs2.SSAFile.from_string(text, format_=form)
    assert len(read) == 5
    assert (read[0].start, read[3].end, read[4].start) == (0, 20000, 20500)
    assert " ".join(event.plaintext.replace("\n", " ") for event in read[:4]) == LONG
    if form == "srt":
        assert [line for line in text.split("\n") if line.isdecimal()] == list("12345")


def test_cues_that_are_off_have_no_size():
    done = CliRunner().invoke(app, ["translate", "x.wav", "--model", "y", "--no-cues", "--cue-width", "30"])
    assert "leave out --no-cues" in str(done.exception or done.output) + done.output
