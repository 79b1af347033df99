"""`export-hf --with-code`: flat files that need no package, and that our own commands never run."""

from __future__ import annotations

import ast
import builtins
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from factories import save_tiny_hugging_face
from tiny_models import build_stage2
from transformers import AutoModelForMultimodalLM, AutoProcessor

from sparqle_fairseq.cli.main import main
from sparqle_fairseq.huggingface import SparqleForConditionalGeneration, SparqleProcessor
from sparqle_fairseq.huggingface.flat import auto_map, flat_files

SCRIPT = Path(__file__).with_name("trusting.py")


@pytest.fixture(scope="module")
def with_code(tiny_hub, tmp_path_factory):
    """The tiny model again, with code beside it."""
    from sparqle_fairseq.huggingface.export import write_code
    from sparqle_fairseq.huggingface.folder import CONFIG

    folder = shutil.copytree(tiny_hub.folder, tmp_path_factory.mktemp("code") / "model")
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | {"auto_map": auto_map()}))
    write_code(folder)
    return folder


@pytest.fixture
def talk(tiny_hub, tmp_path):
    soundfile.write(tmp_path / "talk.wav", tiny_hub.waves[0], 16000, subtype="FLOAT")
    return tmp_path / "talk.wav"


def test_the_files_are_whole_and_need_no_package():
    files = flat_files()
    defined = {}
    for name, text in files.items():
        tree = ast.parse(text)
        assert '"""' in text
        for node in ast.walk(tree):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(module.partition(".")[0] in ("sparqle_fairseq", "fairseq") for module in modules), name
        tops = {part.id for node in tree.body for part in ast.walk(node) if isinstance(part, ast.Name)}
        defined[name] = {node.name for node in tree.body if hasattr(node, "name")} | tops
    for name, text in files.items():
        known = set(dir(builtins)) | {"__file__", "__name__", "__path__"}
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert node.level == 1
                assert {alias.name for alias in node.names} <= defined[f"{node.module}.py"], (name, node.module)
        bound = {alias.asname or alias.name.partition(".")[0] for node in ast.walk(tree)
                 if isinstance(node, ast.Import | ast.ImportFrom) for alias in node.names}  # fmt: skip
        bound |= {node.name for node in ast.walk(tree) if hasattr(node, "name") and isinstance(node.name, str)}
        bound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
        bound |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        assert not used - bound - known, (name, used - bound - known)
    assert {value.partition(".")[0] + ".py" for value in auto_map().values()} <= files.keys()


def test_the_command_writes_them_and_no_command_runs_them(world, talk, tmp_path, capsys):
    from omegaconf import OmegaConf

    from sparqle_fairseq.tools.exchange.released import checkpoint_state, save

    save_tiny_hugging_face(tmp_path / "hubert", "hubert", normalize=False)
    built = build_stage2(world, "--speech-encoder", str(tmp_path / "hubert"))
    cfg = OmegaConf.to_container(built.cfg, resolve=True, enum_to_str=True)
    save(tmp_path / "there.pt", checkpoint_state(cfg, built.model.state_dict(), {}))
    folder = tmp_path / "model"
    assert main(["export-hf", str(tmp_path / "there.pt"), "-o", str(folder), "--with-code"]) == 0
    assert {path.name for path in folder.glob("*.py")} == set(flat_files())
    assert "trust_remote_code=True" in (folder / "README.md").read_text()
    for path in folder.glob("*.py"):
        path.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nraise SystemExit('run')\n")
    words = ["translate", str(talk), "--to", "fr", "--segment", "none", "--beam", "1", "--tokens-per-second", "2"]
    assert main([*words, "--hf", str(folder)]) == 0
    assert main(["import-hf", str(folder), "-o", str(tmp_path / "back.pt")]) == 0
    # Where the package is imported, its own classes come first.
    for trust in (False, True):
        model = AutoModelForMultimodalLM.from_pretrained(folder, trust_remote_code=trust)
        assert type(model) is SparqleForConditionalGeneration
        assert type(AutoProcessor.from_pretrained(folder, trust_remote_code=trust)) is SparqleProcessor
    assert not (tmp_path / "ran").exists()
    capsys.readouterr()


@pytest.mark.long
def test_a_folder_with_code_gives_the_same_texts_where_no_package_is(tiny_hub, with_code, talk, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", SCRIPT, with_code, talk, tmp_path / "saved"],
        env={**os.environ, "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first, saved = json.loads(done.stdout.splitlines()[-1])
    processor = AutoProcessor.from_pretrained(tiny_hub.folder)
    model = AutoModelForMultimodalLM.from_pretrained(tiny_hub.folder)
    asked = processor.apply_translation_request(talk, to="fr")
    expected = []
    for beams in (1, 3):
        out = model.generate(**asked, max_new_tokens=6, num_beams=beams, do_sample=False)
        expected += processor.batch_decode(out[:, asked["input_ids"].size(1) :])
    assert first == saved == expected
