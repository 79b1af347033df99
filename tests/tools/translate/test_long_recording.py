"""Two hours take the memory of ten minutes."""

from __future__ import annotations

import re
import subprocess
import sys

import pysubs2
import pytest
import soundfile

MEASURED = """
import resource, sys
from sparqle_fairseq.cli.main import main
code = main(sys.argv[1:])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, "MiB", file=sys.stderr)
sys.exit(code)
"""


def repeated(speech, path, seconds: float) -> int:
    """Write the recording again and again; returns how often."""
    samples, rate = soundfile.read(speech, dtype="int16")
    times = int(seconds * rate / len(samples)) + 1
    with soundfile.SoundFile(path, "w", samplerate=rate, channels=1, subtype="PCM_16") as file:
        for _ in range(times):
            file.write(samples)
    return times


@pytest.mark.long
def test_two_hours_are_translated_in_the_memory_of_ten_minutes(speech, checkpoints, tmp_path):
    peaks = []
    for minutes in (10, 120):
        talk, out = tmp_path / "talk.flac", tmp_path / f"{minutes}.srt"
        times = repeated(speech, talk, 60 * minutes)
        arguments = ["translate", talk, "--to", "fr", "--output", out, "--model", checkpoints.stage2, "--cpu"]
        search = ["--beam", 1, "--tokens-per-second", 1, "--no-repetition-guard"]
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, *map(str, [*arguments, *search])], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr[-2000:]
        peaks.append(int(re.search(r"peak (\d+) MiB", done.stderr)[1]))
        cues = pysubs2.load(str(out))
        # Two sentences each time, but for texts of a hardly trained model that are empty.
        assert 1.6 * times < len(cues) <= 2 * times
        assert cues[-1].end / 1000 > 60 * minutes - 10
    print(f"peak memory: {peaks[0]} MiB for 10 minutes, {peaks[1]} MiB for 2 hours")
    assert peaks[1] < peaks[0] + 60, peaks
