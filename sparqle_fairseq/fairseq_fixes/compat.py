"""Workarounds for drift between fairseq and the torch, torchaudio and numpy it runs on.

One function per workaround. Each says what goes wrong without it, why, and when it can be deleted; each
changes something only where its symptom is present; each may be called any number of times. ``apply`` calls
those that must hold for the whole process.
"""

import argparse
import collections
import importlib
import importlib.machinery
import importlib.util
import inspect
import os
import pickle
import re
import sys
import types
import typing
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
import torch

_MARKS = "_sparqle_marks"


def mark(function: Any, name: str) -> None:
    """Say that a function, put in the place of another library's, holds the correction `name`.

    Names and not one mark for all: several corrections may stand around the same function, and each wrapper carries the
    marks of what it wraps (`functools.wraps`).
    """
    setattr(function, _MARKS, marks(function) | {name})


def marks(function: Any) -> frozenset[str]:
    """The corrections that a function holds; who finds its own there does not make it twice."""
    return getattr(function, _MARKS, frozenset())


def apply() -> None:
    """Apply every workaround that must hold for the whole process; called when the plugin is imported."""
    ensure_torchaudio()
    allow_fairseq_checkpoints()
    ensure_numpy_aliases()
    fix_bf16_flag()
    name_bad_checkpoints()
    keep_work()
    let_ddp_run_on_cpu()
    let_overflow_pass_on_cpu()
    name_overflows()
    keep_waveforms_whole()
    keep_finished_runs()


# -- torchaudio ----------------------------------------------------------------------------------------------


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


# -- checkpoints ---------------------------------------------------------------------------------------------


def _checkpoint_types() -> list[Any]:
    """Every class that a fairseq checkpoint may hold beside tensors and plain Python containers.

    All of them are data: making one runs no code that the file could choose.
    """
    from fairseq.data.dictionary import Dictionary
    from fairseq.distributed.utils import _TensorPlaceholder
    from omegaconf import DictConfig, ListConfig
    from omegaconf.base import ContainerMetadata, Metadata, Node
    from omegaconf.nodes import AnyNode, BooleanNode, FloatNode, IntegerNode, StringNode

    multiarray = getattr(np, "_core", None) or np.core
    multiarray = multiarray.multiarray
    return [
        # task_state of a pre-training task, and the arguments of checkpoints older than fairseq's dataclasses
        Dictionary,
        argparse.Namespace,
        # cfg of checkpoints that were saved before fairseq turned it into plain dictionaries; omegaconf keeps
        # an (empty) defaultdict in each of its nodes
        collections.defaultdict,
        *(DictConfig, ListConfig, ContainerMetadata, Metadata, Node),
        *(AnyNode, BooleanNode, FloatNode, IntegerNode, StringNode),
        *((typing.Any, "typing.Any"), dict, list, tuple, int, float, bool, str),
        # numpy numbers among the meters and the best validation loss; both names of the functions that make
        # them
        np.dtype,
        np.ndarray,
        *sorted({type(np.dtype(code)) for code in "?bhilqBHILQefd"}, key=lambda kind: kind.__name__),
        *((multiarray.scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
        _TensorPlaceholder,  # what fairseq sends from the first process to the others when training is resumed
        *((multiarray._reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    ]


def allow_fairseq_checkpoints() -> None:
    """Let ``torch.load(..., weights_only=True)`` read fairseq's own checkpoints.

    Symptom: resuming ``fairseq-train``, ``fairseq-generate`` and reading a released encoder stop with
    ``UnpicklingError: Weights only load failed``. Reason: since torch 2.6 ``torch.load`` builds only classes
    that were named beforehand, and fairseq's ``load_checkpoint_to_cpu`` names none. This names the data
    classes that fairseq stores and leaves the protection on: a file that holds anything else is still
    refused.
    Can go when fairseq names them itself.
    """
    add_safe_globals = getattr(torch.serialization, "add_safe_globals", None)
    if add_safe_globals is not None:  # torch < 2.4 has neither the list nor the symptom
        add_safe_globals(_checkpoint_types())


def name_bad_checkpoints() -> bool:
    """Let a checkpoint that cannot be used be named in one sentence.

    Symptom: a cut, empty or foreign file after ``--path``, or as the one to resume from, stops the command with
    ``EOFError``, ``KeyError: 'best_loss'``, ``pop from empty list``, or forty lines of torch on how to switch its
    protection off; none names the file. Reason: ``fairseq.checkpoint_utils`` reads whatever it is given. Its two
    readers are wrapped; what they read does not change. Can go when fairseq checks what it reads.

    Returns:
        True where this call wrapped them.
    """
    from fairseq import checkpoint_utils

    from sparqle_fairseq.errors import SparqleError

    if "names bad files" in marks(checkpoint_utils.load_checkpoint_to_cpu):
        return False
    read, build = checkpoint_utils.load_checkpoint_to_cpu, checkpoint_utils.load_model_ensemble_and_task

    @wraps(read)
    def load_checkpoint_to_cpu(path: str, *rest: Any, **named: Any) -> Any:
        try:
            return read(path, *rest, **named)
        except Exception as error:  # torch, pickle, zipfile and fairseq raise many kinds
            raise SparqleError(_what_is_wrong(path, error)) from error

    @wraps(build)
    def load_model_ensemble_and_task(filenames: list[str], *rest: Any, **named: Any) -> Any:
        for path in filenames:
            if not os.path.isfile(path) and named.get("num_shards", 1) == 1:
                raise SparqleError(f"{path}: there is no such file; give a checkpoint of fairseq-train")
        try:
            return build(filenames, *rest, **named)
        except SparqleError as error:
            names = ":".join(filenames)
            raise SparqleError(str(error) if names in str(error) else f"{names}: {error}") from error

    mark(load_checkpoint_to_cpu, "names bad files")
    checkpoint_utils.load_checkpoint_to_cpu = load_checkpoint_to_cpu
    checkpoint_utils.load_model_ensemble_and_task = load_model_ensemble_and_task
    return True


def _what_is_wrong(path: str, error: Exception) -> str:
    """One sentence for whatever came up while `path` was read."""
    if isinstance(error, pickle.UnpicklingError) and "Unsupported global" in str(error):
        return f"{path} holds more than data, and is not loaded; ask its maker for the weights alone"
    found = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}".removesuffix(": ")
    return f"{path} is damaged or no fairseq checkpoint ({found}); give one of fairseq-train"


def keep_work() -> None:
    """Let checkpoints be written whole, found again, and saved when a signal comes.

    Symptoms and reasons, each in a file of ``sparqle_fairseq.fairseq_fixes``:

    * ``writing``: ``checkpoint_last.pt`` and ``checkpoint_best.pt`` are copied in place, so a kill or a full disk
      leaves half a file under that name; what is renamed was never synced; a failed write is tried again behind its
      own beginning and ends in forty lines of torch.
    * ``resuming``: a damaged ``checkpoint_last.pt`` stops the run though older checkpoints are whole; a missing one,
      or a missing ``--restore-file``, starts from nothing without a word; ``--store-ema`` on a checkpoint without an
      average ends in ``KeyError: 'model'``.
    * ``half_precision``: ``--fp16`` and ``--bf16`` resume from rounded weights, and the loss scale counts anew.
    * ``stopping``: SIGTERM and SIGUSR1 end training with all since the last checkpoint lost.

    What is wrapped does the same as before where nothing goes wrong. Can go when fairseq does it itself.
    """
    from sparqle_fairseq.fairseq_fixes import install

    install()


# -- batches -------------------------------------------------------------------------------------------------


def batch_by_size_keeping_all(
    indices: np.ndarray,
    num_tokens_fn: Callable[[int], int] | None = None,
    num_tokens_vec: np.ndarray | None = None,
    max_tokens: int | None = None,
    max_sentences: int | None = None,
    required_batch_size_multiple: int = 1,
) -> list[np.ndarray]:
    """fairseq's ``data_utils.batch_by_size`` without its loss of the last batch.

    Symptom: 16 utterances go in, ``fairseq-generate`` answers 12, and no word is said. Reason: fairseq throws
    the last batch away when its size is no multiple of ``--required-batch-size-multiple`` (8 unless told
    otherwise). The multiple is a matter of speed on some devices, never a reason to drop data.
    Can go when ``batch_by_size`` returns every index.

    Args:
        indices: (N,) dataset indices in the order in which they are to be batched.
        num_tokens_fn: length of one index; may be left out where ``num_tokens_vec`` is given.
        num_tokens_vec: (N,) lengths, in the order of ``indices``.
        max_tokens: most ``longest length * batch size`` of a batch; None for no limit.
        max_sentences: most indices in a batch; None for no limit.
        required_batch_size_multiple: batch sizes are smaller than this or a multiple of it, except the last
            one's.

    Returns:
        Arrays of indices which, one after another, are ``indices``. None of them is empty.

    Raises:
        ValueError: neither lengths nor a function for them is given, or one index alone exceeds
            ``max_tokens``.
    """
    from fairseq.data import data_utils

    indices = np.asarray(indices, dtype=np.int64)
    if len(indices) == 0:
        return []  # fairseq looks at the last batch before it asks whether there is one
    if num_tokens_vec is None:
        if num_tokens_fn is None:
            raise ValueError("batch_by_size_keeping_all needs num_tokens_vec or num_tokens_fn.")
        num_tokens_vec = np.fromiter((num_tokens_fn(int(index)) for index in indices), np.int64, len(indices))
    lengths = np.asarray(num_tokens_vec, dtype=np.int64)
    if max_tokens is not None and max_tokens > 0 and lengths.max() > max_tokens:
        longest = int(lengths.argmax())
        raise ValueError(
            f"Item {int(indices[longest])} has length {int(lengths[longest])}, more than --max-tokens "
            f"{max_tokens}: raise --max-tokens, or leave such items out with --max-source-positions."
        )
    batches = list(
        data_utils.batch_by_size(
            indices,
            num_tokens_fn=None,
            num_tokens_vec=lengths,
            max_tokens=max_tokens,
            max_sentences=max_sentences,
            required_batch_size_multiple=required_batch_size_multiple,
        )
    )
    # What fairseq drops is always the tail, and the tail was within the limits when fairseq made it.
    kept = sum(len(batch) for batch in batches)
    if kept < len(indices):
        batches.append(indices[kept:])
    return [batch for batch in batches if len(batch)]


# -- numpy ---------------------------------------------------------------------------------------------------


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
    from fairseq.data import data_utils

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


# -- decoders ------------------------------------------------------------------------------------------------


def decoder_extra() -> dict[str, list[None]]:
    """The second value that a decoder returns when it has no attention to show.

    Symptom: ``SequenceGenerator`` stops with ``KeyError: 'attn'`` for a decoder whose extra output is a
    dictionary without that key. Reason: ``EnsembleModel.forward_decoder`` reads ``decoder_out[1]["attn"][0]``
    without asking.
    Can go when it asks.
    """
    return {"attn": [None]}


# -- options -------------------------------------------------------------------------------------------------


def fix_bf16_flag() -> bool:
    """Let ``--bf16`` on the command line mean bfloat16 and not "a TPU".

    Symptom: ``fairseq-train --bf16`` stops at ``No module named 'torch_xla'``, while ``common.bf16=true``
    through Hydra runs. Reason: ``options.parse_args_and_arch`` switches ``--tpu`` on whenever ``--bf16`` is
    given, from a time when only TPUs had bfloat16. Where ``torch_xla`` is not installed and ``--tpu`` was not
    typed, the switch is turned back. Can go when fairseq leaves ``--tpu`` alone.

    Returns:
        True where this call wrapped the parser.
    """
    from fairseq import options

    original = options.parse_args_and_arch
    if "leaves tpu alone" in marks(original) or importlib.util.find_spec("torch_xla") is not None:
        return False
    if not re.search(r"if args\.bf16:\s+args\.tpu = True", inspect.getsource(original)):
        return False

    @wraps(original)
    def parse_args_and_arch(parser: Any, input_args: Any = None, *rest: Any, **named: Any) -> Any:
        parsed = original(parser, input_args, *rest, **named)
        args = parsed[0] if isinstance(parsed, tuple) else parsed
        typed = sys.argv[1:] if input_args is None else input_args
        if getattr(args, "bf16", False) and "--tpu" not in typed:
            args.tpu = False
        return parsed

    mark(parse_args_and_arch, "leaves tpu alone")
    options.parse_args_and_arch = parse_args_and_arch
    return True


# -- training without a GPU, and in half precision -----------------------------------------------------------


def let_ddp_run_on_cpu() -> bool:
    """Let ``--ddp-backend pytorch_ddp`` (fairseq's default) train on CPUs.

    Symptom: ``ValueError: DistributedDataParallel device_ids and output_device arguments only work with single-device
    GPU modules``. Reason: ``DistributedFairseqModel`` names a device whatever the model is on. Can go when it asks.

    Returns:
        True where this call wrapped it.
    """
    from fairseq.models import distributed_fairseq_model

    usual = distributed_fairseq_model.DistributedDataParallel
    if "runs on cpu" in marks(usual):
        return False

    @wraps(usual)
    def wrapped(*, module: Any, **options: Any) -> Any:
        if next(module.parameters()).device.type == "cpu":
            options |= {"device_ids": None, "output_device": None}
        return usual(module=module, **options)

    mark(wrapped, "runs on cpu")
    distributed_fairseq_model.DistributedDataParallel = wrapped
    return True


class _TorchWithoutGpu(types.ModuleType):
    """torch as ``fairseq.trainer`` expects it: what it makes with ``tensor`` can be asked to go to a GPU, and stays."""

    def __init__(self) -> None:
        super().__init__("torch", torch.__doc__)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def tensor(*values: Any, **options: Any) -> Any:
        made: Any = torch.tensor(*values, **options)
        made.cuda = lambda: made
        return made


def let_overflow_pass_on_cpu() -> bool:
    """Let ``--fp16 --cpu`` lower its loss scale and go on.

    Symptom: at the first gradient that overflows, ``AssertionError: Torch not compiled with CUDA enabled``. Reason: the
    trainer says ``torch.tensor(0.0).cuda()``. Only where there is no GPU, and only in that module. Can go when it names
    its device.

    Returns:
        True where this call gave the trainer its view of torch.
    """
    from fairseq import trainer

    if torch.cuda.is_available() or trainer.torch is not torch:
        return False
    trainer.torch = _TorchWithoutGpu()
    return True


def name_overflows() -> bool:
    """Let numbers that overflow in half precision be told in one sentence with the option that helps.

    Symptom: ``FloatingPointError: Minimum loss scale reached`` or ``gradients are Nan/Inf`` after pages of NanDetector.
    Reason: fairseq cannot know which part of the model overflows. Can stay for good: the remedy is this plugin's.

    Returns:
        True where this call wrapped the trainer.
    """
    from fairseq.trainer import Trainer

    usual = Trainer.train_step
    if "names overflows" in marks(usual):
        return False

    @wraps(usual)
    def train_step(self: Any, samples: Any, *rest: Any, **named: Any) -> Any:
        try:
            return usual(self, samples, *rest, **named)
        except FloatingPointError as error:
            if "inconsistent" in str(error):  # between processes: nothing overflowed
                raise
            from sparqle_fairseq.errors import SparqleError
            from sparqle_fairseq.fairseq_fixes.overflow import explain

            raise SparqleError(explain(self, samples, error)) from error

    mark(train_step, "names overflows")
    Trainer.train_step = train_step
    return True


def keep_waveforms_whole() -> bool:
    """Let ``--fp16`` and ``--bf16`` give a task's `source` to the model as it was read.

    Symptom: the same recording has other features in training than in generation: behind bfloat16's 8 bits those of
    Whisper-base are 1 to 9 % away, behind fp16's 0.1 to 0.7 %. Reason: the trainer rounds every floating-point tensor
    of a batch, so an encoder that runs in float32 (``--encoder-dtype``) hears rounding noise. Only for tasks that say
    ``whole_source``: their models cast for themselves. Can go when a task can say what is to be rounded.

    Returns:
        True where this call wrapped the trainer.
    """
    from fairseq.trainer import Trainer

    usual = Trainer._fp_convert_sample
    if "keeps waveforms" in marks(usual):
        return False

    @wraps(usual)
    def _fp_convert_sample(self: Any, sample: Any) -> Any:
        converted = usual(self, sample)
        if getattr(self.task, "whole_source", False) and "net_input" in converted:
            converted["net_input"]["source"] = sample["net_input"]["source"]
        return converted

    mark(_fp_convert_sample, "keeps waveforms")
    Trainer._fp_convert_sample = _fp_convert_sample
    return True


def keep_finished_runs() -> None:
    """Let a run that is over stay over; see ``sparqle_fairseq.fairseq_fixes.finished``."""
    from sparqle_fairseq.fairseq_fixes import finished

    finished.install()
