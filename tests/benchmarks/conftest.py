"""The benchmarks' own files can be imported."""

from __future__ import annotations

import sys

from commands import ROOT

sys.path.append(str(ROOT / "benchmarks"))
