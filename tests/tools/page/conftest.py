"""One page, served once for all tests of this folder, over the tiny world's model; and one browser."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from page_needs import needed

from sparqle_fairseq.tasks.loading import Trained
from sparqle_fairseq.tools.page.limits import Limits
from sparqle_fairseq.tools.page.model import CheckpointModel
from sparqle_fairseq.tools.page.service import Service

SPOKEN = Path(__file__).parents[2] / "data" / "speech.flac"  # two sentences with a pause between them
LIMITS = Limits(minutes=0.5, megabytes=2, waiting=4, files=6)
QUICK = {"beam": 1, "tokens_per_second": 4.0, "guard": False}


class Watched:
    """The model of the page, each token of which takes `delay` seconds; it keeps what it was asked."""

    def __init__(self, model: CheckpointModel) -> None:
        self._model = model
        self.delay = 0.0
        self.asked: list[SimpleNamespace] = []
        self.fails: BaseException | None = None
        self.stopped = 0.0  # time.monotonic() when a search was last ended by its watch

    def __getattr__(self, name):
        return getattr(self._model, name)

    def translate(self, segments, targets, settings, watch):
        self.asked.append(SimpleNamespace(targets=tuple(targets), settings=settings))
        if self.fails is not None:
            raise self.fails

        def waiting():
            try:
                watch()
            except BaseException:
                self.stopped = time.monotonic()
                raise
            time.sleep(self.delay)

        return self._model.translate(segments, targets, settings, waiting)


@pytest.fixture(scope="session")
def page_model(stage2):
    loaded = Trained(stage2.task, stage2.model, stage2.cfg, torch.device("cpu"))
    return CheckpointModel(loaded, "runs/stage2/checkpoint_best.pt", ["fr"])


@pytest.fixture(scope="session")
def called():
    """Every place outside this machine that this process connects to or looks up while the page is served."""
    found: list[str] = []
    real_connect, real_lookup = socket.socket.connect, socket.getaddrinfo

    def note(host):
        host = host.decode() if isinstance(host, bytes) else str(host)
        if host not in ("None", "localhost", "::1", "0.0.0.0", "") and not host.startswith("127."):
            found.append(host)

    def connect(self, address):
        if self.family != socket.AF_UNIX:
            note(address[0])
        return real_connect(self, address)

    def lookup(host, *more, **named):
        note(host)
        return real_lookup(host, *more, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", connect)
        patch.setattr(socket, "getaddrinfo", lookup)
        yield found


@pytest.fixture(scope="session")
def shared(page_model, tmp_path_factory, called):
    """The served page: `url`, `service`, `model` and the folder of uploads."""
    needed("gradio")
    from sparqle_fairseq.tools.page.serve import launch

    model = Watched(page_model)
    service = Service(model, LIMITS, rival=page_model)
    folder = tmp_path_factory.mktemp("page")
    page, url = launch(service, [("Example: two sentences", str(SPOKEN))], str(folder))
    yield SimpleNamespace(page=page, url=url, service=service, model=model, folder=folder, called=called)
    page.close(verbose=False)


@pytest.fixture
def served(shared):
    """The same with a model that is quick and has been asked nothing."""
    shared.model.delay, shared.model.fails = 0.0, None
    shared.model.asked.clear()
    yield shared
    shared.model.delay, shared.model.fails = 0.0, None


@pytest.fixture(scope="session")
def sounds(tmp_path_factory):
    """`speech` (a wav of two sentences), `text` (a text that is called a wav), `long`, `silence`."""
    folder = tmp_path_factory.mktemp("sounds")
    wave, rate = soundfile.read(SPOKEN, dtype="float32")
    soundfile.write(folder / "speech.wav", wave, rate)
    soundfile.write(folder / "other.wav", wave[: rate * 3], rate)
    soundfile.write(folder / "long.wav", np.zeros(16000 * 40, np.float32), 16000)
    soundfile.write(folder / "silence.wav", np.zeros(16000, np.float32), 16000)
    (folder / "text.wav").write_text("This is no sound.\n" * 20)
    names = ("speech", "other", "long", "silence", "text")
    return SimpleNamespace(folder=folder, **{name: folder / f"{name}.wav" for name in names})


@pytest.fixture(scope="session")
def chromium(sounds, tmp_path_factory):
    """Starts a headless Chromium whose microphone hears the speech of `sounds`, and whose requests are in its log."""
    needed("selenium", "chromium", "chromedriver")
    from chromium import start

    started = []

    def another():
        started.append(start(tmp_path_factory.mktemp("chromium"), sounds.speech))
        return started[-1]

    yield another
    for driver in started:
        driver.quit()


@pytest.fixture
def together():
    """Runs functions at the same time, each in a thread of its own; returns what they gave, or their errors."""

    def run(*works):
        found: list = [None] * len(works)

        def one(i):
            try:
                found[i] = works[i]()
            except Exception as error:
                found[i] = error

        threads = [threading.Thread(target=one, args=(i,)) for i in range(len(works))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(300)
        return found

    return run
