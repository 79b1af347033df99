"""Write the tables of documents anew from the reports that they come from: `make tables`.

A table stands in a Markdown file between two comments, the first of which names a report.json of `sparqle report`:

    <!-- tables of build/demo/report/report.json -->
    <!-- end of tables -->

What stands between them is replaced. A report that is not there leaves its tables as they are, and is named.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from sparqle_fairseq.files import read_text, write_text
from sparqle_fairseq.tools.report.content import read_content
from sparqle_fairseq.tools.report.markdown import score_tables
from sparqle_fairseq.tools.report.tables import signatures

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("*.md", "docs/*.md", "examples/**/*.md")
_BLOCK = re.compile(r"(<!-- tables of (\S+) -->\n).*?(<!-- end of tables -->)", re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--root", type=Path, default=ROOT, help="of the documents and of the reports' paths")
    root = parser.parse_args().root
    for path in sorted({path for pattern in DOCUMENTS for path in root.glob(pattern)}):
        renew(path, root, print)


def renew(path: Path, root: Path, say: Callable[[str], object]) -> None:
    """Replace the tables of one document. Raises `SparqleError` for a report that is none."""
    text = read_text(path)

    def tables(match: re.Match[str]) -> str:
        begin, report, end = match.groups()
        if not (root / report).is_file():
            say(f"{path.relative_to(root)}: {report} is not there, so its tables stay as they are")
            return match[0]
        say(f"{path.relative_to(root)}: tables of {report}")
        return begin + shown(root / report) + end

    renewed = _BLOCK.sub(tables, text)
    if renewed != text:
        write_text(path, renewed)


def shown(report: Path) -> str:
    content = read_content(report)
    lines: Sequence[str] = signatures(content["parts"], content["settings"])
    return f"\n{score_tables(content)}\n" + "\n".join(f"    {line}" for line in lines) + "\n\n"


if __name__ == "__main__":
    main()
