"""Records from the microphone into a file, until Enter is pressed or the time is over."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import soundfile

from sparqle_fairseq.data.audio import SAMPLE_RATE, AudioError
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.tools.translate.recordings import Recording

_WAIT = 0.1  # seconds between two looks at whether to stop


def record(
    scratch: Path, seconds: float | None, say: Callable[[str], Any], wait_for_stop: Callable[[], Any] | None = None
) -> Recording:
    """A recording of what the microphone hears, 16 kHz mono.

    Args:
        scratch: folder that the recording is kept in.
        seconds: how long; None records until `wait_for_stop` returns.
        say: takes the message that recording has begun.
        wait_for_stop: returns when the speaker has finished; by default when a line was typed.

    Raises:
        SparqleError: sounddevice or its PortAudio is missing, or no microphone can be opened.
        AudioError: nothing was heard.
    """
    sounddevice = _sounddevice()
    blocks: queue.SimpleQueue[Any] = queue.SimpleQueue()
    path = scratch / "microphone.wav"
    with soundfile.SoundFile(path, "w", samplerate=SAMPLE_RATE, channels=1, subtype="PCM_16") as file:

        def hear(block: Any, *_: Any) -> None:
            blocks.put(block.copy())

        try:
            with sounddevice.InputStream(samplerate=SAMPLE_RATE, channels=1, dtype="float32", callback=hear):
                say("recording; press Enter to stop" if seconds is None else f"recording for {seconds:g} seconds")
                stop = _stop_signal(wait_for_stop or sys.stdin.readline) if seconds is None else threading.Event()
                until = None if seconds is None else time.monotonic() + seconds
                while not stop.is_set() and (until is None or time.monotonic() < until):
                    _write(file, blocks, _WAIT)
        except sounddevice.PortAudioError as error:
            raise SparqleError(
                f"the microphone cannot be opened ({error}); check that one is connected and may be used"
            ) from error
        _write(file, blocks, 0)
        heard = file.tell()
    if not heard:
        raise AudioError("the microphone: heard nothing; record for longer")
    return Recording(str(path), "microphone", "microphone")


def _sounddevice() -> Any:
    try:
        import sounddevice
    except ImportError as error:
        raise SparqleError(
            "--microphone needs the package sounddevice; install it with pip install 'sparqle-fairseq[microphone]'"
        ) from error
    except OSError as error:
        raise SparqleError(
            f"--microphone needs the library PortAudio ({error}); install it, on Debian with apt install libportaudio2"
        ) from error
    return sounddevice


def _stop_signal(wait: Callable[[], Any]) -> threading.Event:
    stop = threading.Event()

    def watch() -> None:
        wait()
        stop.set()

    threading.Thread(target=watch, daemon=True).start()
    return stop


def _write(file: soundfile.SoundFile, blocks: queue.SimpleQueue[Any], timeout: float) -> None:
    """Write all blocks that are there; wait up to `timeout` seconds for the first."""
    try:
        file.write(blocks.get(timeout=timeout) if timeout else blocks.get_nowait())
        while True:
            file.write(blocks.get_nowait())
    except queue.Empty:
        return
