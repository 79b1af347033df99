"""A manifest of transcripts into one of translations by the LLM that reads them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from sparqle_fairseq.data.manifest import Manifest, read_manifest, write_manifest
from sparqle_fairseq.data.prompts import language_name
from sparqle_fairseq.data.wordings import PromptTemplates
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate.search import SearchSettings
from sparqle_fairseq.models.config import DTYPES
from sparqle_fairseq.models.llm.llm import LLMOptions, load_llm
from sparqle_fairseq.tools.llm_targets.reader import Answer, Question, Reader
from sparqle_fairseq.tools.llm_targets.sieve import faults
from sparqle_fairseq.tools.prepare.ledger import Ledger
from sparqle_fairseq.tools.report.identify import identify, other_language

COLUMNS = ("id", "audio", "n_frames", "src_text", "tgt_text", "src_lang", "tgt_lang", "task", "speaker", "prompt")


@dataclass(frozen=True)
class Request:
    """What to make.

    Args:
        manifest: with transcripts; of rows that say the same in one recording, one is read.
        llm: folder or hub id.
        languages: to translate into.
        out: the manifest to write.
        src_lang: of rows that have none.
        transcriptions: write each transcript once as an answer too.
        longest, identify: see `sieve.faults`; `identify` looks at the language.
    """

    manifest: Path
    llm: str
    languages: Sequence[str]
    out: Path
    src_lang: str | None = None
    llm_dtype: str = "bf16"
    prompt_templates: str | None = None
    transcriptions: bool = False
    longest: float = 2.0
    identify: bool = True
    batch_size: int = 32
    search: SearchSettings = field(default_factory=lambda: SearchSettings(beam=1))
    cpu: bool = False


@dataclass(frozen=True)
class Made:
    """What was written."""

    rows: dict[str, int]  # by language
    ledger: Ledger
    cpu_seconds: float  # of reading and answering, the LLM's loading left out


def run(request: Request, progress: Callable[[Iterable[int], int], Iterable[int]] | None = None) -> Made:
    """Read, answer, sift and write. Raises `SparqleError`."""
    manifest = read_manifest(request.manifest, src_lang=request.src_lang, require=("src_text",))
    ledger = Ledger()
    rows = _utterances(manifest, ledger)
    for language in request.languages:
        language_name(language)  # says at once that it is none
        if request.identify and identify([], [], language) is None:
            ledger.note(f"the language of texts in {language} was not looked at: the identifier does not know it")
    if not request.out.parent.is_dir():
        raise SparqleError(f"{request.out}: there is no folder {request.out.parent}; make it first")
    llm = load_llm(request.llm, LLMOptions(dtype=DTYPES[request.llm_dtype]))
    llm.to("cuda" if torch.cuda.is_available() and not request.cpu else "cpu")
    reader = Reader(llm, PromptTemplates.load(request.prompt_templates), request.search)
    before = time.process_time()
    kept: dict[str, dict[int, str]] = {}
    for language in request.languages:
        kept[language] = _translations(request, manifest, rows, language, reader, ledger, progress)
    seconds = time.process_time() - before
    if not any(kept.values()):
        raise SparqleError(f"{request.out}: no translation was good enough ({ledger.sentence()}); nothing was written")
    counts = {language: len(texts) for language, texts in kept.items()}
    if request.transcriptions:
        counts["transcriptions"] = len(rows)
    write_manifest(request.out, _written(request, manifest, rows, kept), COLUMNS)
    return Made(counts, ledger, seconds)


def _utterances(manifest: Manifest, ledger: Ledger) -> list[int]:
    """Rows, one of each recording and transcript."""
    seen: dict[tuple[str, str | None], int] = {}
    for i in range(len(manifest)):
        if seen.setdefault((manifest.audio(i), manifest.text("src_text", i)), i) != i:
            ledger.leave(manifest.where(i), "the same recording and transcript again")
    return list(seen.values())


def _translations(
    request: Request,
    manifest: Manifest,
    rows: Sequence[int],
    language: str,
    reader: Reader,
    ledger: Ledger,
    progress: Callable[[Iterable[int], int], Iterable[int]] | None,
) -> dict[int, str]:
    """Row -> its translation, where that is good enough."""
    questions = [_question(manifest, i, language) for i in rows]
    answers: list[Answer] = reader.answers(questions, request.batch_size, progress)
    said = [question.transcript for question in questions]
    looked_at = other_language if request.identify else None
    found = {}
    for i, answer, fault in zip(
        rows, answers, faults(said, answers, language, request.longest, looked_at), strict=True
    ):
        if fault is None:
            found[i] = " ".join(answer.text.split())  # on one line, as a manifest wants it
        else:
            ledger.leave(f"{manifest.where(i)} in {language}", fault)
    return found


def _question(manifest: Manifest, i: int, language: str) -> Question:
    row = manifest.row(i)
    return Question(f"{row.id}-{language}", row.src_text or "", language, row.prompt, manifest.where(i))


def _written(
    request: Request, manifest: Manifest, rows: Sequence[int], kept: dict[str, dict[int, str]]
) -> Iterator[dict[str, Any]]:
    """Rows of the new manifest, those of one recording side by side."""
    beside = not manifest.rooted and request.out.parent.resolve() == request.manifest.parent.resolve()
    for i in rows:
        row = manifest.row(i)
        shared = {
            "audio": manifest.cells(i)["audio"] if beside else row.audio,
            "n_frames": row.n_frames,
            "src_text": row.src_text,
            "src_lang": row.src_lang,
            "speaker": row.speaker,
        }
        if request.transcriptions:
            said = {"tgt_text": row.src_text, "tgt_lang": row.src_lang, "task": "transcription"}
            yield {**shared, **said, "id": f"{row.id}-transcript"}
        for language, texts in kept.items():
            if i in texts:
                told = {"tgt_text": texts[i], "tgt_lang": language, "task": "translation", "prompt": row.prompt}
                yield {**shared, **told, "id": f"{row.id}-{language}"}
