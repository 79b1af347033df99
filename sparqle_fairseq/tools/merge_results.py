"""What several processes of fairseq-generate wrote, as one: every row once, in the manifest's order."""

from __future__ import annotations

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.scoring.outputs import Results


def check_complete(results: Results, rows: int, what: str) -> None:
    """Raise `SparqleError` where a row of the manifest has no hypothesis, or a hypothesis no row."""
    missing = sorted(set(range(rows)) - results.rows_with("D"))
    beyond = sorted(row for row in results if row >= rows)
    if missing or beyond:
        shown = ", ".join(map(str, (missing or beyond)[:10]))
        raise SparqleError(
            f"{what} has {rows} rows; {len(missing)} have no hypothesis, and {len(beyond)} hypotheses have no row "
            f"({shown}); run fairseq-generate again for the missing part"
        )


def lines_in_order(results: Results) -> list[str]:
    """All lines, rows in the manifest's order."""
    return [str(line) for row in sorted(results) for line in results[row]]
