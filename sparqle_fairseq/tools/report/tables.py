"""The tables of a report, as cells of text: HTML, Markdown and LaTeX show the same ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sparqle_fairseq.data.prompts import PromptError, language_name
from sparqle_fairseq.scoring.significance import LEVEL

NAMES = {"bleu": "BLEU", "chrf": "chrF", "chrf++": "chrF++", "ter": "TER", "wer": "WER", "cer": "CER", "comet": "COMET"}
UP, DOWN = "↑", "↓"
MARK = "*"  # of a score whose difference to the baseline is not chance
BETTER, WORSE, NO_DIFFERENCE = "better", "worse", "not significant"


@dataclass(frozen=True)
class Table:
    """`texts`: numbers of the columns that hold text and not numbers."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""
    texts: tuple[int, ...] = (0,)


def heading(metric: str, higher_is_better: bool) -> str:
    return f"{NAMES[metric]} {UP if higher_is_better else DOWN}"


def score_table(part: Mapping[str, Any], baseline: str) -> Table:
    """Systems and metrics, with intervals, and a mark where Holm's randomisation finds a difference."""
    metrics = part["metrics"]
    rows = []
    for system, scores in part["scores"].items():
        cells = [f"{interval(scores[name])}{MARK if _differs(part, system, name) else ''}" for name in metrics]
        rows.append((f"{system} (baseline)" if system == baseline and len(part["scores"]) > 1 else system, *cells))
    head = ("system", *(heading(name, about["higher_is_better"]) for name, about in metrics.items()))
    note = f"n = {part['n']}; 95 % bootstrap intervals."
    if part["differences"]:
        note += f" {MARK}: differs from {baseline} (approximate randomisation, Holm, p < {LEVEL})."
    return Table(part["title"], head, tuple(rows), note)


def difference_table(part: Mapping[str, Any], baseline: str) -> Table | None:
    """Every system against the baseline, with both tests; None where there is one system."""
    rows = []
    for system, tests in part["differences"].items():
        for name, test in tests.items():
            rows.append(
                (
                    system,
                    heading(name, part["metrics"][name]["higher_is_better"]),
                    f"{test['difference']:+.1f} [{test['low']:+.1f}, {test['high']:+.1f}]",
                    *(p_value(test[key]) for key in (
                        "p_randomisation", "holm_randomisation", "p_bootstrap", "holm_bootstrap",
                    )),
                    verdict(test, part["metrics"][name]["higher_is_better"]),
                )
            )  # fmt: skip
    if not rows:
        return None
    head = ("system", "metric", "difference [95 %]", "p (AR)", "Holm", "p (bootstrap)", "Holm", "verdict")
    note = f"AR: paired approximate randomisation; bootstrap: paired, two-sided. The verdict is Holm's AR at {LEVEL}."
    return Table(f"{part['title']}, against {baseline}", head, tuple(rows), note, texts=(0, 1, 7))


def breakdown_tables(part: Mapping[str, Any]) -> Iterator[Table]:
    """One for each breakdown: groups and systems, by the first two metrics."""
    metrics = list(part["metrics"])[:2]
    systems = list(part["scores"])
    for found in part["breakdowns"]:
        head = (
            f"{found['by']} ({found['unit']})" if found["unit"] else found["by"], "n",
            *(f"{system}: {NAMES[name]}" for system in systems for name in metrics),
        )  # fmt: skip
        rows = tuple(
            (group["name"], str(group["n"]),
             *(interval(group["scores"][system][name]) for system in systems for name in metrics))
            for group in found["groups"]
        )  # fmt: skip
        yield Table(f"{part['title']}, by {found['by']}", head, rows, "95 % bootstrap intervals.")


def flag_table(part: Mapping[str, Any], meaning: Mapping[str, str]) -> Table:
    """How many hypotheses of each system want a look, and which languages came out unasked."""
    rows = []
    for system, found in part["flags"].items():
        languages = _came_out(
            {code: about["count"] for code, about in found["languages"].items()} if part.get("identified") else None
        )
        counts = (str(found["rows"].get(flag, {"count": 0})["count"]) for flag in meaning)
        rows.append((system, *counts, languages))
    head = ("system", *meaning, "languages that came out")
    note = "; ".join(f"{flag}: {says}" for flag, says in meaning.items()) + "."
    return Table(
        f"{part['title']}, hypotheses of {part['n']} that want a look", head, tuple(rows), note, (0, len(head) - 1)
    )


def language_tables(summary: Mapping[str, Any]) -> list[Table]:
    """Seen and zero-shot languages; none where there is no translation."""
    if not summary["rows"]:
        return []
    metrics = summary["metrics"][:2]

    def cells(scores: Mapping[str, Mapping[str, float]]) -> list[str]:
        return [f"{scores[system][name]:.1f}" for system in scores for name in metrics]

    systems = list(summary["rows"][0]["scores"])
    columns = [f"{system}: {NAMES[name]}" for system in systems for name in metrics]
    listed = tuple(
        (name_of(row["language"]), row["kind"], str(row["n"]), *cells(row["scores"]), _came_out(row["others"]))
        for row in summary["rows"]
    )
    means = tuple((row["kind"], str(row["languages"]), *cells(row["scores"])) for row in summary["means"])
    return [
        Table(
            "Languages",
            ("language", "", "n", *columns, "came out instead"),
            listed,
            f"Sorted by {columns[0]}. Came out instead: what {systems[0]} wrote in another language.",
            texts=(0, 1, 3 + len(columns)),
        ),
        Table("Means over languages", ("", "languages", *columns), means, "Each language counts the same."),
    ]


def signatures(parts: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> list[str]:
    """Each once."""
    drawn = f"|bs:{settings['draws']}|ar:{settings['trials']}|rs:{settings['seed']}"
    found = {f"{NAMES[name]}: {about['signature']}{drawn}" for part in parts for name, about in part["metrics"].items()}
    return sorted(found)


def _came_out(others: Mapping[str, int] | None) -> str:
    """`English 10, Dutch 2`."""
    if others is None:
        return "not looked at"
    return ", ".join(f"{name_of(code)} {count}" for code, count in others.items()) or "none"


def interval(score: Mapping[str, float]) -> str:
    return f"{score['value']:.1f} [{score['low']:.1f}, {score['high']:.1f}]"


def p_value(p: float) -> str:
    """As many digits as 10,000 trials tell apart, so that 0.0498 is not read as 0.05."""
    return f"{p:.4f}"


def verdict(test: Mapping[str, float], higher_is_better: bool) -> str:
    if test["holm_randomisation"] >= LEVEL:
        return NO_DIFFERENCE
    return BETTER if (test["difference"] > 0) == higher_is_better else WORSE


def name_of(code: str) -> str:
    """The English name of a language; the code where it has none."""
    try:
        return language_name(code)
    except PromptError:
        return code


def _differs(part: Mapping[str, Any], system: str, metric: str) -> bool:
    test = part["differences"].get(system, {}).get(metric)
    return test is not None and test["holm_randomisation"] < LEVEL
