"""BLEU's tokens, words and characters in languages that put no spaces between words, and in texts of several forms."""
# ruff: noqa: RUF001

from __future__ import annotations

import unicodedata

import pytest
import sacrebleu
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from sparqle_fairseq.cli.main import app
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.scoring import languages
from sparqle_fairseq.scoring.error_rates import character_errors, characters, word_errors, words
from sparqle_fairseq.scoring.languages import choose_tokenizers, of_language
from sparqle_fairseq.scoring.normalise import normalised
from sparqle_fairseq.scoring.scores import score

CHINESE = ["渡船因为大雾晚点了。", "今天天气很好，我们去公园吧。"]
CHINESE_WRONG = ["渡船因为大雾晚点", "今天天气很好，我们去公园。"]
THAI = ["เรือข้ามฟากมาช้าเพราะหมอกลง", "วันนี้อากาศดีมาก"]
THAI_WRONG = ["เรือข้ามฟากมาเพราะหมอกลง", "วันนี้อากาศดี"]


@pytest.mark.parametrize(
    ("code", "tokenizer"),
    [
        *[(code, "zh") for code in ("zh", "zh-CN", "zh-Hans", "zh_TW", "cmn", "yue", "cmn_hans_cn", "lzh", "wuu")],
        *[(code, "ja-mecab") for code in ("ja", "jpn", "ja_jp")],
        *[(code, "ko-mecab") for code in ("ko", "kor")],
        *[(code, "char") for code in ("th", "km", "lo", "my", "bo", "dz", "shn", "tha")],
        *[(code, "13a") for code in ("en", "fr", "ar", "hi", "vi", "ru", "zh-Latn", "pt-BR")],
        ("english", None),
        ("xx", None),
    ],
)
def test_a_language_has_its_tokenizer(code, tokenizer):
    assert of_language(code) == tokenizer


@pytest.mark.parametrize(
    ("texts", "rows"),
    [
        (CHINESE, ["zh", "zh"]),
        (THAI, ["char", "char"]),
        (["私は学生です。", "東京"], ["ja-mecab"] * 2),  # Han alone, among Japanese
        (["나는 학생이다."], ["ko-mecab"]),
        (["the tide", CHINESE[0]], ["13a", "zh"]),
        ([*["渡船"] * 10, "OK"], ["zh"] * 11),
        (["我用iPhone手机拍照"], ["zh"]),
        (["Il a dit 你好 à tout le monde"], ["13a"]),
        (["ខ្ញុំ\u200bជា\u200bសិស្ស"], ["char"]),
        (["12:30!", None], ["13a"] * 2),
    ],
)
def test_without_a_language_the_script_decides(monkeypatch, texts, rows):
    monkeypatch.setattr(languages, "_installed", lambda name: name)
    assert list(choose_tokenizers(texts).rows) == rows


def test_a_wrong_language_does_not_make_words_of_chinese():
    assert choose_tokenizers(CHINESE, "en").rows == ("zh", "zh")
    assert choose_tokenizers(["the tide", "渡船"], ["en", "zh"]).rows == ("13a", "zh")


def test_without_its_package_japanese_is_scored_by_characters_and_that_is_said(monkeypatch):
    usual = languages.load_tokenizer

    def missing(name):
        if name == "ja-mecab":
            raise SparqleError("not there")
        return usual(name)

    monkeypatch.setattr(languages, "load_tokenizer", missing)
    languages._installed.cache_clear()
    try:
        chosen = choose_tokenizers(["私は学生です。"], "ja")
        assert chosen.rows == ("char",)
        assert 'pip install "sparqle-fairseq[ja]"' in chosen.notes[0]
        assert "tok:char" in score(["私は学生です。"], ["私は学生。"], ["bleu"], languages="ja")["bleu"].signature
    finally:
        languages._installed.cache_clear()


@pytest.mark.parametrize(
    ("code", "text"), [("ja", "渡し船は霧のため遅れています。"), ("ko", "배는 안개 때문에 늦습니다.")]
)
def test_with_its_package_it_is_sacrebleus(code, text):
    pytest.importorskip({"ja": "MeCab", "ko": "mecab_ko"}[code])
    expected = sacrebleu.corpus_bleu([text[2:]], [[text]], tokenize=f"{code}-mecab").score
    found = score([text], [text[2:]], ["bleu"])["bleu"]
    assert found.value == pytest.approx(expected)
    assert f"tok:{code}-mecab" in found.signature


@pytest.mark.parametrize(
    ("references", "hypotheses", "tokenizer"), [(CHINESE, CHINESE_WRONG, "zh"), (THAI, THAI_WRONG, "char")]
)
def test_bleu_is_sacrebleus_with_the_languages_tokenizer(references, hypotheses, tokenizer):
    bleu = score(references, hypotheses, ["bleu"])["bleu"]
    assert bleu.value == pytest.approx(sacrebleu.corpus_bleu(hypotheses, [references], tokenize=tokenizer).score)
    assert f"|tok:{tokenizer}|" in bleu.signature
    words_of_it = score(references, hypotheses, ["bleu"], tokenizer="13a")["bleu"]
    assert words_of_it.value == pytest.approx(sacrebleu.corpus_bleu(hypotheses, [references]).score)
    assert words_of_it.value < 1 < 50 < bleu.value


def test_rows_of_several_languages_are_each_cut_in_their_way():
    references, hypotheses = ["the tide turns at noon", CHINESE[0]], ["the tide turns at one", CHINESE_WRONG[0]]
    bleu = score(references, hypotheses, ["bleu"])["bleu"]
    cut = sacrebleu.BLEU(tokenize="zh").tokenizer
    spaced = [[references[0], cut(references[1])], [hypotheses[0], cut(hypotheses[1])]]
    assert bleu.value == pytest.approx(sacrebleu.corpus_bleu(spaced[1], [spaced[0]], tokenize="none").score)
    assert "|tok:13a+zh|" in bleu.signature


# Counts by hand; the rates are what jiwer 4.0 gives for the same texts without punctuation.
@pytest.mark.parametrize(
    ("reference", "hypothesis", "word", "character"),
    [
        (CHINESE[0], CHINESE_WRONG[0], (1, 9), (1, 9)),
        (CHINESE[1], CHINESE_WRONG[1], (1, 12), (1, 12)),
        ("the tide turns", "the tied turns", (1, 3), (2, 14)),
        ("Re-enter, please!", "re-enter please", (0, 2), (0, 15)),
        ("你好 世界", "你好世界", (0, 4), (0, 4)),
        ("我用 iPhone 拍照", "我用iPad拍照", (1, 5), (4, 10)),
        ("他说：“你好，world！”", "他说你好 world", (0, 5), (0, 9)),
        ("배는 늦습니다", "배는 늦습니까", (1, 2), (1, 7)),
        ("the tide", "", (2, 2), (8, 8)),
        ("ÇA VA", "ça va", (0, 2), (0, 5)),
    ],
)
def test_words_and_characters_are_counted(reference, hypothesis, word, character):
    assert word_errors(reference, hypothesis) == word
    assert character_errors(reference, hypothesis) == character


def test_a_syllable_with_its_marks_is_one_of_the_words():
    assert words("ที่นี่") == ["ที่", "นี่"]
    assert characters("ที่ นี่") == "ที่นี่"


FORMS = [
    "L’été où Zoë a élevé un âne à Orléans",
    "Tiếng Việt rất đẹp và phong phú",
    "안녕하세요 여러분 반갑습니다",
    "ÅNGSTRÖM",
]


@pytest.mark.parametrize("text", FORMS)
def test_the_form_of_unicode_changes_no_score(text):
    decomposed = unicodedata.normalize("NFD", text)
    assert decomposed != text
    right = score([decomposed] * 2, [text, text])
    assert [round(right[name].value, 6) for name in ("bleu", "chrf", "wer", "cer")] in (
        [100, 100, 0, 0],
        [0, 100, 0, 0],
    )
    wrong = [f"{text[:-2]}x", text]
    plain, other = score([text] * 2, wrong), score([decomposed] * 2, wrong)
    assert {name: made.value for name, made in plain.items()} == {name: made.value for name, made in other.items()}
    assert all("norm:NFC" in made.signature for made in plain.values())


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("ฉัน\u200bเป็น\u200bนักเรียน", "ฉันเป็นนักเรียน"),
        ("Donau\u00addampf", "Donaudampf"),
        ("\u200fשלום\u200e \u2067x\u2069", "שלום x"),
        ("a\ufeffb\u2060c", "abc"),
        (" a\u00a0b\u2028c\td\u3000e ", "a b c d e"),
    ],
)
def test_what_nobody_sees_is_not_compared(written, read):
    assert normalised(written) == read


@pytest.mark.parametrize("text", ["می‌خواهم", "क्‍ष", "हिन्दी", "👩‍🚀"])
def test_what_spells_a_word_stays(text):
    assert normalised(text) == unicodedata.normalize("NFC", text)


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_what_is_normalised_stays_as_it_is(text):
    once = normalised(text)
    assert normalised(once) == once
    assert "\n" not in once


def test_the_command_cuts_chinese_in_characters_and_says_so(tmp_path):
    path = tmp_path / "zh.txt"
    rows = enumerate(zip(CHINESE, CHINESE_WRONG, strict=True))
    path.write_text("".join(f"T-{i}\t{ref}\nD-{i}\t-1\t{hyp}\n" for i, (ref, hyp) in rows), encoding="utf-8")

    def printed(*more):
        return CliRunner().invoke(app, ["score", str(path), "--bootstrap", "50", *more], catch_exceptions=False).output

    expected = sacrebleu.corpus_bleu(CHINESE_WRONG, [CHINESE], tokenize="zh").score
    for more in ([], ["--tgt-lang", "zh"], ["--tgt-lang", "en"], ["--tokenizer", "zh"]):
        assert f"{expected:.1f} [" in printed(*more)
        assert "tok:zh" in printed(*more)
    assert "tok:13a" in printed("--tokenizer", "13a")
    with pytest.raises(SparqleError, match="'nltk' is not known; sacrebleu has"):
        printed("--tokenizer", "nltk")
    with pytest.raises(SparqleError, match="--tgt-lang chinese: this is no language code"):
        printed("--tgt-lang", "chinese")
