"""Hub ids, against a small hub on the loopback address: what is downloaded is whole, or there is a sentence."""

from __future__ import annotations

import pytest
from huggingface_hub.utils import close_session
from small_hub import COMMIT, SmallHub

from sparqle_fairseq.data.hub import SETTINGS, HubError, downloaded, is_hub_id, local_folder

WANTED = (*SETTINGS, "*.safetensors")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with the repository someone/model, and a cache of one's own."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 512)  # of 10 MB; a part of one is lost
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "sparqle"}')
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 400)
    (folder / "modeling_own.py").write_text("raise SystemExit\n")
    with SmallHub({"someone/model": folder}).served() as hub:
        hub.cache = tmp_path / "cache" / "models--someone--model"
        yield hub
        close_session()


def get(hub, place="someone/model", **options):
    return downloaded(place, WANTED, {"endpoint": hub.url, **options})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def refused(hub, said, place="someone/model"):
    """A sentence, and nothing half-written under its final name."""
    with pytest.raises(HubError, match=said) as caught:
        get(hub, place)
    assert "\n" not in str(caught.value)
    assert place in str(caught.value)
    if hub.cache.is_dir():
        assert not list(hub.cache.rglob("*.incomplete"))
        assert not list(hub.cache.rglob("model.safetensors"))


def test_a_repository_is_downloaded_and_its_code_is_not(hub):
    folder = get(hub)
    assert folder.name == COMMIT
    assert names(folder) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == hub.content("someone/model", "model.safetensors")
    hub.asked.clear()
    assert get(hub, f"someone/model@{COMMIT}") == get(hub, "someone/model@v1") == get(hub, revision="v1") == folder
    assert not any("resolve" in path for path in hub.asked), "a file that is there came again"


def test_a_download_goes_on_where_the_connection_broke_off(hub):
    hub.cut["someone/model/model.safetensors"] = 2
    folder = get(hub)
    assert (folder / "model.safetensors").read_bytes() == hub.content("someone/model", "model.safetensors")
    assert hub.ranges == [("someone/model/model.safetensors", f"bytes={start}-") for start in (51200, 76800)]


def test_a_connection_that_always_breaks_off_leaves_nothing(hub):
    hub.cut["someone/model/model.safetensors"] = 1000
    refused(hub, "can neither be reached nor found whole in the cache")


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_file_that_came_damaged_is_noticed_and_taken_away(hub, file):
    hub.damaged.add(f"someone/model/{file}")
    with pytest.raises(HubError, match=rf"{file} came damaged \(sha") as caught:
        get(hub)
    assert "\n" not in str(caught.value)
    assert not list(hub.cache.rglob(file))
    assert hub.etag("someone/model", file) not in names(hub.cache / "blobs")
    hub.damaged.clear()
    assert (get(hub) / file).read_bytes() == hub.content("someone/model", file)


def test_what_the_hub_refuses_or_lacks_has_a_sentence(hub):
    refused(hub, "that you may see; check the name", "someone/nothing")
    refused(hub, "has no such revision", "someone/model@next")
    hub.lost.add("someone/model/model.safetensors")
    refused(hub, r"lists a file and does not have it .*model\.safetensors")
    hub.gated.add("someone/model")
    refused(hub, "is gated on the hub.*hf auth login", "someone/model@v1")


def test_offline_the_cache_is_asked(hub, monkeypatch):
    folder = get(hub)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    hub.asked.clear()
    assert get(hub) == folder
    refused_offline = r"HF_HUB_OFFLINE is set.*hf download someone/else\)"
    with pytest.raises(HubError, match=refused_offline):
        get(hub, "someone/else@v1")
    (folder / "model.safetensors").unlink()
    with pytest.raises(HubError, match="nor found whole in the cache"):
        get(hub)
    assert not hub.asked


def test_what_is_here_is_no_hub_id(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert not is_hub_id("owner/name")
    assert is_hub_id("owner/other")
    assert is_hub_id("owner/name@v1")
    assert not any(map(is_hub_id, ("/a/b", "./a/b", "a/b/c", "a b", "", "owner/name@")))
    assert local_folder("owner/name") == "owner/name"
