"""The ablations: every arm is made of options that exist, arms cost what they are said to, the table is right."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands import ROOT, program
from tiny_models import build_stage1, build_stage2, stage1_arguments

sys.path.insert(0, str(ROOT / "examples"))
sys.path.insert(0, str(ROOT / "examples" / "ablations"))
sys.path.append(str(ROOT / "examples" / "whisper_encoder"))

import costs
from announcements import words as spoken_words
from arms import ARMS, GROUPS
from material import CORPORA, LLMS
from summary import draw, half_width, summary
from text import text_corpus


def load_runner():
    """ablations/run.py under a name of its own, since every recipe has a `run.py`."""
    spec = importlib.util.spec_from_file_location("ablations_run", ROOT / "examples" / "ablations" / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RUNNER = load_runner()
Ablations = RUNNER.Ablations


def test_arms_of_one_name_are_one_arm():
    assert all(ARMS[arm.name] == arm for group in GROUPS.values() for arm in group)


def test_no_arms_folder_is_two_for_fairseq():
    """--path takes several checkpoints with colons between them."""
    assert not [name for name in ARMS if ":" in name or "/" in name]


@pytest.mark.parametrize("arm", ARMS.values(), ids=lambda arm: arm.name)
def test_every_arm_builds_its_stage1(arm, world):
    if arm.stage1 is None:
        return
    # The tests' Q-Former has sizes of no architecture, which plain adapters refuse.
    alone = ("--queries", 24, "--ffn-size", 512) if arm.own_shape else ()
    options = (*alone, *arm.shape, *arm.stage1)
    built = build_stage1(world, *(str(world.llm) if option == "{llm}" else str(option) for option in options))
    assert built.criterion.weights


def test_every_arms_stage2_has_options_that_exist(world):
    words = {str(word) for arm in ARMS.values() for word in (*arm.stage2, *arm.shape)}
    options = {word for word in words if word.startswith("--")}
    cfg = build_stage2(world).cfg
    known = {*cfg.model, *cfg.task, *cfg.optimization}
    assert options
    assert all(option.removeprefix("--").replace("-", "_") in known for option in options)


def test_a_larger_training_costs_more(world, monkeypatch):
    def words(queries):
        more = ["--user-dir", "sparqle_fairseq", "--batch-size", 4, "--objective", "ctc", "--queries", queries]
        return ["fairseq-train", *stage1_arguments(world), *more]

    monkeypatch.setattr(costs, "ROUNDS", 7)
    found = costs.costs_of_updates({"few": words(8), "many": words(600)})
    assert found["many"] > 1.5 * found["few"] > 0


def test_the_interval_is_students():
    assert half_width([1.0, 2.0, 3.0]) == pytest.approx(4.303 / 3**0.5)
    assert half_width([5.0]) == float("inf")


def test_the_table_has_every_arm_and_seed(tmp_path):
    def run(score):
        found = {"fr": score, "zero": score - 10, "de": score - 8, "ja": score - 12}
        return {**found, "stage1_updates": 30, "stage2_updates": 70}

    scores = {"none": [run(20), run(22)], "llm-ctc": [run(40), run(41)]}
    columns, parts = {"fr": "French BLEU", "zero": "zero-shot BLEU"}, {"de": "German BLEU", "ja": "Japanese BLEU"}
    table = summary(scores, {"none": (0.0, 0.1), "llm-ctc": (0.05, 0.1)}, 60, columns, parts)
    line, difference, part, _ = (line for line in table.splitlines() if line.startswith("llm-ctc"))
    assert "40.5 ±6.4 (40.0 41.0)" in line
    assert line.endswith("50/100")
    assert "+19.5 ±6.4 (+20.0 +19.0)" in difference
    assert part.split() == ["llm-ctc", "32.5", "±6.4", "(32.0", "33.0)", "28.5", "±6.4", "(28.0", "29.0)"]
    assert table.index("zero-shot BLEU") < table.index("German BLEU") < table.index("Mean ±")
    draw(scores, tmp_path / "table.png", columns)
    assert (tmp_path / "table.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--group", "losses", "--arms", "sparqle", "nonsense"], "no such arm: nonsense; losses has sparqle, stm+stg"),
        (["--data", "human", "--group", "shape"], "--data human goes with --group objectives and --llm plain"),
        (["--data", "human", "--llm", "demo"], "--data human goes with --group objectives and --llm plain"),
    ],
)
def test_what_cannot_be_run_is_refused_with_what_can(words, sentence):
    done = program(ROOT / "examples" / "ablations" / "run.py", *words)
    assert done.returncode == 2
    assert sentence in done.stderr


def test_one_command_ends_with_a_table_of_each_group_and_one_of_all(tmp_path, monkeypatch):
    args = SimpleNamespace(data="demo", group="all", llm="plain", out=tmp_path, seeds=[1, 2, 3], seconds=120)
    ablations = Ablations(args, GROUPS)
    trained, drawn = [], {}

    def train(arm, seed, _costs):
        trained.append((arm.name, seed))
        zero = {"de": 20.0, "es": 25.0, "ja": 30.0, "zero": 25.0}
        zero |= {"valid_de": 21.0, "valid_es": 26.0, "valid_ja": 31.0, "valid": 26.0}
        return {"fr": 40.0 + seed, **zero, "shuffled": 1.0, "wer": 30.0, "stage1_updates": 30, "stage2_updates": 70}

    monkeypatch.setattr(ablations, "costs", lambda: dict.fromkeys(ARMS, (0.1, 0.1)))
    monkeypatch.setattr(ablations, "train_and_score", train)
    monkeypatch.setattr(type(ablations.corpus), "prepare", lambda *_: None)
    monkeypatch.setattr(RUNNER, "draw", lambda scores, path, _columns: drawn.update({path.name: set(scores)}))
    ablations.run()
    assert sorted(trained) == sorted((name, seed) for name in ARMS for seed in (1, 2, 3)), "each arm once a seed"
    for name, group in {**GROUPS, "all": ARMS.values()}.items():
        table = (tmp_path / "plain" / f"{name}.txt").read_text()
        assert all(f"{arm.name:<28}" in table for arm in group)
        assert drawn[f"{name}.png"] == {arm.name for arm in group}


@pytest.mark.parametrize("name", CORPORA)
def test_every_arm_of_a_corpus_becomes_commands_with_its_own_folders(name, tmp_path):
    corpus = CORPORA[name]
    args = SimpleNamespace(data=name, group="all", llm=corpus.llms[0], out=tmp_path, seeds=[1])
    ablations = Ablations(args, {group: GROUPS[group] for group in corpus.groups})
    for arm in ablations.arms:
        recipe = ablations.recipe(arm, 1, tmp_path / "arm", (3, 5))
        line = recipe.stage2(pretrained=arm.stage1 is not None).line
        data = tmp_path / "seed1" / ("manifests" if arm.hears else "features")
        assert f"fairseq-train {data} " in line, "an encoder that learns hears recordings"
        assert f"--llm {tmp_path}/seed1/{LLMS[corpus.llms[0]]}" in line
        assert f"--save-dir {tmp_path}/arm/stage2" in line
        assert "--max-update 5" in line
        if arm.stage1 is not None:
            assert "{llm}" not in recipe.stage1().line
            assert ("--query-start monotonic" in recipe.stage1().line) == (
                not arm.own_shape or "--query-start" in arm.shape
            )


def test_data_of_an_earlier_demo_is_refused_before_anything_is_trained(tmp_path):
    for split in ("features/valid_stage2", "manifests/test_asr", "manifests/test_fr", "manifests/test_de"):
        (tmp_path / split).parent.mkdir(exist_ok=True)
        (tmp_path / f"{split}.tsv").touch()
    with pytest.raises(
        RUNNER.CommandFailed, match=r"has no test_es, test_ja, valid_de, .*: an earlier demo made it; remove it"
    ):
        CORPORA["demo"].prepare(tmp_path, 1, "plain", 0.0)


def test_text_for_the_language_model_of_human_speech_holds_no_test_sentence():
    held_out = ["Please enter your password now."]
    training = [
        *held_out,
        "Please enter your number now.",
        "Please enter the number again.",
        "Enter your password again.",
    ]
    found = text_corpus(training, held_out, 60, seed=1)
    assert len(found) == 60
    assert {*found} >= {*training[1:]}
    assert all(spoken_words(text) != spoken_words(held_out[0]) for text in found)


def test_an_arm_that_is_added_later_is_measured_in_the_seconds_of_those_before(tmp_path, monkeypatch):
    """The machine may be slower now: what counts is its ratio to an arm that is known."""
    args = SimpleNamespace(data="demo", group="all", llm="plain", out=tmp_path, seeds=[1], seconds=120)
    ablations = Ablations(args, GROUPS)
    monkeypatch.setattr(ablations, "call", lambda _: None)
    first = dict.fromkeys(ARMS, (0.1, 0.2)) | {"none": (0.0, 0.2)}
    del first["stg"], first["none, 12 queries, scaled"]
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "costs.json").write_text(json.dumps(first))
    measured = [{"sparqle": 0.2, "stg": 0.1}, {"sparqle": 0.8, "stg": 0.8, "none, 12 queries, scaled": 0.4}]

    def costs(trainings):
        assert trainings.keys() == measured[0].keys(), "the new ones, and one that is known"
        return measured.pop(0)

    monkeypatch.setattr(RUNNER, "costs_of_updates", costs)
    found = ablations.costs()
    assert found["stg"] == pytest.approx((0.05, 0.2))
    assert found["none, 12 queries, scaled"] == pytest.approx((0.0, 0.1))
    assert found["sparqle"] == [0.1, 0.2]
    assert ablations.costs() == json.loads(json.dumps(found)), "nothing is measured again"


def test_only_the_arms_that_are_asked_for_are_measured_and_a_shared_stage1_once(tmp_path, monkeypatch):
    args = SimpleNamespace(data="demo", group="stage2", llm="plain", out=tmp_path, seeds=[1], seconds=120)
    names = ("12 queries, scaled projector", "distill", "stack of 8")
    ablations = Ablations(args, {"some": [ARMS[name] for name in names]})

    asked = [[names[0], names[2]], [*names]]

    def costs(trainings):
        assert [*trainings] == asked.pop(0)
        return {name: 0.5 if name.endswith("distill") else 0.1 for name in trainings}

    monkeypatch.setattr(RUNNER, "costs_of_updates", costs)
    assert ablations.costs() == {names[0]: (0.1, 0.1), names[1]: (0.1, 0.5), names[2]: (0.1, 0.1)}


def test_arms_with_the_same_stage1_train_it_once_a_seed(tmp_path, monkeypatch):
    args = SimpleNamespace(
        data="demo", group="stage2", llm="plain", out=tmp_path, seeds=[1], seconds=120, stage1_share=1 / 3
    )
    arms = [ARMS["12 queries, scaled projector"], ARMS["distill"], ARMS["stack of 8"]]
    ablations = Ablations(args, {"some": arms})
    trained = []

    def call(command):
        if command.name.startswith("stage"):
            folder = Path(command.words[command.words.index("--save-dir") + 1])
            trained.append(folder.relative_to(tmp_path / "plain").as_posix())
            (folder / "checkpoint_last.pt").parent.mkdir(parents=True)
            (folder / "checkpoint_last.pt").write_text(str(folder))

    def scores(files):
        return {split: {metric: SimpleNamespace(value=1.0) for metric in ("bleu", "wer")} for split in files}

    monkeypatch.setattr(ablations, "call", call)
    monkeypatch.setattr(RUNNER, "read_scores", scores)
    for arm in arms:
        ablations.train_and_score(arm, 1, {arm.name: (0.1, 0.1) for arm in arms})
    shared, distill, stack = "12_queries,_scaled_projector/seed1", "distill/seed1", "stack_of_8/seed1"
    assert trained == [f"{arm}/{part}" for arm, part in (
        (shared, "stage1"), (shared, "stage2"), (distill, "stage2"), (stack, "stage1"), (stack, "stage2"),
    )]  # fmt: skip
    handed_over = (tmp_path / "plain" / distill / "stage1" / "checkpoint_last.pt").read_text()
    assert handed_over == str(tmp_path / "plain" / shared / "stage1")


def test_a_last_part_goes_on_from_what_the_rest_of_the_time_has_trained(tmp_path, monkeypatch):
    args = SimpleNamespace(
        data="demo", group="end", llm="plain", out=tmp_path, seeds=[1], seconds=120, stage1_share=1 / 3, end_share=1 / 4
    )
    whole, *ended = GROUPS["end"]
    ablations = Ablations(args, {"end": GROUPS["end"]})
    monkeypatch.setattr(type(ablations.corpus), "prepare", lambda *_: None)
    lines = {}

    def call(command):
        if command.name.startswith("stage"):
            folder = Path(command.words[command.words.index("--save-dir") + 1])
            lines[folder.relative_to(tmp_path / "plain").as_posix()] = command.line
            (folder / "checkpoint_last.pt").parent.mkdir(parents=True)
            (folder / "checkpoint_last.pt").write_text(str(folder))

    def costs(trainings):
        if any(name.startswith("ended") for name in trainings):
            assert "conv_by_8_before_the_end/seed1/stage2" in lines, "an end is measured behind what is trained"
        return dict.fromkeys(trainings, 0.1) | {"ended by answer+minimum-risk": 0.5}

    def scores(files):
        return {split: {metric: SimpleNamespace(value=1.0) for metric in ("bleu", "wer")} for split in files}

    monkeypatch.setattr(ablations, "call", call)
    monkeypatch.setattr(RUNNER, "costs_of_updates", costs)
    monkeypatch.setattr(RUNNER, "read_scores", scores)
    ablations.run()
    before = lines["conv_by_8_before_the_end/seed1/stage2"]
    assert "--max-update 500 " in before, "120 s less the 40 of stage 1 and the 30 of the end"
    assert lines["conv_by_8/seed1/stage2"].count("--max-update 800 ") == 1
    found = {}
    for arm in (whole, *ended):
        place = tmp_path / "plain" / arm.name.replace(" ", "_") / "seed1"
        found[arm.name] = json.loads((place / "scores.json").read_text())
    assert {name: run.get("end_updates") for name, run in found.items()} == {
        "conv by 8": None, "ended by answer": 300, "ended by answer+minimum-risk": 60,
        "ended by answer+preference": 300,
    }  # fmt: skip
    for arm in ended:
        place = tmp_path / "plain" / arm.name.replace(" ", "_") / "seed1"
        start = (place / "stage1" / "checkpoint_last.pt").read_text()
        assert start.endswith("conv_by_8_before_the_end/seed1/stage2")
        assert "--lr 0.0002" in lines[f"{arm.name.replace(' ', '_')}/seed1/stage2"]
        assert (found[arm.name]["stage1_updates"], found[arm.name]["stage2_updates"]) == (400, 500)
    assert sum("before_the_end" in place for place in lines) == 1, "trained once for all that go on from it"
    assert "400/500+60" in (tmp_path / "plain" / "end.txt").read_text()
