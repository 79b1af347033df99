"""How far from the truth are the times of `sparqle translate`'s segments? On talks whose times are known.

Recordings of single sentences are set one behind the other with silence of known length between them, so that it is
known by construction where each is spoken: where it is louder than -40 dB of full scale. Each such span is held against
the segment that overlaps it most. A segment that holds several sentences counts once, by where its first begins
and its last ends; times are compared without the margin that a segment is given on purpose.

    python benchmarks/segment_times.py build/demo/manifests/test_asr.tsv
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from sparqle_fairseq.data.audio import SAMPLE_RATE, read_audio
from sparqle_fairseq.data.manifest import read_manifest
from sparqle_fairseq.data.segments import SpeechRule
from sparqle_fairseq.tools.translate.run import cut_of

LOUD = 0.01  # of full scale; the demo's synthesiser is silent between words
NOISE = 0.002  # of the silence, so that it is no digital silence

Span = tuple[float, float]  # seconds


def talk(waves: Sequence[np.ndarray], gaps: Sequence[float], rng: np.random.Generator) -> tuple[np.ndarray, list[Span]]:
    """A waveform (S,) with a gap before each sentence and after the last, and where each is spoken."""
    parts, spans, at = [], [], 0
    for wave, gap in zip([*waves, np.zeros(0, np.float32)], gaps, strict=True):
        silence = rng.standard_normal(round(gap * SAMPLE_RATE)).astype(np.float32) * NOISE
        loud = np.flatnonzero(np.abs(wave) > LOUD)
        parts += [silence, wave]
        at += len(silence)
        if len(loud):
            spans.append(((at + int(loud[0])) / SAMPLE_RATE, (at + int(loud[-1]) + 1) / SAMPLE_RATE))
        at += len(wave)
    return np.concatenate(parts), spans


def errors(segments: Sequence[Span], spans: Sequence[Span]) -> tuple[list[float], list[float], int]:
    """(errors of begins, of ends) in seconds, and how many sentences are in no segment."""
    owners: dict[int, list[Span]] = {}
    lost = 0
    for span in spans:
        shared = [min(end, span[1]) - max(start, span[0]) for start, end in segments]
        best = int(np.argmax(shared)) if shared else -1
        if best < 0 or shared[best] <= 0:
            lost += 1
        else:
            owners.setdefault(best, []).append(span)
    begins = [segments[i][0] - own[0][0] for i, own in owners.items()]
    ends = [segments[i][1] - own[-1][1] for i, own in owners.items()]
    return begins, ends, lost


def numbers(found: Sequence[float]) -> str:
    """Mean (late is positive), mean of the absolute values, and what 95 % of them are below, in ms."""
    values = 1000 * np.array(found)
    return f"{values.mean():>+12.0f} {np.abs(values).mean():>8.0f} {np.quantile(np.abs(values), 0.95):>8.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("manifest", help="of recordings of single sentences")
    parser.add_argument("--talks", type=int, default=8)
    parser.add_argument("--sentences", type=int, default=20, help="in a talk")
    parser.add_argument(
        "--gaps", type=float, nargs=2, default=(0.25, 1.2), help="shortest and longest silence, seconds"
    )
    parser.add_argument("--seed", type=int, default=5)
    args = parser.parse_args()
    manifest = read_manifest(args.manifest)
    rng = np.random.default_rng(args.seed)
    talks = []
    for number in range(args.talks):
        rows = [(number * args.sentences + i) % len(manifest) for i in range(args.sentences)]
        waves = [read_audio(manifest.audio(row)) for row in rows]
        talks.append(talk(waves, rng.uniform(*args.gaps, args.sentences + 1), rng))
    print(f"{args.talks} talks of {args.sentences} sentences, silences of {args.gaps[0]} to {args.gaps[1]} s")
    print("pause  segments  lost    begin: mean error, mean |error|, 95 % below    end: the same, all in ms")
    for pause in (0.2, 0.5, 1.0):
        rule = SpeechRule(pause=pause)
        margin = min(rule.margin, rule.pause / 2)
        begins: list[float] = []
        ends: list[float] = []
        count = lost = 0
        cut = cut_of("vad", rule)
        for wave, spans in talks:
            found = [(s.start_seconds + margin, s.end_seconds - margin) for s in cut([wave])]
            begin, end, missed = errors(found, spans)
            begins, ends, lost, count = begins + begin, ends + end, lost + missed, count + len(found)
        print(f"{pause:>5}  {count:>8}  {lost:>4}  {numbers(begins)}  {numbers(ends)}")


if __name__ == "__main__":
    main()
