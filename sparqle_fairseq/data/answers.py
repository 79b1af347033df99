"""What the LLM is to answer to a translation: the translation alone, or the transcript first. Plain Python."""

from __future__ import annotations

from sparqle_fairseq.data.manifest import ManifestError, ManifestRow

ANSWERS = ("direct", "transcript-first")
# The templates' task that asks for transcript and translation.
BOTH = "transcript_translation"
# Between transcript and translation; a manifest's texts cannot hold it.
_SEPARATOR = "\n"


def prompt_task(row: ManifestRow, style: str) -> str:
    """Name of the templates' task that asks for an answer of this style."""
    return BOTH if style == "transcript-first" and row.task == "translation" else row.task


def transcript_first(transcript: str, translation: str) -> str:
    """Both, as the LLM is to write them."""
    return f"{transcript}{_SEPARATOR}{translation}"


def answer_text(row: ManifestRow, style: str, where: str) -> str | None:
    """The answer of a row, None where it has none. Raises `ManifestError`."""
    if row.tgt_text is None or prompt_task(row, style) == row.task:
        return row.tgt_text
    if not row.src_text:
        raise ManifestError(f"{where}: --answer transcript-first needs the transcript; fill in src_text")
    return transcript_first(row.src_text, row.tgt_text)


def transcript_part(transcript: str) -> str:
    """What stands before the translation, as the LLM is to write it."""
    return transcript_first(transcript, "")


def final_text(text: str, style: str) -> str:
    """The part of a hypothesis that is the answer to the task: of transcript-first, what comes last."""
    return text if style == "direct" else text.rpartition(_SEPARATOR)[2].strip()
