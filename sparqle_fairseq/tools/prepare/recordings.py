"""The recordings that a table can name: a folder's, or those that are stored in a zip file."""

from __future__ import annotations

import os
import struct
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from sparqle_fairseq.data.audio import is_audio
from sparqle_fairseq.errors import reason
from sparqle_fairseq.tools.prepare.common import CorpusError, other_ending
from sparqle_fairseq.tools.prepare.ledger import Ledger

_LOCAL_HEADER = struct.Struct("<26xHH")  # of a zip member; at its end the lengths of name and extra field


class Recordings:
    """Finds what names mean, and remembers which recordings nobody named."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.packed = _zip_members(root) if root.suffix.lower() == ".zip" and root.is_file() else None
        self._named: set[str] = set()
        self._renamed = 0

    def find(self, where: str, name: str, beside: Path | None = None) -> str:
        """The `audio` cell of a manifest for the recording that a table calls `name`.

        Args:
            where: the row, for messages.
            name: a path below the root, or else below the folder `beside`.

        Raises:
            CorpusError: the zip file has no such member. A file that is missing is found when it is measured.
        """
        if self.packed is not None:
            if name not in self.packed:
                raise CorpusError(f"{where}: {self.root} holds no {name}; correct the name")
            self._named.add(name)
            return self.packed[name]
        found = self._file(name, [self.root, *([beside] if beside else [])])
        self._named.add(os.path.realpath(found))
        return str(found.absolute())

    def _file(self, name: str, folders: list[Path]) -> Path:
        spellings = dict.fromkeys((name, name.replace("\\", "/")))
        spellings |= dict.fromkeys(
            unicodedata.normalize(form, word) for form in ("NFC", "NFD") for word in [*spellings]
        )
        places = [folder / spelling for spelling in spellings for folder in folders]
        for place in places:
            if place.is_file():
                return place
        for place in places:
            for meant in (other_ending(place.with_name(place.name + ".wav")), other_ending(place)):
                if meant.is_file():
                    self._renamed += 1
                    return meant
        return places[0]

    def report(self, ledger: Ledger) -> None:
        """Name the recordings that no row has, and say how often another ending was read."""
        if self._renamed:
            ledger.note(f"{self._renamed} recordings were found under another ending than the table has")
        if self.packed is not None:
            for name in self.packed:
                if name not in self._named:
                    ledger.leave(f"{self.root}: {name}", "recording that no row names")
            return
        for path in walk(self.root):
            if is_audio(path) and os.path.realpath(path) not in self._named:
                ledger.leave(path, "recording that no row names")


def walk(root: Path) -> Iterator[Path]:
    """Every file below a folder, in order; what begins with a dot is hidden and no part of it."""
    for parent, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def _zip_members(path: Path) -> dict[str, str]:
    """Where each recording lies in a zip file, as a manifest says it: `x.zip:OFFSET:LENGTH`."""
    places = {}
    try:
        with zipfile.ZipFile(path) as packed, path.open("rb") as file:
            for member in packed.infolist():
                if not is_audio(PurePosixPath(member.filename)):
                    continue
                if member.compress_type != zipfile.ZIP_STORED:
                    raise CorpusError(
                        f"{path}: {member.filename} is compressed, and only what is stored can be read in place; "
                        f"unpack the file, or pack it again with `zip -0`"
                    )
                file.seek(member.header_offset)
                name, extra = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
                start = member.header_offset + _LOCAL_HEADER.size + name + extra
                places[member.filename] = f"{path.absolute()}:{start}:{member.file_size}"
    except (zipfile.BadZipFile, OSError, struct.error) as error:
        raise CorpusError(f"{path}: cannot be read as a zip file ({reason(error)}); pack it again") from None
    return places
