"""The service behind the page: events, limits, the line, ends."""

from __future__ import annotations

import gc
import html
import threading
import time
import weakref
import zipfile

import pytest
import torch

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.tasks.loading import Trained
from sparqle_fairseq.tools.page import view
from sparqle_fairseq.tools.page.batch import run_batch, unpack
from sparqle_fairseq.tools.page.compare import TRANSCRIPT, compare
from sparqle_fairseq.tools.page.form import ALL_WORDINGS, targets_for
from sparqle_fairseq.tools.page.languages import choices, codes_of, shown
from sparqle_fairseq.tools.page.limits import Limits
from sparqle_fairseq.tools.page.model import CheckpointModel
from sparqle_fairseq.tools.page.service import Begun, Over, Request, Said, Service, Stop, Stopped, Waiting
from sparqle_fairseq.tools.page.settings import KNOBS, settings_from
from sparqle_fairseq.tools.page.texts import Texts, write_downloads
from sparqle_fairseq.tools.page.uploads import recording_of
from sparqle_fairseq.tools.translate.formats import Line
from sparqle_fairseq.tools.translate.translator import Settings, Target

FRENCH, GERMAN = Target("translation", "fr"), Target("translation", "de")
QUICK = Settings(beam=1, tokens_per_second=4, guard=False)


def request(sound, *targets):
    return Request(recording_of(str(sound)), targets or (FRENCH,), QUICK)


@pytest.fixture
def service(page_model):
    return Service(page_model, Limits(minutes=0.5, megabytes=2, waiting=1, files=3))


def test_a_recording_becomes_events_in_their_order(service, sounds):
    events = list(service.stream(request(sounds.speech, FRENCH, GERMAN), Stop()))
    assert [type(event) for event in events] == [Begun, Said, Said, Over]
    assert all(len(event.lines) == 2 for event in events[1:3])
    assert events[1].end < events[2].start
    assert not events[-1].stopped


def test_silence_is_no_error(service, sounds):
    assert list(map(type, service.stream(request(sounds.silence), Stop()))) == [Begun, Over]


@pytest.mark.parametrize(("name", "said"), [("long", "40 seconds long"), ("text", "text.wav")])
def test_what_cannot_be_used_is_one_sentence_without_the_servers_folders(service, sounds, name, said):
    with pytest.raises(SparqleError, match=said) as found:
        list(service.stream(request(getattr(sounds, name)), Stop()))
    assert str(sounds.folder) not in str(found.value)
    assert service.turns.enter().before() == 0  # and its turn is over


def test_a_stop_ends_a_search_between_two_tokens_and_the_line_moves_on(service, sounds, page_model, monkeypatch):
    tokens = []
    stop = Stop()
    usual = page_model.translate

    def slow(segments, targets, settings, watch):
        def counting():
            tokens.append(1)
            if len(tokens) == 3:
                stop.set()
            watch()

        return usual(segments, targets, settings, counting)

    monkeypatch.setattr(page_model, "translate", slow)
    events = list(service.stream(request(sounds.speech), stop))
    assert events[-1] == Over(stopped=True)
    assert len(tokens) == 3
    monkeypatch.undo()
    assert list(service.stream(request(sounds.speech), Stop()))[-1] == Over(stopped=False)


def test_one_is_worked_on_some_wait_and_the_rest_are_refused(service, sounds):
    first = service.stream(request(sounds.speech), Stop())
    next(first)
    second = service.stream(request(sounds.other), Stop())
    assert next(second) == Waiting(1)
    with pytest.raises(SparqleError, match="busy: 1 requests wait"):
        next(service.stream(request(sounds.other), Stop()))
    first.close()  # whoever leaves gives their turn away
    assert isinstance(next(second), Begun)


def test_a_failed_request_frees_its_memory_and_the_next_one_works(service, sounds, page_model, monkeypatch):
    held = []

    def full(segments, *_):
        held.append(weakref.ref(segments[0].samples))
        raise SparqleError("no memory") from torch.OutOfMemoryError()

    monkeypatch.setattr(page_model, "translate", full)
    with pytest.raises(SparqleError, match="no memory"):
        list(service.stream(request(sounds.speech), Stop()))
    monkeypatch.undo()
    gc.collect()
    assert [reference() for reference in held] == [None]
    assert any(isinstance(event, Said) for event in service.stream(request(sounds.speech), Stop()))


def test_all_work_is_done_in_one_thread(service, sounds, page_model, together, monkeypatch):
    """Memory that the C library keeps for a thread is then kept once."""
    seen = set()
    usual = page_model.translate

    def watched(*given):
        seen.add(threading.current_thread())
        return usual(*given)

    monkeypatch.setattr(page_model, "translate", watched)
    done = together(*[lambda: list(service.stream(request(sounds.other), Stop()))] * 2)
    done += together(lambda: service.in_turn(lambda _: seen.add(threading.current_thread()), Stop()))
    assert len(seen) == 1, done
    assert [events[-1] for events in done[:2]] == [Over(stopped=False)] * 2


def test_a_session_stops_its_own_requests_alone(service):
    with service.session("a") as mine, service.session("b") as other:
        assert service.stop("a") == 1
        other.watch()
        with pytest.raises(Stopped):
            mine.watch()
    assert service.stop("a") == 0


def test_every_setting_of_the_page_is_one_of_the_search():
    values = {knob.field: True if isinstance(knob.default, bool) else knob.high for knob in KNOBS if knob.high}
    values |= {"sampling": True, "prefix": "Well,"}
    made = settings_from(values)
    assert {name: getattr(made, name) for name in values} == values


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"beam": 99}, "from 1 to 50"),
        ({"beam": float("nan")}, "from 1 to 50"),
        ({"beams": 3}, "no setting 'beams'"),
        ({"sampling": "yes"}, "true or false"),
        ({"top_p": 0.5}, "set sampling"),
    ],
)
def test_settings_from_programs_are_checked(values, said):
    with pytest.raises(SparqleError, match=said):
        settings_from(values)


def test_languages_are_read_by_code_or_name_and_marked_where_they_were_not_trained():
    assert codes_of(["fr", "German", "pt-br", "Deutsch", "Brazilian Portuguese"]) == ["fr", "de", "pt-BR"]
    assert shown("de", ["fr"]) == "German (zero-shot)"
    assert codes_of([shown("de", ["fr"])]) == ["de"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Klingonese", r"'Klingonese' is not the name .*did you mean Klingon \(tlh\)"),  # langcodes would guess
        ("Hakka dialect", "is not the name or code of a language"),
        ("qqqqq", "is not the name or code of a language"),
        ("Bantu languages", "is not the name or code of a language"),
        ("Ari", r"may be ari \(Arikara\), aac \(Ari\); write the code"),
    ],
)
def test_a_name_that_is_none_or_two_is_a_sentence_and_no_guess(text, said):
    with pytest.raises(SparqleError, match=said):
        codes_of([text])


def test_the_list_has_every_language_that_langcodes_names_those_of_the_training_first():
    listed = choices(["de", "fr"])
    codes = [code for _, code in listed]
    assert listed[:2] == [("German", "de"), ("French", "fr")]
    assert len(codes) == len(set(codes)) == len({name for name, _ in listed}) > 7000
    assert all(name.endswith("(zero-shot)") for name, _ in listed[2:])
    assert {"yue", "gsw", "haw", "ase"} <= set(codes)
    assert not {"und", "mul", "bnt", "iw", "fra"} & set(codes)  # no language, a group, replaced by he and fr
    for name, code in [*listed[:200], *listed[200::97]]:
        assert codes_of([name]) == [code]  # what is shown can be typed
        assert codes_of([code]) == [code]


def test_wordings_are_asked_by_number_or_all_side_by_side(service):
    wordings = service.model.wordings("translation", "fr")
    assert [t.instruction for t in targets_for(service, "translate", ["fr"], "2")] == [wordings[1]]
    assert [t.instruction for t in targets_for(service, "translate", ["fr"], ALL_WORDINGS)] == list(wordings)
    assert targets_for(service, "translate", ["fr"], "2", "In {language}!")[0].instruction == "In {language}!"
    with pytest.raises(SparqleError, match="one language at a time"):
        targets_for(service, "translate", ["fr", "de"], ALL_WORDINGS)


def test_a_model_of_stage_1_transcribes_and_its_page_offers_nothing_else(stage1, sounds):
    gradio = pytest.importorskip("gradio")
    from sparqle_fairseq.tools.page.app import build_page

    model = CheckpointModel(Trained(stage1.task, stage1.model, stage1.cfg, torch.device("cpu")), "stage1/last.pt")
    service = Service(model)
    (target,) = targets_for(service, "transcribe", [])
    assert target == Target("transcription", "en")
    assert [type(event) for event in service.stream(request(sounds.other, target), Stop())] == [Begun, Said, Over]
    with pytest.raises(SparqleError, match="is of stage 1 and transcribes only"):
        targets_for(service, "translate", ["fr"])
    parts = build_page(service).blocks.values()
    assert [part.label for part in parts if isinstance(part, gradio.Tab)] == ["Transcribe", "Look inside", "Many files"]
    shown = [part for part in parts if isinstance(part, gradio.Dropdown) and part.visible]
    assert "Into" not in [part.label for part in shown]


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "<img src=x onerror='alert(1)'>", 'a" onclick="x'])
def test_what_models_and_people_write_is_never_html(text):
    line = Line(0.0, 1.0, text, 0.0, flag=None)
    written = [
        view.status(text),
        view.failure(text),
        view.texts([Said(0.0, 1.0, (line,))], [FRENCH], [text]),
        view.table([text], [[text]], text),
    ]
    for page in written:
        assert html.escape(text, quote=True) in page
        assert text not in page


def test_downloads_have_each_format_and_a_zip_for_several_languages(service, sounds, tmp_path):
    events = list(service.stream(request(sounds.speech, FRENCH, GERMAN), Stop()))
    said = [event for event in events if isinstance(event, Said)]
    files = write_downloads(Texts("speech.wav", "speech", (FRENCH, GERMAN), said), tmp_path)
    assert [file.name for file in files] == [f"speech.{form}.zip" for form in ("txt", "srt", "vtt", "json")]
    assert zipfile.ZipFile(files[1]).namelist() == ["speech.fr.srt", "speech.de.srt"]


def test_a_transcript_is_compared_with_the_speech(service, sounds):
    found = compare(
        service, recording_of(str(sounds.speech)), FRENCH, QUICK, TRANSCRIPT, "red fox", "Renard rouge", Stop()
    )
    seconds = service.limits.seconds_of(recording_of(str(sounds.speech)))
    assert found.names == ("from the speech", "from the transcript")
    assert found.texts[1] == service.model.read("red fox", seconds, FRENCH, QUICK, Stop().watch).text
    assert [name for name, _ in found.scores()] == ["chrF of from the speech", "chrF of from the transcript"]


def test_a_zip_becomes_a_zip_and_a_manifest_gives_scores(service, sounds, tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.write(sounds.speech, "../../talk.wav")
        archive.write(sounds.text, "broken.wav")
        archive.writestr("refs.tsv", "audio\ttgt_lang\ttgt_text\n/etc/talk.wav\tFR\tRenard rouge\nx.wav\tfr\tRien\n")
        archive.writestr("notes.doc", "notes")
    place = tmp_path / "place"
    place.mkdir()
    batch = unpack([(str(tmp_path / "in.zip"), "in.zip")], service.limits, place)
    assert all(place in path.parents for path in map(type(place), (r.path for r in batch.recordings)))
    *_, report = run_batch(service, batch, (FRENCH,), QUICK, Stop(), place)
    assert [name for name, _ in report.rows] == ["talk.wav", "broken.wav", "notes.doc", "manifest"]
    assert report.rows[0][1] == "2 segments"
    assert "left out" in report.rows[2][1]
    assert "1 of its 2 references" in report.rows[3][1]
    assert report.scores[0].scores["chrf"].n == 1
    names = zipfile.ZipFile(report.file).namelist()
    assert "talk.fr.srt" in names
    assert "scores.tsv" in names


def test_a_manifest_that_could_mean_two_things_is_refused(service, sounds, tmp_path):
    head = "audio\ttgt_lang\ttgt_text\n"
    place = tmp_path / "place"
    place.mkdir()

    def refused(rows, names=("speech.wav",)):
        (tmp_path / "refs.tsv").write_text(head + rows)
        sent = [(str(tmp_path / "refs.tsv"), "refs.tsv"), *((str(sounds.speech), name) for name in names)]
        with pytest.raises(SparqleError) as found:
            unpack(sent, service.limits, place)
        return str(found.value)

    assert "refs.tsv:3 has another reference of a.wav in fr" in refused("a.wav\tfr\tUn\nb/a.wav\tfr\tDeux\n")
    assert "refs.tsv:2: 'xx'" in refused("a.wav\txx\tUn\n")
    assert "refs.tsv:2 has 2 cells, its header 3" in refused("a.wav\tfr\n")
    assert "two recordings are called a.wav" in refused("a.wav\tfr\tUn\n", ("a.wav", "a.wav"))


def test_a_zip_that_unpacks_to_too_much_or_holds_too_many_is_refused(service, tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.wav", bytes(3_000_000))
    with pytest.raises(SparqleError, match="unpacks to more than 2 MB"):
        unpack([(str(tmp_path / "bomb.zip"), "bomb.zip")], service.limits, tmp_path)
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for i in range(9):
            archive.writestr(f"{i}.wav", b"RIFF")
    with pytest.raises(SparqleError, match="holds 9 files"):
        unpack([(str(tmp_path / "many.zip"), "many.zip")], service.limits, tmp_path)
    (tmp_path / "no.zip").write_text("no")
    with pytest.raises(SparqleError, match="cannot be read as a zip"):
        unpack([(str(tmp_path / "no.zip"), "no.zip")], service.limits, tmp_path)


def test_waiting_ends_at_a_stop_within_a_second(service, sounds):
    first = service.stream(request(sounds.speech), Stop())
    next(first)
    stop = Stop()
    second = service.stream(request(sounds.other), stop)
    next(second)
    stop.set()
    begun = time.monotonic()
    assert next(second) == Over(stopped=True)
    assert time.monotonic() - begun < 1
