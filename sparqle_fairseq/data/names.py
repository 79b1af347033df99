"""Names on the command line that a class is registered under, an objective's or an adapter's."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sparqle_fairseq.errors import SparqleError

NAME = re.compile(r"[a-z][a-z0-9-]*")


def check_name(what: str, kind: Any, known: Mapping[str, Any], reserved: Collection[str] = ()) -> None:
    """Raise `SparqleError` where a class cannot be registered as `kind.name`.

    The same class may come again, because a file may be imported twice.

    Args:
        what: it is, with its article: "an objective".
        kind: the class.
        known: what is registered already, by name.
        reserved: names that stand for something else.
    """
    name, before = kind.name, known.get(kind.name)
    if not NAME.fullmatch(name) or name in reserved:
        raise SparqleError(f"{what} cannot be called {name!r}; take small letters, digits and hyphens")
    if before is not None and (before.__module__, before.__qualname__) != (kind.__module__, kind.__qualname__):
        raise SparqleError(f"there is {what} {name!r} already, in {before.__module__}; give yours another name")


def check_in_time(name: str, options: Sequence[str]) -> None:
    """Raise `SparqleError` for an objective with `options` of the command line, which has been read already."""
    if options:
        raise SparqleError(
            f"objective {name!r} has options of the command line ({', '.join(options)}), which was read before it was "
            "registered; put its file beside those of the plugin, or make them constants"
        )
