"""Files that are written whole or not at all, and text that is read one way everywhere.

Whoever writes a file, or reads text or lines, does it through these functions. A line ends at "\\n" (with or without
"\\r" before it) and nowhere else: the other characters that `str.splitlines` ends lines at (U+2028, U+0085, form feed)
are part of the text.
"""

from __future__ import annotations

import codecs
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from sparqle_fairseq.errors import SparqleError, reason

AnyPath = str | os.PathLike[str]

# No room on the disk, or none for this user, or for so large a file.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

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


def read_json(path: AnyPath, what: str = "file") -> Any:
    """What a JSON file holds. Raises `SparqleError`; see `read_text`."""
    try:
        return json.loads(read_text(path, what))
    except json.JSONDecodeError as error:
        raise SparqleError(f"{path}:{error.lineno}: the {what} is not JSON ({reason(error)})") from error


class DiskFullError(SparqleError):
    """There was no room for a file; one sentence with its name."""


class PartFile:
    """A file on its way to its name, open as `file`.

    `finish` gives it the name, `abandon` takes back what there is of it; until then whatever had the name stays. Where
    one block of code writes it all, `written_whole` is shorter.

    Args:
        path: the final name; its folder must be there.
        mode: "wb" or "w"; text is UTF-8 with "\\n" at line ends.
        part: the name until then, for people who look at a long one on its way; by default one that no other process
            has.

    Raises:
        SparqleError: the file cannot be made.
    """

    def __init__(self, path: AnyPath, mode: str = "wb", part: AnyPath | None = None) -> None:
        self.path = Path(path)
        named: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
        try:
            if part is None:
                handle, made = tempfile.mkstemp(prefix=f".{self.path.name}.", suffix=".part", dir=self.path.parent)
                # What open() gives a new file; mkstemp gives its owner alone access.
                mask = os.umask(0)
                os.umask(mask)
                os.chmod(made, 0o666 & ~mask)
                self.part = Path(made)
                self.file: IO[Any] = open(handle, mode, **named)  # noqa: SIM115
            else:
                self.part = Path(part)
                self.file = open(self.part, mode, **named)  # noqa: SIM115
        except OSError as error:
            raise _refusal(self.path, error) from error

    @contextmanager
    def writing(self) -> Iterator[IO[Any]]:
        """The open file; an error about it, and not one about another file, is raised as a sentence.

        Raises:
            SparqleError: the disk refuses.
        """
        try:
            yield self.file
        except Exception as error:
            refused = _refused(error, self.part)
            if refused is None:
                raise
            raise _refusal(self.path, refused) from refused

    def finish(self, sync: bool = False) -> None:
        """Close the file and give it its name; with `sync` its bytes are on the disk before. Raises `SparqleError`."""
        with self.writing():
            self.file.flush()
            if sync:
                os.fsync(self.file.fileno())
            self.file.close()
            os.replace(self.part, self.path)
        if sync:
            _sync_folder(self.path.parent)

    def abandon(self, keep: bool = False) -> None:
        """Close the file, and remove it unless it is to be kept. Harmless after `finish`."""
        with suppress(OSError):  # what is left in its buffer may not fit either
            self.file.close()
        if not keep:
            with suppress(OSError):
                self.part.unlink()


@contextmanager
def written_whole(path: AnyPath, mode: str = "wb", sync: bool = False) -> Iterator[IO[Any]]:
    """An open file that has its name only when the block ends well; whatever had the name stays until then.

    Text is UTF-8 with "\\n" at line ends. An error of the block about another file stays what it is.

    Args:
        path: the final name; its folder must be there.
        mode: "wb" or "w".
        sync: have every byte on the disk before the name changes, and then the name.

    Raises:
        SparqleError: the disk refuses; what had the name still has it.
    """
    part = PartFile(path, mode)
    try:
        with part.writing() as file:
            yield file
        part.finish(sync)
    except BaseException:
        part.abandon()
        raise


@contextmanager
def folder_written_whole(path: AnyPath, replace: bool = False) -> Iterator[Path]:
    """A new folder that has its name only when the block ends well; folders above it are made.

    Args:
        replace: a folder that has the name already gives way, when the new one is complete.

    Raises:
        SparqleError: the disk refuses, or the name is taken by more than an empty folder.
    """
    path = Path(path)
    part: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent))
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(part, 0o777 & ~mask)
        yield part
        if replace and path.is_dir():
            _replace_folder(part, path)
        else:
            os.replace(part, path)
    except Exception as error:
        refused = _refused(error, part or path.parent)
        if refused is None:
            raise
        raise _refusal(path, refused) from refused
    finally:
        if part is not None:
            shutil.rmtree(part, ignore_errors=True)  # it is no longer there where all went well


def _replace_folder(part: Path, path: Path) -> None:
    """Give `part` the name of the folder `path`, which is removed; where that fails, it is what it was."""
    old = part.with_suffix(".old")
    os.replace(path, old)
    try:
        os.replace(part, path)
    except BaseException:
        os.replace(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _refused(error: Exception, part: Path) -> OSError | None:
    """The error of the disk about `part`, or a file in it, that is `error` or lies behind it; else None.

    Whoever writes through a library finds the disk's error behind the library's own: torch says "unexpected pos".
    """
    if isinstance(error, OSError):
        about = error.filename
        own = not isinstance(about, str | bytes) or Path(os.fsdecode(about)).is_relative_to(part)
        return error if own else None
    behind: BaseException | None = error
    while behind is not None and not isinstance(behind, SparqleError):
        if isinstance(behind, OSError) and behind.errno in _FULL:
            return behind
        behind = behind.__cause__ or behind.__context__
    return None


def _refusal(path: Path, error: OSError) -> SparqleError:
    if error.errno in _FULL:
        return DiskFullError(
            f"{path} could not be written, the disk is full ({error.strerror}); make room, or give another place"
        )
    return SparqleError(f"{path} could not be written ({reason(error)}); give another place")


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
