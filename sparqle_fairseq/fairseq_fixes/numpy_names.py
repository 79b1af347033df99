"""What fairseq asks of numpy when it draws masks: names that numpy dropped, and generators that follow the seed."""

from __future__ import annotations

import inspect
import re
import types
import warnings
from typing import Any

import numpy as np
import torch
from fairseq.data import data_utils


class _Generator(np.random.Generator):
    """A numpy generator that still has the name of the older ``RandomState`` for ``integers``."""

    randint = np.random.Generator.integers


class _NumpyOfFairseq(types.ModuleType):
    """numpy as ``fairseq.data.data_utils`` sees it; what is changed there is changed for that module alone."""

    def __init__(self) -> None:
        super().__init__("numpy", np.__doc__)
        self.random = types.SimpleNamespace(**vars(np.random))

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def _view() -> Any:
    """The numpy of ``data_utils``, which may be changed."""
    if data_utils.np is np:
        data_utils.np = _NumpyOfFairseq()
    return data_utils.np


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
    if isinstance(data_utils.np, _NumpyOfFairseq) and "int" in vars(data_utils.np):
        return False
    source = inspect.getsource(data_utils)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy 1.20 to 1.23 have the alias and warn when it is looked at
        lacks_int = re.search(r"\bnp\.int\b", source) and not hasattr(np, "int")
    if not lacks_int and not re.search(r"\brng\.randint\b", source):
        return False
    view = _view()
    usual = view.random.default_rng
    view.int = int
    view.random.default_rng = lambda seed=None: _Generator(usual(seed).bit_generator)
    return True


def seed_masks() -> bool:
    """Let the masks of fairseq's own speech models follow ``--seed``.

    Symptom: two trainings of a HuBERT with the same seed differ from the first update on. Reason:
    ``compute_mask_indices`` takes a new generator for every row, and gives it no seed, so that the system does. Here a
    generator without a seed takes one from torch's, which fairseq seeds at every update. Numpy's own would not do:
    the thread that reads ahead draws from it, too.
    Can go when ``compute_mask_indices`` draws from what ``--seed`` seeds.

    Returns:
        True where this call changed it.
    """
    if getattr(data_utils.np, "follows_the_seed", False):
        return False
    view = _view()
    usual = view.random.default_rng

    def default_rng(seed: Any = None) -> np.random.Generator:
        return usual(torch.randint(2**31, (4,)).tolist() if seed is None else seed)

    view.random.default_rng = default_rng
    view.follows_the_seed = True
    return True
