"""The example of docs/objectives_own.md: taken from the page, trained with, resumed, and handed to stage 2."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

import pytest
import torch
from commands import ROOT, finetune_arguments, script, train_here

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.stage1.objectives import Objective, kinds, register_objective

# What a user types one after the other, in one process.
RUN = """
import json, sys
sys.path.insert(0, {tests!r})
from commands import train_here
for words in json.loads(sys.argv[1]):
    train_here(words)
"""


@pytest.fixture(scope="module")
def own(world, tmp_path_factory):
    """Folder of what the page's commands leave: `stage1` after 4 and `resumed` after 6 updates, `stage2`; the log."""
    import json

    folder = tmp_path_factory.mktemp("own")
    page = (ROOT / "docs" / "objectives_own.md").read_text(encoding="utf-8")
    (folder / "my_objectives").mkdir()
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code is not None
    (folder / "my_objectives" / "__init__.py").write_text(code[1], encoding="utf-8")
    shells = [shlex.split(found.replace("\\\n", " ")) for found in re.findall(r"```sh\n(.*?)```", page, re.DOTALL)]
    places = {
        "data": world.data,
        "my_objectives": folder / "my_objectives",
        "encoder": world.encoder,
        "tokenizer": world.tokenizer,
        "llm": world.llm,
        "checkpoints/stage1": folder / "stage1",
        "checkpoints/stage2": folder / "stage2",
        "checkpoints/stage1/checkpoint_last.pt": folder / "stage1" / "checkpoint_last.pt",
    }
    here = ["--cpu", "--num-workers", "0", "--log-interval", "1", "--log-format", "simple"]
    first, second = ([str(places.get(word, word)) for word in words[1:]] + here for words in shells)
    resumed = [{"4": "6"}.get(word, word) for word in first]
    second += ["--llm-dtype", "fp32", "--train-subset", "train2", "--valid-subset", "dev2"]
    done = script(RUN.format(tests=str(ROOT / "tests")), json.dumps([first, resumed, second]), package_first=False)
    assert not done.returncode, done.stderr[-3000:]
    return folder, done.stdout + done.stderr


def test_an_objective_of_your_own_is_one_class_that_trains_and_resumes(own):
    folder, log = own
    state = torch.load(folder / "stage1" / "checkpoint_last.pt", weights_only=True)
    assert state["model"]["adapter.length_head.weight"].shape == (1, 128)
    assert state["optimizer_history"][-1]["num_updates"] == 6
    assert "Loaded checkpoint" in log
    losses = [float(found) for found in re.findall(r"\| length_loss ([\d.]+)", log)]
    assert losses[-1] < losses[0]
    assert "length_within_a_tenth" in log


def test_stage_2_takes_the_qformer_and_leaves_its_head_behind(own):
    folder, _ = own
    first, second = (
        torch.load(folder / stage / "checkpoint_last.pt", weights_only=True)["model"] for stage in ("stage1", "stage2")
    )
    assert not [name for name in second if "length_head" in name]
    assert second["adapter.qformer.query_tokens"].shape == first["adapter.qformer.query_tokens"].shape


def test_a_checkpoint_of_an_objective_that_is_not_here_says_which(own, world, tmp_path):
    folder, _ = own
    path = folder / "stage1" / "checkpoint_last.pt"
    words = finetune_arguments(world, tmp_path, "--pretrained-adapter", path)
    with pytest.raises(SparqleError, match=r"trained with --objective stc\+0\.5\*length, and no objective 'length' is"):
        train_here(words)
    from sparqle_fairseq.tasks.loading import load_trained

    with pytest.raises(SparqleError, match=r"checkpoint_last\.pt.* no objective 'length' is installed here; import"):
        load_trained(path, cpu=True)


# ---- what cannot be registered


@dataclass(frozen=True)
class Late:
    late: int = 1


@pytest.mark.parametrize(
    ("says", "complaint"),
    [
        ({"name": "stc"}, "there is an objective 'stc' already"),
        ({"name": "sparqle"}, "cannot be called 'sparqle'"),
        ({"name": "2*mine"}, "cannot be called"),
        ({"name": "mine", "parts": ("ctc_head",)}, "so has the objective ctc; call yours otherwise"),
        ({"name": "mine", "parts": ("qformer",)}, "so has every adapter"),
        ({"name": "mine", "carried": ("head",)}, "none of its parts"),
        ({"name": "mine", "Options": Late}, "options of the command line .late., which was read before"),
    ],
)
def test_what_cannot_be_registered_is_one_sentence(says, complaint):
    before = kinds()
    with pytest.raises(SparqleError, match=complaint):
        register_objective(type("Mine", (Objective,), says))
    assert kinds() == before


def test_parts_that_are_not_built_are_one_sentence(monkeypatch):
    from small_qformers import STILL

    from sparqle_fairseq.models.stage1.adapter import Stage1Adapter

    monkeypatch.setattr("sparqle_fairseq.models.stage1.objectives.ctc.Ctc.parts", ("ctc_head", "another"))
    with pytest.raises(SparqleError, match="ctc builds ctc_head, and its parts are ctc_head, another; let them"):
        Stage1Adapter(STILL, decode_token=18, pad_token=0, objectives=("ctc",))
