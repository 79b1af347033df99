"""How the page is started and ends: by the real start, over an exported folder, for people with a password."""

from __future__ import annotations

import io
import os
import shutil
import sys
import time
from types import SimpleNamespace

import httpx
import pytest
from factories import save_tiny_hugging_face
from omegaconf import OmegaConf
from page_needs import needed
from tiny_models import build_stage2

from sparqle_fairseq.cli.main import main
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.tools.exchange.export_hf import export_hf
from sparqle_fairseq.tools.exchange.released import checkpoint_state, save
from sparqle_fairseq.tools.page import serve
from sparqle_fairseq.tools.page.limits import Limits
from sparqle_fairseq.tools.page.model import load_checkpoint, told_apart
from sparqle_fairseq.tools.page.serve import Options, serving
from sparqle_fairseq.tools.page.service import Request, Said, Service, Stop
from sparqle_fairseq.tools.page.settings import settings_from
from sparqle_fairseq.tools.page.uploads import recording_of
from sparqle_fairseq.tools.translate.translator import Target

QUICK = {"beam": 1, "tokens_per_second": 4.0, "guard": False}
KEPT = 2.0  # seconds


@pytest.fixture(scope="module")
def exported(world, tmp_path_factory):
    """Places of a tiny checkpoint and of its export for Hugging Face."""
    root = tmp_path_factory.mktemp("exported")
    save_tiny_hugging_face(root / "hubert", "hubert", normalize=False)
    built = build_stage2(SimpleNamespace(**{**vars(world), "encoder": root / "hubert"}))
    cfg = OmegaConf.to_container(built.cfg, resolve=True, enum_to_str=True)
    save(root / "there.pt", checkpoint_state(cfg, built.model.state_dict(), {}))
    export_hf(root / "there.pt", root / "model")
    return SimpleNamespace(checkpoint=root / "there.pt", folder=root / "model")


@pytest.fixture(scope="module")
def started(exported, sounds, tmp_path_factory):
    """The page of the exported folder as the command starts it; uploads are kept for two seconds."""
    needed("gradio")
    root = tmp_path_factory.mktemp("started")
    (root / "people").write_text("ann:secret\nben:other:secret\n")
    shutil.copy(sounds.other, root / "example.wav")
    said: list[str] = []
    options = Options(
        str(exported.folder),
        compare_with=str(exported.checkpoint),
        host="0.0.0.0",
        auth=root / "people",
        example=(root / "example.wav",),
        limits=Limits(keep_minutes=KEPT / 60),
        cpu=True,
    )
    before = os.environ.get("GRADIO_TEMP_DIR")
    with serving(options, said.append) as url:
        folder = os.environ["GRADIO_TEMP_DIR"]
        yield SimpleNamespace(url=url.replace("0.0.0.0", "127.0.0.1"), said=said, root=root, folder=folder)
    assert not os.path.exists(folder)
    assert (root / "example.wav").exists()
    if before is not None:
        os.environ["GRADIO_TEMP_DIR"] = before


@pytest.fixture(scope="module")
def client(started):
    from gradio_client import Client

    return Client(started.url, auth=("ann", "secret"), verbose=False)


def test_an_exported_folder_answers_as_its_checkpoint_does(exported, client, sounds):
    from gradio_client import handle_file

    about = client.predict(api_name="/about")
    assert about["model"]["checkpoint"].endswith("/model")
    assert about["can_translate"]
    audio = handle_file(str(sounds.speech))
    found = client.predict(audio, "translate", ["fr"], QUICK, "1", "", api_name="/translate")
    here = Service(load_checkpoint(str(exported.checkpoint), cpu=True))
    asked = Request(recording_of(str(sounds.speech)), (Target("translation", "fr"),), settings_from(QUICK))
    texts = [event.lines[0].text for event in here.stream(asked, Stop()) if isinstance(event, Said)]
    assert [segment["text"] for segment in found["results"][0]["segments"]] == texts
    both = client.predict(audio, "checkpoints", "translate", "fr", "", "", api_name="/compare")
    assert both["texts"][0] == both["texts"][1] != ""
    assert both["names"] == [about["model"]["checkpoint"], f"{exported.checkpoint.parent.name}/there.pt"]


def test_who_has_no_password_gets_nothing(started, client, sounds):
    from gradio_client import Client

    assert client.predict(api_name="/about")
    assert Client(started.url, auth=("ben", "other:secret"), verbose=False).predict(api_name="/about")
    for person in (None, ("ann", "wrong"), ("nobody", "")):
        with pytest.raises(Exception, match=r"(?i)auth|login|credential"):
            Client(started.url, auth=person, verbose=False).predict(api_name="/about")
    for path in ("/config", "/gradio_api/info", "/gradio_api/queue/join"):
        assert httpx.get(f"{started.url.rstrip('/')}{path}").status_code in (401, 405), path
    with sounds.speech.open("rb") as file:
        sent = httpx.post(f"{started.url.rstrip('/')}/gradio_api/upload", files={"files": file})
    assert sent.status_code == 401


def test_uploads_are_deleted_in_time_and_nothing_beside_them(started, client, sounds):
    from gradio_client import handle_file

    def files():
        return [name for _, _, names in os.walk(started.folder) for name in names if name.endswith(".wav")]

    beside = os.path.join(started.root, "beside.wav")
    shutil.copy(sounds.other, beside)
    client.predict(handle_file(str(sounds.silence)), "translate", ["fr"], QUICK, "1", "", api_name="/translate")
    assert files()
    end = time.monotonic() + 20
    while files() and time.monotonic() < end:
        time.sleep(0.2)
    assert files() == []
    assert os.path.exists(beside)


def test_starting_says_what_is_loaded_and_warns_of_nobody_who_has_a_password(started, exported):
    assert started.said[0].startswith(f"loading {exported.folder}")
    assert [text for text in started.said if "loaded in" in text]
    assert not [text for text in started.said if "warning" in text]


def test_a_host_for_all_without_passwords_is_warned_of(capsys):
    needed("gradio")
    assert main(["page", "--model", "missing.pt", "--host", "0.0.0.0"]) == 1
    warning, *_, error = capsys.readouterr().err.strip().splitlines()
    assert warning.startswith("warning: --host 0.0.0.0 opens the page to everyone who can reach this machine")
    assert "missing.pt" in error
    assert main(["page", "--model", "missing.pt"]) == 1
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [("ann\n", ":1 is no line of the form name:password"), ("\n", "names nobody"), (":x\n", ":1 is no")],
)
def test_a_file_of_passwords_that_is_none_is_a_sentence(tmp_path, text, said):
    needed("gradio")
    (tmp_path / "people").write_text(text)
    with pytest.raises(SparqleError, match=said), serving(Options("missing.pt", auth=tmp_path / "people"), print):
        pass


def test_who_waits_for_a_model_sees_the_seconds_pass(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal, said = Terminal(), []
    monkeypatch.setattr(sys, "stderr", terminal)
    with serve._while_loading("a.pt", said.append):
        time.sleep(1.2)
    assert "\r1 s" in terminal.getvalue()
    assert said[0].startswith("loading a.pt")
    assert said[-1] == "loaded in 1 s"


def test_two_checkpoints_of_one_name_are_told_apart():
    assert told_apart("a/x/last.pt", "b/x/last.pt") == ("a/x/last.pt", "b/x/last.pt")
    assert told_apart("runs/a/last.pt", "runs/b/last.pt") == ("a/last.pt", "b/last.pt")
    assert told_apart("a/last.pt", "a/last.pt") == ("a/last.pt", "a/last.pt")


@pytest.mark.parametrize(("ci", "outcome"), [("true", "Failed"), ("", "Skipped")])
def test_a_missing_browser_fails_in_ci_and_skips_elsewhere(monkeypatch, ci, outcome):
    monkeypatch.setenv("CI", ci)
    with pytest.raises(BaseException, match="no-such-browser is not installed") as found:
        needed("no-such-browser")
    assert type(found.value).__name__ == outcome
