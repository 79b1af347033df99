"""What programs call: gradio_client against the served page."""

from __future__ import annotations

import http.client
import itertools
import re
import textwrap
import zipfile
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from commands import ROOT

from sparqle_fairseq.tools.page.languages import named_languages
from sparqle_fairseq.tools.page.limits import Limits

SPOKEN = Path(__file__).parents[2] / "data" / "speech.flac"
QUICK = {"beam": 1, "tokens_per_second": 4.0, "guard": False}


@pytest.fixture
def client(served):
    from gradio_client import Client

    return Client(served.url, verbose=False)


def translate(client, sound, languages=("fr",), settings=QUICK, **more):
    from gradio_client import handle_file

    given = {"wording": "1", "instruction": "", **more}
    audio = handle_file(str(sound))
    return client.predict(audio, "translate", list(languages), settings, *given.values(), api_name="/translate")


def test_a_program_translates_with_its_settings_and_learns_the_limits(served, client, sounds):
    about = client.predict(api_name="/about")
    assert about["limits"]["minutes"] == 0.5
    assert about["model"]["checkpoint"] == "stage2/checkpoint_best.pt"
    found = translate(client, sounds.speech, ["fr", "German"], {**QUICK, "sampling": True, "seed": 5, "top_p": 0.7})
    assert [result["language"] for result in found["results"]] == ["fr", "de"]
    assert [len(result["segments"]) for result in found["results"]] == [2, 2]
    settings = served.model.asked[0].settings
    assert (settings.beam, settings.sampling, settings.seed, settings.top_p) == (1, True, 5, 0.7)


@pytest.mark.parametrize(
    ("name", "languages", "said"),
    [
        ("long", ["fr"], "this page takes 0.5 minutes"),
        ("text", ["fr"], "text.wav"),
        ("speech", ["qqqqq"], "is not the name or code of a language"),
        ("speech", [], "no target language"),
    ],
)
def test_what_cannot_be_met_is_an_error_with_its_sentence(client, sounds, name, languages, said):
    with pytest.raises(Exception, match=said):
        translate(client, getattr(sounds, name), languages)


@pytest.mark.parametrize("place", ["http://127.0.0.1:1/talk.wav", "https://example.org/talk.wav"])
def test_a_url_is_refused_and_nothing_is_fetched(client, place):
    file = {"path": place, "url": place, "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(Exception, match="fetches nothing from a URL"):
        client.predict(file, "translate", ["fr"], QUICK, "1", "", api_name="/translate")


def test_files_of_the_server_are_not_served_and_answers_forbid_other_servers(served):
    address = urlsplit(served.url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
    for path in ("/etc/passwd", str(served.folder / ".." / "x"), __file__):
        connection.request("GET", f"/gradio_api/file={path}")
        answer = connection.getresponse()
        answer.read()
        assert answer.status in (403, 404), path
    connection.request("GET", "/")
    answer = connection.getresponse()
    answer.read()
    assert "default-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "name", ["../../strayed.wav", "..%2f..%2fstrayed.wav", "/tmp/strayed.wav", "a/../../../strayed.wav"]
)
def test_an_upload_stays_in_its_folder_whatever_it_is_called(served, name):
    sent = httpx.post(f"{served.url}gradio_api/upload", files={"files": (name, b"RIFF")})
    assert served.folder in Path(sent.json()[0]).parents
    assert not [found for found in served.folder.parent.rglob("*strayed*") if served.folder not in found.parents]


def test_a_file_of_the_server_cannot_be_asked_for_as_a_recording(served):
    """Without gradio_client, which would upload what it finds at the path."""
    file = {"path": str(SPOKEN), "meta": {"_type": "gradio.FileData"}}
    asked = {"data": [file, "translate", ["fr"], QUICK, "1", ""]}
    place = f"{served.url}gradio_api/call/translate"
    event = httpx.post(place, json=asked).json()["event_id"]
    answer = httpx.get(f"{place}/{event}", timeout=60).text
    assert "event: error" in answer
    assert str(SPOKEN) not in answer.split("data:", 1)[1]
    assert not served.model.asked


def test_a_failed_request_tells_no_secrets_and_the_next_one_works(served, client, sounds):
    served.model.fails = RuntimeError("a secret of the server")
    with pytest.raises(Exception, match="something went wrong on the server") as found:
        translate(client, sounds.speech)
    assert "secret" not in str(found.value)
    served.model.fails = None
    assert translate(client, sounds.speech)["results"]


def test_a_program_looks_inside(client, sounds):
    from gradio_client import handle_file

    _, answer = client.predict(handle_file(str(sounds.speech)), 1, "translate", "fr", QUICK, api_name="/look")
    assert len(answer["texts"]) == 5
    assert answer["ended"] in ("end", "length")


def test_what_the_document_says_to_programs_is_so(served, client, sounds, capsys):
    """Its program runs, its table has the endpoints that there are, and its limits are those of the page."""
    document = (ROOT / "docs" / "page.md").read_text(encoding="utf-8")
    lines = document.split("    from gradio_client", 1)[1].splitlines()
    code = ["from gradio_client" + lines[0], *itertools.takewhile(lambda line: line[:4] in ("", "    "), lines[1:])]
    program = textwrap.dedent("\n".join([code[0], *(line[4:] for line in code[1:])]))
    program = program.replace("http://127.0.0.1:7860", served.url).replace("talk.wav", str(sounds.speech))
    exec(program, {})
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in said if line[:3] in ("fr ", "de ")] == ["fr", "de"]
    named = set(client.view_api(return_format="dict", print_info=False)["named_endpoints"])
    assert named == set(re.findall(r"^\| `(/\w+)` \|", document, re.MULTILINE))
    limits = Limits()
    for text in (f"{limits.minutes:g} minutes", f"{limits.megabytes:g} MB", f"{limits.keep_minutes:g} minutes"):
        assert f"| {text} |" in document
    assert f"| {limits.waiting} | `--waiting` |" in document
    assert f"| {limits.languages}, {limits.files} |" in document
    assert f"{len(named_languages()):,} of them" in document


def test_a_program_sends_many_files_and_gets_texts_and_scores(client, sounds, tmp_path):
    from gradio_client import handle_file

    manifest = tmp_path / "refs.tsv"
    manifest.write_text("audio\ttgt_lang\ttgt_text\nsounds/speech.wav\tfr\tUn renard rouge.\n")
    sent = [handle_file(str(path)) for path in (sounds.speech, sounds.text, manifest)]
    texts, answer = client.predict(sent, "translate", ["fr"], QUICK, api_name="/batch")
    assert answer["files"][0] == {"name": "speech.wav", "outcome": "2 segments"}
    assert answer["files"][1]["outcome"].startswith("text.wav: cannot be read as audio")
    assert {score["metric"]: score["recordings"] for score in answer["scores"]} == {"bleu": 1, "chrf": 1, "wer": 1}
    with zipfile.ZipFile(texts) as archive:
        assert {"speech.fr.txt", "speech.fr.srt", "report.tsv", "scores.tsv"} <= set(archive.namelist())
        said = archive.read("speech.fr.txt").decode().splitlines()
    assert len(said) == 2
    with pytest.raises(Exception, match="no recording is among the files"):
        client.predict(sent[2:], "translate", ["fr"], QUICK, api_name="/batch")


def test_a_program_asks_in_all_wordings_side_by_side(served, client, sounds):
    found = translate(client, sounds.other, wording="all, side by side")
    wordings = served.service.model.wordings("translation", "fr")
    assert [result["instruction"] for result in found["results"]] == list(wordings)
    assert len(wordings) > 1


@pytest.mark.long
def test_ten_people_at_once_get_their_own_texts_or_the_sentence_of_the_line(served, sounds, together):
    """Fifty requests; what they were answered is what each recording gives alone."""
    from gradio_client import Client

    clients = [Client(served.url, verbose=False) for _ in range(10)]
    wanted = {name: translate(clients[0], getattr(sounds, name), settings=QUICK) for name in ("speech", "other")}
    outcomes: list[str] = []

    def five(i):
        name = ("speech", "other")[i % 2]
        for _ in range(5):
            try:
                outcomes.append("own" if translate(clients[i], getattr(sounds, name)) == wanted[name] else "mixed up")
            except Exception as error:
                outcomes.append("refused" if "the page is busy" in str(error) else f"failed: {error}")

    together(*(lambda i=i: five(i) for i in range(10)))
    assert len(outcomes) == 50
    assert set(outcomes) <= {"own", "refused"}, outcomes
    assert outcomes.count("own") >= 10
    with served.service.turns.enter() as turn:
        assert turn.before() == 0
