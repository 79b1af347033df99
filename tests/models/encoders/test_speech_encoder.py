"""What a speech encoder promises: fairseq's features, one utterance at a time, and nothing that learns."""

import copy
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from sparqle_fairseq.models.encoders import (
    EncoderError,
    SpeechEncoder,
    conv_length,
    load_speech_encoder,
    receptive_field,
)
from sparqle_fairseq.models.encoders.fairseq_checkpoint import parse_conv_layers
from sparqle_fairseq.models.frozen import Frozen
from tests import factories
from tests.waves import close, padded, speech

SAVERS = {
    "hubert": factories.save_tiny_hubert,
    "wav2vec2": factories.save_tiny_wav2vec2,
    "data2vec_audio": factories.save_tiny_data2vec,
}
MODES = ["default", "layer_norm"]
# Different in every way that matters: an odd number of frames, 1 frame exactly, frames that fairseq misjudges.
LENGTHS = [16000, 9999, 400, 7919, 12345]


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def theirs(model: nn.Module, kind: str, wave: torch.Tensor, layer: int | None = None) -> torch.Tensor:
    """(T, W) features of one utterance by fairseq's own extract_features; layer is 1-based."""
    with torch.no_grad():
        if kind == "hubert":
            return model.extract_features(wave[None], padding_mask=None, output_layer=layer)[0][0]
        found = model.extract_features(wave[None], padding_mask=None, layer=None if layer is None else layer - 1)
        return found["x"][0]


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """Every kind and front end: (kind, mode) -> (path, fairseq's model)."""
    folder = tmp_path_factory.mktemp("encoders")
    return {
        (kind, mode): (folder / f"{kind}-{mode}.pt", save(folder / f"{kind}-{mode}.pt", extractor_mode=mode))
        for kind, save in SAVERS.items()
        for mode in MODES
    }


@pytest.fixture(scope="session")
def encoder(checkpoints) -> SpeechEncoder:
    return load_speech_encoder(checkpoints["hubert", "default"][0])


# -- features


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", SAVERS)
def test_features_of_one_utterance_are_fairseqs(checkpoints, kind, mode):
    path, model = checkpoints[kind, mode]
    encoder = load_speech_encoder(path)
    for length in LENGTHS:
        values, mask = encoder(speech(length)[None], torch.zeros(1, length, dtype=torch.bool))
        expected = theirs(model, kind, speech(length))
        assert values.shape == (1, *expected.shape)
        assert not mask.any()
        close(values[0], expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", SAVERS)
def test_padding_does_not_change_features(checkpoints, kind, mode):
    encoder = load_speech_encoder(checkpoints[kind, mode][0])
    waves = [speech(length, seed) for seed, length in enumerate(LENGTHS)]
    for fill in (0.0, 50.0, float("nan")):
        values, mask = encoder(*padded(waves, extra=777, fill=fill))
        assert values.shape[1] == mask.shape[1] == conv_length(16000, encoder.frozen.module.conv_spec)
        for row, wave in enumerate(waves):
            alone = encoder(wave[None]).values[0]
            close(values[row][~mask[row]], alone)
            assert not values[row][mask[row]].any()


@pytest.mark.parametrize(
    "options",
    [
        {"layer_norm_first": True, "extractor_mode": "layer_norm", "conv_bias": True},
        {"conv_pos_batch_norm": True},
        {"required_seq_len_multiple": 8},
        {"conv_pos": 15},
        {"width": 16},  # no projection between convolutions and transformer
    ],
    ids=["pre-norm", "batch-norm positions", "multiple of 8", "odd positions", "no projection"],
)
def test_variants_of_hubert_keep_both_promises(tmp_path, options):
    model = factories.save_tiny_hubert(tmp_path / "variant.pt", **options)
    encoder = load_speech_encoder(tmp_path / "variant.pt")
    waves = [speech(length, seed) for seed, length in enumerate(LENGTHS[:4])]
    values, mask = encoder(*padded(waves))
    for row, wave in enumerate(waves):
        close(values[row][~mask[row]], theirs(model, "hubert", wave))


def test_data2vec_projects_even_where_the_widths_agree(tmp_path):
    model = factories.save_tiny_data2vec(tmp_path / "narrow.pt", width=16)
    encoder = load_speech_encoder(tmp_path / "narrow.pt")
    close(encoder(speech(5000)[None]).values[0], theirs(model, "data2vec_audio", speech(5000)))


def test_fairseq_itself_lets_padding_change_features(checkpoints):
    """The reason for doing it ourselves; when this fails, fairseq's model could be used as it is."""
    model = checkpoints["hubert", "default"][1]
    source, mask = padded([speech(16000), speech(9999, 1)])
    with torch.no_grad():
        together = model.extract_features(source, padding_mask=mask)[0][1]
    alone = theirs(model, "hubert", speech(9999, 1))
    assert (together[: len(alone)] - alone).abs().max() > 1e-2


@pytest.mark.parametrize("layer_norm_first", [False, True])
@pytest.mark.parametrize("kind", SAVERS)
def test_layer_is_the_one_that_is_asked_for(tmp_path, kind, layer_norm_first):
    path = tmp_path / "deep.pt"
    model = SAVERS[kind](path, layers=3, layer_norm_first=layer_norm_first)
    found = {}
    for layer in (1, 2, 3, "last"):
        found[layer] = load_speech_encoder(path, layer=layer)(speech(5000)[None]).values[0]
        close(found[layer], theirs(model, kind, speech(5000), None if layer == "last" else layer))
    assert (found[1] - found[2]).abs().max() > 1e-2
    assert torch.equal(found[3], found["last"]) is not layer_norm_first
    for layer in (0, 4, -1, True, "first"):
        with pytest.raises(
            EncoderError, match=re.escape(f"has no layer {layer!r}: give 'last', 'weighted' or a number from 1 to 3")
        ):
            load_speech_encoder(path, layer=layer)


def test_number_of_frames_is_exact():
    layers = parse_conv_layers("[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2")
    assert receptive_field(layers) == 400
    front = nn.Sequential(*(nn.Conv1d(1, 1, kernel, stride) for _, kernel, stride in layers))
    for length in [*range(400, 1400, 37), 719, 720, 16000, 16001]:
        assert conv_length(length, layers) == front(torch.zeros(1, 1, length)).size(2)
    assert conv_length(399, layers) == 0


def test_one_frame_and_silence_are_finite(encoder):
    for samples in (400, 16000):
        assert encoder(torch.zeros(2, samples)).values.isfinite().all()


def test_too_short_or_left_padded_audio_is_one_sentence(encoder):
    assert encoder.min_samples == 400
    source, mask = padded([speech(16000), speech(399)])
    with pytest.raises(
        EncoderError, match=r"^Utterance 2 of a batch of 2 has 399 samples.* at least 400 .*manifest\.$"
    ):
        encoder(source, mask)
    with pytest.raises(EncoderError, match="padded on the right"):
        encoder(source.flip(1), mask.flip(1))


def test_attributes_come_from_the_checkpoint(tmp_path, encoder):
    assert (encoder.width, encoder.sample_rate, encoder.frame_rate, encoder.normalize) == (32, 16000, 50.0, False)
    factories.save_tiny_hubert(tmp_path / "large.pt", extractor_mode="layer_norm", normalize=True, width=48)
    large = load_speech_encoder(tmp_path / "large.pt")
    assert large.normalize is True
    assert large.width == large(speech(1000)[None]).values.size(2) == 48


# -- frozen


def test_train_leaves_eval_mode_and_dropout_off(checkpoints):
    encoder = load_speech_encoder(checkpoints["hubert", "default"][0])
    parent = nn.ModuleDict({"encoder": encoder})
    before = encoder(speech(4000)[None]).values
    parent.train()
    assert not any(module.training for module in encoder.frozen.module.modules())
    assert not encoder.frozen.training
    for _ in range(3):
        assert torch.equal(encoder(speech(4000)[None]).values, before)
    encoder.frozen.module.train()  # even someone who reaches into the box finds no dropout there
    assert torch.equal(encoder(speech(4000)[None]).values, before)


def test_training_step_changes_no_encoder_tensor_and_builds_no_graph(checkpoints):
    encoder = load_speech_encoder(checkpoints["wav2vec2", "default"][0])
    model = nn.ModuleDict({"encoder": encoder, "head": nn.Linear(32, 4)})
    model.train()
    model.requires_grad_(True)  # what a trainer that unfreezes everything would do
    before = {name: tensor.clone() for name, tensor in encoder.frozen.module.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1.0, weight_decay=0.5)
    source = speech(4000)[None].requires_grad_()
    values = encoder(source).values
    assert not values.requires_grad
    assert values.grad_fn is None
    head = model["head"].weight.clone()
    model["head"](values).pow(2).mean().backward()
    optimizer.step()
    assert not torch.equal(model["head"].weight, head)
    assert all(parameter.grad is None for parameter in encoder.frozen.module.parameters())
    assert source.grad is None
    after = encoder.frozen.module.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_trainer_sees_no_parameter_and_no_entry(encoder):
    assert list(encoder.parameters()) == list(encoder.buffers()) == []
    assert encoder.state_dict() == {}
    assert len(list(encoder.modules())) == 2  # itself and the box
    encoder.load_state_dict({}, strict=True)


def test_deep_copy_shares_the_network(encoder):
    twin = copy.deepcopy(encoder)
    assert twin.frozen is not encoder.frozen
    assert twin.frozen.module is encoder.frozen.module
    assert torch.equal(twin(speech(1000)[None]).values, encoder(speech(1000)[None]).values)


def test_half_and_autocast_leave_its_precision_alone(checkpoints):
    encoder = load_speech_encoder(checkpoints["hubert", "layer_norm"][0])
    expected = encoder(speech(4000)[None]).values
    for cast in (encoder.half, encoder.bfloat16, encoder.double, lambda: encoder.to(torch.float16)):
        cast()
        assert {tensor.dtype for tensor in encoder.frozen.module.parameters()} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(encoder(speech(4000)[None]).values, expected)
    half = encoder(speech(4000)[None].half()).values
    assert half.dtype == torch.float32
    assert (half - expected).abs().max() < 0.05


def test_own_precision_is_kept_and_given_out(checkpoints):
    path = checkpoints["hubert", "default"][0]
    encoder = load_speech_encoder(path, dtype=torch.bfloat16)
    encoder.float()
    values = encoder(*padded([speech(4000), speech(1000)])).values
    assert values.dtype == encoder.frozen.dtype == torch.bfloat16
    assert encoder.identity["dtype"] == "bfloat16"
    reference = load_speech_encoder(path)(*padded([speech(4000), speech(1000)])).values
    assert (values.float() - reference).abs().mean() < 0.03 * reference.abs().mean()


def test_box_moves_to_a_device_and_lets_gradients_through():
    box = Frozen(nn.Linear(3, 2), torch.float64)
    x = torch.ones(1, 3, dtype=torch.float64, requires_grad=True)
    box(x).sum().backward()
    assert x.grad is not None
    assert box.module.weight.grad is None
    parent = nn.Sequential(box)
    parent.to("meta", torch.float16)
    assert box.device.type == "meta"
    assert box.dtype == torch.float64
    assert "Linear" in repr(parent)


# -- identity


def content(encoder: SpeechEncoder) -> dict[str, object]:
    """An encoder's identity without the place that it was read from."""
    return {name: value for name, value in encoder.identity.items() if name != "path"}


def test_identity_names_the_encoder_and_nothing_else(tmp_path, checkpoints):
    path = checkpoints["hubert", "default"][0]
    identity = load_speech_encoder(path).identity
    assert identity == load_speech_encoder(path).identity
    assert {name: identity[name] for name in ("kind", "width", "layer", "dtype")} == {
        "kind": "hubert",
        "width": 32,
        "layer": "last",
        "dtype": "float32",
    }
    assert load_speech_encoder(path, layer=1, dtype=torch.bfloat16).identity == {
        "path": str(path),
        **identity,
        "layer": 1,
        "dtype": "bfloat16",
    }
    factories.save_tiny_hubert(tmp_path / "other.pt", seed=1)
    other = load_speech_encoder(tmp_path / "other.pt").identity
    assert other["fingerprint"] != identity["fingerprint"]
    state = read(path)
    state["model"]["final_proj.weight"] += 1  # no part of the encoder
    torch.save(state, tmp_path / "head.pt")
    assert content(load_speech_encoder(tmp_path / "head.pt")) == content(load_speech_encoder(path))


def test_reading_does_not_disturb_the_random_numbers(checkpoints):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    load_speech_encoder(checkpoints["hubert", "default"][0])
    assert torch.equal(torch.rand(2), expected)


# -- files


def read(path: Path) -> dict:
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("old_layout", [False, True])
@pytest.mark.parametrize("kind", SAVERS)
def test_fine_tuned_checkpoint_gives_the_encoder_inside_it(tmp_path, checkpoints, kind, old_layout):
    path = checkpoints[kind, "default"][0]
    factories.save_tiny_ctc(tmp_path / "ctc.pt", path, old_layout=old_layout)
    fine_tuned, pretrained = load_speech_encoder(tmp_path / "ctc.pt"), load_speech_encoder(path)
    assert content(fine_tuned) == content(pretrained)
    assert torch.equal(fine_tuned(speech(2000)[None]).values, pretrained(speech(2000)[None]).values)


def test_old_file_formats_and_half_precision_are_read(tmp_path, checkpoints, encoder):
    state = read(checkpoints["hubert", "default"][0])
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert content(load_speech_encoder(tmp_path / "old.pt")) == content(encoder)
    state["model"] = {name: tensor.half() for name, tensor in state["model"].items()}
    torch.save(state, tmp_path / "half.pt")
    halved = load_speech_encoder(tmp_path / "half.pt")
    assert halved.frozen.dtype == torch.float32
    assert (halved(speech(2000)[None]).values - encoder(speech(2000)[None]).values).abs().max() < 0.05


def bad_files(folder: Path, good: Path) -> dict[str, tuple[Path, str]]:
    """Name -> (file, what its sentence must say)."""
    whole = good.read_bytes()
    (folder / "text.pt").write_text("id\taudio\tn_frames\n")
    (folder / "empty.pt").write_bytes(b"")
    (folder / "cut.pt").write_bytes(whole[: len(whole) // 2])
    torch.save({"weight": torch.ones(2)}, folder / "tensors.pt")
    torch.save([1, 2], folder / "list.pt")
    torch.save(nn.Linear(2, 2), folder / "module.pt")
    state = read(good)
    torch.save(state, folder / "old.pt", _use_new_zipfile_serialization=False)
    (folder / "old-cut.pt").write_bytes((folder / "old.pt").read_bytes()[:-5000])

    def variant(name: str, **model: object) -> Path:
        cfg = {**state["cfg"], "model": {**state["cfg"]["model"], **model}}
        torch.save({**state, "cfg": cfg}, folder / name)
        return folder / name

    def weights(name: str, change) -> Path:
        model = dict(state["model"])
        change(model)
        torch.save({**state, "model": model}, folder / name)
        return folder / name

    return {
        "missing": (folder / "nowhere.pt", "does not exist: check the path"),
        "folder": (folder, "is a folder without config.json: give a fairseq checkpoint"),
        "text": (folder / "text.pt", "is not a checkpoint, or it is damaged"),
        "empty": (folder / "empty.pt", "is cut off before its end"),
        "truncated": (folder / "cut.pt", "is cut off before its end"),
        "truncated, old format": (folder / "old-cut.pt", "is not a checkpoint, or it is damaged"),
        "only tensors": (folder / "tensors.pt", "is no fairseq checkpoint"),
        "no dictionary": (folder / "list.pt", "is no fairseq checkpoint"),
        "code": (folder / "module.pt", "holds an object of torch.nn.modules.linear.Linear"),
        "other kind": (variant("kind.pt", _name="transformer"), "is a checkpoint of kind 'transformer'"),
        "conformer": (variant("conformer.pt", layer_type="conformer"), "has 'conformer' layers"),
        "ctc without arguments": (
            variant("ctc.pt", _name="hubert_ctc"),
            "does not hold the configuration of the encoder inside it",
        ),
        "not a HuBERT": (
            weights("other.pt", lambda model: [model.pop(key) for key in list(model) if "encoder.layers" in key]),
            r"says that it is a hubert checkpoint.*encoder\.layers\.0\.self_attn.* is missing.*and 24 more",
        ),
        "one tensor missing": (
            weights("missing.pt", lambda model: model.pop("encoder.layer_norm.bias")),
            r"encoder\.layer_norm\.bias is missing;",
        ),
        "layer left over": (variant("fewer.pt", encoder_layers=1), r"encoder\.layers\.1\.\S+ is not expected"),
        "other width": (variant("wider.pt", encoder_embed_dim=64), r"has shape \(32, 16\), not \(64, 16\)"),
        "code in the configuration": (
            variant("evil.pt", conv_feature_layers="[__import__('os').getcwd()]"),
            "cannot be built .cannot read",
        ),
        "heads that do not divide": (variant("heads.pt", encoder_attention_heads=5), "cannot be built"),
    }


BAD = [
    *("missing", "folder", "text", "empty", "truncated", "truncated, old format", "only tensors", "no dictionary"),
    *("code", "other kind", "conformer", "ctc without arguments", "not a HuBERT", "one tensor missing"),
    *("layer left over", "other width", "code in the configuration", "heads that do not divide"),
]


@pytest.fixture(scope="module")
def bad(tmp_path_factory, checkpoints):
    return bad_files(tmp_path_factory.mktemp("bad"), checkpoints["hubert", "default"][0])


@pytest.mark.parametrize("name", BAD)
def test_bad_file_is_one_sentence_with_path_and_remedy(bad, name):
    path, sentence = bad[name]
    with pytest.raises(EncoderError, match=sentence) as caught:
        load_speech_encoder(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert re.search(r"(give|check|copy) ", message)


def test_every_bad_file_is_tried(bad):
    assert sorted(bad) == sorted(BAD)


@pytest.mark.parametrize(
    "text",
    ["__import__('os')", "[(1,2,3)] * 'a'", "(1,2,3)", "[]", "[(1,2)]", "[(1,2,-3)]", "[(1,2,3.0)]", "[(1, 2, 3)", "x"],
)
def test_convolutions_are_numbers_and_nothing_else(text):
    with pytest.raises(ValueError, match=r"cannot read|is no list"):
        parse_conv_layers(text)


def test_convolutions_are_read_as_fairseq_means_them():
    text = "[(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512,2,2)] + [(512,2,2)]"
    assert parse_conv_layers(text) == eval(text)
