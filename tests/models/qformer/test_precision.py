"""Half precision: every trainer with every LLM, no NaN from odd batches, sums in fp32, overflows named."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from commands import TINY, finetune_arguments, pretrain_arguments, train_here
from tiny_models import batch, build, stage1_arguments, stage2_arguments

from sparqle_fairseq.errors import SparqleError, sentence_of

HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}
TRAINERS = {"fp32": [], "fp16": ["--fp16", "--fp16-no-flatten-grads"], "bf16": ["--bf16", "--fp16-no-flatten-grads"]}
PAIRS = list(itertools.product(TRAINERS, ("fp32", "fp16", "bf16")))
QUICK = [("fp16", "bf16"), ("bf16", "fp16")]


def adapter(world):
    sizes = ["--hidden-size", 32, "--layers", 2, "--heads", 4, "--ffn-size", 64, "--queries", 6]
    return ["--speech-encoder", world.encoder, *sizes]


def finetuning(world, folder, *more, updates):
    """fairseq-train's words; of an option that comes twice the later one counts."""
    return finetune_arguments(world, folder, *adapter(world), *more, updates=updates)


def saved(folder):
    state = torch.load(folder / "checkpoint_last.pt", weights_only=True)
    return state, {name: value for name, value in state["model"].items() if value.is_floating_point()}


@pytest.mark.parametrize(
    ("trainer", "llm"), [pytest.param(*pair, marks=[] if pair in QUICK else pytest.mark.long) for pair in PAIRS]
)
def test_every_trainer_goes_with_every_precision_of_the_llm(world, tmp_path, trainer, llm):
    train_here(finetuning(world, tmp_path, *TRAINERS[trainer], "--llm-dtype", llm, updates=3))
    state, weights = saved(tmp_path)
    assert state["optimizer_history"][-1]["num_updates"] == 3
    assert all(value.isfinite().all() for value in weights.values())
    assert state["cfg"]["model"]["llm_dtype"] == llm


def odd_batch(built, split):
    """Silence in one row, and another as loud as a recording can be."""
    sample = batch(built, split, range(4))
    net_input = sample["net_input"]
    net_input["source"][0] = 0
    net_input["source"][2] = net_input["source"][2].sign()
    return sample


def to_half(value, dtype):
    """As fairseq's trainer does it."""
    if isinstance(value, dict):
        return {key: to_half(inner, dtype) for key, inner in value.items()}
    return value.to(dtype) if torch.is_tensor(value) and value.dtype == torch.float32 else value


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("large", [1.0, 1e4], ids=["usual activations", "large activations"])
@pytest.mark.parametrize("stage", [1, 2])
def test_odd_batches_give_finite_losses_and_gradients(world, stage, large, precision):
    arguments = {1: stage1_arguments, 2: stage2_arguments}[stage](world)
    built = build([*arguments, *(["--llm-dtype", precision] if stage == 2 else [])])
    model = built.model.to(HALF[precision]).train()
    encode = model.encode_speech

    def loud(*inputs):
        speech = encode(*inputs)
        speech.padding_mask[1] = True  # the encoder refuses such waveforms; features have no encoder to do so
        return speech._replace(values=speech.values * large)

    model.encode_speech = loud
    sample = to_half(odd_batch(built, {1: "train", 2: "train2"}[stage]), HALF[precision])
    loss, size, _ = built.criterion(model, sample)
    assert loss.dtype == torch.float32, "losses are sums in fp32"
    (loss / size).backward()
    assert loss.isfinite()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("precision", HALF)
def test_statistics_of_norms_and_softmax_are_those_of_fp32(precision):
    """Squares of 300 overflow fp16 and 1024 of them do so in every sum; 2,000 equal scores round away in half sums."""
    from sparqle_fairseq.models.stage1.losses import contrastive_loss, contrastive_targets, generation_loss, similarity

    dtype = HALF[precision]
    values = (300 * torch.randn(4, 1024)).to(dtype)
    norm = torch.nn.LayerNorm(1024)
    expected = norm(values.float())
    found = norm.to(dtype)(values)
    torch.testing.assert_close(found.float(), expected, atol=0.02, rtol=0.01)

    logits = torch.randn(3, 2000).to(dtype)
    losses = generation_loss(logits, torch.tensor([1, 2, 3]))
    assert losses.equal(generation_loss(logits.float(), torch.tensor([1, 2, 3])))
    speech, text = (torch.nn.functional.normalize(torch.randn(*shape), dim=-1) for shape in ((2, 3, 8), (2, 8)))
    # In fp16 the cosines over this temperature would be infinite from 65.5 on.
    close = similarity(speech.to(dtype), text.to(dtype), torch.tensor(1e-3, dtype=dtype))
    assert close.dtype == torch.float32
    identity = torch.arange(2)
    assert contrastive_loss(close, contrastive_targets(identity, identity)).isfinite().all()


def test_the_contrastive_space_is_fp32_in_a_half_precision_model(world):
    """A zero vector divided by a norm whose epsilon is 0 in fp16 would be NaN."""
    built = build(stage1_arguments(world))
    adapter_ = built.model.half().adapter
    adapter_.speech_projection.bias.data.zero_()
    hidden = torch.zeros(1, 2, adapter_.speech_projection.in_features, dtype=torch.float16)
    features = adapter_.speech_features(hidden)
    assert features.dtype == torch.float32
    assert features.isfinite().all()


@pytest.mark.parametrize("precision", HALF)
def test_what_runs_from_layer_to_layer_stays_in_fp32(world, precision):
    """bf16 rounds away what tells the utterances of a new adapter apart: its curves were 7 % from those of fp32."""
    built = build(stage1_arguments(world))
    model = built.model.to(HALF[precision]).train()
    between = []
    for layer in model.adapter.qformer.layers:
        layer.register_forward_hook(lambda _, inputs, output: between.append((inputs[0].dtype, output[0].dtype)))
    built.criterion(model, to_half(batch(built, "train", range(4)), HALF[precision]))[0].backward()
    assert len(between) >= 4 * len(model.adapter.qformer.layers), "queries, text, matching, generation"
    assert set(between) == {(torch.float32, torch.float32)}
    assert model.adapter.qformer.layers[0].self_attention.query.weight.grad.dtype == HALF[precision]


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("projector", ["linear", "mlp", "linear-norm", "scaled"])
def test_every_objective_and_projector_reads_the_fp32_stream(world, projector, precision):
    objective = "sparqle+stg-outputs+ctc+llm-ctc"
    built = build(
        [*stage1_arguments(world), "--objective", objective, "--llm", str(world.llm), "--projector", projector]
    )
    model = built.model.to(HALF[precision]).train()
    loss, _, _ = built.criterion(model, to_half(batch(built, "train", range(4)), HALF[precision]))
    loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in model.adapter.projector.parameters())


@pytest.mark.parametrize("precision", HALF)
def test_the_encoder_hears_in_training_what_it_hears_in_generation(world, tmp_path, monkeypatch, precision):
    """fairseq's trainer would round the recordings: behind 8 bits Whisper's features are up to 9 % away."""
    from sparqle_fairseq.models.encoders import SpeechEncoder

    def heard(folder, *options):
        waves = []
        encode = SpeechEncoder.forward
        with monkeypatch.context() as patch:
            patch.setattr(SpeechEncoder, "forward", lambda *inputs: waves.append(inputs[1]) or encode(*inputs))
            train_here(pretrain_arguments(world, folder, *options, updates=2))
        return waves

    whole = heard(tmp_path / "fp32")
    half = heard(tmp_path / precision, *TRAINERS[precision])
    assert len(whole) >= 3, "two updates and the validation"
    assert all(wave.equal(same) for wave, same in zip(whole, half, strict=True))


@pytest.fixture(scope="module")
def loud_llm(world, tmp_path_factory):
    """An LLM whose inner numbers fit bf16 and are beyond fp16's largest, 65504."""
    import shutil

    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("loud") / "llm"
    shutil.copytree(world.llm, folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.mul_(1e6)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("trainer", ["fp32", "fp16"])
def test_an_llm_that_overflows_in_fp16_is_named_with_the_remedy(world, loud_llm, tmp_path, trainer):
    words = finetuning(world, tmp_path, *TRAINERS[trainer], "--llm", loud_llm, "--llm-dtype", "fp16", updates=40)
    with pytest.raises(SparqleError) as error:
        train_here(words)
    sentence = sentence_of(error.value)
    assert "too large for fp16" in sentence
    assert "--llm-dtype bf16" in sentence


def test_the_same_llm_trains_and_answers_in_bf16_and_its_fp16_answers_are_refused(world, loud_llm, tmp_path):
    train_here(finetuning(world, tmp_path, "--llm", loud_llm, "--llm-dtype", "bf16", updates=2))
    _, weights = saved(tmp_path)
    assert all(value.isfinite().all() for value in weights.values())
    words = finetuning(world, tmp_path / "2", "--llm", loud_llm, "--llm-dtype", "fp16", updates=1)
    built = build([str(word) for word in words if str(word) != "--user-dir" and str(word) != "sparqle_fairseq"])
    with pytest.raises(SparqleError, match="--llm-dtype bf16"):
        built.model.step_decoder().start(batch(built, "train2", range(2))["net_input"])


def test_a_loss_that_explodes_in_a_bf16_run_is_not_blamed_on_the_llm(world, tmp_path):
    words = finetuning(world, tmp_path, *TRAINERS["bf16"], "--llm-dtype", "bf16", updates=20)
    words[words.index("--lr") + 1] = 1e38
    with pytest.raises(SparqleError, match="lower --lr"):
        train_here(words)


def losses_by_update(caplog, arguments):
    """The loss of each update that a run has logged."""
    caplog.clear()
    caplog.set_level("INFO")
    train_here(arguments)
    entries = [json.loads(record.getMessage()) for record in caplog.records if record.name == "train_inner"]
    return {int(entry["num_updates"]): float(entry["loss"]) for entry in entries}


def curve(caplog, arguments):
    """The mean loss of every 20 of a run's first 180 updates."""
    losses = list(losses_by_update(caplog, arguments).values())
    assert len(losses) >= 195, "the updates that are logged"
    return torch.tensor(losses[:180]).reshape(-1, 20).mean(dim=1)


EVERY_LOSS = ["--dropout", 0, "--log-interval", 1, "--log-format", "json", "--disable-validation", "--no-save"]


def train_step_of_weights_in(dtype):
    """A training step whose weights were rounded to `dtype` and that is fp32 otherwise, its optimizer too."""
    from sparqle_fairseq.tasks.base import SpeechTask

    train_step = SpeechTask.train_step

    def rounded(task, sample, model, *rest, **more):
        weights = [(parameter, parameter.detach().clone()) for parameter in model.adapter.parameters()]
        with torch.no_grad():
            for parameter, _ in weights:
                parameter.copy_(parameter.to(dtype))
        result = train_step(task, sample, model, *rest, **more)
        with torch.no_grad():
            for parameter, value in weights:
                parameter.copy_(value)
        return result

    return rounded


@pytest.mark.long
@pytest.mark.parametrize(
    ("stage", "new", "rate"),
    [(1, True, 1e-4), (1, True, 1e-3), (1, False, 5e-4), (2, True, 1e-3)],
    ids=[
        "stage 1, new adapter, the recipes' rate",
        "stage 1, new adapter, ten times the rate",
        "stage 1, behind the plateau",
        "stage 2, new adapter",
    ],
)
def test_loss_curves_in_half_precision_stay_within_two_percent_of_fp32(
    world, tmp_path, stage, new, rate, caplog, monkeypatch
):
    """200 updates without dropout, the mean of every 20 of them.

    Beside them the least that half precision can do: fp32 whose weights alone are held in it. At ten times the recipes'
    rate a failure is expected where that parts from fp32 too: there is no one curve to keep to (docs/distributed.md).
    """
    from sparqle_fairseq.tasks.base import SpeechTask

    curves = {}
    start = ["--lr", rate]
    if not new:
        first = tmp_path / "first"
        train_here(pretrain_arguments(world, first, "--dropout", 0, "--disable-validation", "--lr", 1e-3, updates=200))
        start += ["--finetune-from-model", first / "checkpoint_last.pt"]
    for name in (*TRAINERS, *(f"fp32, weights in {half}" for half in HALF)):
        trainer, _, weights = name.partition(", weights in ")
        more = [*TRAINERS[trainer], *EVERY_LOSS, *start]
        if stage == 1:
            arguments = pretrain_arguments(world, tmp_path / name, *more, updates=200)
        else:
            arguments = finetuning(world, tmp_path / name, *more, "--llm-dtype", trainer, updates=200)
        with monkeypatch.context() as patch:
            if weights:
                patch.setattr(SpeechTask, "train_step", train_step_of_weights_in(HALF[weights]))
            curves[name] = curve(caplog, arguments)
        print(f"stage {stage}, {name}: {[round(float(loss), 3) for loss in curves[name]]}")
    expected = curves.pop("fp32")
    away = {name: float(((losses - expected).abs() / expected).max()) for name, losses in curves.items()}
    print(f"stage {stage}, at most: {', '.join(f'{name} {100 * share:.2f} %' for name, share in away.items())}")
    apart = {name for name, share in away.items() if share >= 0.02}
    if rate == 1e-3 and stage == 1 and apart - HALF.keys():
        pytest.xfail(f"fp32 whose weights alone are held in half precision parts from fp32 as well: {away}")
    assert not apart, away


@pytest.mark.long
def test_from_a_new_adapter_on_half_precision_sees_the_losses_of_fp32(world, tmp_path):
    """At the weights of an fp32 run, every 20 updates of its first 200, plateau and all: each stage-1 loss."""
    more = ["--dropout", 0, "--disable-validation", "--lr", 1e-3, "--save-interval", 5]  # 4 updates an epoch
    arguments = pretrain_arguments(world, tmp_path, *more, updates=200)
    arguments.remove("--no-epoch-checkpoints")
    train_here(arguments)
    checkpoints = [tmp_path / f"checkpoint{epoch}.pt" for epoch in range(5, 51, 5)]
    built = build([*stage1_arguments(world), *map(str, TINY), "--dropout", "0"])
    samples = [batch(built, "train", range(start, start + 8)) for start in range(0, 32, 8)]
    worst = dict.fromkeys(HALF, 0.0)
    for path in checkpoints:
        state = torch.load(path, weights_only=True)["model"]
        found = {}
        for name, dtype in {"fp32": torch.float32, **HALF}.items():
            model = built.model.to(torch.float32)
            model.load_state_dict(state)
            with torch.no_grad():
                logs = [built.criterion(model.to(dtype).train(), to_half(sample, dtype))[2] for sample in samples]
            found[name] = torch.stack([sum(log[f"{loss}_sum"] for log in logs) for loss in ("stc", "stm", "stg")])
        for name in HALF:
            worst[name] = max(worst[name], float(((found[name] - found["fp32"]).abs() / found["fp32"]).max()))
    print(f"losses at the same weights, at most: {worst}")
    assert max(worst.values()) < 0.02


def as_of_half_precision(source, target):
    """A checkpoint of fp32 that a half-precision trainer goes on from: fairseq compares the name of the optimizer."""
    state = torch.load(source, weights_only=True)
    state["optimizer_history"][-1]["optimizer_name"] = "FP16Optimizer"
    torch.save(state, target)


@pytest.mark.long
@pytest.mark.parametrize("rate", [1e-4, 1e-3])
def test_from_a_new_adapter_half_precision_follows_fp32_from_each_of_its_states(world, tmp_path, rate, caplog):
    """From every 20th update of an fp32 run of 200, weights and optimizer: the next 20 updates in half precision."""
    folder = tmp_path / "fp32"
    more = ["--dropout", 0, "--lr", rate, "--log-interval", 1, "--log-format", "json", "--disable-validation"]
    arguments = pretrain_arguments(world, folder, *more, "--save-interval", 5, updates=200)  # 4 updates an epoch
    arguments.remove("--no-epoch-checkpoints")
    whole = losses_by_update(caplog, arguments)
    for name in HALF:
        away = {}
        for start in range(0, 200, 20):
            go_on = []
            if start:
                as_of_half_precision(folder / f"checkpoint{start // 4}.pt", tmp_path / "start.pt")
                go_on = ["--restore-file", tmp_path / "start.pt"]
            options = [*TRAINERS[name], *more, "--no-save", *go_on]
            part = losses_by_update(
                caplog, pretrain_arguments(world, tmp_path / f"{name}{start}", *options, updates=start + 20)
            )
            both = sorted(part.keys() & whole.keys())
            assert len(both) >= 15, "updates that both have logged"
            assert start < both[0], "the run went on from its start"
            assert both[-1] <= start + 20
            expected = sum(whole[update] for update in both)
            away[start] = abs(sum(part[update] for update in both) - expected) / expected
        print(f"{name}, 20 updates from each state: {[round(100 * value, 2) for value in away.values()]} %")
        assert max(away.values()) < 0.02
