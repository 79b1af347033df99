"""What `sparqle inspect` does: find the utterance, look into it, draw, and say the same in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sparqle_fairseq.data.audio import audio_length
from sparqle_fairseq.data.manifest import write_manifest
from sparqle_fairseq.data.prompts import language_name
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate.figures import (
    layers_figure,
    require_matplotlib,
    save_figure,
    similarity_figure,
    utterance_figure,
)
from sparqle_fairseq.generate.inspection import Look, Similarities, batch_around, compare_batch, look_into
from sparqle_fairseq.generate.stopping import as_option

if TYPE_CHECKING:
    from sparqle_fairseq.tasks.loading import Trained


@dataclass(frozen=True)
class Report:
    look: Look
    similarities: Similarities | None
    without_similarities: str  # why there are none
    files: list[Path]


def draw_report(
    utterance: Path,
    model: Path,
    out: Path,
    *,
    name: str | None = None,
    rows: int = 8,
    to: str | None = None,
    prefix: str | None = None,
    stop: Sequence[str] = (),
    beam: int = 4,
    speech_encoder: str | None = None,
    llm: str | None = None,
    audio_root: Path | None = None,
    strict_audio: bool = True,
    cpu: bool = False,
) -> Report:
    """Look into one utterance and write the pictures.

    Args:
        utterance: a manifest, whose names end in .tsv, or an audio file.
        model: checkpoint of stage 1 or 2.
        out: a `.png` file, or a folder for `utterance.png`, `layers.png` and, in stage 1, `similarity.png`.
        name: id of a row of the manifest; None takes the first.
        rows: transcripts in the similarity matrix.
        to: language of an audio file's translation; None transcribes.
        prefix: what the hypothesis begins with, where its row names nothing else; None is the checkpoint's own.
        stop: texts before which the hypothesis ends; none is those of the checkpoint's training.
        beam: of the search for the hypothesis.
        speech_encoder, llm, cpu: as for `load_trained`.
        audio_root: folder of relative audio paths in the manifest.
        strict_audio: refuse a damaged recording; else what is left of it is read.

    Raises:
        SparqleError: nothing to look into, no matplotlib, or a checkpoint that cannot be used.
    """
    require_matplotlib()
    is_manifest = utterance.suffix == ".tsv"
    if not utterance.is_file():
        raise SparqleError(f"{utterance}: there is no such file; give a manifest (.tsv) or an audio file")
    if out.suffix and out.suffix != ".png" and not out.is_dir():
        raise SparqleError(f"--out {out}: pictures are PNG files; give a name that ends in .png, or a folder")
    if not is_manifest and name is not None:
        raise SparqleError(f"--utterance {name} names a row of a manifest, but {utterance} is not one (.tsv)")
    if is_manifest and to is not None:
        raise SparqleError(f"--to {to} is for an audio file; a manifest says in each row what is wanted")
    if rows < 2:
        raise SparqleError(f"--rows {rows} makes no similarity matrix; give a number from 2")
    from sparqle_fairseq.tasks.loading import load_rows, load_trained

    trained = load_trained(model, speech_encoder=speech_encoder, llm=llm, cpu=cpu)
    if prefix is not None:
        trained.task.cfg.prefix = prefix
    if stop:
        trained.task.cfg.stop = as_option(stop)
    if is_manifest:
        dataset = load_rows(trained, utterance, audio_root, strict_audio)
        index = _index_of(dataset, name, utterance)
        looks = look_into(trained.task, trained.model, dataset, [index], beam)
        batch = batch_around(dataset, index, rows)
        enough = len(batch) > 1
        similarities = compare_batch(trained.model, dataset, batch) if enough else None
        why = "no similarity matrix: " + (
            "a stage-2 model has no text branch; give a stage-1 checkpoint"
            if enough
            else f"{utterance} has no two different transcripts"
        )
    else:
        looks, similarities = _look_into_file(trained, utterance, to, beam, strict_audio), None
        why = "no similarity matrix: an audio file comes without transcripts; give a manifest"
    if not looks:
        raise SparqleError(f"{utterance}: the audio of the utterance cannot be read")
    files = _draw(looks[0], similarities, out)
    return Report(looks[0], similarities, why, files)


def summary(report: Report) -> dict[str, Any]:
    """What the pictures show, for a program: times in seconds."""
    look = report.look
    found: dict[str, Any] = {
        "utterance": look.name,
        "seconds": round(look.seconds, 3),
        "frame_seconds": 1 / look.reading_rate,
        "reference": look.reference,
        "hypothesis": look.hypothesis,
        "ended": look.ended,
        "tokens": [
            {"token": token, "seconds": round(float(seconds), 3)}
            for token, seconds in zip(look.tokens, look.token_seconds, strict=True)
        ],
        "queries": [
            {"query": i, "most_attended_seconds": round(float(seconds), 3), "share": round(float(share), 4)}
            for i, (seconds, share) in enumerate(zip(look.query_seconds, look.queries.max(axis=1), strict=True))
        ],
        "similarity": None,
        "files": [str(file) for file in report.files],
    }
    if report.similarities is None:
        return {**found, "similarity_missing": report.without_similarities}
    pairs = report.similarities
    found["similarity"] = {
        "utterances": pairs.names,
        "cosines": [[round(float(value), 4) for value in row] for row in pairs.cosines],
        "own_transcript_first": pairs.found,
    }
    return found


def _draw(look: Look, similarities: Similarities | None, out: Path) -> list[Path]:
    if out.suffix == ".png":
        figures = {out: utterance_figure(look, similarities)}
    else:
        figures = {out / "utterance.png": utterance_figure(look), out / "layers.png": layers_figure(look)}
        if similarities is not None:
            figures[out / "similarity.png"] = similarity_figure(similarities)
    for path, figure in figures.items():
        save_figure(figure, path)
    return list(figures)


def _index_of(dataset: Any, name: str | None, manifest: Path) -> int:
    if name is None:
        return 0
    for i, found in enumerate(dataset.manifests[0].ids()):
        if found == name:
            return i
    raise SparqleError(f"{manifest} has no utterance {name!r}; its first is {dataset.row(0).id!r}")


def _look_into_file(trained: Trained, audio: Path, to: str | None, beam: int, strict: bool) -> list[Look]:
    from sparqle_fairseq.tasks.loading import load_rows

    row = {
        "id": audio.name,
        "audio": str(audio.resolve()),
        "n_frames": audio_length(str(audio), strict=strict),
        "task": "transcription",
    }
    if to is not None:
        language_name(to)  # raises where it is not a language
        row |= {"tgt_lang": to, "task": "translation"}
    with TemporaryDirectory() as folder:
        manifest = Path(folder) / "one.tsv"
        write_manifest(manifest, [row], list(row))
        return look_into(trained.task, trained.model, load_rows(trained, manifest, None, strict), [0], beam)
