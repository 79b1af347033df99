"""Operations are counted with what the benchmarks count them with."""

from __future__ import annotations

import sys

from commands import ROOT

sys.path.append(str(ROOT / "benchmarks"))
