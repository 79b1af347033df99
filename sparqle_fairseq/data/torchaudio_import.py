"""`import torchaudio`, and with it most of transformers, where only torchaudio's compiled extension is broken."""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
import types
from collections.abc import Callable
from typing import Any


def _unavailable(what: str) -> Callable[..., Any]:
    """A function that raises one sentence when it is called."""

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError(
            f"{what} needs torchaudio's compiled extension, which does not load here: "
            "install a torchaudio built for this torch."
        )

    return fail


def _extension_stand_in() -> types.ModuleType:
    """What ``torchaudio._extension`` looks like in a torchaudio that was built without compiled code."""
    module = types.ModuleType("torchaudio._extension", "Stand-in: torchaudio's compiled extension is absent.")
    # A spec, because `importlib.util.find_spec` raises ValueError for a loaded module that has none.
    module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, loader=None)
    contents = {
        "_is_stand_in": True,
        "_IS_TORCHAUDIO_EXT_AVAILABLE": False,
        "_IS_ALIGN_AVAILABLE": False,
        "_IS_RIR_AVAILABLE": False,
        # Decorators: the function they are put on is replaced by one that says why it cannot run.
        "fail_if_no_align": lambda function: _unavailable(f"torchaudio's {function.__name__}"),
        "fail_if_no_rir": lambda function: _unavailable(f"torchaudio's {function.__name__}"),
        "_load_lib": lambda _name: False,
        "_check_cuda_version": lambda: None,
    }
    for name, value in contents.items():
        setattr(module, name, value)
    return module


def ensure_torchaudio() -> bool:
    """Make ``import torchaudio`` work where only its compiled extension is broken.

    Symptom: ``import torchaudio`` raises ``OSError: Could not load this library``, and with it everything
    that imports torchaudio, such as the HuBERT of ``transformers``. Reason: the torchaudio on PyPI is a CUDA
    build and its extension cannot be loaded beside a CPU-only torch. What this plugin and its neighbours use
    of torchaudio (``functional.resample``, ``compliance.kaldi``, ``transforms``) is plain PyTorch and needs
    no extension, so a stand-in for ``torchaudio._extension`` is put in its place.
    Can go when torchaudio on PyPI imports beside a CPU-only torch.

    Returns:
        True where the stand-in is in use; False where torchaudio imports by itself or is not installed.
    """
    name = "torchaudio._extension"
    if name in sys.modules and "torchaudio" in sys.modules:
        return hasattr(sys.modules[name], "_is_stand_in")
    try:
        importlib.import_module("torchaudio")
        return False
    except ImportError:
        return False
    except OSError:
        pass
    # The failed import leaves submodules behind whose parent is gone: they would not be the new parent's.
    for leftover in [key for key in sys.modules if key.split(".")[0] == "torchaudio"]:
        del sys.modules[leftover]
    stand_in = _extension_stand_in()
    sys.modules[name] = stand_in
    try:
        torchaudio = importlib.import_module("torchaudio")
    except BaseException:
        del sys.modules[name]
        raise
    torchaudio._extension = stand_in  # type: ignore[attr-defined]
    return True
