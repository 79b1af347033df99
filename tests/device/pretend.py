"""A pretend accelerator: tensors that live on the CPU and behave as if they lay on another device.

Torch's own face for devices written in Python (`_setup_privateuseone_for_python_backend`, experimental in 2.13) gives
the device its name; a wrapper around a CPU tensor stands for a tensor on it. Every operation comes through
`_carry_out`, which does what an eager CUDA program would meet:

* tensors of two devices in one operation are refused, as are arrays of numpy; a 0-dimensional tensor of the CPU may
  join an element-wise operation, and indices of the CPU may index a tensor of the device, as on CUDA;
* whatever makes the program wait until the device has caught up is counted, with the line that asked for it: a value
  read (`item`, `tolist`, `bool`, `int`), a copy to the CPU, and results whose size depends on values (`nonzero`, masks
  as indices, `unique`, …);
* copies to the device are counted beside that: from memory that is not pinned they, too, take the program's time.

What it cannot show: kernels that CUDA lacks, other rounding, memory of the device, streams.

    with pretend_device() as device:
        model.to(device)
        with device_watch() as seen:
            loss = model(batch.to(device)).sum()
        assert len(seen.waits) <= 2, seen
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils.backend_registration import _DummyBackendModule, _DummyPrivateUse1Hook

NAME = "pretend"
_ATEN = torch.ops.aten
_TORCH = os.path.dirname(torch.__file__)
_QUIET = (_TORCH, __file__)  # files that pass a request on, and are not where it comes from


class MixedDevices(RuntimeError):
    """An operation was given tensors of two devices."""


@dataclass
class Watch:
    """What was seen while a piece of code ran: each place as `file:line function (operation)`."""

    waits: list[str] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return _listed("waits", self.waits) + _listed("copies to the device", self.uploads)


def _listed(what: str, places: list[str]) -> str:
    lines = [f"\n  {count} x {place}" for place, count in Counter(places).most_common()]
    return f"\n{len(places)} {what}:{''.join(lines)}"


_watches: list[Watch] = []


def _note(kind: str, operation: Any) -> None:
    if _watches:
        place = f"{_place()} ({operation})"
        for watch in _watches:
            getattr(watch, kind).append(place)


def _place() -> str:
    """Line of the code that asked, the nearest that is neither torch's nor this file's."""
    frame: Any = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_QUIET):
        frame = frame.f_back
    if frame is None:
        return "autograd"
    name = frame.f_code.co_filename
    for mark in ("sparqle_fairseq/", "site-packages/", "tests/"):
        if mark in name:
            name = mark.replace("site-packages/", "") + name.split(mark, 1)[1]
            break
    return f"{name}:{frame.f_lineno} {frame.f_code.co_name}"


# ---- tensors


def _device() -> torch.device:
    return torch.device(NAME, 0)


class PretendTensor(Tensor):
    """A tensor on the pretend device; `held` is what stands for its memory."""

    held: Tensor
    number: bool  # made of a Python number: on CUDA it would not have left the CPU

    @staticmethod
    def __new__(cls, held: Tensor, number: bool = False) -> PretendTensor:
        made = Tensor._make_wrapper_subclass(
            cls, held.size(), strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            layout=held.layout, device=_device(), requires_grad=False,
        )  # fmt: skip
        made.held, made.number = held, number
        return made

    # Module.to() swaps parameters of such classes in place, so that tied ones stay tied.
    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: Any) -> PretendTensor:
        return PretendTensor(inner["held"])

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _carry_out(func, args, kwargs or {})

    def tolist(self) -> Any:
        _note("waits", "tolist")
        return self.held.tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError(f"can't convert a {NAME} tensor to numpy: copy it to the CPU first")

    __array__ = numpy

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if self.dim() == 0 else object.__format__(self, spec)

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        _note("waits", "repr")
        return f"{self.held!r} on {NAME}"

    @property
    def data(self) -> Tensor:  # type: ignore[override]
        return self.detach()

    @data.setter
    def data(self, new: Tensor) -> None:
        if not isinstance(new, PretendTensor):
            raise MixedDevices("the data of a tensor of the device was set to a tensor of the CPU")
        self.held = new.held
        Tensor.data.__set__(self, new)  # type: ignore[attr-defined]


# ---- operations

# Sizes of what comes out depend on values, so the program waits for them.
_SIZES_FROM_VALUES = {
    _ATEN.nonzero.default, _ATEN.masked_select.default, _ATEN._unique2.default, _ATEN._unique.default,
    _ATEN.unique_dim.default, _ATEN.unique_consecutive.default, _ATEN.unique_dim_consecutive.default,
    _ATEN.bincount.default, _ATEN.equal.default, _ATEN.allclose.default,
}  # fmt: skip
_VALUES = {_ATEN._local_scalar_dense.default}
_INDEXING = {_ATEN.index.Tensor, _ATEN._unsafe_index.Tensor}
_INDEX_PUT = {_ATEN.index_put_.default, _ATEN.index_put.default, _ATEN._index_put_impl_.default}
_FILLS = {_ATEN.masked_fill.Tensor, _ATEN.masked_fill_.Tensor}
# Where a number of the CPU may stand beside tensors of the device, beyond element-wise operations.
_TAKE_NUMBERS = _FILLS | {_ATEN.fill_.Tensor, _ATEN.fill.Tensor}
_CTC = {_ATEN._ctc_loss.Tensor, _ATEN._ctc_loss_backward.Tensor}
_COPIES = {_ATEN.copy_.default, _ATEN._to_copy.default}


def _carry_out(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What an operation gives, with its devices checked and its waits counted."""
    tensors = _tensors_in((args, kwargs))
    here = [tensor for tensor in tensors if isinstance(tensor, PretendTensor)]
    there = [tensor for tensor in tensors if not isinstance(tensor, PretendTensor)]
    wanted = kwargs.get("device")
    wanted = None if wanted is None else torch.device(wanted).type
    if not here and wanted != NAME:
        return func(*args, **kwargs)
    to_cpu = wanted not in (None, NAME)
    if func in _COPIES:
        to_cpu = _copy(func, args, kwargs, here, to_cpu)
    else:
        if here and there:
            _check_devices(func, args, there)
        for _ in range(_waits(func, args, kwargs)):
            _note("waits", func)
    inner = {name: torch.device("cpu") if name == "device" and value is not None else value
             for name, value in kwargs.items()}  # fmt: skip
    found = func(*_mapped(_held, args), **_mapped(_held, inner))
    if to_cpu:
        return args[0] if func is _ATEN.copy_.default else found
    number = not here and not there and isinstance(found, Tensor) and found.dim() == 0
    wrapped = _mapped(lambda leaf: PretendTensor(leaf, number) if isinstance(leaf, Tensor) else leaf, found)
    return return_and_correct_aliasing(func, args, kwargs, wrapped)


# What an operation takes and gives is made of tuples, lists and dicts alone; torch's own walkers know every kind of
# container, and would take most of the time of these tests.


def _tensors_in(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, tuple | list):
        return [tensor for part in value for tensor in _tensors_in(part)]
    return _tensors_in(list(value.values())) if isinstance(value, dict) else []


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    """`value` with each leaf changed."""
    if isinstance(value, tuple | list):
        return type(value)([_mapped(change, part) for part in value])
    if isinstance(value, dict):
        return {name: _mapped(change, part) for name, part in value.items()}
    return change(value)


def _held(leaf: Any) -> Any:
    return leaf.held if isinstance(leaf, PretendTensor) else leaf


def _copy(func: Any, args: Any, kwargs: dict[str, Any], here: list[Any], to_cpu: bool) -> bool:
    """Count a copy between the devices; whether it ends on the CPU."""
    if func is _ATEN.copy_.default:
        source, goes_down, goes_up = args[1], not isinstance(args[0], PretendTensor), False
        goes_up = isinstance(args[0], PretendTensor) and not isinstance(source, PretendTensor)
        at_once = not (args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
    else:
        source, goes_down, goes_up = args[0], to_cpu, not here
        at_once = not kwargs.get("non_blocking", False)
    if goes_down and at_once:
        _note("waits", func)
    if goes_up and not (source.dim() == 0 and func is _ATEN.copy_.default):  # a single number travels with the kernel
        _note("uploads", func)
    return goes_down


def _check_devices(func: Any, args: Any, there: list[Tensor]) -> None:
    """Raise `MixedDevices` unless CUDA takes these tensors of the CPU beside those of the device."""
    if func in _INDEXING | _INDEX_PUT and isinstance(args[0], PretendTensor):
        values = args[2] if func in _INDEX_PUT else None
        if values is None or isinstance(values, PretendTensor) or values.dim() == 0:
            return
    if func in _CTC:  # lengths are read by the CPU
        there = [tensor for tensor in there if not any(tensor is length for length in _lengths(func, args))]
    alike = torch.Tag.pointwise in func.tags or func in _TAKE_NUMBERS
    in_place = func._schema.is_mutable and not isinstance(args[0], PretendTensor)
    odd = [tensor for tensor in there if tensor.dim() or not alike] + (there if in_place else [])
    if odd:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in odd)
        raise MixedDevices(f"{func} was given tensors of the CPU {shapes} beside some of the {NAME} device")


def _waits(func: Any, args: Any, kwargs: dict[str, Any]) -> int:
    """How often the program waits for the device in an operation that is no copy."""
    if func in _VALUES or func in _SIZES_FROM_VALUES:
        return 1
    if func is _ATEN.repeat_interleave.Tensor:
        return int(kwargs.get("output_size") is None)
    if func in _INDEXING:
        return int(any(map(_is_mask, args[1])))
    if func in _INDEX_PUT:  # a mask and a number are a fill
        return int(any(map(_is_mask, args[1])) and not _is_number(args[2]))
    if func in _FILLS:
        return int(not _is_number(args[-1]))
    if func is _ATEN._ctc_loss.Tensor:  # CUDA's CTC copies each of the two lengths to the CPU, and keeps the copies
        return sum(isinstance(length, PretendTensor) for length in _lengths(func, args))
    return 0


def _lengths(func: Any, args: Any) -> tuple[Any, ...]:
    start = 2 if func is _ATEN._ctc_loss.Tensor else 3
    return tuple(args[start : start + 2])


def _is_mask(index: Any) -> bool:
    return isinstance(index, PretendTensor) and index.dtype in (torch.bool, torch.uint8)


def _is_number(value: Any) -> bool:
    return not isinstance(value, PretendTensor) or value.number


class _Factories(TorchDispatchMode):
    """Sees what is made on the device of nothing, or of tensors of the CPU."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _carry_out(func, args, kwargs or {})


class _Data(TorchFunctionMode):
    """Python's numbers and lists go to the device by way of a tensor of the CPU; no dispatch mode is shown that."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.new_tensor and isinstance(args[0], PretendTensor):
            own = args[0]
            kwargs = {"dtype": own.dtype, "device": own.device, **kwargs}
            return self.__torch_function__(torch.tensor, types, args[1:], kwargs)
        if func is Tensor.tolist and isinstance(args[0], PretendTensor):  # called by its class, not by the tensor
            return args[0].tolist()
        device = kwargs.get("device")
        if func is torch.as_tensor and isinstance(args[0], PretendTensor):
            return args[0].to(device=device, dtype=kwargs.get("dtype"))  # nothing, where it is as asked for
        if func in (torch.tensor, torch.as_tensor) and device is not None and torch.device(device).type == NAME:
            kwargs["device"] = "cpu"
            return func(*args, **kwargs).to(device)
        return func(*args, **kwargs)


# ---- the device


class _Backend(_DummyBackendModule):
    """torch.pretend: there while a test uses it, so that no other test of the process finds an accelerator."""

    on = False

    def is_available(self) -> bool:
        return self.on

    def device_count(self) -> int:
        return int(self.on)

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]


class _Hook(_DummyPrivateUse1Hook):
    def is_available(self) -> bool:
        return _backend.on


_backend = _Backend()


def register() -> None:
    """Make the device known to torch; without a backward pass before, and once a process."""
    if torch._C._get_privateuse1_backend_name() == NAME:
        return
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME, _backend, _Hook())


@contextmanager
def pretend_device() -> Iterator[torch.device]:
    """The device, for as long as the block runs."""
    register()
    _backend.on = True
    try:
        with _Data(), _Factories():
            yield _device()
    finally:
        _backend.on = False


@contextmanager
def device_watch() -> Iterator[Watch]:
    """Count waits for the device, and copies to it, while the block runs."""
    watch = Watch()
    _watches.append(watch)
    try:
        yield watch
    finally:
        _watches.remove(watch)
