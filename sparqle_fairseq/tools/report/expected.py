"""What a test set asks for: its utterances with reference, languages and whatever its manifest says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sparqle_fairseq.data.audio import SAMPLE_RATE, is_features
from sparqle_fairseq.data.manifest import KNOWN_COLUMNS, Manifest, read_manifest
from sparqle_fairseq.data.prompts import PromptError, language_name
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import read_lines
from sparqle_fairseq.scoring.normalise import normalised
from sparqle_fairseq.scoring.outputs import Generated

CORPUS = "corpus"  # a manifest's column; without it the manifest's name


@dataclass(frozen=True)
class Expected:
    """One utterance; None where nothing is known."""

    id: str
    reference: str | None
    source: str | None = None  # what is said
    task: str = "translation"  # one of the manifest's `TASKS`
    source_language: str | None = None
    language: str | None = None  # of the reference
    seconds: float | None = None
    audio: str | None = None
    prompt: str | None = None  # its own instruction
    columns: Mapping[str, str] = field(default_factory=dict)  # speaker, corpus and what the manifest has of its own


@dataclass(frozen=True)
class Split:
    """A test set. Ids that came from a manifest name an utterance; else they are row numbers."""

    name: str
    rows: tuple[Expected, ...]
    named: bool

    def where(self, i: int) -> str:
        return f"{self.name} row {i}" + (f" (utterance {self.rows[i].id})" if self.named else "")


def of_manifest(
    path: str | Path, src_lang: str | None = None, tgt_lang: str | None = None, row_task: str | None = None
) -> Split:
    """The rows of a manifest. The codes and the task hold where it has none. Raises `SparqleError`."""
    manifest = read_manifest(path, src_lang=src_lang, tgt_lang=tgt_lang, row_task=row_task)
    _check_languages(manifest)
    name = Path(path).stem
    own = [column for column in manifest.columns if column not in KNOWN_COLUMNS]
    return Split(name, tuple(_expected(manifest, i, own, name) for i in range(len(manifest))), named=True)


def of_references(
    path: str | Path,
    sources: str | Path | None = None,
    src_lang: str | None = None,
    tgt_lang: str | None = None,
    task: str = "translation",
) -> Split:
    """A file of references, one a line, and perhaps one of transcripts. Raises `SparqleError`."""
    references = read_lines(path, "file of references")
    said: Sequence[str | None] = [None] * len(references) if sources is None else read_lines(sources, "file of sources")
    if len(said) != len(references):
        raise SparqleError(
            f"{sources} has {len(said)} lines and {path} has {len(references)}; line k of both must be one utterance"
        )
    if not references:
        raise SparqleError(f"{path}: found an empty file of references; write one a line")
    rows = (
        Expected(str(i), reference, source, task, src_lang, tgt_lang)
        for i, (reference, source) in enumerate(zip(references, said, strict=True))
    )
    return Split(Path(path).stem, tuple(rows), named=False)


def of_generated(
    generated: Generated,
    name: str,
    src_lang: str | None = None,
    tgt_lang: str | None = None,
    task: str = "translation",
) -> Split:
    """The references that fairseq-generate printed. Raises `SparqleError` where it has none."""
    if not generated.references:
        raise SparqleError(f"{name} has no T- lines; give the test set with --manifest or --references")
    rows = (
        Expected(str(i), generated.references.get(i), None, task, src_lang, tgt_lang)
        for i in range(max(generated.references) + 1)
    )
    return Split(name, tuple(rows), named=False)


def _check_languages(manifest: Manifest) -> None:
    """Raise `SparqleError` for the first row with a code that names no language: titles have the language's name."""
    for column in ("src_lang", "tgt_lang"):
        codes, values = manifest.distinct((column,))
        for k, (code,) in enumerate(values):
            try:
                language_name(code or "en")
            except PromptError as error:
                row = int((codes == k).argmax())
                raise SparqleError(f"{manifest.where(row)}: {column} {error}") from None


def _expected(manifest: Manifest, i: int, own: Sequence[str], name: str) -> Expected:
    row = manifest.row(i)
    columns = {column: manifest.text(column, i) or "" for column in own}
    columns.setdefault(CORPUS, name)
    if row.speaker:
        columns["speaker"] = row.speaker
    reference = row.tgt_text if row.tgt_text is not None else row.src_text if row.task == "transcription" else None
    # Features have no length in seconds: how many there are in one is their encoder's affair.
    seconds = None if is_features(row.audio) else row.n_frames / SAMPLE_RATE
    language = row.tgt_lang or (row.src_lang if row.task == "transcription" else None)
    return Expected(
        row.id,
        reference if normalised(reference) else None,
        row.src_text,
        row.task,
        row.src_lang,
        language,
        seconds,
        row.audio,
        row.prompt,
        columns,
    )
