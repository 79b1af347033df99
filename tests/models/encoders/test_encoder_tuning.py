"""An encoder that learns: LoRA or upper layers, in either stage, with a rate of its own; what is refused."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from click.testing import CliRunner
from commands import finetune_arguments, pretrain_arguments, train_here
from factories import save_tiny_hugging_face, save_tiny_whisper
from tiny_models import batch, build, build_stage1, build_stage2, build_stage2_from, save_adapter, stage1_arguments

from sparqle_fairseq.cli.main import app
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.huggingface import SparqleForConditionalGeneration
from sparqle_fairseq.models.encoders import load_speech_encoder
from sparqle_fairseq.models.encoders.tuning import tuned_network
from sparqle_fairseq.tasks.encoder_rate import EncoderRate
from sparqle_fairseq.tasks.loading import load_trained

LORA = ["--encoder-lora", "2"]
UPPER = ["--unfreeze-encoder-layers", "1"]
WAYS = {"lora": LORA, "upper": UPPER}
OBJECTIVE = ["--objective", "ctc"]


@pytest.fixture(scope="module")
def encoders(world, tmp_path_factory):
    """Places of a fairseq HuBERT and of three kinds of Hugging Face."""
    root = tmp_path_factory.mktemp("encoders")
    save_tiny_hugging_face(root / "hubert", "hubert", normalize=False)
    save_tiny_hugging_face(root / "wavlm", "wavlm", normalize=False)
    save_tiny_whisper(root / "whisper", whole=True)
    return {"fairseq": world.encoder, **{name: root / name for name in ("hubert", "wavlm", "whisper")}}


def with_encoder(world, encoder):
    return SimpleNamespace(**{**vars(world), "encoder": encoder})


def learning(model):
    return {name for name, value in model.named_parameters() if value.requires_grad and "encoder_tuning" in name}


@pytest.mark.parametrize("kind", ["fairseq", "hubert", "whisper"])
@pytest.mark.parametrize("way", WAYS)
def test_what_learns_starts_as_the_encoder_is_and_gets_a_gradient(kind, way, world, encoders):
    here = with_encoder(world, encoders[kind])
    usual, built = build_stage1(here, *OBJECTIVE), build_stage1(here, *OBJECTIVE, *WAYS[way])
    sample = batch(built, "train", range(3))
    heard = [
        one.model.hear(sample["net_input"]["source"], sample["net_input"]["padding_mask"]) for one in (usual, built)
    ]
    names = learning(built.model)
    if way == "lora":
        with torch.no_grad():  # `build_stage1` enlarges weights: LoRA's B is 0 at its start and stays 0
            assert all(value.abs().sum() == 0 for name, value in built.model.named_parameters() if ".B." in name)
        torch.testing.assert_close(heard[1].values, heard[0].values, atol=1e-5, rtol=1e-5)
        assert all(name.endswith((".A.weight", ".B.weight")) for name in names)
    assert not any(name.startswith("speech_encoder") for name in built.model.state_dict())
    loss, _, _ = built.criterion(built.model.train(), sample)
    loss.backward()
    assert names
    assert all(value.grad is not None for name, value in built.model.named_parameters() if name in names)
    frozen = [value for value in built.model.speech_encoder.frozen.module.parameters() if not value.requires_grad]
    assert frozen
    assert all(value.grad is None for value in frozen)


@pytest.mark.parametrize("way", WAYS)
def test_padding_and_training_mode_change_no_feature(way, world):
    built = build_stage1(world, *OBJECTIVE, *WAYS[way])
    with torch.no_grad():
        for value in built.model.adapter.encoder_tuning.parameters():
            value.add_(0.05 * torch.randn_like(value))
    sample = batch(built, "train", [0, 5, 9])["net_input"]
    together = built.model.train().hear(sample["source"], sample["padding_mask"])
    assert not any(part.training for part in built.model.adapter.encoder_tuning.modules())
    for i, row in enumerate([0, 5, 9]):
        own = batch(built, "train", [row])["net_input"]
        alone = built.model.eval().hear(own["source"], own["padding_mask"])
        torch.testing.assert_close(together.values[i, : alone.values.size(1)], alone.values[0], atol=1e-4, rtol=1e-4)


def test_lora_that_would_never_run_is_refused(world, encoders):
    """WavLM's attention takes the weights of its projections and calls none of them."""
    with pytest.raises(SparqleError, match=r"names .*attention.* which this encoder never calls"):
        build_stage1(with_encoder(world, encoders["wavlm"]), *OBJECTIVE, *LORA)
    target = ["--encoder-lora-target", "intermediate_dense,output_dense"]
    built = build_stage1(with_encoder(world, encoders["wavlm"]), *OBJECTIVE, *LORA, *target)
    assert learning(built.model)


@pytest.mark.parametrize("way", WAYS)
def test_a_copy_has_its_own(way, world):
    """fairseq's moving average is a deep copy."""
    built = build_stage1(world, *OBJECTIVE, *WAYS[way])
    sample = batch(built, "train", range(2))["net_input"]
    before = built.model.hear(sample["source"], sample["padding_mask"]).values.detach()
    other = copy.deepcopy(built.model)
    with torch.no_grad():
        for value in other.adapter.encoder_tuning.parameters():
            value.add_(torch.randn_like(value))
    assert not torch.allclose(other.hear(sample["source"], sample["padding_mask"]).values, before, atol=1e-3)
    torch.testing.assert_close(built.model.hear(sample["source"], sample["padding_mask"]).values, before)


@pytest.mark.parametrize("way", WAYS)
def test_the_merged_encoder_gives_the_same(way, world, encoders):
    built = build_stage1(with_encoder(world, encoders["hubert"]), *OBJECTIVE, *WAYS[way])
    with torch.no_grad():
        for value in built.model.adapter.encoder_tuning.parameters():
            value.add_(0.1 * torch.randn_like(value))
    sample = batch(built, "train", range(3))["net_input"]
    learned = built.model.hear(sample["source"], sample["padding_mask"]).values.detach()
    plain = load_speech_encoder(encoders["hubert"])
    usual = plain(sample["source"], sample["padding_mask"]).values
    assert not torch.allclose(learned, usual, atol=1e-3)
    plain.frozen.module.load_state_dict(
        tuned_network(built.model.speech_encoder, built.model.adapter.encoder_tuning).state_dict()
    )
    torch.testing.assert_close(plain(sample["source"], sample["padding_mask"]).values, learned, atol=1e-4, rtol=1e-4)


def test_half_precision_stays_among_what_learns(world):
    built = build_stage1(world, *OBJECTIVE, *UPPER)
    built.model.to(torch.bfloat16)
    sample = batch(built, "train", range(2))["net_input"]
    heard = built.model.hear(sample["source"], sample["padding_mask"])
    assert next(built.model.adapter.encoder_tuning.parameters()).dtype == torch.bfloat16
    assert heard.values.dtype == torch.float32


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ([*LORA, *UPPER], "are two ways to train an encoder; give one"),
        (["--unfreeze-encoder-layers", "3"], "--unfreeze-encoder-layers 3: .* has 2 layers that can learn here"),
        (["--encoder-lora", "-1"], "must be 0 or more"),
        ([*LORA, "--encoder-lora-alpha", "0"], "--encoder-lora-alpha 0 must be above 0"),
        (
            [*LORA, "--encoder-lora-target", "nothing"],
            "--encoder-lora-target nothing: .* has no such linear layers; .*q_proj",
        ),
        (["--encoder-lr", "1e-5"], "--encoder-lr is the rate of an encoder that learns"),
        ([*LORA, "--encoder-lr", "0"], "--encoder-lr 0 must be above 0"),
        ([*LORA, "--source", "units", "--unit-vocabulary", "20"], "stored features or units stand in its place"),
    ],
)
def test_what_cannot_learn_is_refused(more, complaint, world):
    words = stage1_arguments(world)
    if "units" in more:
        place = words.index("--speech-encoder")
        del words[place : place + 2]
    with pytest.raises(SparqleError, match=complaint):
        build([*words, *OBJECTIVE, *more])


def test_features_of_the_frozen_encoder_are_refused(world, tmp_path):
    built = build_stage1(world, *OBJECTIVE, *LORA)
    header, first, *_ = (world.data / "train.tsv").read_text().splitlines()
    audio = first.split("\t")[header.split("\t").index("audio")]
    (tmp_path / "train.tsv").write_text(f"{header}\n{first.replace(audio, 'stored.npy')}\n")
    built.task.cfg.data = str(tmp_path)
    with pytest.raises(SparqleError, match=r"train.tsv.* holds features of the encoder as it was, and it has learned"):
        built.task.load_dataset("train")


def test_stage_2_goes_on_with_an_encoder_that_has_learned_or_begins_one(world, tmp_path):
    first = build_stage1(world, *OBJECTIVE, *LORA)
    path = save_adapter(first, tmp_path / "tuned.pt")
    second = build_stage2_from(world, path)
    there, here = first.model.state_dict(), second.model.state_dict()
    parts = [name for name in here if "encoder_tuning" in name]
    assert parts
    assert all(torch.equal(here[name], there[name]) for name in parts)
    assert learning(second.model)
    assert not learning(build_stage2_from(world, path, "--freeze-qformer").model)
    with pytest.raises(SparqleError, match=r"--encoder-lora 4, but in --pretrained-adapter .* learned with 2"):
        build_stage2_from(world, path, "--encoder-lora", "4")
    plain = save_adapter(build_stage1(world, *OBJECTIVE), tmp_path / "plain.pt")
    assert learning(build_stage2_from(world, plain, *UPPER).model)
    with pytest.raises(SparqleError, match="--freeze-qformer trains the projector alone, and an encoder is to learn"):
        build_stage2_from(world, plain, *UPPER, "--freeze-qformer")
    assert learning(build_stage2(world, *LORA).model)
    with pytest.raises(SparqleError, match="an encoder that learns would change under both"):
        build_stage2_from(world, plain, *UPPER, "--objective", "preference")


@pytest.mark.parametrize("half", [False, True], ids=["its own", "flat copies"])
def test_the_encoder_steps_at_its_own_rate(half):
    weights = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2))]
    if half:
        flat = torch.nn.Parameter(torch.ones(5))
        optimizer = SimpleNamespace(cfg=SimpleNamespace(lr=[0.1]), fp32_params={0: flat}, fp16_params=weights)

        def take():
            flat.data.sub_(0.5)

        EncoderRate([weights[1]], 0.01).step(optimizer, take)
        assert flat.tolist() == pytest.approx([0.5, 0.5, 0.5, 0.95, 0.95])
        return
    optimizer = torch.optim.Adam(weights, lr=0.1)
    optimizer.cfg = SimpleNamespace(lr=[0.1])
    alone = torch.nn.Parameter(torch.ones(2))
    slow = torch.optim.Adam([alone], lr=0.01)
    rate = EncoderRate([weights[1]], 0.01)
    for step in range(4):
        for value in (*weights, alone):
            value.grad = torch.full_like(value, 1.0 + step)
        rate.step(optimizer, optimizer.step)
        slow.step()
    torch.testing.assert_close(weights[1], alone)
    assert (weights[0] < 0.7).all()


def sparqle(*words):
    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("way", ["lora", pytest.param("upper", marks=pytest.mark.long)])
def test_an_encoder_that_learns_goes_through_the_commands(way, world, encoders, tmp_path):
    here = with_encoder(world, encoders["hubert"])
    rate = ["--encoder-lr", 1e-3]
    train_here(pretrain_arguments(here, tmp_path / "1", *OBJECTIVE, *WAYS[way], *rate, updates=2))
    started = ["--pretrained-adapter", tmp_path / "1" / "checkpoint_last.pt"]
    train_here(finetune_arguments(here, tmp_path / "2", *started, updates=2))
    checkpoint = tmp_path / "2" / "checkpoint_last.pt"
    trained = load_trained(checkpoint, cpu=True).model
    assert any(value.abs().sum() > 0 for name, value in trained.named_parameters() if "encoder_tuning" in name)
    with pytest.raises(SparqleError, match="the speech encoder has learned, so no other place holds it"):
        sparqle("export-hf", checkpoint, "-o", tmp_path / "folder")
    sparqle("export-hf", checkpoint, "-o", tmp_path / "folder", "--self-contained")
    model = SparqleForConditionalGeneration.from_pretrained(tmp_path / "folder")
    wave = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0)) / 10
    with torch.no_grad():
        learned = trained.hear(wave, torch.zeros(1, 8000, dtype=torch.bool)).values
        torch.testing.assert_close(model.encode(wave)[0], learned, atol=1e-4, rtol=1e-4)
        usual = load_speech_encoder(encoders["hubert"])(wave).values
    assert not torch.allclose(learned, usual, atol=1e-5)
    recording = world.data / "audio" / "test_0.wav"
    texts = [
        sparqle("translate", recording, "--model", place, "--to", "fr", "--beam", 2, "--cpu")
        for place in (checkpoint, tmp_path / "folder")
    ]
    assert texts[0] == texts[1]
    with pytest.raises(SparqleError, match="trained with another speech encoder"):  # the frozen one is another
        sparqle(
            "import-hf",
            tmp_path / "folder",
            "-o",
            tmp_path / "back.pt",
            "--speech-encoder",
            here.encoder,
            "--llm",
            here.llm,
        )
