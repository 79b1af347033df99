"""Imports run one way: from what a person runs down to the ground, and never in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import sparqle_fairseq

PACKAGE = Path(sparqle_fairseq.__file__).parent
NAME = PACKAGE.name

# From the top down. A file imports from its own layer and from those below; what stands in one row may not import each
# other. The package itself is `register()`, beside the tools.
LAYERS = [
    ["cli"],
    ["tools"],
    ["tasks", "huggingface"],
    ["criterions", "generate", "scoring", "fairseq_fixes"],
    ["models"],
    ["data"],
    ["gather", "files", "keyed_random"],
    ["errors"],
]
LAYER = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
ROOT = LAYER["tools"]
# Nothing else needs to know what is mended in fairseq.
WHO_MENDS = {NAME, "tasks", "fairseq_fixes"}


def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = (NAME, *path.relative_to(PACKAGE).with_suffix("").parts)
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


MODULES = modules()


def imports(module: str, source: str | None = None) -> Iterator[str]:
    """The modules of the package that a file imports, in functions and for type checkers too."""
    path = MODULES.get(module)
    text = source if source is not None else MODULES[module].read_text(encoding="utf-8")
    package = module if path is not None and path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                base = ".".join([*parents[: len(parents) - node.level + 1], *([base] if base else [])])
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                if whole in MODULES:
                    yield whole
                elif base in MODULES:
                    yield base


def room(module: str) -> str:
    """The first part of a module's name inside the package."""
    return [*module.split("."), NAME][1] if module != NAME else NAME


def level(module: str) -> int:
    return ROOT if module == NAME else LAYER[room(module)]


def wrong(importer: str, imported: str) -> str | None:
    """Why a file may not import another, or None."""
    if level(imported) < level(importer):
        return f"{importer} imports {imported}, which is above it"
    same = level(imported) == level(importer) and room(imported) != room(importer)
    if same and NAME not in (room(importer), room(imported)):
        return f"{importer} imports {imported}, which stands beside it"
    if room(imported) == "fairseq_fixes" and room(importer) not in WHO_MENDS:
        return f"{importer} imports {imported}, which register() and the tasks alone need"
    return None


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of files that import each other in a loop (Tarjan's strongly connected components)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        number[node] = lowest[node] = len(number)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in number:
                visit(other)
                lowest[node] = min(lowest[node], lowest[other])
            elif other in stack:
                lowest[node] = min(lowest[node], number[other])
        if lowest[node] == number[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in number:
            visit(node)
    return found


def test_every_room_has_its_layer():
    assert {room(module) for module in MODULES} - {NAME} <= LAYER.keys()


def test_imports_run_down():
    problems = [wrong(module, other) for module in MODULES for other in imports(module)]
    assert not [problem for problem in problems if problem], "\n".join(filter(None, problems))


def test_no_files_import_each_other_in_a_circle():
    graph = {module: {other for other in imports(module) if other != module} for module in MODULES}
    assert sum(map(len, graph.values())) > 300, "the imports were not found"
    assert not circles(graph)


def test_what_must_not_be_is_seen():
    assert wrong(f"{NAME}.data.text", f"{NAME}.models.frozen") == (
        "sparqle_fairseq.data.text imports sparqle_fairseq.models.frozen, which is above it"
    )
    assert "beside it" in str(wrong(f"{NAME}.scoring.scores", f"{NAME}.generate.mbr"))
    assert "alone need" in str(wrong(f"{NAME}.tools.average", f"{NAME}.fairseq_fixes.writing"))
    hidden = (
        "def f():\n    from sparqle_fairseq.models import frozen\nif TYPE_CHECKING:\n    from ..tools import average\n"
    )
    assert list(imports(f"{NAME}.data.text", hidden)) == [f"{NAME}.models.frozen", f"{NAME}.tools.average"]
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


def test_the_house_stays_small_at_the_top():
    def entries(folder: Path) -> set[str]:
        return {path.name for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}

    assert len(entries(PACKAGE)) <= 15
    assert len(entries(PACKAGE / "models")) <= 10
