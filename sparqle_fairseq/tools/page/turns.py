"""Whose turn it is: one request at a time, in the order in which they came, and no more than some that wait."""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType

from sparqle_fairseq.errors import SparqleError


class Busy(SparqleError):
    """Too many wait already."""


class Turns:
    """The line of one page. `waiting` is how many may stand in it behind the one whose turn it is."""

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self._moved = threading.Condition()
        self._line: deque[Turn] = deque()

    def enter(self) -> Turn:
        """A place at the end of the line. Raises `Busy`."""
        with self._moved:
            if len(self._line) > self.waiting:
                raise Busy(f"the page is busy: {self.waiting} requests wait already; try again in a minute")
            turn = Turn(self)
            self._line.append(turn)
            return turn

    def _leave(self, turn: Turn) -> None:
        with self._moved:
            if turn in self._line:
                self._line.remove(turn)
            self._moved.notify_all()

    def _before(self, turn: Turn, seconds: float) -> int:
        """How many come before; waits up to so many seconds for its turn."""
        with self._moved:
            self._moved.wait_for(lambda: self._line[0] is turn, timeout=seconds)
            return self._line.index(turn)


class Turn:
    """A place in the line, left at the end of a `with` block."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns

    def before(self, seconds: float = 0.0) -> int:
        """How many come before, 0 when it is this one's turn; waits up to so many seconds for that."""
        return self._turns._before(self, seconds)

    def __enter__(self) -> Turn:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._turns._leave(self)
