"""The commands of docs/translate.md do what it says, with the tiny world's model in the place of the demo's."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from commands import ROOT

from sparqle_fairseq.cli.main import main


def commands_of(guide: str) -> list[str]:
    """Every `sparqle translate` command of the guide, in one line each."""
    text = re.sub(r" *\\\n\s*", " ", guide)
    lines = [line.strip().removeprefix("$ ") for line in text.splitlines() if line.startswith("    ")]
    return [line for line in lines if "sparqle translate" in line]


COMMANDS = commands_of((ROOT / "docs" / "translate.md").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def place(tmp_path_factory, checkpoints, world, speech):
    """A folder with everything that the guide's commands name."""
    folder = tmp_path_factory.mktemp("guide")
    for name in (
        "checkpoints/stage2/checkpoint_best.pt", "checkpoint_best.pt", "build/demo/stage2/checkpoint_last.pt",
    ):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(checkpoints.stage2, folder / name)
    samples, rate = soundfile.read(speech)
    for name in (
        "talk.mp3", "morning.wav", "talks/one.flac", "talks/day2/panel.ogg",
        "build/demo/wav/s03100.wav", "build/demo/wav/s03101.wav",
    ):  # fmt: skip
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, samples, rate)
    soundfile.write(folder / "silence.wav", np.zeros(5 * rate), rate)
    shutil.copy(world.encoder, folder / "hubert_large_ll60k.pt")
    shutil.copytree(world.llm, folder / "models" / "llama")
    return folder


def test_the_guide_has_commands():
    assert len(COMMANDS) > 10


@pytest.mark.usefixtures("sounddevice")  # the guide's microphone is one of software here
@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_of_the_guide_runs(line, place, monkeypatch, capsys):
    monkeypatch.chdir(place)
    # Two sentences of 1.7 and 1.9 seconds.
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=open("talk.mp3", "rb"), readline=lambda: None))  # noqa: SIM115
    words = shlex.split(line.rpartition("|")[2])
    assert words[:2] == ["sparqle", "translate"]
    beam = "3" if "--nbest" in words else "1"
    code = main([*words[1:], "--beam", beam, "--tokens-per-second", "5"])
    out, err = capsys.readouterr()
    assert code == ("frensh" in line), err
    if "--output" in words:
        assert (place / "subtitles/day2/panel.fr.srt").exists()
        assert out == ""
    elif not any(word in line for word in ("silence", "frensh", "microphone")):
        assert out.strip()
