"""Files that are written whole or not at all, and text that is read one way everywhere.

Whoever writes a file, or reads text or lines, does it through these functions. A line ends at "\\n" (with or without
"\\r" before it) and nowhere else: the other characters that `str.splitlines` ends lines at (U+2028, U+0085, form feed)
are part of the text.
"""

from __future__ import annotations

import codecs
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from sparqle_fairseq.errors import SparqleError, reason

AnyPath = str | os.PathLike[str]

# Longer marks first: that of UTF-32 begins with that of UTF-16.
_MARKED = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(path: AnyPath, what: str = "file") -> str:
    """The text of a UTF-8 file, without a byte order mark; line ends as they are in the file. See `decoded`.

    Raises:
        SparqleError: there is no such file, it cannot be read, or it is not UTF-8 (with the line).
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise SparqleError(f"{path}: there is no such {what}") from error
    except OSError as error:
        raise SparqleError(f"{path}: the {what} cannot be read ({reason(error)})") from error
    return decoded(data, path, what)


def decoded(data: bytes, path: AnyPath, what: str = "file") -> str:
    """The text of the bytes of a file, as `read_text` gives it.

    UTF-16 and UTF-32 (what spreadsheets save as "Unicode text") are read where their byte order mark says so.
    """
    marked = next((name for mark, name in _MARKED if data.startswith(mark)), "utf-8-sig")
    try:
        return data.decode(marked)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        name = "UTF-8" if marked == "utf-8-sig" else marked.upper()
        raise SparqleError(
            f"{path}:{line}: found a byte that is not {name} (0x{data[error.start]:02x}); save the {what} as UTF-8"
        ) from error


def lines_of(text: str) -> list[str]:
    """The lines of a text, without their ends; a last line need not have one."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def read_lines(path: AnyPath, what: str = "file") -> list[str]:
    """The lines of a UTF-8 file, without their ends. Raises `SparqleError`; see `read_text`."""
    return lines_of(read_text(path, what))


@contextmanager
def written_whole(path: AnyPath, mode: str = "wb", sync: bool = False) -> Iterator[IO[Any]]:
    """An open file that has its name only when the block ends well; whatever had the name stays until then.

    Text is UTF-8 with "\\n" at line ends.

    Args:
        path: the final name; its folder must be there.
        mode: "wb" or "w".
        sync: have every byte on the disk before the name changes, and then the name.

    Raises:
        SparqleError: the disk refuses; what had the name still has it.
    """
    path = Path(path)
    part: str | None = None
    try:
        handle, part = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        named: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
        with open(handle, mode, **named) as file:
            yield file
            file.flush()
            if sync:
                os.fsync(file.fileno())
        # What open() gives a new file; mkstemp gives its owner alone access.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(part, 0o666 & ~mask)
        os.replace(part, path)
        part = None
        if sync:
            _sync_folder(path.parent)
    except OSError as error:
        raise SparqleError(
            f"{path} could not be written ({reason(error)}); make room, or give another place"
        ) from error
    finally:
        if part is not None:
            with suppress(OSError):
                os.unlink(part)


def _sync_folder(folder: Path) -> None:
    """Have a new name in a folder on the disk; where a file system cannot, the name is left to it."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_text(path: AnyPath, text: str) -> None:
    """Write a UTF-8 file whole, or leave what is there. Raises `SparqleError`."""
    with written_whole(path, "w") as file:
        file.write(text)
