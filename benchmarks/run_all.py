"""Every benchmark of `benchmarks/` one after the other, then docs/performance.md: `make bench`.

A benchmark is a file with a `BENCHMARK` at its top level (see `benchmarks/alternate.py`). Each is a process of its own
and is ended after its own `minutes`; what failed or took too long is said at the end, and keeps the table that it had.

    python benchmarks/run_all.py [NAME ...]
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.files import read_text

HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="of benchmarks; by default all")
    parser.add_argument("--folder", type=Path, default=HERE, help="where they are (default: this folder)")
    parser.add_argument("--out", type=Path, default=HERE.parent / "build" / "bench")
    parser.add_argument("--document", type=Path, default=HERE.parent / "docs" / "performance.md")
    options = parser.parse_args()
    there = {name: (path, minutes) for name, path, minutes in benchmarks(options.folder)}
    if unknown := [name for name in options.names if name not in there]:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(there)}")
    chosen = options.names or list(there)
    print(f"{', '.join(chosen)}: at most {sum(there[name][1] for name in chosen):g} minutes", flush=True)
    failed = []
    for name in chosen:
        path, minutes = there[name]
        print(f"\n{name}", flush=True)
        try:
            done = subprocess.run([sys.executable, path, "--out", options.out], timeout=60 * minutes)
        except subprocess.TimeoutExpired:
            failed.append(f"{name} took longer than its {minutes:g} minutes")
            continue
        if done.returncode:
            failed.append(f"{name} ended with {done.returncode}")
    subprocess.run(
        [sys.executable, HERE / "render.py", "--results", options.out, "--document", options.document], check=True
    )
    if failed:
        sys.exit("; ".join(failed))


def benchmarks(folder: Path) -> Iterator[tuple[str, Path, float]]:
    """Name, file and minutes of each, read from the files without running them. Raises `SparqleError`."""
    for path in sorted(folder.glob("*.py")):
        for statement in ast.parse(read_text(path)).body:
            if not isinstance(statement, ast.Assign) or ast.unparse(statement.targets[0]) != "BENCHMARK":
                continue
            try:
                given = {
                    each.arg: ast.literal_eval(each.value)
                    for each in statement.value.keywords  # type: ignore[attr-defined]
                    if each.arg in ("name", "minutes")
                }
                yield given["name"], path, float(given["minutes"])
            except (AttributeError, KeyError, ValueError) as error:
                raise SparqleError(
                    f"{path}: BENCHMARK names no name and minutes; write them as name=, minutes="
                ) from error


if __name__ == "__main__":
    main()
