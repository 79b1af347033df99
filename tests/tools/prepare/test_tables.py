"""Tables that people bring: every row is read as it was meant, or refused with its line; what is left out is named."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from asked import OWN, prepared, refused, sounds

BOTH = {"train_en": [("a", "Hi, you"), ("b", "Bye")]}
MEANT = {
    "semicolons": ("t.csv", b"audio;text\na.wav;Hi, you\nb.wav;Bye\n"),
    "a semicolon in a header of commas": ("t.csv", b'audio,text,notes; more\na.wav,"Hi, you",x\nb.wav,Bye,y\n'),
    "tabs in a csv file": ("t.csv", b"audio\ttext\na.wav\tHi, you\nb.wav\tBye\n"),
    "commas in a tsv file": ("t.tsv", b'audio,text\na.wav,"Hi, you"\nb.wav,Bye\n'),
    "a blank after the comma": ("t.csv", b'audio, text\na.wav, "Hi, you"\nb.wav, Bye\n'),
    "excel's separator line": ("t.csv", b'\xef\xbb\xbfsep=;\r\naudio;text\r\na.wav;"Hi, you"\r\nb.wav;Bye\r\n'),
    "excel's unicode text": ("t.txt", "audio\ttext\r\na.wav\tHi, you\r\nb.wav\tBye\r\n".encode("utf-16")),
    "utf-16, big end first": ("t.csv", b"\xfe\xff" + 'audio,text\na.wav,"Hi, you"\nb.wav,Bye\n'.encode("utf-16-be")),
    "empty cells to the right": ("t.csv", b'audio,text,,\na.wav,"Hi, you",,\nb.wav,Bye,,,,\n,,,\n\n'),
    "a column of row numbers": ("t.csv", b',audio,text\n0,a.wav,"Hi, you"\n1,b.wav,Bye\n'),
    "capitals in the header": ("t.csv", b'Audio,TEXT\na.wav,"Hi, you"\nb.wav,Bye\n'),
    "old line ends": ("t.csv", b'audio,text\ra.wav,"Hi, you"\rb.wav,Bye\r'),
    "every cell quoted in a tsv file": ("t.tsv", b'"audio"\t"text"\n"a.wav"\t"Hi, you"\n"b.wav"\t"Bye"\n'),
    "a line break in a tsv cell": ("t.tsv", b'audio\ttext\na.wav\t"Hi,\nyou"\nb.wav\tBye\n'),
    "json lines in a json file": ("t.json", b'{"audio":"a.wav","text":"Hi, you"}\n{"audio":"b.wav","text":"Bye"}\n'),
    "a list in a jsonl file": ("t.jsonl", b'[{"audio":"a.wav","text":"Hi, you"},\n{"audio":"b.wav","text":"Bye"}]'),
    "objects over several lines": (
        "t.jsonl",
        b'{\n"audio":"a.wav",\n"text":"Hi, you"}\n{"audio":"b.wav","text":"Bye"}',
    ),
    "packed": ("t.jsonl.gz", gzip.compress(b'{"audio":"a.wav","text":"Hi, you"}\n{"audio":"b.wav","text":"Bye"}\n')),
    "paths of windows": ("t.csv", b'audio,text\n.\\a.wav,"Hi, you"\n.\\b.wav,Bye\n'),
}


@pytest.mark.parametrize("case", MEANT)
def test_a_table_that_can_be_read_in_one_way_is_read_so(tmp_path: Path, case: str) -> None:
    name, content = MEANT[case]
    root = sounds(tmp_path / "r", "a.wav", "b.wav")
    (root / name).write_bytes(content)
    done = prepared(tmp_path / "out", "own-audio", root, "--table", root / name, *OWN)
    assert {split: [(i.strip("./"), text) for i, text in rows] for split, rows in done.texts().items()} == BOTH
    assert not done.left_out


REFUSED = {
    "a comma in a text": ("t.csv", "a.wav,Well, that is it", ":2: found too many cells, 3 ('a.wav', 'Well', "),
    "a semicolon in a text": ("t.csv", "audio;text\na.wav;Well; yes", ":2: found too many cells, 3"),
    "a tab in a text": ("t.tsv", "audio\ttext\na.wav\tWell\tyes", ":2: found too many cells, 3"),
    "a cell that is missing": ("t.csv", "audio,text,translation\nb.wav,Hi,Oi\na.wav,Hi", ":3: found too few cells, 2"),
    "the same in a tsv file": ("t.tsv", "audio\ttext\ttranslation\na.wav\tHi", ":2: found too few cells, 2"),
    "a quotation mark without its partner": (
        "t.csv",
        'a.wav,"Hello\nb.wav,Bye',
        ":2: found quotation marks that do not",
    ),
    "one that swallows a row": ("t.csv", 'a.wav,"Hello\nb.wav,Bye"', ":2: found a cell that goes on over line 3"),
    "text after a closing mark": ("t.csv", 'a.wav,"Hello" he said', ":2: found quotation marks that do not pair"),
    "a column twice": ("t.csv", "audio,text,Text\na.wav,Hi,Ho", ":1: found the column 'text' twice"),
    "a column without a name": ("t.csv", "audio,text,\na.wav,Hi,Oi", ":2: found 'Oi' in column 3, which has no name"),
    "a column misspelt": ("t.csv", "audio,text,tranlsation\na.wav,Hi,Oi", ":2: found the column 'tranlsation'; write"),
    "two columns for one use": ("t.csv", "audio,text,sentence\na.wav,Hi,Ho", ":2: found 'Hi' and 'Ho' in text and sen"),
    "no header": ("t.csv", "b.wav,Bye\na.wav,Hi", "t.csv: found the columns b.wav, Bye; it needs audio"),
    "latin-1": ("t.csv", b"a.wav,caf\xe9", ":2: found a byte that is not UTF-8 (0xe9); save the table as UTF-8"),
    "utf-16 without its mark": ("t.csv", "a.wav,Hi".encode("utf-16-le"), "found a NUL character"),
    "nothing": ("t.csv", "\n\n", "t.csv: found an empty table"),
    "a list for an object": (
        "t.jsonl",
        '{"audio":"b.wav","text":"x"}\n["a.wav","Hi"]',
        ':2: found \'["a.wav", "Hi"]\' wh',
    ),
    "a list for a text": ("t.jsonl", '{"audio":"a.wav","text":["Hi"]}', ":1: found a list in text"),
    "an object for a recording": (
        "t.json",
        '[\n{"audio":{"path":"a.wav"},"text":"Hi"}]',
        ":2: found an object in audio",
    ),
    "true for a text": ("t.json", '[{"audio":"a.wav","text":true}]', ":1: found true or false in text"),
    "a key twice": ("t.jsonl", '{"audio":"a.wav","text":"Hi","text":"Ho"}', ":1: found the key 'text' twice"),
    "a key misspelt": (
        "t.jsonl",
        '{"audio":"b.wav","text":"x"}\n{"audio":"a.wav","tex":"Hi","transation":"Oi"}',
        ":2: fou",
    ),
    "a comma missing": ("t.json", '[{"audio":"a.wav","text":"Hi"}\n{"audio":"b.wav"}]', ":2: cannot be read as JSON"),
    "cut off": ("t.json", '[{"audio":"a.wav","text":"Hi"},\n{"audio":"b.w', ":2: cannot be read as JSON"),
    "columns of objects": ("t.json", '{"audio":{"0":"a.wav"},"text":{"0":"Hi"}}', ":1: found an object in audio"),
    "no gzip": ("t.jsonl.gz", b"\x1f\x8b\x08 cut", "t.jsonl.gz: the table cannot be read"),
    "a length that is no number": ("t.csv", "audio,text,duration\na.wav,Hi,soon", ":2: found 'soon' in duration"),
    "a length that is infinite": (
        "t.json",
        '[{"audio":"a.wav","text":"Hi","duration":Infinity}]',
        "found 'Infinity' in dur",
    ),
    "an end before its start": (
        "t.csv",
        "audio,text,start,end\na.wav,Hi,1,0.5",
        ":2: found the end 0.5 before the start 1",
    ),
    "a language that is none": (
        "t.csv",
        "audio,text,translation,tgt_lang\na.wav,Hi,Oi,2",
        ":2: found '2', which is no ",
    ),
    "a language's name": ("t.csv", "audio,text,translation,tgt_lang\na.wav,Hi,Oi,French", "write for example fr"),
    "a json line without its end": (
        "t.jsonl",
        '{"audio":"b.wav","text":"x"}\n{"audio":"a.wav"\n',
        ":2: cannot be read as",
    ),
    "a spreadsheet": (
        "t.csv",
        b"PK\x03\x04 xl/workbook.xml",
        "t.csv: is a spreadsheet or a zip file; save the table as csv",
    ),
    "a recording that is not there": ("t.csv", "b.wav,Bye\nmissing.wav,Hi", ":3: "),
    "a row twice": ("t.csv", "a.wav,Hi\na.wav,Hi", ":3: found the utterance 'a', which "),
    "a split that is none": ("t.csv", "audio,text,split\na.wav,Hi,held-out", ":2: found the split 'held-out'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_row_that_does_not_fit_is_refused_with_its_line(tmp_path: Path, capsys, case: str) -> None:
    name, content, sentence = REFUSED[case]
    root = sounds(tmp_path / "r", "a.wav", "b.wav")
    data = content if isinstance(content, bytes) else content.encode()
    if data.startswith((b"a.wav", b"b.wav", b"a\0")):
        header = "audio,text\n".encode("utf-16-le") if data.startswith(b"a\0") else b"audio,text\n"
        data = data if case == "no header" else header + data
    (root / name).write_bytes(data)
    said = refused(capsys, tmp_path / "out", "own-audio", root, *OWN)
    assert sentence in said
    assert f"{root}/{name}" in said


def test_what_a_row_lacks_is_counted_and_named(tmp_path: Path) -> None:
    root = sounds(tmp_path / "r", "a.wav", "b.wav", "c.wav", "d.wav")
    (root / "t.csv").write_text('audio,text,translation,mood\na.wav,Hi,"Salut, toi",gay\nb.wav,,,\nc.wav,Ho,,sad\n')
    done = prepared(tmp_path / "out", "own-audio", root, *OWN, "--left-out", tmp_path / "left.tsv")
    assert done.texts() == {"train_en": [("a", "Hi"), ("c", "Ho")], "train_fr": [("a", "Salut, toi")]}
    assert done.left_out == {
        "row without a text": 1, "row without a translation": 1, "recording that no row names": 1,
    }  # fmt: skip
    assert f"{root}/t.csv:3 (b.wav) (row without a text)" in done.named
    assert done.notes == [f"{root}/t.csv: no use is made of the columns mood"]
    lines = (tmp_path / "left.tsv").read_text().splitlines()
    assert lines[0] == "manifest\twhat\treason"
    assert f"r\t{root}/d.wav\trecording that no row names" in lines
    assert len(lines) == 4


def test_the_screen_counts_what_is_left_out_beside_the_rows(tmp_path: Path, capsys) -> None:
    from sparqle_fairseq.cli.main import main

    root = sounds(tmp_path / "r", *(f"{k}.wav" for k in range(9)))
    (root / "t.csv").write_text("audio,text\n0.wav,Hi\n")
    assert main(["prepare", "own-audio", str(root), *map(str, OWN), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr()
    assert [line.split() for line in printed.out.splitlines() if line.strip()][1:] == [
        ["train_en.tsv", "1", "0.00", "0"], ["r", "8"],
    ]  # fmt: skip
    assert "r: left out 8 recording that no row names:" in printed.err
    assert "--left-out FILE names all that was left out" in printed.err


def test_a_recording_is_found_under_the_ending_that_it_has(tmp_path: Path) -> None:
    root = sounds(tmp_path / "r", "a.wav", "take.01.flac")
    (root / "t.csv").write_text("audio,text\na,Hi\ntake.01.wav,Ho\n")
    done = prepared(tmp_path / "out", "own-audio", root, *OWN)
    assert [Path(row.audio).name for row in done.rows("train_en")] == ["a.wav", "take.01.flac"]
    assert not done.left_out
    assert done.notes == ["2 recordings were found under another ending than the table has"]


@pytest.mark.parametrize(
    ("table", "expected", "corrected"),
    [
        ("audio,text,duration\na.wav,Hi,2.0\n", ("a.wav", 32000), 0),
        ("audio,text,duration\na.wav,Hi,2.004\n", ("a.wav", 32000), 0),
        ("audio,text,duration\na.wav,Hi,1.6\n", ("a.wav", 32000), 1),
        ("audio,text,duration\na.wav,Hi,2.5\n", ("a.wav", 32000), 1),
        ("audio,text,n_frames\na.wav,Hi,33000\n", ("a.wav", 32000), 1),
        ("audio,text,start,duration\na.wav,Hi,0,1.9\n", ("a.wav", 32000), 1),
        ("audio,text,start,end\na.wav,Hi,0,1\n", ("a.wav:0:8000", 16000), 0),
        ("audio,text,start,duration\na.wav,Hi,1,1.3\n", ("a.wav:8000:8000", 16000), 1),
    ],
)
def test_a_length_is_that_of_the_file_and_a_little_difference_is_counted(
    tmp_path: Path, table, expected, corrected
) -> None:
    root = sounds(tmp_path / "r", "a.wav")
    (root / "t.csv").write_text(table)
    done = prepared(tmp_path / "out", "own-audio", root, *OWN)
    (row,) = done.rows("train_en")
    assert (Path(row.audio).name, row.n_frames) == expected
    assert done.corrected == corrected


@pytest.mark.parametrize(
    "table",
    [
        "audio,text,duration\na.wav,Hi,1.4\n",
        "audio,text,duration\na.wav,Hi,2.6\n",
        "audio,text,n_frames\na.wav,Hi,16000\n",
        "audio,text,start,duration\na.wav,Hi,0,1\n",
        "audio,text,start,end\na.wav,Hi,1,2.6\n",
    ],
)
def test_a_length_that_is_not_the_files_is_refused_and_cuts_nothing(tmp_path: Path, capsys, table) -> None:
    root = sounds(tmp_path / "r", "a.wav", "b.wav")
    (root / "t.csv").write_text(table)
    sentence = refused(capsys, tmp_path / "out", "own-audio", root, *OWN)
    assert f"{root}/t.csv:2, utterance a" in sentence
    assert "2.00" in sentence
    assert "--skip-bad-audio leaves such utterances out" in sentence
    (root / "t.csv").write_text(table + "b.wav,Ho" + "," * (table.split("\n")[0].count(",") - 1) + "\n")
    done = prepared(tmp_path / "out", "own-audio", root, *OWN, "--skip-bad-audio")
    assert done.texts()["train_en"][0][1] == "Ho"
    assert done.left_out == {"another length than stated": 1}


def test_marks_for_nothing_are_no_texts_and_words_like_them_are_said(tmp_path: Path) -> None:
    root = sounds(tmp_path / "r", "a.wav", "b.wav", "c.wav", "d.wav")
    (root / "t.csv").write_text("audio,text,translation\na.wav,Hi,#N/A\nb.wav,Bye,NULL\nc.wav,\\N,Oui\nd.wav,Ho,Oh\n")
    done = prepared(tmp_path / "out", "own-audio", root, *OWN)
    assert done.texts() == {
        "train_en": [("a", "Hi"), ("b", "Bye"), ("d", "Ho")],
        "train_fr": [("b", "NULL"), ("d", "Oh")],
    }
    assert done.left_out == {
        "a mark for a transcript (\\N)": 2, "a mark for a translation (#N/A)": 1,
    }  # fmt: skip
    assert done.notes == ["kept 1 texts that may be marks of a table ('NULL' 1 times); `sparqle validate` names them"]
