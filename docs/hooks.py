"""Hooks of mkdocs.yml: folders as in the repository, anchors as on GitHub, lists that both sides read alike."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from properdocs.config.defaults import ProperDocsConfig
from properdocs.structure.files import File, Files
from properdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PLACES = ("*.md", "docs/**/*", "examples/**/*", "manifests/*", "LICENSE", "CITATION.cff", "constraints.txt")
LIST_ITEM = re.compile(r"[*+-] |\d+\. ")

log = logging.getLogger("properdocs.hooks.links")


def github_anchor(heading: str, separator: str) -> str:
    """A heading's anchor as GitHub makes it: small letters, hyphens for spaces, other signs dropped."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", separator)


def on_config(config: ProperDocsConfig) -> ProperDocsConfig:
    config.mdx_configs["toc"] = {"slugify": github_anchor, "permalink": False}
    return config


def on_files(files: Files, config: ProperDocsConfig) -> Files:
    """Every file where the repository has it, so that a relative link means the same on the site and on GitHub."""
    theme = [file for file in files if file.src_dir != config.docs_dir]
    found = sorted({path for place in PLACES for path in ROOT.glob(place) if path.is_file()})
    ours = [
        File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path))
        for path in found
        if "__pycache__" not in path.parts
    ]
    return Files([*theme, *ours])


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Python-Markdown sees no list in lines that follow a paragraph; GitHub does. An empty line makes both see one."""
    previous, code = "", False
    for line in markdown.splitlines():
        code ^= line.startswith("```")
        if not code and LIST_ITEM.match(line) and re.match(r"[^\s#]", previous) and not LIST_ITEM.match(previous):
            log.warning("%s: an empty line is missing before the list '%s'", page.file.src_uri, line[:60])
        previous = line
        if LIST_ITEM.match(line):
            previous = "* "  # wrapped lines of an item are indented
    return markdown
