"""`sparqle merge-results`: the shares of several fairseq-generate processes as one file."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(short_help="Join what several fairseq-generate wrote.")
@click.argument("parts", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="the file to write")
@click.option("--manifest", type=click.Path(path_type=Path), help="check that each of its rows is there, once")
@click.option("--json", "as_json", is_flag=True, help="print the result as JSON")
def command(parts: tuple[Path, ...], output: Path, manifest: Path | None, as_json: bool) -> None:
    """Put PARTS together: files of fairseq-generate, or folders of them (the --results-path)."""
    import json

    from sparqle_fairseq.data.manifest import read_manifest
    from sparqle_fairseq.errors import SparqleError
    from sparqle_fairseq.files import write_text
    from sparqle_fairseq.scoring.outputs import read_results
    from sparqle_fairseq.tools.merge_results import check_complete, lines_in_order

    files = []
    for part in parts:
        inside = sorted(part.rglob("generate-*.txt")) if part.is_dir() else [part]
        if not inside:
            raise SparqleError(f"{part} holds no generate-*.txt; give the --results-path of fairseq-generate")
        files += inside
    results = read_results(files)
    if manifest is not None:
        check_complete(results, len(read_manifest(manifest)), str(manifest))
    write_text(output, "".join(f"{line}\n" for line in lines_in_order(results)))
    found: dict[str, object] = {"rows": len(results), "files": len(files), "output": str(output)}
    if as_json:
        click.echo(json.dumps(found))
    else:
        click.echo("\n".join(f"{name}: {value}" for name, value in found.items()))
