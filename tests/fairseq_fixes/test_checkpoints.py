"""Checkpoints hold what was trained and nothing else, load strictly, and know what they were trained with."""

from __future__ import annotations

import pytest
import tiny
import torch
from commands import pretrain_arguments, train_here
from factories import save_tiny_hubert
from tiny_models import build_stage1, build_stage2, build_stage2_from, save_adapter

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.identity import STATE_NAME, IdentityError, decode_identity, encode_identity
from sparqle_fairseq.tasks.loading import load_trained


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_a_checkpoint_holds_only_what_was_trained(stage, request):
    model = request.getfixturevalue(stage).model
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert set(model.state_dict()) == trained | {STATE_NAME}
    assert all(name.startswith("adapter.") for name in trained)


@pytest.mark.parametrize("stage", ["stage1", "stage2"])
def test_a_missing_or_unexpected_tensor_is_an_error(stage, request):
    model = request.getfixturevalue(stage).model
    state = model.state_dict()
    lost = dict(state)
    name = next(name for name in lost if name.endswith("key.weight"))
    del lost[name]
    with pytest.raises(SparqleError, match=f"1 missing .{name}"):
        model.load_state_dict(lost, strict=False)
    with pytest.raises(SparqleError, match=r"1 unexpected .extra"):
        model.load_state_dict({**state, "extra": torch.zeros(1)})
    with pytest.raises(SparqleError, match=r"query_tokens is \(1, 3, 32\) there"):
        model.load_state_dict({**state, "adapter.qformer.query_tokens": torch.zeros(1, 3, 32)})
    with pytest.raises(SparqleError, match="not one of this model"):
        model.load_state_dict({k: v for k, v in state.items() if k != STATE_NAME})


def test_loading_restores_every_value(world):
    first, second = build_stage1(world), build_stage1(world)
    with torch.no_grad():
        for parameter in first.model.parameters():
            parameter.add_(1.0)
    second.model.load_state_dict(first.model.state_dict())
    for a, b in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_another_encoder_is_refused(world, stage1, tmp_path):
    save_tiny_hubert(tmp_path / "other.pt", seed=5)
    other = build_stage1(world, "--speech-encoder", str(tmp_path / "other.pt"))
    with pytest.raises(IdentityError, match=r"trained with another speech encoder: its fingerprint was .*hubert\.pt"):
        other.model.load_state_dict(stage1.model.state_dict())


def test_a_moved_encoder_is_the_same_encoder(world, stage1, tmp_path):
    (tmp_path / "moved.pt").write_bytes(world.encoder.read_bytes())
    moved = build_stage1(world, "--speech-encoder", str(tmp_path / "moved.pt"))
    moved.model.load_state_dict(stage1.model.state_dict())


def test_another_layer_is_refused(world, stage1):
    with pytest.raises(IdentityError, match="its layer was"):
        build_stage1(world, "--encoder-layer", "1").model.load_state_dict(stage1.model.state_dict())


def test_another_vocabulary_is_refused(world, stage1, tmp_path):
    from sparqle_fairseq.data.text import train_wordpiece

    train_wordpiece(["zebra yak xylophone"] * 3, tmp_path / "tok", vocab_size=120)
    other = build_stage1(world, "--text-tokenizer", str(tmp_path / "tok"))
    with pytest.raises(IdentityError, match="another text vocabulary"):
        other.model.load_state_dict(stage1.model.state_dict())


def test_another_llm_is_refused(world, stage2, tmp_path):
    other = build_stage2(world, "--llm", str(tiny.save_llm(tmp_path / "llm", seed=9)))
    with pytest.raises(IdentityError, match="another LLM: its weights was"):
        other.model.load_state_dict(stage2.model.state_dict())


def test_the_same_llm_in_another_precision_is_taken(world, stage2):
    other = build_stage2(world, "--llm-dtype", "bf16")
    other.model.load_state_dict(stage2.model.state_dict())


def test_an_identity_survives_half_precision_and_averaging():
    identity = {"speech encoder": {"path": "ä/ö.pt", "fingerprint": "0123456789abcdef", "width": 1024}}
    state = encode_identity(identity)
    assert decode_identity(state.half()) == identity
    assert decode_identity(state.bfloat16()) == identity
    assert decode_identity((state + state + state) / 3) == identity
    with pytest.raises(IdentityError, match="damaged"):
        decode_identity(torch.full((5,), 200.0))


@pytest.mark.parametrize(("size", "queries"), [("tiny", 24), ("base", 100), ("large", 100)])
def test_an_architecture_fills_in_what_the_command_line_leaves_open(world, size, queries):
    from tiny_models import parse, stage1_arguments, stage2_arguments

    for arguments, model in ((stage1_arguments(world), "qformer"), (stage2_arguments(world), "llm")):
        arguments[arguments.index("--arch") + 1] = f"sparqle_{model}_{size}"
        place = arguments.index("--queries")
        options = parse(arguments[:place] + arguments[place + 2 :]).model
        assert options.queries == queries
        assert options.hidden_size == 32, "the command line comes first"


class TestPretrainedAdapter:
    def test_every_value_arrives(self, world, stage1, tmp_path):
        built = build_stage2_from(world, save_adapter(stage1, tmp_path / "stage1.pt"))
        loaded, source = built.model.state_dict(), stage1.model.state_dict()
        names = [name for name in loaded if name.startswith("adapter.qformer.")]
        assert len(names) > 20
        assert all(torch.equal(loaded[name], source[name]) for name in names)

    def test_its_sizes_are_taken_over(self, world, tmp_path):
        stage1 = build_stage1(world, "--queries", "3", "--query-start", "monotonic", "--layers", "3")
        built = build_stage2_from(world, save_adapter(stage1, tmp_path / "s.pt"))
        config = built.model.adapter.qformer.config
        assert (config.queries, config.query_start, config.layers) == (3, "monotonic", 3)
        assert built.cfg.model.queries == 3, "the stage-2 checkpoint must know it too"

    def test_a_stage2_checkpoint_brings_its_projector(self, world, stage2, tmp_path):
        built = build_stage2_from(world, save_adapter(stage2, tmp_path / "stage2.pt"))
        assert torch.equal(built.model.adapter.projector.weight, stage2.model.adapter.projector.weight)

    def test_another_encoder_is_refused(self, world, stage1, tmp_path):
        save_tiny_hubert(tmp_path / "other.pt", seed=5)
        with pytest.raises(IdentityError, match="another speech encoder"):
            build_stage2_from(
                world, save_adapter(stage1, tmp_path / "s.pt"), "--speech-encoder", str(tmp_path / "other.pt")
            )

    def test_a_missing_tensor_is_an_error(self, world, stage1, tmp_path):
        path = save_adapter(stage1, tmp_path / "s.pt")
        state = torch.load(path, weights_only=True)
        del state["model"]["adapter.qformer.query_tokens"]
        torch.save(state, path)
        with pytest.raises(SparqleError, match=r"1 missing .qformer\.query_tokens"):
            build_stage2_from(world, path)

    @pytest.mark.parametrize("content", [b"", b"no checkpoint", None])
    def test_a_file_that_is_none_is_named(self, world, tmp_path, content):
        path = tmp_path / "x.pt"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(SparqleError, match=str(path)) as error:
            build_stage2_from(world, str(path))
        assert "\n" not in str(error.value)


def test_a_checkpoint_older_than_an_option_is_read_with_its_default(world, tmp_path):
    train_here(pretrain_arguments(world, tmp_path, updates=1))
    path = tmp_path / "checkpoint_last.pt"
    state = torch.load(path, weights_only=True)
    del state["cfg"]["model"]["query_start"], state["cfg"]["task"]["skip_bad_audio"]
    torch.save(state, path)
    loaded = load_trained(path, cpu=True)
    assert loaded.cfg.model.query_start == "learned"
