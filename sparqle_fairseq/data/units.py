"""Discrete units in place of audio: `<split>.km` beside `<split>.tsv`, one line of integers an utterance.

What fairseq's `examples/hubert/simple_kmeans/dump_km_label.py` writes: the k-means cluster of each frame.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sparqle_fairseq.errors import SparqleError


class UnitError(SparqleError):
    """A unit file that cannot be used; one sentence with file, line, what was found and the remedy."""


class UnitFile:
    """The units of one split, in one array, so that data-loader workers that are forked share them."""

    def __init__(self, path: Path, units: np.ndarray, ends: np.ndarray) -> None:
        self.path = path
        self._units = units  # (all units,) int32
        self._ends = np.concatenate([[0], ends])

    def __len__(self) -> int:
        return len(self._ends) - 1

    @property
    def lengths(self) -> np.ndarray:
        """(utterances,) int64."""
        return np.diff(self._ends)

    def __getitem__(self, i: int) -> np.ndarray:
        """Units (T,) of utterance i, int64."""
        return self._units[self._ends[i] : self._ends[i + 1]].astype(np.int64)


def read_units(manifest: str | Path, utterances: int, vocabulary: int, collapse: bool = False) -> UnitFile:
    """The `.km` file beside a manifest.

    Args:
        manifest: path of the manifest; line k of the unit file belongs to its row k.
        utterances: rows of the manifest.
        vocabulary: units are 0 to this number - 1.
        collapse: write consecutive equal units as one.

    Raises:
        UnitError: the file is missing, has another number of lines, an empty line, or what is no unit.
    """
    path = Path(manifest).with_suffix(".km")
    if not path.is_file():
        raise UnitError(
            f"{path}: there is no such file; --source units reads the units of {manifest} there, one line an utterance"
        )
    rows: list[np.ndarray] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            row = _parse(f"{path}:{number}", line, vocabulary)
            rows.append(row[np.flatnonzero(np.diff(row, prepend=-1))] if collapse else row)
    if len(rows) != utterances:
        raise UnitError(
            f"{path}: found {len(rows)} lines for the {utterances} utterances of {manifest}; make the units again "
            "from this manifest"
        )
    return UnitFile(path, np.concatenate(rows), np.cumsum([len(row) for row in rows]))


def _parse(where: str, line: bytes, vocabulary: int) -> np.ndarray:
    cells = line.split()
    if not cells:
        raise UnitError(f"{where}: found an empty line; every utterance needs a unit, so remove it here and its row")
    wrong = next((cell for cell in cells if not cell.isdigit()), None)
    if wrong is not None:
        shown = wrong[:20].decode("utf-8", "replace")
        raise UnitError(f"{where}: found {shown!r} where units are whole numbers; write the file again")
    row = np.fromiter(map(int, cells), np.int64, len(cells))
    if row.max() >= vocabulary:
        raise UnitError(
            f"{where}: found unit {row.max()}, but --unit-vocabulary {vocabulary} ends at {vocabulary - 1}; give the "
            "number of clusters that made the file"
        )
    return row.astype(np.int32)
