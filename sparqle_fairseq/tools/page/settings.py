"""The settings that the page offers: one table, which draws them, checks them, and names them for programs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.tools.translate.translator import Settings


@dataclass(frozen=True)
class Knob:
    """A field of `Settings` as a person meets it. Without a range it is on or off, or, a text, a text."""

    group: str
    field: str
    label: str
    info: str
    low: float = 0.0
    high: float = 0.0
    step: float = 0.0

    @property
    def default(self) -> Any:
        return Settings.__dataclass_fields__[self.field].default

    def value(self, given: Any) -> Any:
        """The setting of a value from outside. Raises `SparqleError`."""
        if isinstance(self.default, bool):
            if not isinstance(given, bool):
                raise SparqleError(f"{self.field} is true or false, not {given!r}")
            return given
        if isinstance(self.default, str):
            if not isinstance(given, str) or len(given) > 200:
                raise SparqleError(f"{self.field} is a text of up to 200 letters")
            return given
        number = float(given) if isinstance(given, int | float) and not isinstance(given, bool) else math.nan
        if not self.low <= number <= self.high:
            raise SparqleError(f"{self.field} is a number from {self.low:g} to {self.high:g}, not {given!r}")
        return round(number) if self.step >= 1 and self.step == int(self.step) else number


SEARCH, DRAWS, TEXTS = "Search", "Random draws", "Texts"
GROUPS = (SEARCH, DRAWS, TEXTS)
KNOBS = (
    Knob(SEARCH, "beam", "Beam", "texts followed at once", 1, 50, 1),
    Knob(SEARCH, "tokens_per_second", "Length", "most tokens a second", 1, 100, 0.5),
    Knob(SEARCH, "lenpen", "Length penalty", "above 1: longer texts", -2, 4, 0.1),
    Knob(SEARCH, "repetition_penalty", "Repetition penalty", "above 1: repeats less", 1, 3, 0.05),
    Knob(SEARCH, "no_repeat_ngram_size", "No repeat", "of so many tokens; 0: off", 0, 10, 1),
    Knob(DRAWS, "sampling", "Sampling", "draw tokens at random"),
    Knob(DRAWS, "temperature", "Temperature", "above 1: bolder", 0.1, 2, 0.05),
    Knob(DRAWS, "top_p", "Top-p", "the likeliest share; 0: all", 0, 1, 0.01),
    Knob(DRAWS, "top_k", "Top-k", "the likeliest tokens; 0: all", 0, 200, 1),
    Knob(DRAWS, "seed", "Seed", "the same draws the same", 0, 2**31 - 1, 1),
    Knob(TEXTS, "guard", "Guard", "search again where a text loops"),
    Knob(TEXTS, "flag_unheard", "Was it heard?", "mark texts that need no speech"),
    Knob(TEXTS, "mbr", "Most alike", "the text most like the others"),
    Knob(TEXTS, "prefix", "Prefix", "what every text begins with"),
)
_BY_FIELD = {knob.field: knob for knob in KNOBS}


def settings_from(values: Mapping[str, Any]) -> Settings:
    """Settings of `{field: value}`; what is not named, or None, has its default. Raises `SparqleError`."""
    unknown = sorted(set(values) - set(_BY_FIELD))
    if unknown:
        raise SparqleError(f"there is no setting {unknown[0]!r}; there are {', '.join(_BY_FIELD)}")
    made = {name: _BY_FIELD[name].value(value) for name, value in values.items() if value is not None}
    if not made.get("sampling"):
        # Sliders of what is drawn from stand at some value also where nothing is drawn.
        for name in ("top_p", "top_k"):
            if made.get(name) and "sampling" not in values:
                raise SparqleError(f"{name} chooses what tokens are drawn from; set sampling to true as well")
            made.pop(name, None)
    return Settings(**made)
