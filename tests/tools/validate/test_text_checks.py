"""Texts, scripts, languages and pace: what is wrong is found, what only looks odd is left alone."""
# ruff: noqa: RUF001  (letters that look like others are what is tested)

from pathlib import Path

import pytest
from bad_rows import codes, findings, good_rows, write, write_raw
from hypothesis import given, settings
from hypothesis import strategies as st

from sparqle_fairseq.data.not_text import csv_quoted, without_csv_quotes
from sparqle_fairseq.tools.validate.characters import check_characters, cleaned
from sparqle_fairseq.tools.validate.languages import check_code, check_script
from sparqle_fairseq.tools.validate.pace import check_pace, spoken_form


def found(text: str) -> list[str]:
    return [code for code, _ in check_characters(text)]


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("The\x07 fog", "The fog"),
        ("The\x0bfog", "The fog"),
        ("The fog\u2028is here", "The fog is here"),
        ("zero\u200bwidth, soft\u00adhyphen\ufeff", "zerowidth, softhyphen"),
        ("don\x92t", "don’t"),  # Windows-1252 that was read as Latin-1
        ("\u202eevil", "evil"),
        ("ferry\u200bboat", "ferryboat"),
        ("a\u2060b", "ab"),
        ("渡\u200b船", "渡船"),
        ("ราคา\u200b100\xadบาท", "ราคา\u200b100บาท"),  # the soft hyphen alone
        ("שלום\u2063", "שלום"),
        ("\ufff9漢字\ufffaかんじ\ufffb", None),  # a reading beside a word: what of it is the text?
        ("logo \uf8ff", None),  # private use: nobody knows what it stands for
        ("\x00", None),  # nothing is left
    ],
)
def test_control_characters_are_found_and_cleaned(text: str, clean: str | None) -> None:
    assert found(text) == ["control-characters"]
    assert cleaned(text) == clean


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("<i>The</i> fog", "The fog"),
        ("The<br/>fog", "The fog"),
        ('<font color="#ff0000">The fog</font>', "The fog"),
        ("fog &amp; rain &#8217; &quot;", 'fog & rain ’ "'),
        ("&lt;i&gt;", None),  # an entity that hides a tag
        ("the <unk> fog", None),
        ("fog</s>", None),
        ("fog<|im_end|>", None),
        ("[SEP] fog", None),
        (r"{\an8}The fog", None),
        ("<!-- note -->", None),
    ],
)
def test_markup_is_found_and_only_formatting_is_removed(text: str, clean: str | None) -> None:
    assert found(text) == ["markup"]
    assert cleaned(text) == clean


@pytest.mark.parametrize(
    ("text", "clean", "named"),
    [
        ("cafe\u0301 noir", "café noir", "U+0065 U+0301 where NFC has U+00E9"),
        ("Tie\u0302\u0301ng Vie\u0323\u0302t", "Tiếng Việt", "U+0065 U+0302 U+0301 where NFC has U+1EBF"),
        ("\u1112\u1161\u11ab\u1100\u1173\u11af", "한글", "U+1112 U+1161 U+11AB where NFC has U+D55C"),
        ("\u212bngström", "Ångström", "U+212B where NFC has U+00C5"),  # a sign that is a letter
        ("\u0958लम", "क\u093cलम", "U+0958 where NFC has U+0915 U+093C"),  # NFC takes this one apart
    ],
)
def test_letters_and_accents_apart_are_found_and_joined(text: str, clean: str, named: str) -> None:
    assert [code for code, message in check_characters(text) if named in message] == ["text-not-nfc"]
    assert cleaned(text) == clean


@pytest.mark.parametrize("text", ["cafÃ©", "Itâ€™s", "Ð¿Ñ€Ð¸Ð²ÐµÑ‚", "fog \ufffd", "Â¿QuÃ© pasa?"])
def test_damaged_text_is_found_and_never_mended(text: str) -> None:
    assert found(text) == ["text-damaged"]
    assert cleaned(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "a < b and c > d, 3<4>2",
        "R&D; AT&T & co",
        "« CAFÉ », «À», MAÇÃ», 50 Ã 60",
        "می‌خواهم",  # Persian with U+200C
        "क्‍ष",  # Hindi with U+200D
        "(Laughter) [Music] {speech}",
        "日本語　全角",
        "ฉัน\u200bเป็น\u200bนักเรียน",  # Thai: where a line may break
        "ខ្ញុំ\u200bជា\u200bសិស្ស",  # Khmer
        "ຂ້ອຍ\u200bເປັນ\u200bນັກຮຽນ",  # Lao
        "ကျွန်တော်\u200bကျောင်းသား\u2060ပါ",  # Burmese, and where not
        "ราคา\u200b100\u200bUSD",
        "אמר \u2066John Smith\u2069 אתמול",  # Hebrew around a name
        "قال \u202aJohn (Jr.)\u202c أمس",
        "שלום\u200f!",
        "葛\U000e0100城市",  # a variant of a Han sign
        "❤️ 🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
        "ᠮᠣᠩᠭᠣᠯ\u180eᠠ",  # Mongolian's vowel separator
        "naïve façade — “quoted” … €5 ½ 👍🏽 👩‍🚀",
        "ÎLE À ÎLE, Ñandú, Ångström",
    ],
)
def test_good_text_is_left_alone(text: str) -> None:
    assert found(text) == []


@settings(max_examples=200, deadline=None)
@given(st.text(min_size=1))
def test_what_is_cleaned_has_nothing_left_to_find(text: str) -> None:
    clean = cleaned(text)
    assert clean is None or (clean and found(clean) == [])


@pytest.mark.parametrize(
    ("code", "meant"),
    [("english", "en"), ("French", "fr"), ("xx", None), ("e", None), ("zxx", None), ("und", None), ("qaa", None)],
)
def test_an_impossible_language_code_is_refused(code: str, meant: str | None) -> None:
    wrong = check_code(code)
    assert wrong is not None
    assert wrong[1] == meant


@pytest.mark.parametrize("code", ["en", "pt-BR", "zh-Hant", "en_US", "eng", "iw", "yue", "sr-Latn"])
def test_a_language_code_is_accepted(code: str) -> None:
    assert check_code(code) is None


@pytest.mark.parametrize(
    ("text", "code", "wrong"),
    [
        ("Привет, как дела?", "en", True),
        ("Привет, как дела?", "ru", False),
        ("How are you today?", "ru", True),
        ("NATO", "ru", False),  # too few Latin letters to tell
        ("你好世界", "en", True),
        ("今日はいい天気です", "ja", False),
        ("カタカナ", "ja", False),
        ("안녕하세요 여러분", "ja", True),
        ("안녕하세요 여러분", "ko", False),
        ("你好，世界", "zh-TW", False),
        ("今日はいい天気です", "zh", True),
        ("Dobar dan svima", "sr", False),
        ("Добар дан свима", "sr", False),
        ("Добар дан свима", "sr-Latn", True),
        ("สวัสดีครับ", "th", False),
        ("नमस्ते दुनिया", "hi", False),
        ("ça va très bien, garçon", "fr", False),
        ("12 + 34 = ???", "ru", False),
        ("iPhone を買いました、とても嬉しい", "ja", False),
    ],
)
def test_the_script_of_a_text_is_that_of_its_language(text: str, code: str, wrong: bool) -> None:
    assert (check_script(text, code, 0.5) is not None) is wrong


@pytest.mark.parametrize(
    ("text", "seconds", "wrong"),
    [
        ("The ferry is late because of the fog.", 2.5, False),
        ("The ferry is late because of the fog.", 0.2, True),
        ("The ferry is late.", 30, True),
        ("No.", 2.0, False),
        ("渡船因为大雾晚点了", 2.0, False),  # 9 signs
        ("渡船因为大雾晚点了" * 4, 2.0, True),
        ("フェリーは霧のため遅れています", 2.5, False),
        ("เรือข้ามฟากมาช้าเพราะหมอกลง", 2.5, False),  # Thai, no spaces
        ("เรือข้ามฟากมาช้าเพราะหมอกลง" * 5, 2.5, True),
        ("1985, 1990, 2001", 5.0, False),
        ("...", 9.0, False),
    ],
)
def test_nobody_speaks_that_fast_or_slowly(text: str, seconds: float, wrong: bool) -> None:
    assert (check_pace(text, seconds, 2, 30) is not None) is wrong


def test_texts_that_sound_the_same_are_the_same() -> None:
    assert spoken_form("The Ferry's LATE — again!") == spoken_form("the ferry’s late again")
    assert spoken_form("the ferry") != spoken_form("the fairy")


CELLS = {
    "language-code": {"tgt_lang": "xx"},
    "csv-quotes": {"src_text": '"""The ferry,"" she said, ""is late because of the fog."""'},
    "placeholder": {"tgt_text": "REMOVE"},
    "script": {"tgt_text": "Паром опаздывает из-за тумана сегодня."},
    "control-characters": {"src_text": "The ferry is\x07 late because of the fog."},
    "markup": {"tgt_text": "<i>Le ferry</i> est en retard à cause du brouillard."},
    "text-damaged": {"tgt_text": "Le ferry est en retard Ã©galement."},
    "text-not-nfc": {"tgt_text": "Le ferry est en retard a\u0300 cause du brouillard."},
    "duration-ratio": {"src_text": "The ferry is late because of the fog. " * 5},
    "text-missing": {"tgt_text": ""},
    "task-unknown": {"task": "translate"},
    "n-frames-invalid": {"n_frames": "3s"},
    "cell-empty": {"audio": ""},
    "duplicate-id": {"id": "u0"},
}


@pytest.mark.parametrize("code", CELLS)
def test_a_bad_cell_is_found_in_its_line(tmp_path: Path, code: str) -> None:
    rows = good_rows(tmp_path)
    rows[3] |= CELLS[code]
    assert codes(write_raw(tmp_path, rows)) == [(code, 5)]


def test_texts_are_needed_where_the_stage_needs_them(tmp_path: Path) -> None:
    rows = good_rows(tmp_path)
    rows[1]["src_text"] = rows[2]["tgt_text"] = ""
    path = write(tmp_path, rows)
    levels = {stage: {f.line: f.level for f in findings(path, stage=stage)} for stage in (None, 1, 2)}
    assert levels == {
        None: {3: "warning", 4: "warning"},
        1: {3: "error", 4: "warning"},
        2: {3: "warning", 4: "error"},
    }


def test_languages_that_the_command_names_count_where_the_manifest_has_none(tmp_path: Path) -> None:
    rows = [{k: row[k] for k in ("id", "audio", "n_frames", "tgt_text")} for row in good_rows(tmp_path)]
    path = write(tmp_path, rows)
    assert codes(path) == codes(path, defaults={"src_lang": "en", "tgt_lang": "fr"}) == []
    wrong = codes(path, defaults={"src_lang": "en", "tgt_lang": "ru"})
    assert wrong == [("script", line) for line in range(2, 7)]


def test_a_control_character_in_a_path_is_found(tmp_path: Path) -> None:
    rows = good_rows(tmp_path)
    rows[0]["audio"] = "audio/\x1bu0.wav"
    assert ("control-characters", 2) in codes(write_raw(tmp_path, rows))


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("#N/A", "error"), ("NaN", "error"), ("<NA>", "error"), ("\\N", "error"), ("[inaudible]", "error"),
        ("ignore_time_segment_in_scoring", "error"), ("nan", "warning"), ("NULL", "warning"), ("REMOVE", "warning"),
        ("[silence]", "warning"), ("(Laughter)", "warning"), ("TODO", "warning"), ("???", "warning"), ("-", "warning"),
        ("Nanna.", None), ("Null Toleranz", None), ("Remove it.", None), ("N.", None), ("No.", None), ("7", None),
    ],
)  # fmt: skip
def test_a_mark_in_place_of_a_text_is_found(tmp_path: Path, text: str, level: str | None) -> None:
    rows = good_rows(tmp_path)
    rows[2]["tgt_text"] = text
    found = [f for f in findings(write_raw(tmp_path, rows)) if f.code == "placeholder"]
    assert [(f.line, f.level) for f in found] == ([] if level is None else [(4, level)])


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ('"""He,"" she said."', '"He," she said.'),
        ('"""All of it."""', '"All of it."'),
        ('"All of it."', None),
        ('""', None),
        ('"One" and "two"', None),
        ('"A ""b" c"', None),
    ],
)
def test_only_quotation_marks_that_csv_wrote_are_found_and_taken_off(text: str, meant: str | None) -> None:
    assert csv_quoted(text) is (meant is not None)
    assert without_csv_quotes(text) == (text if meant is None else meant)


def test_a_clean_manifest_has_no_quotation_marks_of_csv(tmp_path: Path) -> None:
    rows = good_rows(tmp_path)
    rows[1]["src_text"] = '"""The ferry,"" she said, ""is late because of the fog."""'
    (finding,) = findings(write_raw(tmp_path, rows))
    assert finding.changes == {"src_text": '"The ferry," she said, "is late because of the fog."'}
