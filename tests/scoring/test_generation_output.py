"""What fairseq-generate printed is read back as it was, whatever characters a text holds."""

from __future__ import annotations

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from sparqle_fairseq.cli.main import app
from sparqle_fairseq.data.one_line import from_one_line, one_line
from sparqle_fairseq.scoring.outputs import read_generation, read_results
from sparqle_fairseq.scoring.scores import score
from sparqle_fairseq.tools.merge_results import lines_in_order

GENERATED = """2026-01-01 | INFO | fairseq_cli.generate | loading model(s)
S-1\tsource
T-1\tthe tide turns at noon
H-1\t-0.1\tTHE TIDE
D-1\t-0.1\tthe tide turned at noon
P-1\t-0.1 -0.1
D-1\t-0.9\ta worse one
T-10\twait for the ferry, please
D-10\t-0.3\t
T-0\tA storm is coming
D-0\t-0.2\ta storm , is coming now
Generate test with beam=5: BLEU4 = 1.0
"""
ENDS = ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"]


def test_generation_is_read_by_row_with_the_best_hypothesis(tmp_path):
    (tmp_path / "x.txt").write_text(GENERATED, encoding="utf-8")
    assert read_generation(tmp_path / "x.txt") == [
        (0, "A storm is coming", "a storm , is coming now"),
        (1, "the tide turns at noon", "the tide turned at noon"),
        (10, "wait for the ferry, please", ""),
    ]


def test_a_row_without_reference_is_one_without(tmp_path):
    (tmp_path / "x.txt").write_text("T-0\ta\nD-0\t-1\tb\nT-1\t \nD-1\t-1\tc\nD-2\t-1\td\n", encoding="utf-8")
    assert read_generation(tmp_path / "x.txt") == [(0, "a", "b"), (1, None, "c"), (2, None, "d")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("T-0\ta\nT-1\tb\nD-0\t-0.1\ta\n", r"1 utterance.* lack a hypothesis .* the first is 1"),
        ("D-0\t-0.1\ta\n", "lack a reference"),
        ("T-0\ta\nD-0\t-0.1\ta\nT-0\ta\n", "line 3: utterance 0 comes twice"),
        ("T-0\ta\nD-0\t-0.1\n", "line 2 is cut off"),
        ("T-0\ta\nD-0", "line 2 is cut off"),
        ("nothing\n", "no T- and D- lines"),
    ],
)
def test_incomplete_generation_is_refused(tmp_path, text, message):
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_generation(tmp_path / "x.txt")


def test_text_that_is_not_utf8_is_named_with_its_line(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"T-0\ta\nD-0\t-1\tcaf\xe9\n")
    with pytest.raises(ValueError, match=r"x.txt:2: found a byte that is not UTF-8"):
        read_generation(tmp_path / "x.txt")


@given(st.text(st.sampled_from([*"ab\t\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029LP", *"\u2409\u240a\u241b\u2424"])))
def test_any_text_is_one_line_and_comes_back(text):
    line = one_line(text)
    assert line.splitlines() in ([line], [])
    assert "\t" not in line
    assert from_one_line(line) == text


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="␉␊␋␌␍␛␜␝␞␤")))
def test_a_text_without_line_ends_is_printed_as_it_is(text):
    assert one_line(text) == text


@pytest.mark.parametrize("end", ENDS)
def test_merged_shares_hold_whole_texts(tmp_path, end):
    """Also where another program wrote U+2028 as it is: a line ends at its line feed."""
    text = f"Bonjour{end}le monde."
    raw = text if end in "\u2028\u2029\x85\v\f\x1c\x1d\x1e" else one_line(text)
    for i in range(2):
        lines = f"T-{i}\t{raw}\nH-{i}\t-1\t{raw}\nD-{i}\t-1\t{raw}\nP-{i}\t-1\n"
        (tmp_path / f"generate-{i}.txt").write_bytes(lines.encode())
    merged = tmp_path / "all.txt"
    words = ["merge-results", *(str(tmp_path / f"generate-{i}.txt") for i in range(2)), "-o", str(merged)]
    CliRunner().invoke(app, words, catch_exceptions=False)
    assert read_generation(merged) == [(i, text, text) for i in range(2)]


def test_rambling_after_a_first_line_that_is_right_counts(tmp_path):
    """An output whose hypotheses were printed with their line ends: both copies go on with the same lines."""
    rambling = "the tide turns\n\nTranscribe the speech: a storm\nT minus ten"
    (tmp_path / "generate-x.txt").write_text(
        f"T-0\tthe tide turns\nH-0\t-1\t{rambling}\nD-0\t-1\t{rambling}\nP-0\t-1\n2026 | INFO | log\n"
        "T-1\ta storm\nH-1\t-1\ta storm\n2026-01-01 | INFO | a log line\nD-1\t-1\ta storm\n100% of it\nP-1\t-1\n",
        encoding="utf-8",
    )
    rows = read_generation(tmp_path / "generate-x.txt")
    assert rows == [(0, "the tide turns", rambling), (1, "a storm", "a storm")]
    assert score([row.reference for row in rows], [row.hypothesis for row in rows], ["wer"])["wer"].value > 100
    merged = lines_in_order(read_results([tmp_path / "generate-x.txt"]))
    assert len(merged) == 8
    assert f"D-0\t-1\t{one_line(rambling)}" in merged


def test_a_share_that_is_cut_off_is_not_merged(tmp_path):
    (tmp_path / "generate-x.txt").write_text("T-0\ta\nH-0\t-1\tb\nD-0")
    with pytest.raises(ValueError, match=r"line 3 is cut off \(D-0\)"):
        read_results([tmp_path / "generate-x.txt"])
