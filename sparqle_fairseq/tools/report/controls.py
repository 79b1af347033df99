"""Controls, which say what a score is worth: the model without the right speech, and its LLM without any speech.

| control | what the model gets | what its score says |
|---|---|---|
| `shuffled audio` | another utterance's recording | what fluent text about something else scores |
| `silence` | nothing to hear, for as long | what the model makes up when it hears nothing |
| `text only` | the instruction without speech | what the LLM makes up by itself |
| `transcript` | the reference transcript in the place of the speech | the ceiling: the LLM with perfect ears |
| `cascade` | a recogniser's transcript in that place | what the same LLM does behind a recogniser |
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from sparqle_fairseq.data.audio import is_features, read_audio
from sparqle_fairseq.data.segments import Segment
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.scoring.normalise import normalised
from sparqle_fairseq.tools.report.expected import Expected, Split
from sparqle_fairseq.tools.report.recogniser import Recogniser, open_recogniser
from sparqle_fairseq.tools.report.written import Hypothesis, Written
from sparqle_fairseq.tools.translate.loaded import open_model
from sparqle_fairseq.tools.translate.translator import Settings, Target, Text, Translator

MODEL, SHUFFLED, SILENCE, TEXT_ONLY, TRANSCRIPT, CASCADE = (
    "model", "shuffled audio", "silence", "text only", "transcript", "cascade",
)  # fmt: skip
NAMES = (MODEL, SHUFFLED, SILENCE, TEXT_ONLY, TRANSCRIPT, CASCADE)
Note = Callable[[str], None]


@dataclass(frozen=True)
class Controls:
    """What to run.

    Args:
        asr: a folder of a speech recogniser of Hugging Face or of CTranslate2, for the cascade.
        only: those of `NAMES` that are wanted beside the model; by default all that can be run.
    """

    model: str
    asr: str | None = None
    speech_encoder: str | None = None
    llm: str | None = None
    beam: int = 5
    batch_seconds: float = 120.0
    seed: int = 1  # of the exchanged recordings
    cpu: bool = False
    only: tuple[str, ...] = ()

    @property
    def wanted(self) -> tuple[str, ...]:
        """The model, and the controls in their order."""
        return tuple(
            name
            for name in NAMES
            if name == MODEL or (name in self.only if self.only else name != CASCADE or self.asr is not None)
        )


def run_controls(controls: Controls, splits: Sequence[Split], note: Note) -> dict[str, list[Written]]:
    """Name -> what it wrote for each split, the model itself first. Raises `SparqleError`."""
    for split in splits:
        _check_rows(split)
    if CASCADE in controls.only and controls.asr is None:
        raise SparqleError(f"the control {CASCADE!r} wants a recogniser; give its folder with --asr")
    if controls.only and controls.asr is not None and CASCADE not in controls.only:
        raise SparqleError(f"--asr is of the control {CASCADE!r}, which was not asked for; add --control {CASCADE}")
    wanted = list(controls.wanted)
    silent = [split.name for split in splits if not all(normalised(row.source) for row in split.rows)]
    if TRANSCRIPT in wanted and silent:
        note(f"{', '.join(silent)}: rows without src_text, so there is no control {TRANSCRIPT!r}")
        wanted.remove(TRANSCRIPT)
    recogniser = open_recogniser(controls.asr, controls.cpu) if controls.asr is not None and CASCADE in wanted else None
    loaded = open_model(controls.model, speech_encoder=controls.speech_encoder, llm=controls.llm, cpu=controls.cpu)
    translator = Translator(loaded, Settings(beam=controls.beam))
    found: dict[str, list[Written]] = {}
    for split in splits:
        for name, texts in _of_split(controls, wanted, split, translator, recogniser, note):
            own = tuple((row.id, Hypothesis(text.text, text.ended, text.flag)) for row, text in texts)
            found.setdefault(name, []).append(Written(f"the control {name!r}", "id", own))
    return found


Answers = list[tuple[Expected, Text]]


def _of_split(
    controls: Controls,
    wanted: Sequence[str],
    split: Split,
    translator: Translator,
    recogniser: Recogniser | None,
    note: Note,
) -> Iterator[tuple[str, Answers]]:
    rows = list(split.rows)
    for name in (name for name in (MODEL, SHUFFLED, SILENCE) if name in wanted):
        recordings = exchanged(rows, controls.seed) if name == SHUFFLED else rows
        note(f"{split.name}: {name}")
        yield name, list(_hear(controls, translator, rows, recordings, silent=name == SILENCE))
    if not translator.can_translate:
        if {TEXT_ONLY, TRANSCRIPT, CASCADE}.intersection(wanted):
            note("a checkpoint of stage 1 has no LLM that could read text: no controls without speech")
        return
    for name in (name for name in (TEXT_ONLY, TRANSCRIPT, CASCADE) if name in wanted):
        note(f"{split.name}: {name}")
        texts = [row.source or "" if name == TRANSCRIPT else "" for row in rows]
        if name == CASCADE:
            assert recogniser is not None
            texts = [recogniser(_samples(row), row.source_language) for row in rows]
        yield name, list(_read(controls, translator, rows, texts))


def exchanged(rows: Sequence[Expected], seed: int) -> list[Expected]:
    """Each row's place taken by another row, one that says something else; every recording is used once.

    Raises `SparqleError` where that cannot be: one text is in more than half of the rows.
    """
    said = [normalised(row.source or row.reference) for row in rows]
    rng = random.Random(seed)
    places = {text: rng.random() for text in dict.fromkeys(said)}
    order = sorted(range(len(rows)), key=lambda i: places[said[i]])  # equal texts side by side, the others at random
    commonest = max(said.count(text) for text in set(said))
    if 2 * commonest > len(rows):
        raise SparqleError(
            f"{commonest} of {len(rows)} rows say the same, so no recording of another text is there for each; give "
            "more rows"
        )
    found = list(rows)
    for place, i in enumerate(order):
        found[i] = rows[order[(place + commonest) % len(order)]]
    return found


def _hear(
    controls: Controls, translator: Translator, rows: Sequence[Expected], recordings: Sequence[Expected], silent: bool
) -> Iterator[tuple[Expected, Text]]:
    for batch, target in _batches(controls, rows, recordings):
        segments = []
        for i in batch:
            samples = _samples(recordings[i])
            segments.append(Segment(i, np.zeros_like(samples) if silent else samples))
        for i, texts in zip(batch, translator(segments, [target]), strict=True):
            yield rows[i], texts[0]


def _read(
    controls: Controls, translator: Translator, rows: Sequence[Expected], transcripts: Sequence[str]
) -> Iterator[tuple[Expected, Text]]:
    for batch, target in _batches(controls, rows, rows):
        seconds = [rows[i].seconds or 1.0 for i in batch]
        for i, text in zip(batch, translator.read_all([transcripts[i] for i in batch], seconds, target), strict=True):
            yield rows[i], text


def _batches(
    controls: Controls, rows: Sequence[Expected], recordings: Sequence[Expected]
) -> Iterator[tuple[list[int], Target]]:
    """Rows that are asked the same, the longest first; the longest times their number is at most `batch_seconds`."""
    targets: dict[Target, list[int]] = {}
    for i, row in enumerate(rows):
        target = Target(row.task, row.language or "", row.prompt)
        targets.setdefault(target, []).append(i)
    for target, places in targets.items():
        places.sort(key=lambda i: -(recordings[i].seconds or 0.0))
        while places:
            size = max(1, int(controls.batch_seconds / max(recordings[places[0]].seconds or 0.0, 0.1)))
            yield places[:size], target
            places = places[size:]


def _samples(row: Expected) -> np.ndarray:
    assert row.audio is not None
    return read_audio(row.audio)


def _check_rows(split: Split) -> None:
    for i, row in enumerate(split.rows):
        if row.audio is None:
            raise SparqleError(f"{split.name} names no recordings; controls want a --manifest")
        if is_features(row.audio):
            raise SparqleError(
                f"{split.where(i)} has features, and controls hear audio; give the manifest of recordings"
            )
        if row.language is None:
            raise SparqleError(f"{split.where(i)} names no language to answer in; give --tgt-lang")


def as_table(written: Written) -> str:
    """A control's texts as a table that `read_written` reads."""
    lines = ["id\thypothesis\tended\tflag"]
    for key, hypothesis in written.texts:
        cells = (key, hypothesis.text, hypothesis.ended or "", hypothesis.flag or "")
        lines.append("\t".join(" ".join(cell.split()) for cell in cells))
    return "\n".join(lines) + "\n"
