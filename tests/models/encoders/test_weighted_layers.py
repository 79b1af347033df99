"""`--encoder-layer weighted`: a learned sum of all layers, trained with the adapter and carried from stage to stage."""

from __future__ import annotations

import pytest
import torch
from commands import finetune_arguments, generate, lines, pretrain_arguments, train_here
from factories import save_tiny_hubert, save_tiny_hugging_face, save_tiny_whisper
from tiny_models import batch, build, build_stage1, stage1_arguments, stage2_arguments
from waves import close, padded, speech

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.adapted import LayerMix
from sparqle_fairseq.models.encoders import load_speech_encoder, parse_layer
from sparqle_fairseq.models.identity import IdentityError

WEIGHTED = ("--encoder-layer", "weighted")


@pytest.mark.parametrize("kind", ["fairseq", "hugging_face", "whisper"])
def test_every_layer_is_given_once(tmp_path, kind):
    path = tmp_path / "encoder"
    if kind == "fairseq":
        save_tiny_hubert(path, layers=3)
    elif kind == "whisper":
        save_tiny_whisper(path, layers=3)
    else:
        save_tiny_hugging_face(path, "wavlm", large=True, layers=3)
    encoder = load_speech_encoder(path, layer=parse_layer("weighted"))
    source, mask = padded([speech(8000), speech(5000, 1)])
    values, padding = encoder(source, mask)
    assert values.shape[2:] == (3, encoder.width)
    assert encoder.mixed_layers == 3
    for layer in (1, 2, 3):
        single = load_speech_encoder(path, layer=layer)
        assert single.mixed_layers == 0
        close(values[:, :, layer - 1], single(source, mask).values)
    assert not values[padding].any()


def test_the_sum_starts_even_and_has_a_gradient():
    mix = LayerMix(3)
    values = torch.randn(2, 5, 3, 4)
    close(mix(values), values.mean(dim=2))
    mix(values).square().sum().backward()
    assert mix.logits.grad.abs().min() > 0


def test_without_it_a_checkpoint_is_what_it_was(stage1):
    assert not any("layer_mix" in name for name in stage1.model.state_dict())


def test_the_model_sums_what_the_encoder_gives(world):
    built = build_stage1(world, *WEIGHTED)
    sample = batch(built, "train", range(3))["net_input"]
    source, mask = sample["source"], sample["padding_mask"]
    with torch.no_grad():
        built.model.adapter.layer_mix.logits.copy_(torch.tensor([3.0, -1.0]))
    layers = [load_speech_encoder(world.encoder, layer=layer)(source, mask).values for layer in (1, 2)]
    share = torch.tensor([3.0, -1.0]).softmax(dim=0)
    close(built.model.encode_speech(source, mask).values, share[0] * layers[0] + share[1] * layers[1])
    with pytest.raises(SparqleError, match="features of one came"):
        built.model.encode_speech(layers[0], torch.zeros(layers[0].shape[:2], dtype=torch.bool))


def test_a_checkpoint_of_one_layer_is_refused(world, stage1):
    weighted = build(stage1_arguments(world) + list(WEIGHTED)).model
    with pytest.raises(IdentityError, match="its layer was"):
        weighted.load_state_dict(stage1.model.state_dict())
    with pytest.raises(IdentityError, match="its layer was weighted"):
        stage1.model.load_state_dict(weighted.state_dict())


def test_it_is_trained_and_carried_from_stage_1_to_stage_2_and_generation(world, tmp_path):
    """By the commands of a user, but for their processes."""
    train_here(pretrain_arguments(world, tmp_path / "stage1", *WEIGHTED, updates=3))
    first = torch.load(tmp_path / "stage1" / "checkpoint_last.pt", weights_only=True)["model"]
    assert first["adapter.layer_mix.logits"].abs().min() > 0, "it did not learn"
    checkpoint = tmp_path / "stage1" / "checkpoint_last.pt"

    arguments = stage2_arguments(world)
    place = arguments.index("--speech-encoder")
    del arguments[place : place + 2]
    built = build([*arguments, "--pretrained-adapter", str(checkpoint)])
    assert torch.equal(built.model.adapter.layer_mix.logits, first["adapter.layer_mix.logits"])
    assert built.cfg.model.encoder_layer == "weighted"

    train_here(finetune_arguments(world, tmp_path / "stage2", "--pretrained-adapter", checkpoint, updates=2))
    second = torch.load(tmp_path / "stage2" / "checkpoint_last.pt", weights_only=True)["model"]
    assert not torch.equal(second["adapter.layer_mix.logits"], first["adapter.layer_mix.logits"])
    done = generate(world, checkpoint, "sparqle_pretrain", "test")
    assert len(lines(done.stdout, "H")) == 16
