"""Block by block the samples are those of the whole recording."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from sparqle_fairseq.data.audio import AudioError, read_audio, recording_seconds, stream_audio


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 44099, 48000, 96000])
@pytest.mark.parametrize("block", [4000, 12345, 1 << 18])
def test_blocks_are_the_recording_at_every_rate(tmp_path, rate, block):
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, (int(1.37 * rate), 2))
    soundfile.write(tmp_path / "a.wav", wave, rate, subtype="FLOAT")
    whole = read_audio(str(tmp_path / "a.wav"))
    blocks = list(stream_audio(str(tmp_path / "a.wav"), block))
    assert len(blocks) > 1 or block > len(wave)
    joined = np.concatenate(blocks)
    assert joined.dtype == np.float32
    assert len(joined) == len(whole)
    np.testing.assert_allclose(joined, whole, atol=2e-6)


@pytest.mark.parametrize("ending", ["flac", "ogg", "mp3", "aiff"])
def test_every_format_gives_its_samples(tmp_path, ending):
    path = str(tmp_path / f"a.{ending}")
    soundfile.write(path, 0.3 * np.sin(np.arange(30000) / 10), 24000)
    np.testing.assert_allclose(np.concatenate(list(stream_audio(path, 7000))), read_audio(path), atol=2e-6)
    assert recording_seconds(path) == pytest.approx(1.25, abs=0.1)


def test_nan_samples_stop_at_their_block_with_the_file_named(tmp_path):
    wave = np.zeros(30000, np.float32)
    wave[25000] = np.nan
    soundfile.write(tmp_path / "a.wav", wave, 16000, subtype="FLOAT")
    blocks = stream_audio(str(tmp_path / "a.wav"), 10000)
    assert len(next(blocks)) == 10000
    with pytest.raises(AudioError, match=r"a\.wav: found 1 samples that are NaN"):
        list(blocks)
