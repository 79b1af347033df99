"""What every benchmark here is measured with: A and B in turns, in one run, and a ratio with its spread.

A machine that others use gives other seconds each time, but the same ratio: rounds are short, each round runs every
side once, in an order that turns round, and what is told is the median of the rounds' ratios with their quartiles.

A benchmark is one file with a `BENCHMARK` and a `measure` at its top level, and `run(BENCHMARK, measure)` at its end.
`measure` gets `Settings` and gives a `Result`; what is written of it to `build/bench/NAME.json` is

    {"name", "question", "against", "command",
     "machine": {"cpu", "cores", "threads", "device", "torch", "gemm_gflops"},
     "rows": [{"case", "measure", "value", "low", "high", "goal", "at_least", "note"}],
     "growth": [{"over", "unit", "of", "lines": {LINE: [[x, y], …]}}]}

A row is one figure: `value` between its quartiles `low` and `high` (null where there is one figure only), `goal` what
it is to reach (null: none), `at_least` whether more is better. `growth` has a panel of the picture for each entry.
`make bench` runs every such file and `benchmarks/render.py` puts what it wrote into docs/performance.md.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
import inspect
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from render import block  # beside this file

from sparqle_fairseq.files import write_text

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "build" / "bench"
# Freed memory goes back at once; else the highest point is that of the allocator and not of the program.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_TOP_PAD_": "0"}

Run = Callable[[], object]
Clock = Callable[[Run], float]  # seconds that a run took


@dataclass(frozen=True)
class Benchmark:
    name: str  # of the file that it writes, and of its block in the document
    question: str  # one sentence
    against: str  # what B is
    minutes: float  # after which `make bench` ends it


@dataclass(frozen=True)
class Settings:
    """What a person asks of any benchmark."""

    rounds: int = 7
    threads: int = 1
    device: str = "cpu"

    @property
    def clock(self) -> Clock:
        return cpu_seconds if self.device == "cpu" else gpu_seconds


@dataclass(frozen=True)
class Spread:
    """A median and its quartiles."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Raises ValueError where there are none."""
        if not values:
            raise ValueError("a spread of no values")
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(middle, low, high)


@dataclass(frozen=True)
class Row:
    case: str
    measure: str  # of what: "time / theirs", "memory / theirs", "share of the GEMM peak", …
    value: float
    low: float | None = None
    high: float | None = None
    goal: float | None = None
    at_least: bool = False  # whether the goal is the least that it is to be, and not the most
    note: str = ""  # what stands behind it, such as the seconds or bytes of both

    @classmethod
    def spread(cls, case: str, measure: str, spread: Spread, **more: Any) -> Row:
        return cls(case, measure, spread.value, spread.low, spread.high, **more)


@dataclass(frozen=True)
class Growth:
    """Cost over size: a panel of the picture."""

    over: str  # what x counts: "seconds of speech"
    unit: str  # of y: "CPU seconds", "MB"
    of: str  # what was run
    lines: Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True)
class Result:
    rows: Sequence[Row]
    growth: Sequence[Growth] = ()
    gemm_gflops: float | None = None  # a second of CPU time of one thread, or of the GPU; None: measured by `run`
    more: Mapping[str, Any] = field(default_factory=dict)  # kept in the file for who looks closer


class Times:
    """Seconds of each side in each round."""

    def __init__(self, seconds: Mapping[str, Sequence[float]]) -> None:
        self.seconds = seconds

    def __getitem__(self, side: str) -> float:
        """The median."""
        return statistics.median(self.seconds[side])

    def together(self, name: str, parts: Mapping[str, float]) -> Times:
        """With one more side, which takes so many times what each of some sides took in the same round."""
        rounds = zip(*(self.seconds[side] for side in parts), strict=True)
        sums = [sum(each * often for each, often in zip(took, parts.values(), strict=True)) for took in rounds]
        return Times({**self.seconds, name: sums})

    def ratio(self, side: str, to: str, factor: float = 1.0) -> Spread:
        """Of the rounds' ratios, times `factor`."""
        pairs = zip(self.seconds[side], self.seconds[to], strict=True)
        return Spread.of([factor * one / other for one, other in pairs])


def alternate(
    sides: Mapping[str, Run],
    rounds: int,
    warm_ups: int = 1,
    clock: Clock | None = None,
    fresh: Callable[[], object] | None = None,
) -> Times:
    """Run all sides in turns: `warm_ups` rounds that do not count, then `rounds` that do.

    Args:
        sides: by name; what each needs beyond its run (weights, batches) was made before and is there.
        rounds: at least 1.
        clock: by default CPU seconds of all threads of this process.
        fresh: called before each run, outside its time: puts back what a run leaves behind (gradients, seeds, caches).
    """
    clock = clock or cpu_seconds
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for round_ in range(-warm_ups, rounds):
        order = list(sides) if round_ % 2 else list(reversed(sides))  # so that no side always comes after the same
        for name in order:
            if fresh is not None:
                fresh()
            took = clock(sides[name])
            if round_ >= 0:
                seconds[name].append(took)
    return Times(seconds)


def cpu_seconds(run: Run) -> float:
    """CPU time of all threads of this process: others who use the machine do not count."""
    start = time.process_time()
    run()
    return time.process_time() - start


def gpu_seconds(run: Run) -> float:
    """Seconds between two events of the GPU's own clock."""
    import torch

    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


def peak_bytes(run: Run) -> int:
    """What `run` adds to the resident memory at its highest point, in a forked process.

    What was there before counts nothing. What is freed goes back at once, for which the whole process must have begun
    with `ALLOCATOR` in its environment.
    """
    if any(os.environ.get(name) != value for name, value in ALLOCATOR.items()):
        raise RuntimeError("memory is measured in a process that began with alternate.ALLOCATOR in its environment")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.write(writing, str(_added(run, "cpu")).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        found = pipe.read()
    _, status = os.waitpid(child, 0)
    if status or not found:
        raise RuntimeError(f"the process whose memory was measured ended with {os.waitstatus_to_exitcode(status)}")
    return int(found)


def memory_of(make: Callable[..., Run], **arguments: Any) -> int:
    """What the run that `make(**arguments)` gives adds to memory at its highest point, in a new process of its own.

    `make` is a function of the benchmark's file; what it builds (weights, gradients, batches) is there before and does
    not count. In bytes. Arguments are those that JSON knows; "device" says where, by default on the CPU.
    """
    return _in_new_process("highest", make, arguments)


def memory_held(make: Callable[..., Run], **arguments: Any) -> int:
    """What is left of it in memory as long as what the run gives is kept; else as `memory_of`, on the CPU alone."""
    return _in_new_process("held", make, arguments)


def _in_new_process(which: str, make: Callable[..., Run], arguments: Mapping[str, Any]) -> int:
    words = [sys.executable, __file__, which, inspect.getfile(make), make.__name__, json.dumps(arguments)]
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, **ALLOCATOR, "HF_HUB_OFFLINE": "1", "PYTHONPATH": path}
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"the process whose memory was measured ended with {done.returncode}")
    return int(done.stdout.split()[-1])


def _measure_memory(which: str, file: str, name: str, arguments: Mapping[str, Any]) -> int:
    """In the new process."""
    warnings.simplefilter("ignore")
    sys.path.append(str(Path(file).parent))
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    module = importlib.import_module(Path(file).stem)
    taken = getattr(module, name)(**arguments)
    if which == "held":
        return _left(taken)
    return _added(taken, str(arguments.get("device", "cpu")))


def _added(run: Run, device: str) -> int:
    if device == "cpu":
        _map_libraries()
        Path("/proc/self/clear_refs").write_text("5")  # the highest point is now
        before = resident("VmRSS")
        run()
        return resident("VmHWM") - before
    import torch

    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _left(run: Run) -> int:
    _map_libraries()
    before = resident("VmRSS")
    kept = run()
    after = resident("VmRSS")
    del kept  # until now it was there
    return after - before


def _map_libraries() -> None:
    """Make the code of the libraries resident, which a forked process maps as it goes: some 5 to 20 MB of a first run.

    Linux before 5.14 cannot, and leaves them in what is measured.
    """
    populate_for_reading = 22  # MADV_POPULATE_READ
    libc = ctypes.CDLL(None)
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights, _, _, inode, *_ = line.split()
        if rights.startswith("r") and inode != "0":
            start, end = (int(address, 16) for address in span.split("-"))
            libc.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), populate_for_reading)


def resident(name: str) -> int:
    """Bytes: VmRSS now, or VmHWM, the highest."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


class Gemm:
    """A matrix product of a size at which the machine is at its best, as one more side: `flops` in a run."""

    def __init__(self, device: Any = "cpu", size: int = 1536, dtype: Any = None) -> None:
        """`dtype` of torch; None: fp32."""
        import torch

        self._left, self._right = (torch.randn(size, size, device=device, dtype=dtype) for _ in "ab")
        self._out = torch.empty_like(self._left)
        self._repeats = 4 if str(device) == "cpu" else 64
        self.flops = 2.0 * size**3 * self._repeats

    def __call__(self) -> None:
        import torch

        for _ in range(self._repeats):
            torch.mm(self._left, self._right, out=self._out)


class Products:
    """The matrix products of a run and nothing else, over numbers of the same shapes and layouts, as one more side.

    What the machine does at best at these sizes: no form of the run is faster that takes the same products.
    """

    def __init__(self, run: Run) -> None:
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.utils._python_dispatch import TorchDispatchMode

        calls, operands = self._calls, self._operands = [], {}
        aten = _products()

        class Recorder(TorchDispatchMode):
            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                if func in aten:
                    calls.append((func, [_like(each, operands) for each in args]))
                return func(*args, **(kwargs or {}))

        with Recorder(), sdpa_kernel(SDPBackend.MATH):
            run()

    def __call__(self) -> None:
        for product, operands in self._calls:
            product(*operands)


def _products() -> set[Any]:
    """Those that are one matrix product, or a batch of them."""
    import torch

    aten = torch.ops.aten
    return {aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default}


def _like(operand: Any, known: dict[Any, Any]) -> Any:
    import torch

    if not isinstance(operand, torch.Tensor):
        return operand
    key = (operand.shape, operand.stride(), operand.dtype, operand.device)
    if key not in known:
        room = 1 + sum((size - 1) * step for size, step in zip(operand.shape, operand.stride(), strict=True))
        numbers = torch.randn(max(room, 1), dtype=operand.dtype, device=operand.device)
        known[key] = numbers.as_strided(operand.shape, operand.stride())
    return known[key]


def product_flops(run: Run) -> float:
    """Floating-point operations of the matrix products in `run`, attention's too; nothing else is counted."""
    return sum(product_flops_by_precision(run).values())


def product_flops_by_precision(run: Run) -> dict[Any, float]:
    """The same by the dtype of the operands; convolutions count as products."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode, flop_registry

    found: dict[Any, float] = {}

    class Noting:
        """Torch's formula of an operation, which notes what it counts by the dtype of the first operand."""

        _get_raw = True  # torch's mark of a formula that is given tensors, and not their shapes

        def __init__(self, formula: Callable[..., int]) -> None:
            self.formula = formula

        def __call__(self, first: Any, *rest: Any, **more: Any) -> int:
            operations = self.formula(first, *rest, **more)
            found[first.dtype] = found.get(first.dtype, 0.0) + operations
            return operations

    formulas = {operation: Noting(formula) for operation, formula in flop_registry.items()}
    counter = FlopCounterMode(display=False, custom_mapping=formulas)
    with counter, sdpa_kernel(SDPBackend.MATH):  # fused attention on CPUs is not in torch's table
        run()
    return found


def run(benchmark: Benchmark, measure: Callable[[Settings], Result], words: Sequence[str] | None = None) -> None:
    """The command line of a benchmark: measure, print the rows, and write `build/bench/NAME.json`."""
    parser = argparse.ArgumentParser(description=f"{benchmark.question} Against: {benchmark.against}.")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for NAME.json (default: build/bench)")
    parser.add_argument("--rounds", type=int, default=Settings.rounds, help="rounds that count")
    parser.add_argument("--threads", type=int, default=Settings.threads)
    parser.add_argument("--device", default=Settings.device, help="cpu, or cuda")
    options = parser.parse_args(words)
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds} must be 1 or more")
    wanted = {"OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1"}
    if any(os.environ.get(name) != value for name, value in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})
    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(options.threads)
    settings = Settings(options.rounds, threads=options.threads, device=options.device)
    result = measure(settings)
    gflops = result.gemm_gflops
    if gflops is None:
        gemm = Gemm(settings.device)
        gflops = gemm.flops / alternate({"gemm": gemm}, settings.rounds, clock=settings.clock)["gemm"] / 1e9
    document = {
        **{name: getattr(benchmark, name) for name in ("name", "question", "against")},
        "command": f"python benchmarks/{Path(sys.argv[0]).name}",
        "machine": {**machine(settings), "gemm_gflops": round(gflops, 1)},
        "rows": [asdict(row) for row in result.rows],
        "growth": [asdict(panel) for panel in result.growth],
        **({"more": dict(result.more)} if result.more else {}),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / f"{benchmark.name}.json", json.dumps(document, indent=1, allow_nan=False) + "\n")
    print(block(document))


def machine(settings: Settings) -> dict[str, Any]:
    import torch

    device = "CPU" if settings.device == "cpu" else torch.cuda.get_device_name(settings.device)
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "threads": settings.threads,
        "device": device,
        "torch": torch.__version__,
    }


def cpu_name() -> str:
    """As the kernel names it, with the widest vector unit that it has: two machines may have one name."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    found = re.search(r"model name\s*:\s*(.+)", text)
    flags = set(re.findall(r"\bamx_bf16\b|\bavx512f\b|\bavx2\b", text))
    widest = next((name for flag, name in _UNITS.items() if flag in flags), "")
    return ", ".join(part for part in (found[1].strip() if found else platform.machine(), widest) if part)


_UNITS = {"amx_bf16": "AMX", "avx512f": "AVX-512", "avx2": "AVX2"}


if __name__ == "__main__":
    print(_measure_memory(*sys.argv[1:4], json.loads(sys.argv[4])))
