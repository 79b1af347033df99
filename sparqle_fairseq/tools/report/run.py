"""`sparqle report`: from files of hypotheses to a folder with the report."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparqle_fairseq.data.prompts import language_name
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.scoring.error_rates import normaliser_named
from sparqle_fairseq.tools.report import comet
from sparqle_fairseq.tools.report.content import content_of
from sparqle_fairseq.tools.report.expected import Split, of_generated, of_manifest, of_references
from sparqle_fairseq.tools.report.match import matched
from sparqle_fairseq.tools.report.measure import Rules
from sparqle_fairseq.tools.report.parts import Part, parts_of
from sparqle_fairseq.tools.report.write import check_place, write_report
from sparqle_fairseq.tools.report.written import Written, read_written

if TYPE_CHECKING:
    from sparqle_fairseq.tools.report.controls import Controls


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Args:
        systems: `NAME=FILE[,FILE…]`, a file for each test set, or `FILE`.
        manifests, references, sources: the test sets; without any, the references that fairseq-generate printed.
        seen: languages that were trained on; None makes no table of them.
        controls: a model to run, with its controls, on the manifests; they are systems beside those of files.
    """

    systems: Sequence[str]
    output: Path
    manifests: Sequence[Path] = ()
    references: Path | None = None
    sources: Path | None = None
    src_lang: str | None = None
    tgt_lang: str | None = None
    row_task: str | None = None
    baseline: str | None = None
    rules: Rules = field(default_factory=Rules)
    columns: Sequence[str] = ()
    seen: Sequence[str] | None = None
    comet: Path | None = None
    missing_as_empty: bool = False
    force: bool = False
    controls: Controls | None = None


@dataclass(frozen=True)
class Made:
    content: dict[str, Any]
    notes: list[str]


def run(request: Request) -> Made:
    """Make the report. Raises `SparqleError`; then nothing is written."""
    check_place(request.output, request.force)
    for code in (request.src_lang, request.tgt_lang):
        if code is not None:
            language_name(code)
    normaliser_named(request.rules.normaliser)
    if request.controls is None:
        if not request.systems:
            raise SparqleError("there is nothing to report; give files as NAME=FILE, or --controls with a --model")
    elif not request.manifests:
        raise SparqleError("--controls hears recordings, and no --manifest names some; give one")
    written = {name: [read_written(path) for path in paths] for name, paths in named_systems(request.systems).items()}
    splits = _splits(request, written)
    for name, own in written.items():
        _check_count(name, own, splits)
    made = {} if request.controls is None else _controls(request.controls, splits, list(written))
    written = {**made, **written}
    baseline = request.baseline or next(iter(written))
    if baseline not in written:
        raise SparqleError(f"--baseline {baseline}: there is no such system; there are {', '.join(written)}")
    texts = {
        name: [matched(one, split, request.missing_as_empty) for one, split in zip(own, splits, strict=True)]
        for name, own in written.items()
    }
    parts = parts_of(splits, texts)
    scores = {} if request.comet is None else _comet(parts, request.comet)
    content = content_of(parts, baseline, request.rules, request.columns, request.seen, scores)
    return Made(content, write_report(request.output, content, parts, request.force, _outputs(made, splits)))


def named_systems(words: Sequence[str]) -> dict[str, list[str]]:
    """`NAME=FILE,FILE` -> files. Raises `SparqleError` for names that two have, or that files cannot have apart."""
    found: dict[str, list[str]] = {}
    for word in words:
        name, equals, files = word.partition("=")
        if not equals or Path(word).is_file():
            name, files = Path(word.partition(",")[0]).stem, word
        if not name.strip() or not files:
            raise SparqleError(f"{word!r} names no system and file; write NAME=FILE")
        other = next((own for own in found if comet.file_name(own) == comet.file_name(name)), None)
        if other is not None:
            raise SparqleError(f"two systems are called {name} and {other}; tell them apart with NAME=FILE")
        found[name] = [files] if Path(files).is_file() else files.split(",")
    return found


def _splits(request: Request, written: dict[str, list[Written]]) -> list[Split]:
    task = request.row_task or "translation"
    if request.manifests and request.references:
        raise SparqleError("--manifest and --references both name a test set; leave one out")
    if request.sources and not request.references:
        raise SparqleError("--sources belongs to --references; a manifest has its own transcripts")
    if request.manifests:
        paths = [path for named in request.manifests for path in manifests_named(named)]
        return [of_manifest(path, request.src_lang, request.tgt_lang, request.row_task) for path in paths]
    if request.references:
        return [of_references(request.references, request.sources, request.src_lang, request.tgt_lang, task)]
    generated = next((own for own in written.values() if all(one.generated for one in own)), None)
    if generated is None:
        raise SparqleError(
            "the files hold no references; give the test set with --manifest TSV, or --references FILE with one a line"
        )
    return [
        of_generated(one.generated, Path(one.path).stem, request.src_lang, request.tgt_lang, task)
        for one in generated
        if one.generated is not None
    ]


def manifests_named(path: Path) -> list[Path]:
    """The file of this name, or those that the pattern in it (`test_*.tsv`) names, in the order of their names."""
    if path.exists() or not set("*?[") & set(path.name):
        return [path]
    found = sorted(path.parent.glob(path.name))
    if not found:
        raise SparqleError(f"--manifest {path}: there is no such file; look for its name")
    return found


def _check_count(name: str, written: Sequence[Written], splits: Sequence[Split]) -> None:
    if len(written) != len(splits):
        raise SparqleError(
            f"{name} has {len(written)} file(s), and there are {len(splits)} test set(s); write "
            f"{name}=FILE,FILE, one for each in their order"
        )


def _controls(controls: Controls, splits: Sequence[Split], taken: Sequence[str]) -> dict[str, list[Written]]:
    from sparqle_fairseq.tools.report.controls import NAMES, run_controls

    if clash := [name for name in taken if name in NAMES]:
        raise SparqleError(f"a system is called {clash[0]}, as a control is; give it another name")
    return run_controls(controls, splits, lambda text: print(text, file=sys.stderr, flush=True))


def _outputs(made: dict[str, list[Written]], splits: Sequence[Split]) -> dict[str, str]:
    """File name -> what a control wrote, to be read again."""
    if not made:
        return {}
    from sparqle_fairseq.tools.report.controls import as_table

    return {
        f"{split.name}.{Path(comet.file_name(name)).stem}.tsv": as_table(one)
        for name, own in made.items()
        for split, one in zip(splits, own, strict=True)
    }


def _comet(parts: Sequence[Part], folder: Path) -> dict[str, Any]:
    """COMET's scores of the parts that have some. Raises `SparqleError` where none has."""
    there = [part for part in parts if part.rows and (folder / part.name / comet.SCORES).is_file()]
    if not there:
        raise SparqleError(f"{folder} holds no {comet.SCORES}; run the run.sh of a part in a report's folder comet")
    return {part.name: comet.read_scores(part, folder) for part in there}
