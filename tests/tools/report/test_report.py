"""The report says what the metrics say, in every form, and writes all or nothing."""

from __future__ import annotations

import json
import re
import subprocess
from html.parser import HTMLParser

import pytest
import sacrebleu
from two_systems import BAD, FRENCH, GOOD, IDS, SAID, content, report

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.scoring.scores import measure
from sparqle_fairseq.scoring.significance import paired_tests


@pytest.fixture
def made(small):
    out = small.folder / "out"
    done = report(f"good={small.good}", f"bad={small.bad}", "--manifest", small.manifest, "-o", out, "--by", "room")
    return out, done


def test_scores_and_tests_are_those_of_the_metrics(made):
    part = content(made[0])["parts"][0]
    assert part["title"] == "Translation: English to French"
    assert list(part["metrics"]) == ["bleu", "chrf", "chrf++", "ter"]
    for system, texts in (("good", GOOD), ("bad", BAD)):
        found = part["scores"][system]
        assert found["bleu"]["value"] == pytest.approx(sacrebleu.corpus_bleu(texts, [FRENCH]).score)
        assert found["chrf"]["value"] == pytest.approx(sacrebleu.corpus_chrf(texts, [FRENCH]).score)
        assert found["chrf++"]["value"] == pytest.approx(sacrebleu.corpus_chrf(texts, [FRENCH], word_order=2).score)
        assert found["ter"]["value"] == pytest.approx(sacrebleu.corpus_ter(texts, [FRENCH]).score)
    tables = [measure(FRENCH, texts, "chrf") for texts in (BAD, GOOD)]
    expected = paired_tests([tables[0].metric], [tables[0].table], [tables[1].table], draws=100, trials=200)[0]
    test = part["differences"]["bad"]["chrf"]
    assert {name: test[name] for name in vars(expected)} == pytest.approx(vars(expected))
    assert list(part["differences"]) == ["bad"]
    assert part["metrics"]["ter"]["higher_is_better"] is False


def test_groups_are_those_of_the_manifest(made):
    by = {found["by"]: found["groups"] for found in content(made[0])["parts"][0]["breakdowns"]}
    assert list(by) == ["length", "duration", "speaker", "room"]
    assert [(group["name"], group["n"]) for group in by["speaker"]] == [("a", 2), ("b", 2)]
    assert [group["name"] for group in by["duration"]] == ["1.0", "2.0", "3.0", "4.0"]
    assert [(group["name"], group["n"]) for group in by["length"]] == [("4", 1), ("6", 2), ("7", 1)]
    own = [FRENCH[i] for i in (1, 3)], [GOOD[i] for i in (1, 3)]
    assert by["speaker"][1]["scores"]["good"]["chrf"]["value"] == pytest.approx(measure(*own, "chrf").value)


def test_hypotheses_that_want_a_look_are_found_and_the_language_is_named(made):
    flags = content(made[0])["parts"][0]["flags"]
    assert {flag: about["ids"] for flag, about in flags["bad"]["rows"].items()} == {
        "empty": ["u4"],
        "loop": ["u3"],
        "unheard": ["u4"],
        "cut": ["u2"],
        "language": ["u2"],
    }
    assert flags["bad"]["languages"] == {"en": {"count": 1, "ids": ["u2"]}}
    assert flags["good"] == {"rows": {}, "languages": {}}


def test_examples_are_the_worst_the_middle_and_the_changes(made):
    found = content(made[0])["parts"][0]["examples"]
    assert found["bad"]["worst"][0] | {"change": 0} == {
        "id": "u4", "score": 0.0, "reference": FRENCH[3], "hypothesis": "", "source": SAID[3], "baseline": None,
        "change": 0,
    }  # fmt: skip
    assert [each["id"] for each in found["good"]["worst"]][2:] == ["u1", "u2"], "of two perfect ones the longer first"
    assert {each["id"] for each in found["bad"]["lost"]} == set(IDS)
    assert found["bad"]["lost"][0]["baseline"] == GOOD[1]
    assert not found["good"]["gained"]


def test_the_worst_transcription_is_the_one_with_the_most_errors(small):
    (small.folder / "said.txt").write_text("\n".join(SAID), encoding="utf-8")
    (small.folder / "heard.txt").write_text("\n".join([SAID[0], "No.", *SAID[2:]]), encoding="utf-8")
    words = ["--references", small.folder / "said.txt", "--tgt-lang", "en", "--row-task", "transcription"]
    report(small.folder / "said.txt", small.folder / "heard.txt", *words, "-o", small.folder / "out")
    part = content(small.folder / "out")["parts"][0]
    assert list(part["metrics"]) == ["wer", "cer"]
    assert part["examples"]["heard"]["worst"][0]["hypothesis"] == "No."
    assert [each["hypothesis"] for each in part["examples"]["heard"]["lost"]] == ["No."]
    assert not part["examples"]["heard"]["gained"]


class Page(HTMLParser):
    """Addresses that a browser would ask for, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attributes):
        self.asked += [value or "" for name, value in attributes if name in ("src", "href", "data", "srcset", "action")]

    def handle_data(self, data):
        self.text += data


@pytest.mark.usefixtures("drawn")
def test_the_page_asks_nothing_of_a_server_and_shows_the_numbers(made):
    text = (made[0] / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert all(address.startswith(("#", "data:image/svg+xml;base64,")) for address in page.asked)
    assert sum(address.startswith("data:") for address in page.asked) == 2
    assert "default-src 'none'" in text
    assert "url(" not in text
    pictures = sorted((made[0] / "pictures").iterdir())
    assert [path.name for path in pictures] == ["1.svg", "2.svg"]
    assert not re.search(rb"(href|src)=.(?!#)|@import|<text|<image", pictures[1].read_bytes())
    part = content(made[0])["parts"][0]
    assert f"{part['scores']['good']['bleu']['value']:.1f}" in page.text
    assert "Le vieil homme chante un chant." in page.text


def test_texts_and_names_cannot_become_markup(small):
    wicked = "<script>alert(1)</script> | 50 % & \\ _x_"
    (small.folder / "bad.txt").write_text("\n".join([wicked] * 4), encoding="utf-8")
    out = small.folder / "out"
    report(f"a|<b>&_%={small.bad}", f"good={small.good}", "--manifest", small.manifest, "-o", out)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert r"a\|\<b\>&\_%" in (out / "report.md").read_text(encoding="utf-8")
    assert r"a\textbar{}$<$b$>$\&\_\%" in (out / "report.tex").read_text(encoding="utf-8")
    command = (out / "comet" / "translation_fr" / "run.sh").read_text(encoding="utf-8")
    assert "a__b____.txt" in command


def test_markdown_and_latex_hold_the_scores(made):
    out, done = made
    bleu = content(out)["parts"][0]["scores"]["good"]["bleu"]
    shown = f"{bleu['value']:.1f} [{bleu['low']:.1f}, {bleu['high']:.1f}]"
    assert shown in done.output
    assert shown.replace("[", r"\[").replace("]", r"\]") in (out / "report.md").read_text(encoding="utf-8")
    tex = (out / "report.tex").read_text(encoding="utf-8")
    assert f"{bleu['value']:.1f} {{\\scriptsize [{bleu['low']:.1f}, {bleu['high']:.1f}]}}" in tex
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == tex.count(r"\toprule") == 2
    for row in re.findall(r"^.* \\\\$", tex, flags=re.MULTILINE):
        assert row.count(" & ") in (4, 7)


def test_a_report_without_pictures_is_a_report_all_the_same(small):
    done = report(small.good, "--manifest", small.manifest, "-o", small.folder / "out")
    assert "pip install 'sparqle-fairseq[report]'" in done.output
    assert (small.folder / "out" / "report.html").is_file()
    assert not (small.folder / "out" / "pictures").exists()


def test_without_an_identifier_the_report_says_that_nobody_looked(small, monkeypatch):
    from sparqle_fairseq.tools.report import flags

    monkeypatch.setattr(flags, "identifier_there", lambda: False)
    done = report(small.bad, "--manifest", small.manifest, "-o", small.folder / "out")
    assert "the language of the texts was not looked at" in done.output


def test_rows_that_the_identifier_errs_on_are_not_judged_and_it_says_how_often(small):
    """The reference of the first row is English, so nothing is said of the English text there."""
    english = "The old man drinks a cup of tea with us."
    lines = small.manifest.read_text(encoding="utf-8").replace(FRENCH[0], english)
    small.manifest.write_text(lines, encoding="utf-8")
    (small.folder / "all.txt").write_text("\n".join([english] * 4), encoding="utf-8")
    done = report(small.folder / "all.txt", "--manifest", small.manifest, "-o", small.folder / "out")
    found = content(small.folder / "out")["parts"][0]["flags"]["all"]["languages"]
    assert found == {"en": {"count": 3, "ids": ["u2", "u3", "u4"]}}
    assert "1 of 4 references look like another language" in done.output


def test_seen_and_zero_shot_languages_have_means_of_their_own(small):
    german = small.folder / "german.tsv"
    german.write_text(small.manifest.read_text().replace("\tfr\t", "\tde\t"), encoding="utf-8")
    out = small.folder / "out"
    words = ["--manifest", small.manifest, "--manifest", german, "-o", out, "--seen", "fr"]
    report(f"one={small.good},{small.bad}", *words)
    found = content(out)
    parts = {part["language"]: part["scores"]["one"]["bleu"]["value"] for part in found["parts"]}
    kinds = {row["language"]: row["kind"] for row in found["languages"]["rows"]}
    assert kinds == {"fr": "seen", "de": "zero-shot"}
    means = {mean["kind"]: mean["scores"]["one"]["bleu"] for mean in found["languages"]["means"]}
    assert means == {"seen": parts["fr"], "zero-shot": parts["de"]}
    assert "Means over languages" in (out / "report.md").read_text(encoding="utf-8")


def test_languages_are_sorted_and_say_what_came_out_instead(small):
    """German comes first in the command, and English came out in half of its rows."""
    german = small.folder / "a_german.tsv"
    lines = small.manifest.read_text(encoding="utf-8").replace("\tfr\t", "\tde\t")
    wanted = [
        f"Der alte Mann trinkt jeden Morgen eine Tasse {word} mit uns." for word in ("Tee", "Milch", "Saft", "Bier")
    ]
    for french, text in zip(FRENCH, wanted, strict=True):
        lines = lines.replace(french, text)
    german.write_text(lines, encoding="utf-8")
    english = "The old man drinks a cup of tea with us every morning."
    (small.folder / "de.txt").write_text("\n".join([wanted[0], english, wanted[2], english]), encoding="utf-8")
    small.manifest.rename(small.folder / "b_french.tsv")
    (small.folder / "fr.txt").write_text("\n".join(FRENCH), encoding="utf-8")
    out = small.folder / "out"
    files = ",".join(str(small.folder / name) for name in ("de.txt", "fr.txt"))
    done = report(f"one={files}", "--manifest", small.folder / "*_*.tsv", "-o", out, "--seen", "fr")
    rows = content(out)["languages"]["rows"]
    assert [(row["language"], row["others"]) for row in rows] == [("fr", {}), ("de", {"en": 2})]
    shown = next(line for line in done.output.splitlines() if "zero-shot" in line and "German" in line)
    assert "English 2" in shown
    with pytest.raises(SparqleError, match=r"no_\*.tsv: there is no such file"):
        report(f"one={files}", "--manifest", small.folder / "no_*.tsv", "-o", small.folder / "other")


def test_a_report_is_replaced_only_when_told_and_nothing_else_ever_is(small):
    out = small.folder / "out"
    words = [small.good, "--manifest", small.manifest, "-o", out]
    report(*words)
    before = (out / "report.json").read_bytes()
    with pytest.raises(SparqleError, match="holds a report; name another folder, or replace it with --force"):
        report(small.bad, *words[1:])
    assert (out / "report.json").read_bytes() == before
    (out / "report.html").write_text("mine")
    report(*words, "--force")
    assert "mine" not in (out / "report.html").read_text()
    assert (out / "report.json").read_bytes() == before, "the same report twice has the same bytes"
    assert not list(small.folder.glob(".out*"))
    stranger = small.folder / "thesis"
    stranger.mkdir()
    (stranger / "chapter.tex").write_text("years of work")
    for name in ("chapter.tex", "report.json"):
        (stranger / name).write_text("{}")
        with pytest.raises(SparqleError, match=r"holds other things than a report|is no report"):
            report(*words[:-1], stranger, "--force")
    assert (stranger / "chapter.tex").is_file()


def test_a_report_that_cannot_be_finished_leaves_nothing(small, monkeypatch):
    from sparqle_fairseq.tools.report import write

    def fails(_content):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(write, "latex", fails)
    with pytest.raises(SparqleError, match="the disk is full"):
        report(small.good, "--manifest", small.manifest, "-o", small.folder / "out")
    assert not (small.folder / "out").exists()
    assert not list(small.folder.glob(".out*"))


def test_comets_scores_come_back_into_the_table(made, small):
    out, _ = made
    folder = out / "comet" / "translation_fr"
    assert (folder / "src.txt").read_text(encoding="utf-8").splitlines() == SAID
    assert (folder / "bad.txt").read_text(encoding="utf-8").splitlines() == [" ".join(text.split()) for text in BAD]
    names = ["src.txt", "ref.txt", "good.txt", "bad.txt"]
    assert all(name in (folder / "run.sh").read_text() for name in names)
    assert subprocess.run(["sh", "-n", folder / "run.sh"], check=False).returncode == 0
    scores = {
        f"{folder}/{name}.txt": [
            {"src": SAID[i], "mt": " ".join(text.split()), "ref": FRENCH[i], "COMET": 0.5 + 0.1 * i}
            for i, text in enumerate(texts)
        ]
        for name, texts in (("good", GOOD), ("bad", BAD))
    }
    path = folder / "scores.json"
    words = [f"good={small.good}", f"bad={small.bad}", "--manifest", small.manifest, "--comet", out / "comet"]
    path.write_text(json.dumps(scores))
    report(*words, "-o", small.folder / "with")
    part = content(small.folder / "with")["parts"][0]
    assert part["scores"]["good"]["comet"]["value"] == pytest.approx(65)
    assert part["differences"]["bad"]["comet"]["p_randomisation"] == 1
    assert "COMET" in (small.folder / "with" / "report.md").read_text(encoding="utf-8")
    spoiled = [("COMET", float("nan"), "is nan, which is no number"), ("mt", "older", "is of the text 'older'")]
    for key, value, message in spoiled:
        scores[f"{folder}/bad.txt"][2] |= {key: value}
        path.write_text(json.dumps(scores))
        with pytest.raises(SparqleError, match=message):
            report(*words, "-o", small.folder / "again")
        scores[f"{folder}/bad.txt"][2] |= {"COMET": 0.7, "mt": " ".join(BAD[2].split())}
    scores[f"{folder}/bad.txt"].pop()
    path.write_text(json.dumps(scores))
    with pytest.raises(SparqleError, match=r"has 3 scores of bad\.txt, and there are 4 utterances"):
        report(*words, "-o", small.folder / "again")
    path.unlink()
    with pytest.raises(SparqleError, match=r"holds no scores\.json"):
        report(*words, "-o", small.folder / "again")


def test_why_there_are_no_files_for_comet_is_said(small):
    lines = small.manifest.read_text(encoding="utf-8").splitlines()
    cells = lines[2].split("\t")
    cells[3] = ""
    small.manifest.write_text("\n".join([*lines[:2], "\t".join(cells), *lines[3:]]) + "\n", encoding="utf-8")
    out = small.folder / "some"
    report(f"good={small.good}", "--manifest", small.manifest, "-o", out)
    assert content(out)["parts"][0]["notes"] == ["1 utterances have no transcript, so there are no files for COMET"]
    assert not (out / "comet").exists()
