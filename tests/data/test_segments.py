"""Where recordings are cut, with a detector whose answers are known, and with real speech."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparqle_fairseq.data.audio import SAMPLE_RATE, stream_audio
from sparqle_fairseq.data.segments import (
    FRAME,
    SpeechRule,
    SpeechSpans,
    cut_at_pauses,
    cut_at_times,
    cut_nowhere,
)
from sparqle_fairseq.data.voice import VoiceDetector

A_SECOND = SAMPLE_RATE / FRAME  # frames


def loud(samples: np.ndarray) -> float:
    return float(np.abs(samples).max())


def wave_of(*parts: tuple[float, float]) -> np.ndarray:
    """(seconds, probability of speech) -> samples that `loud` answers so for."""
    return np.concatenate([np.full(int(seconds * SAMPLE_RATE), level, np.float32) for seconds, level in parts])


def cut(*parts: tuple[float, float], **rule: float) -> list[tuple[float, float]]:
    """Begin and end of the segments, in seconds."""
    found = cut_at_pauses([wave_of(*parts)], loud, SpeechRule(**rule))
    return [(segment.start_seconds, segment.end_seconds) for segment in found]


def test_a_pause_cuts_and_a_shorter_one_does_not():
    assert len(cut((1, 0.9), (0.4, 0), (1, 0.9), (0.6, 0), (1, 0.9), pause=0.5)) == 2


def test_segments_keep_a_margin_and_their_time():
    (start, end), (second, last) = cut((2, 0), (1, 0.9), (1, 0), (1, 0.9), (2, 0))
    assert (start, end) == pytest.approx((1.9, 3.1), abs=0.04)
    assert (second, last) == pytest.approx((3.9, 5.1), abs=0.04)


def test_margins_do_not_leave_the_recording():
    assert cut((1, 0.9)) == [(0, 1)]


def test_a_click_is_no_speech():
    assert cut((1, 0), (0.1, 0.9), (1, 0)) == []
    assert len(cut((1, 0), (0.4, 0.9), (1, 0))) == 1


def test_speech_goes_on_a_little_below_the_threshold():
    assert len(cut((1, 0.9), (1, 0.4), (1, 0.9))) == 1
    assert len(cut((1, 0.9), (1, 0.3), (1, 0.9))) == 2


def test_a_long_one_is_cut_in_its_longest_late_pause():
    talk = [(2, 0.9), (0.45, 0), (3.55, 0.9), (0.4, 0), (2, 0.9), (0.1, 0), (1, 0.9), (0.3, 0), (10, 0.9)]
    (_, end), (start, _), *_ = cut(*talk, longest=10)
    # The pause at 6 s is the longest in the second half, though that at 2 s is longer.
    assert end == pytest.approx(6.1, abs=0.05)
    assert start == pytest.approx(6.3, abs=0.05)


def test_without_a_pause_the_cut_is_where_speech_is_least_likely():
    (_, end), (start, _) = cut((7, 0.9), (0.05, 0.6), (7, 0.9), longest=10)
    assert 7 - 0.04 <= end == start <= 7.05 + 0.04


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 60), st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.95])), min_size=1, max_size=30),
    st.sampled_from([1.0, 2.5, 10.0]),
    st.sampled_from([0.1, 0.5, 2.0]),
)
def test_spans_are_ordered_apart_bounded_and_hold_all_that_is_speech(runs, longest, pause):
    rule = SpeechRule(longest=longest, pause=pause, shortest_speech=0.0)
    spans, found, speech = SpeechSpans(rule), [], []
    for frames, probability in runs:
        for _ in range(frames):
            if probability >= rule.threshold:
                speech.append(spans.now)
            needed = spans.needed_from
            new = spans.feed(probability)
            assert all(span.start >= needed for span in new)  # what was forgotten is not asked for
            found += new
    found += spans.finish(spans.now)
    assert all(0 < span.end - span.start <= longest * SAMPLE_RATE + FRAME for span in found)
    assert all(one.end <= other.start for one, other in itertools.pairwise(found))
    for sample in speech:
        assert any(span.start <= sample < span.end for span in found), sample / SAMPLE_RATE


@pytest.mark.parametrize("block", [100, 5000, 16000])
def test_the_size_of_the_blocks_changes_nothing(block):
    draw = np.random.default_rng(1)
    wave = np.repeat(draw.choice([0.0, 0.9], 40), 7000).astype(np.float32)
    whole = list(cut_at_pauses([wave], loud, SpeechRule(longest=4)))
    parts = list(cut_at_pauses(np.array_split(wave, len(wave) // block), loud, SpeechRule(longest=4)))
    assert [segment.start for segment in parts] == [segment.start for segment in whole]
    for one, other in zip(parts, whole, strict=True):
        np.testing.assert_array_equal(one.samples, other.samples)
        np.testing.assert_array_equal(one.samples, wave[one.start : one.start + len(one.samples)])


def test_fixed_times_hold_every_sample_but_silence():
    wave = wave_of((5, 0.1), (2, 0), (0.5, 0.1))
    segments = list(cut_at_times(np.array_split(wave, 9), 2))
    assert [(segment.start_seconds, segment.end_seconds) for segment in segments] == [(0, 2), (2, 4), (4, 6), (6, 7.5)]
    assert np.concatenate([segment.samples for segment in segments]).tolist() == wave.tolist()
    assert [segment.start_seconds for segment in cut_at_times([wave_of((2, 0.1), (4, 1e-4))], 2)] == [0]


def test_uncut_is_one_segment_and_silence_none():
    (segment,) = cut_nowhere([wave_of((1, 0)), wave_of((1, 0.2))])
    assert segment.end_seconds == 2
    assert list(cut_nowhere([wave_of((3, 0))])) == []
    assert list(cut_nowhere([])) == []


@pytest.fixture(scope="module")
def speech():
    """Two sentences with 1.5 seconds between them; README.txt says how it was made."""
    return Path(__file__).with_name("speech.flac")


@pytest.fixture(scope="module")
def detector():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    made = VoiceDetector()
    assert torch.get_num_threads() == 2  # the package's import sets 1 for the whole process
    torch.set_num_threads(threads)
    return made


def test_real_speech_is_cut_between_its_sentences(detector, speech):
    detector.reset()
    first, second = cut_at_pauses(stream_audio(str(speech)), detector, SpeechRule())
    assert 0.4 < first.start_seconds < 1 < 2 < first.end_seconds < 2.9
    assert 3.9 < second.start_seconds < 4.6 < 5.8 < second.end_seconds < 6.8


def test_a_long_pause_bridges_real_sentences(detector, speech):
    detector.reset()
    (only,) = cut_at_pauses(stream_audio(str(speech)), detector, SpeechRule(pause=3))
    assert only.end_seconds - only.start_seconds > 5


@pytest.mark.parametrize("kind", ["silence", "noise", "hum"])
def test_what_is_not_speech_gives_no_segment(detector, kind):
    time = np.arange(10 * SAMPLE_RATE) / SAMPLE_RATE
    wave = {
        "silence": 0 * time,
        "noise": 0.1 * np.random.default_rng(0).standard_normal(len(time)),
        "hum": 0.3 * np.sin(2 * np.pi * 50 * time),
    }[kind]
    detector.reset()
    assert list(cut_at_pauses([wave.astype(np.float32)], detector, SpeechRule())) == []
