"""This package's model as flat files that `trust_remote_code` runs where the package is not installed.

transformers copies the files of one folder, which it finds by `from .name import …`, and knows no packages. So each
module that the model is made of becomes a file of its own, with those of its definitions that are reached from the
model, the configuration and the processor, in their own words.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from sparqle_fairseq.errors import SparqleError

PACKAGE = "sparqle_fairseq"
ROOT = Path(__file__).parents[1]
# What transformers is told of, by its Auto classes: module and class.
CLASSES = {
    "AutoConfig": ("huggingface.configuration", "SparqleConfig"),
    "AutoModel": ("huggingface.modeling", "SparqleModel"),
    "AutoModelForMultimodalLM": ("huggingface.modeling", "SparqleForConditionalGeneration"),
    "AutoProcessor": ("huggingface.processing", "SparqleProcessor"),
}
_FILES = {f"huggingface.{name}": f"{name}_sparqle" for name in ("configuration", "modeling", "processing")}
# Before transformers is asked for more: beside a torch without CUDA, torchaudio stops it.
_FIRST = ("data.torchaudio_import", "ensure_torchaudio")
_NOTICE = "# Written by `sparqle export-hf --with-code` (sparqle-fairseq, MIT licence); change the package instead."


def auto_map() -> dict[str, str]:
    """What config.json says of the files, by Auto class."""
    return {auto: f"{file_name(module)}.{name}" for auto, (module, name) in CLASSES.items()}


def file_name(module: str) -> str:
    """Name of a module's flat file, without its ending; `module` is its name inside the package."""
    return _FILES.get(module, f"sparqle_{module.replace('.', '_')}")


@lru_cache(maxsize=1)
def flat_files() -> dict[str, str]:
    """The flat files by name. Raises `SparqleError` where a module is written in a way that cannot be flat."""
    house = _House()
    for module, name in (*CLASSES.values(), _FIRST):
        house.need(module, name)
    return {f"{file_name(module)}.py": house.written(module) for module in sorted(house.needed)}


@dataclass
class _Module:
    """A module's top level: what it defines and where else its names come from."""

    name: str
    source: str
    docstring: str = ""
    future: bool = False
    definitions: dict[str, ast.stmt] = field(default_factory=dict)
    own: dict[str, tuple[str, str]] = field(default_factory=dict)  # of the package: local name -> module, name there
    others: dict[str, str] = field(default_factory=dict)  # local name -> the import that brings it

    def __post_init__(self) -> None:
        tree = ast.parse(self.source)
        self.docstring = ast.get_docstring(tree, clean=False) or ""
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and node.module == "__future__":
                self.future = True
            elif isinstance(node, ast.Import | ast.ImportFrom):
                self._import(node)
            else:
                for name in _bound(node):
                    self.definitions.setdefault(name, node)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for alias in node.names:
            local = alias.asname or alias.name.partition(".")[0]
            if isinstance(node, ast.ImportFrom) and _inside(node.module):
                self.own[local] = (_inside(node.module) or "", alias.name)
            else:
                start = f"from {node.module} import" if isinstance(node, ast.ImportFrom) else "import"
                self.others[local] = f"{start} {alias.name}" + (f" as {alias.asname}" if alias.asname else "")

    def segment(self, node: ast.stmt) -> tuple[int, int]:
        """First and last line (from 0, last exclusive) of a definition, with the comments above it."""
        lines = self.source.splitlines()
        first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", []))]) - 1
        while first and lines[first - 1].startswith("#") and not lines[first - 1].startswith("# ----"):
            first -= 1
        return first, node.end_lineno or node.lineno


class _House:
    """The package's modules, and which of their definitions are reached."""

    def __init__(self) -> None:
        self.modules: dict[str, _Module] = {}
        self.needed: dict[str, set[str]] = {}

    def module(self, name: str) -> _Module | None:
        if name not in self.modules:
            path = ROOT.joinpath(*name.split("."))
            file = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
            if not file.is_file():
                return None
            self.modules[name] = _Module(name, file.read_text(encoding="utf-8"))
        return self.modules[name]

    def find(self, module: str, name: str) -> tuple[str, str]:
        """The module that defines a name, which another may hand on, and the name there."""
        place = self.module(module)
        if place is not None and name in place.definitions:
            return module, name
        if place is not None and name in place.own:
            return self.find(*place.own[name])
        raise SparqleError(f"{PACKAGE}.{module} has no {name} that a flat file could take over")

    def need(self, module: str, name: str) -> None:
        """Take over a definition and all that it reaches."""
        module, name = self.find(module, name)
        taken = self.needed.setdefault(module, set())
        if name in taken:
            return
        taken.add(name)
        place = self.modules[module]
        node = place.definitions[name]
        taken.update(_bound(node))
        for other in sorted(_names(node)):
            if other in place.definitions:
                self.need(module, other)
            elif other in place.own:
                self._need_import(*place.own[other], node, other)
        for inner in ast.walk(node):
            if isinstance(inner, ast.ImportFrom) and _inside(inner.module):
                for alias in inner.names:
                    self.need(_inside(inner.module) or "", alias.name)

    def _need_import(self, module: str, name: str, node: ast.stmt, local: str) -> None:
        whole = f"{module}.{name}"
        if self.module(whole) is None:
            self.need(module, name)
            return
        for attribute in _attributes(node, local):
            self.need(whole, attribute)

    # ---- writing

    def written(self, name: str) -> str:
        """The flat file of a module."""
        place, taken = self.modules[name], self.needed[name]
        nodes = {id(place.definitions[one]): place.definitions[one] for one in taken}
        ordered = sorted(nodes.values(), key=lambda node: node.lineno)
        used = set().union(*map(_names, ordered))
        body = [self._text(place, node) for node in ordered]
        head = [_NOTICE, f'"""{place.docstring}"""']
        if place.future:
            head.append("from __future__ import annotations")
        if name in _FILES:
            head.append(f"from .{file_name(_FIRST[0])} import {_FIRST[1]}\n\n{_FIRST[1]}()")
        others = sorted(text for local, text in place.others.items() if local in used)
        own = sorted(self._imports(place, ordered, used - taken))
        return "\n\n".join([*head, *filter(None, ["\n".join(others), "\n".join(own)]), *body]) + "\n"

    def _imports(self, place: _Module, nodes: list[ast.stmt], used: set[str]) -> Iterator[str]:
        for local in sorted(used & place.own.keys()):
            module, name = place.own[local]
            if self.module(f"{module}.{name}") is None:
                yield _import_line(*self.find(module, name), local)
                continue
            for attribute in sorted(set().union(*(_attributes(node, local) for node in nodes))):
                yield _import_line(*self.find(f"{module}.{name}", attribute), f"{local}_{attribute}")

    def _text(self, place: _Module, node: ast.stmt) -> str:
        """A definition's own words, but for what it imports."""
        first, last = place.segment(node)
        lines = place.source.splitlines()
        changed: dict[int, tuple[int, list[str]]] = {}
        for inner in ast.walk(node):
            if not isinstance(inner, ast.Import | ast.ImportFrom):
                continue
            indent = " " * inner.col_offset
            module = _inside(inner.module) if isinstance(inner, ast.ImportFrom) else None
            if module is not None:
                found = [(*self.find(module, alias.name), alias.asname or alias.name) for alias in inner.names]
                new = [indent + _import_line(*one) for one in found]
            elif isinstance(inner, ast.ImportFrom) and (inner.module or "").partition(".")[0] in _LAZY:
                # transformers asks for every package that it sees imported, but in a try: this one only if it is used.
                own = lines[inner.lineno - 1 : inner.end_lineno]
                new = [f"{indent}try:", *(f"    {line}" for line in own), f"{indent}except ImportError:"]
                new.append(f"{indent}    raise")
            else:
                continue
            changed[inner.lineno - 1] = (inner.end_lineno or inner.lineno, new)
        text, at = [], first
        while at < last:
            if at in changed:
                at, new = changed[at]
                text += new
            else:
                text.append(lines[at])
                at += 1
        joined = "\n".join(text)
        for local, (module, name) in place.own.items():
            if self.module(f"{module}.{name}") is not None:
                joined = re.sub(rf"\b{local}\.(\w+)", rf"{local}_\1", joined)
        return joined


# Packages that only some models need.
_LAZY = ("peft", "gguf", "torchao", "bitsandbytes", "accelerate", "huggingface_hub", "omegaconf", "silero_vad")


def _inside(module: str | None) -> str | None:
    """A module's name inside the package; None for another package's."""
    if module is None or not (module + ".").startswith(f"{PACKAGE}."):
        return None
    return module.removeprefix(PACKAGE).removeprefix(".")


def _bound(node: ast.stmt) -> list[str]:
    """The names that a statement of the top level binds."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    targets = [node.target] if isinstance(node, ast.AnnAssign | ast.AugAssign) else targets
    return [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]


def _names(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _attributes(node: ast.AST, local: str) -> set[str]:
    """What is asked of an imported module."""
    return {
        part.attr
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id == local
    }


def _import_line(module: str, name: str, local: str) -> str:
    return f"from .{file_name(module)} import {name}" + (f" as {local}" if local != name else "")
