"""Names that numpy dropped and fairseq still says."""

from __future__ import annotations

import inspect
import re
import types
import warnings
from typing import Any

import numpy as np
from fairseq.data import data_utils


class _Generator(np.random.Generator):
    """A numpy generator that still has the name of the older ``RandomState`` for ``integers``."""

    randint = np.random.Generator.integers


class _NumpyOfOld(types.ModuleType):
    """numpy as ``fairseq.data.data_utils`` expects it: ``int`` is there, and generators have ``randint``."""

    int = int

    def __init__(self) -> None:
        super().__init__("numpy", np.__doc__)
        self.random = types.SimpleNamespace(**vars(np.random))
        self.random.default_rng = lambda seed=None: _Generator(np.random.default_rng(seed).bit_generator)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def ensure_numpy_aliases() -> bool:
    """Let fairseq mask without overlap under the numpy that is installed.

    Symptom: ``--no-mask-overlap`` stops with ``AttributeError: module 'numpy' has no attribute 'int'``, and
    where that name is put back, with ``'Generator' object has no attribute 'randint'``; uniform mask lengths
    stop with the latter. Reason: numpy 1.24 removed the alias ``np.int``, generators never had ``randint``,
    and ``fairseq.data.data_utils`` says both. Only that module gets to see a numpy that has them; numpy
    itself stays as it is, since other libraries decide by its names what to do.
    Can go when fairseq says ``int`` and ``integers``.

    Returns:
        True where this call gave ``data_utils`` its view of numpy.
    """
    if data_utils.np is not np:
        return False
    source = inspect.getsource(data_utils)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy 1.20 to 1.23 have the alias and warn when it is looked at
        lacks_int = re.search(r"\bnp\.int\b", source) and not hasattr(np, "int")
    if not lacks_int and not re.search(r"\brng\.randint\b", source):
        return False
    data_utils.np = _NumpyOfOld()
    return True
