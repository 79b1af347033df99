"""Programs of their own without the seconds of their imports.

A start of fairseq-train takes 4 to 6 seconds of imports, of which the package's own are a few tenths. So a process
loads the libraries once, and each program runs in a fork of it: with its own arguments, environment, working folder
and streams, and it ends as any program ends. The package itself is loaded by each program anew, in the order of a real
start. What a start promises (`sparqle --help` is quick, an import before fairseq is light) is tested with real ones.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import logging
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path

# What fairseq's commands import, and what transformers loads when it is first asked for.
LIBRARIES = (
    "fairseq.options", "fairseq.tasks", "fairseq.trainer", "fairseq.model_parallel.megatron_trainer", "fairseq.scoring",
    "sacrebleu", "soundfile", "transformers.modeling_utils", "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
)  # fmt: skip
_ALIVE_SECONDS = 5  # how often the process with the libraries looks whether the tests are still there


class Warm:
    """The process with the libraries, seen from the tests. `first` is imported before them."""

    def __init__(self, environment: Mapping[str, str], first: Sequence[str] = ()) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="warm-"))
        words = [sys.executable, __file__, str(self._folder / "socket"), *first, *LIBRARIES]
        self._process = subprocess.Popen(words, env=dict(environment), stdout=subprocess.PIPE)
        atexit.register(self._end)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n", "the libraries could not be loaded"

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(
        self, words: Sequence[str], cwd: Path, environment: Mapping[str, str], given: bytes | None, timeout: float
    ) -> subprocess.CompletedProcess[str]:
        asked = socket.socket(socket.AF_UNIX)
        asked.connect(str(self._folder / "socket"))
        with Connection(asked.detach()) as connection, tempfile.TemporaryDirectory(dir=self._folder) as folder:
            streams = [os.devnull, *(os.path.join(folder, name) for name in ("out", "err"))]
            if given is not None:
                streams[0] = os.path.join(folder, "in")
                os.mkfifo(streams[0])
                threading.Thread(target=Path(streams[0]).write_bytes, args=(given,), daemon=True).start()
            connection.send((list(words), str(cwd), dict(environment), streams))
            pid = connection.recv()
            if not connection.poll(timeout):
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(list(words), timeout)
            status = connection.recv()
            printed = [Path(path).read_text(encoding="utf-8") for path in streams[1:]]
        return subprocess.CompletedProcess(list(words), status, *printed)


_WARM: dict[tuple[str, ...], Warm] = {}
_LOCK = threading.Lock()


def run(
    words: Sequence[str], cwd: Path, environment: Mapping[str, str], *, first: Sequence[str] = (),
    given: bytes | None = None, timeout: float = 600,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """As `subprocess.run` runs Python with `words`, a program's path or -c and its text; what it prints is kept.

    Args:
        words: a program and its arguments.
        cwd: its working folder.
        environment: all of its environment variables.
        first: what it imports before the libraries.
        given: its standard input, a pipe.
        timeout: seconds after which it is killed, and `subprocess.TimeoutExpired` raised.
    """
    with _LOCK:
        if tuple(first) not in _WARM:
            _WARM[tuple(first)] = Warm(environment, first)
    return _WARM[tuple(first)].run(words, cwd, environment, given, timeout)


# ---- in the process with the libraries


def serve(address: str) -> None:
    """Fork for every program that is asked for; returns in the forks, which are to run `sys.argv`."""
    tests = os.getppid()
    running: dict[int, tuple[int, Connection]] = {}  # a file that is ready when a fork has ended -> it, and who asked
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    print("ready", flush=True)
    while os.getppid() == tests:
        for ready in wait([listener, *running], timeout=_ALIVE_SECONDS):
            if isinstance(ready, int):
                pid, connection = running.pop(ready)
                connection.send(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
                connection.close()
                os.close(ready)
                continue
            connection = Connection(listener.accept()[0].detach())
            asked = connection.recv()
            pid = os.fork()
            if pid == 0:
                listener.close()
                become(*asked)
                return
            connection.send(pid)
            running[os.pidfd_open(pid)] = pid, connection
    sys.exit()


def become(words: list[str], cwd: str, environment: dict[str, str], streams: list[str]) -> None:
    """Have what a program finds when it starts."""
    for number, path in enumerate(streams):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT if number else os.O_RDONLY), number)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = words
    logging.root.handlers.clear()  # a library's remark has set one up, which a command does first


def run_program() -> None:
    """Run `sys.argv` as Python does."""
    if sys.argv[0] == "-c":
        sys.path[0] = ""
        code = sys.argv.pop(1)
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.path[0] = str(Path(sys.argv[0]).parent)
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    for library in sys.argv[2:]:
        importlib.import_module(library)
    assert "sparqle_fairseq.tasks" not in sys.modules, "what is tested is to be loaded by each program"
    gc.collect()
    gc.freeze()
    serve(sys.argv[1])
    status = 1
    try:
        run_program()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    # What the interpreter does at its end, but for taking all libraries apart: that would copy every page of them.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
