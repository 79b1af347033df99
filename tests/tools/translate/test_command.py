"""`sparqle translate` as a person types it."""

from __future__ import annotations

import io
import json
import shutil

import av
import numpy as np
import pysubs2
import pytest
import soundfile
import tiny
import torch
from commands import command

from sparqle_fairseq.cli.main import main
from sparqle_fairseq.data.segments import Segment
from sparqle_fairseq.tools.translate import run as running

QUICK = ["--beam", "1", "--tokens-per-second", "5"]


@pytest.fixture
def sparqle(capsys, checkpoints):
    """Runs `sparqle translate` here: exit code, standard output, standard error."""

    def run(*arguments, model=checkpoints.stage2):
        code = main(["translate", *QUICK, *map(str, arguments), "--model", str(model)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_a_recording_becomes_text_on_the_screen(sparqle, speech):
    code, out, _ = sparqle(speech, "--to", "fr")
    assert code == 0
    assert len(out.splitlines()) == 2  # two sentences, found by voice activity


def test_standard_input_is_translated(checkpoints, speech):
    arguments = ["translate", "-", "--to", "de", "--json", "--cpu", "--model", str(checkpoints.stage2), *QUICK]
    done = command("sparqle", *arguments, given=speech.read_bytes(), check=False)
    (document,) = json.loads(done.stdout)
    assert document["audio"] == "standard input"
    assert len(document["segments"]) == 2
    assert done.returncode == 0
    assert "Warning" not in done.stderr  # nor fairseq's or transformers' progress
    assert "Loading" not in done.stderr


def test_subtitles_have_the_times_of_the_speech(sparqle, speech, tmp_path):
    code, out, _ = sparqle(speech, "--to", "fr,de", "--output", tmp_path / "talk.srt")
    assert (code, out) == (0, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["talk.de.srt", "talk.fr.srt"]
    for path in tmp_path.iterdir():
        for event in pysubs2.load(str(path)):
            assert any(start < event.start and event.end < end for start, end in ((400, 2900), (3900, 6800)))


def test_a_folder_gives_a_file_for_each_recording_and_language(sparqle, speech, tmp_path):
    talks = tmp_path / "talks"
    (talks / "day2").mkdir(parents=True)
    shutil.copy(speech, talks / "one.flac")
    soundfile.write(talks / "day2" / "two.ogg", soundfile.read(speech)[0], 16000)
    (talks / "notes.txt").write_text("notes")
    out = tmp_path / "out"
    code, _, err = sparqle(talks, "--to", "fr,de", "--format", "vtt", "--output", out)
    assert code == 0
    assert "left out 1 files that do not end like audio: notes.txt" in err
    found = sorted(str(path.relative_to(out)) for path in out.rglob("*.*"))
    assert found == ["day2/two.de.vtt", "day2/two.fr.vtt", "one.de.vtt", "one.fr.vtt"]


def test_screen_text_names_recordings_and_languages_where_there_are_several(sparqle, speech, talk):
    _, out, _ = sparqle(talk, speech, "--to", "fr,de", "--segment", "fixed", "--max-segment-seconds", 3)
    lines = out.splitlines()
    assert [line for line in lines if line.startswith("# ")] == [f"# {talk}", f"# {speech}"]
    assert [line[:4] for line in lines if not line.startswith("#")] == ["fr: ", "de: "] * 5


def test_a_table_holds_all_recordings_under_one_header(sparqle, speech, talk):
    _, out, _ = sparqle(talk, speech, "--to", "fr,de", "--segment", "fixed", "--format", "tsv")
    rows = [line.split("\t") for line in out.splitlines()]
    assert rows[0] == ["audio", "start", "end", "language", "text", "score", "ended", "flag", "rank"]
    assert [row[0] for row in rows[1:]] == [str(talk)] * 2 + [str(speech)] * 2
    assert [row[3] for row in rows[1:]] == ["fr", "de"] * 2


def test_nbest_gives_the_best_text_first_and_fits_where_several_texts_do(sparqle, talk):
    once = ["--to", "fr,de", "--segment", "none", "--beam", 3]
    _, best, _ = sparqle(talk, *once)
    code, out, err = sparqle(talk, *once, "--nbest", 3)
    lines = out.splitlines()
    assert code == 0, err
    assert [line[:7] for line in lines] == [f"{code}: {rank}. " for code in ("fr", "de") for rank in (1, 2, 3)]
    assert [lines[0][7:], lines[3][7:]] == [line[4:] for line in best.splitlines()]
    assert len({line[7:] for line in lines[:3]}) == 3
    code, out, err = sparqle(talk, *once, "--nbest", 3, "--format", "srt", "--output", "x.srt")
    assert (code, out) == (1, "")
    assert err == "error: srt shows one text at a time; leave out --nbest, or choose txt, tsv or json\n"


def test_any_rate_and_format_gives_the_text_of_the_recording(sparqle, tmp_path):
    wave = tiny.tones("red fox runs")
    soundfile.write(tmp_path / "a.wav", wave, 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "b.flac", np.stack([wave, wave], axis=1), 16000, subtype="PCM_24")
    texts = [
        sparqle(tmp_path / name, "--to", "fr", "--segment", "none")[1] for name in ("a.wav", "b.flac", "a.wav:0:5760")
    ]
    assert texts[0].strip()
    assert len(set(texts)) == 1


def test_silence_gives_no_text_and_is_said(sparqle, tmp_path):
    soundfile.write(tmp_path / "quiet.wav", np.zeros(48000), 16000)
    for how in ("vad", "fixed", "none"):
        code, out, err = sparqle(tmp_path / "quiet.wav", "--to", "fr", "--segment", how)
        assert (code, out) == (0, "")
        assert err == f"{tmp_path / 'quiet.wav'}: no speech was found\n"


def test_stage1_transcribes(sparqle, checkpoints, talk):
    code, out, _ = sparqle(
        talk, "--task", "transcribe", "--segment", "none", "--format", "json", model=checkpoints.stage1
    )
    (document,) = json.loads(out)
    assert code == 0
    assert (document["task"], document["language"]) == ("transcription", "en")
    assert len(document["segments"]) == 1


def test_transcripts_are_named_after_the_language_that_is_spoken(sparqle, talk, tmp_path):
    arguments = ["--task", "transcribe", "--from", "it", "--segment", "none", "--output", f"{tmp_path}/"]
    assert sparqle(talk, *arguments)[0] == 0
    assert (tmp_path / "talk.it.txt").exists()


def test_a_bad_recording_does_not_stop_the_others(sparqle, speech, talk, tmp_path):
    bad = tmp_path / "bad.wav"
    bad.write_text("not audio")
    code, out, err = sparqle(talk, bad, speech, "--to", "fr", "--segment", "fixed", "--json")
    assert code == 1
    assert err.startswith(f"error: {bad}: cannot be read as audio")
    documents = json.loads(out)
    assert [document["audio"] for document in documents] == [str(talk), str(bad), str(speech)]
    assert ["error" in document for document in documents] == [False, True, False]


def test_a_recording_that_is_damaged_at_its_end_leaves_what_was_done(sparqle, tmp_path):
    wave = np.concatenate([0.1 * np.ones(400_000, np.float32), [np.nan]])
    soundfile.write(tmp_path / "bad.wav", wave, 16000, subtype="FLOAT")
    code, _, err = sparqle(
        tmp_path / "bad.wav", "--to", "fr", "--segment", "fixed", "--max-segment-seconds", 5, "-o", tmp_path / "o.srt"
    )
    assert code == 1
    part = tmp_path / ".o.srt.part"
    assert err.endswith(f"what was done until then is in {part}\n")
    assert not (tmp_path / "o.srt").exists()
    assert "-->" in part.read_text()


def test_an_interrupt_leaves_no_unfinished_file(sparqle, talk, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(running.Translator, "__call__", interrupt)
    code, _, err = sparqle(talk, "--to", "fr", "--segment", "none", "-o", tmp_path / "o.txt")
    assert code == 130
    assert err.endswith("interrupted\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["talk.wav"]


def test_what_exists_is_not_replaced_and_nothing_is_loaded(sparqle, talk, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "sparqle_fairseq.tasks.loading.load_trained", lambda *_, **__: pytest.fail("the model was loaded")
    )
    (tmp_path / "o.txt").write_text("mine")
    code, _, err = sparqle(talk, "--to", "fr", "-o", tmp_path / "o.txt")
    assert code == 1
    assert "exists; name another --output" in err
    assert (tmp_path / "o.txt").read_text() == "mine"


def test_force_replaces(sparqle, talk, tmp_path):
    (tmp_path / "o.txt").write_text("mine")
    assert sparqle(talk, "--to", "fr", "--segment", "none", "-o", tmp_path / "o.txt", "--force")[0] == 0
    assert (tmp_path / "o.txt").read_text() != "mine"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--to", "fr"], "no audio was named"),
        (["{talk}"], "no target language was named"),
        (["{talk}", "--to", "frensh"], r"did you mean fr (French)?"),
        (["{talk}", "--to", "fr", "--task", "transcribe"], "leave it out with --task transcribe"),
        (["{tmp}/none.mp3", "--to", "fr"], "none.mp3: there is no such file"),
        (["{tmp}/empty.wav", "--to", "fr"], "the file is empty"),
        (["{tmp}/no-samples.wav", "--to", "fr"], "found no samples"),
        (["{tmp}/text.wav", "--to", "fr"], "cannot be read as audio"),
        (["{tmp}/empty-folder", "--to", "fr"], "found no audio in the folder"),
        (["{talk}", "--to", "fr,de", "--format", "srt"], "one srt holds one recording in one language"),
        (["{talk}", "--to", "fr", "--seconds", "3"], "it needs --microphone"),
        (["{talk}", "--to", "fr", "--microphone"], "--microphone takes the place of files"),
        (["{talk}", "--to", "fr", "-o", "{tmp}/empty-folder/x/", "--prompt-templates", "{tmp}/text.wav"], "text.wav"),
        (["{talk}", "--to", "fr", "--text-tokenizer", "{tmp}"], "has no text tokenizer; leave --text-tokenizer out"),
        (["{talk}", "--to", "fr", "--llm", "{tmp}/gone/away"], "its LLM is not at"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(sparqle, talk, tmp_path, arguments, says):
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("once upon a time")
    (tmp_path / "empty-folder").mkdir()
    soundfile.write(tmp_path / "no-samples.wav", np.zeros(0), 16000)
    code, out, err = sparqle(*(argument.format(talk=talk, tmp=tmp_path) for argument in arguments))
    assert code == 1
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert says in err
    assert out == ""


def test_a_stage1_checkpoint_does_not_translate(sparqle, checkpoints, talk):
    code, _, err = sparqle(talk, "--to", "fr", model=checkpoints.stage1)
    assert code == 1
    assert "is a checkpoint of stage 1, which transcribes only" in err


def test_what_is_no_checkpoint_is_one_sentence(sparqle, talk, tmp_path):
    (tmp_path / "model.pt").write_text("x")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.pt")
    for name in ("none.pt", "model.pt", "other.pt"):
        code, _, err = sparqle(talk, "--to", "fr", model=tmp_path / name)
        assert code == 1
        assert err.startswith("error: ")
        assert name in err
        assert err.count("\n") == 1


@pytest.mark.parametrize("value", ["nan", "inf", "0", "x"])
def test_numbers_out_of_bounds_are_a_wrong_command_line(sparqle, talk, value):
    code, _, err = sparqle(talk, "--to", "fr", "--max-segment-seconds", value)
    assert code == 2
    assert "--max-segment-seconds" in err


def test_frozen_parts_may_have_moved(sparqle, world, talk, tmp_path):
    shutil.copytree(world.llm, tmp_path / "llm")
    shutil.copy(world.encoder, tmp_path / "encoder.pt")
    arguments = [talk, "--to", "fr", "--segment", "none"]
    moved = sparqle(*arguments, "--llm", tmp_path / "llm", "--speech-encoder", tmp_path / "encoder.pt")
    assert moved[0] == 0
    assert moved[1] == sparqle(*arguments)[1]


def test_own_instructions_are_used(sparqle, talk, tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text('translation: ["{speech} cat cat {language} dog"]\n')
    arguments = [talk, "--to", "fr", "--segment", "none", "--format", "tsv"]
    assert sparqle(*arguments)[1] != sparqle(*arguments, "--prompt-templates", own)[1]


def test_progress_is_shown_when_asked_for(sparqle, talk):
    arguments = [talk, "--to", "fr", "--segment", "fixed"]
    assert "6 of 6 s of audio" in sparqle(*arguments, "--progress")[2]
    assert "of audio" not in sparqle(*arguments)[2]


@pytest.mark.parametrize("seconds", [1.0, 7.0, 1000.0])
def test_batches_keep_order_and_bound(seconds):
    lengths = [3, 1, 5, 2, 2, 2, 9, 1]
    stream = [running.Begin(None), *(Segment(i, np.zeros(16000 * n)) for i, n in enumerate(lengths)), running.End(None)]
    parts = list(running.batches(stream, seconds))
    assert [event for part in parts for event in part] == stream
    for part in parts:
        own = [len(event.samples) / 16000 for event in part if isinstance(event, Segment)]
        assert len(own) <= 1 or max(own) * len(own) <= seconds


def test_draws_wordings_and_own_instructions_reach_the_translator(sparqle, talk, monkeypatch):
    asked = []

    class Watching(running.Translator):
        def __call__(self, segments, targets, *more):
            asked.append((self.settings, targets[0].instruction))
            return super().__call__(segments, targets, *more)

    monkeypatch.setattr(running, "Translator", Watching)
    fixed = [talk, "--to", "fr", "--segment", "fixed"]
    assert sparqle(*fixed, "--sampling", "--temperature", 0.7, "--top-p", 0.8, "--top-k", 9, "--seed", 3)[0] == 0
    assert sparqle(*fixed, "--wording", 2)[0] == 0
    assert sparqle(*fixed, "--instruction", "{speech} In {language}, please.")[0] == 0
    (settings, usual), (_, second), (_, own) = asked
    assert (settings.sampling, settings.temperature, settings.seed) == (True, 0.7, 3)
    assert (settings.top_p, settings.top_k) == (0.8, 9)
    assert usual is None
    assert second == "{speech} What does the speaker say, in {language}?"
    assert own == "{speech} In {language}, please."


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--top-p", "0.9"], "need --sampling"),
        (["--wording", "99"], "have 4 wordings"),
        (["--wording", "2", "--instruction", "a"], "give one of the two"),
    ],
)
def test_settings_that_contradict_each_other_are_one_sentence(sparqle, talk, more, said):
    code, _, err = sparqle(talk, "--to", "fr", *more)
    assert code == 1
    assert said in err
    assert err.count("\n") == 1


def test_a_damaged_recording_is_translated_and_what_is_lost_is_said(sparqle, speech, tmp_path):
    data = speech.read_bytes()
    (tmp_path / "cut.wav").write_bytes(data[: len(data) * 3 // 4])
    code, out, err = sparqle(tmp_path / "cut.wav", "--to", "fr", "--segment", "fixed")
    assert code == 0
    assert out
    assert f"{tmp_path}/cut.wav: about 2.4 seconds are lost: the file is truncated" in err
    assert "what is left was read" in err
    code, _, err = sparqle(tmp_path / "cut.wav", "--to", "fr", "--segment", "fixed", "--strict-audio")
    assert code == 1
    assert f"error: {tmp_path}/cut.wav: about 2.4 seconds are lost" in err


def test_standard_input_of_a_browser_and_channels_that_cancel(checkpoints, speech):
    wave, rate = soundfile.read(speech, dtype="float32")
    stream = io.BytesIO()
    with av.open(stream, "w", format="webm") as file:
        track = file.add_stream("libopus", rate=48000)
        track.codec_context.layout = "stereo"
        loud = np.interp(np.arange(len(wave) * 48000 // rate) * rate / 48000, np.arange(len(wave)), wave)
        frame = av.AudioFrame.from_ndarray(np.stack([loud, -loud]).astype(np.float32), "fltp", "stereo")
        frame.sample_rate, frame.pts = 48000, 0
        for packet in (*track.encode(frame), *track.encode(None)):
            file.mux(packet)
    arguments = ["translate", "-", "--to", "de", "--json", "--cpu", "--model", str(checkpoints.stage2), *QUICK]
    done = command("sparqle", *arguments, given=stream.getvalue(), check=False)
    (document,) = json.loads(done.stdout)
    assert len(document["segments"]) == 2
    assert done.returncode == 0
    assert "standard input: its channels cancel when they are averaged" in done.stderr
