"""Windowed Q-Former: windows stand alone; an utterance alone equals that in a batch, in each pass and stage."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from small_qformers import CLOSE, CONFIG, speech
from tiny_models import batch, build_stage1, build_stage2, build_stage2_from, save_adapter

from sparqle_fairseq.data.instructions import SPEECH_PLACE
from sparqle_fairseq.data.manifest import ManifestError
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate.options import SearchOptions
from sparqle_fairseq.models.qformer.qformer import QFormer
from sparqle_fairseq.models.qformer.windows import own_window_mask
from sparqle_fairseq.models.stage1.adapter import Stage1Adapter
from sparqle_fairseq.models.stage1.batch import Stage1Text
from sparqle_fairseq.models.stage1.losses import similarity
from sparqle_fairseq.models.stage1.objectives.stm import matching_logits
from sparqle_fairseq.models.stage2.prompted import splice

WINDOWS = ["--query-window-seconds", "0.1", "--queries-per-window", "2"]  # 5 frames at 50 Hz
SHAPES = {
    "learned": {"window_frames": 3, "queries": 2},
    "monotonic": {"window_frames": 3, "queries": 2, "query_start": "monotonic"},
    "stacked": {"window_frames": 2, "queries": 1, "speech_downsample": "stack", "speech_stride": 2},
    "convolved": {"window_frames": 2, "queries": 2, "speech_downsample": "conv", "speech_stride": 3},
}


def stirred(module):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module.eval()


@pytest.fixture(params=list(SHAPES))
def config(request):
    return replace(CONFIG, **SHAPES[request.param])


@pytest.fixture
def adapter(config):
    torch.manual_seed(0)
    adapter = stirred(Stage1Adapter(config, decode_token=49, pad_token=0, options=SimpleNamespace(contrastive_width=8)))
    adapter.temperature.data.fill_(0.2)
    return adapter


@pytest.fixture
def qformer(adapter):
    return adapter.qformer


def test_a_window_as_long_as_the_utterance_is_the_fixed_qformer():
    """So the first window of a new model starts as the published Q-Former does."""
    torch.manual_seed(0)
    windowed, fixed = QFormer(replace(CONFIG, window_frames=7)), QFormer(CONFIG)
    windowed.load_state_dict({**fixed.state_dict(), "window_place": windowed.window_place.detach()})
    stirred(windowed)
    fixed.load_state_dict({k: v for k, v in windowed.state_dict().items() if k != "window_place"})
    values, mask = speech([7, 4])
    tokens = torch.tensor([[1, 5, 2], [1, 8, 2]])
    outputs = []
    for model in (windowed.eval(), fixed.eval()):
        memory = model.read_speech(values, mask)
        queries = model.query(memory)
        text = model.decode_text(tokens, None, queries.cache, query_padding=queries.padding_mask)
        outputs.append((queries.hidden, model.match(tokens, tokens == 0, memory), text.hidden))
    for found, expected in zip(*outputs, strict=True):
        torch.testing.assert_close(found, expected, **CLOSE)


def test_a_window_depends_on_its_own_frames_alone():
    torch.manual_seed(0)
    qformer = stirred(QFormer(replace(CONFIG, window_frames=3, queries=2)))
    values, mask = speech([9])
    changed = values.clone()
    changed[:, 3:6] = values[:, 3:6].flip(2)
    first, second = (qformer.query(qformer.read_speech(v, mask)).hidden.unflatten(1, (3, 2)) for v in (values, changed))
    assert torch.equal(first[:, [0, 2]], second[:, [0, 2]])
    assert (first[:, 1] - second[:, 1]).abs().max() > 1e-2


def test_equal_windows_in_another_order_are_told_apart():
    """A transcript has an order: a query must say in which window it stands."""
    torch.manual_seed(0)
    qformer = QFormer(replace(CONFIG, window_frames=3, queries=2)).eval()
    values, mask = speech([3])
    hidden = qformer.query(qformer.read_speech(values.repeat(1, 2, 1), mask.repeat(1, 2))).hidden
    assert (hidden[:, :2] - hidden[:, 2:]).abs().max() > 1e-2


def test_queries_beyond_the_end_are_padding_and_counted_beforehand(qformer, config):
    lengths = [13, 6, 1, 0]
    values, mask = speech(lengths)
    padding = qformer.query(qformer.read_speech(values, mask)).padding_mask
    counts = (~padding).sum(dim=1)
    assert counts.tolist() == config.query_count(torch.tensor(lengths)).tolist()
    assert counts[0] == padding.size(1), "no more windows than the longest utterance has"
    assert counts[-1] == config.queries, "an empty utterance has a window too"
    assert all(row.tolist() == sorted(row.tolist()) for row in padding), "padding is at the end"


def test_batch_mates_change_nothing_in_any_pass(adapter):
    qformer = adapter.qformer
    lengths = [13, 6, 9, 2]
    values, mask = speech(lengths)
    values = values.masked_fill(mask[..., None], 1e3)
    tokens = torch.tensor([[1, 5, 6, 7, 2], [1, 8, 2, 0, 0], [1, 3, 4, 2, 0], [1, 9, 9, 9, 2]])
    padded = tokens == 0
    together = everything(adapter, values, mask, tokens, padded)
    for i, length in enumerate(lengths):
        words = int((~padded[i]).sum())
        own = slice(i, i + 1)
        alone = everything(adapter, values[own, :length], mask[own, :length], tokens[own, :words], padded[own, :words])
        count = alone["queries"].size(1)
        torch.testing.assert_close(together["queries"][i, :count], alone["queries"][0], **CLOSE)
        torch.testing.assert_close(together["text"][i, :words], alone["text"][0], **CLOSE)
        torch.testing.assert_close(together["matching"][i], alone["matching"][0], **CLOSE)
        torch.testing.assert_close(together["contrast"][i, i], alone["contrast"][0, 0], **CLOSE)
    values = values.masked_fill(mask[..., None], 0)
    seen = qformer.query(qformer.read_speech(values, torch.zeros_like(mask)))
    seen = similarity(adapter.speech_features(seen.hidden), together["words"], adapter.temperature)
    assert (seen[3, 3] - together["contrast"][3, 3]).abs() > 1e-2, "the mask must matter for this test to mean anything"


def everything(adapter, values, mask, tokens, padded):
    qformer = adapter.qformer
    memory = qformer.read_speech(values, mask)
    queries = qformer.query(memory)
    words = adapter.text_features(tokens, padded)
    features = adapter.speech_features(queries.hidden)
    return {
        "queries": queries.hidden,
        "text": qformer.decode_text(tokens, padded, queries.cache, query_padding=queries.padding_mask).hidden,
        "matching": matching_logits(adapter, tokens, padded, memory),
        "contrast": similarity(features, words, adapter.temperature, queries.padding_mask),
        "words": words,
    }


def test_selected_memory_equals_the_memory_of_the_selected_speech(qformer):
    values, mask = speech([7, 4, 5])
    rows = torch.tensor([2, 0, 0])
    tokens = torch.tensor([[1, 5, 2]] * 3)
    first, second = qformer.read_speech(values, mask).select(rows), qformer.read_speech(values[rows], mask[rows])
    torch.testing.assert_close(qformer.query(first).hidden, qformer.query(second).hidden, **CLOSE)
    found, expected = (qformer.match(tokens, tokens == 0, memory) for memory in (first, second))
    torch.testing.assert_close(found, expected, **CLOSE)
    nobody = qformer.match(tokens[:0], tokens[:0] == 0, first.select(rows[:0]))
    assert nobody.shape == (0, *found.shape[1:])


def test_step_by_step_decoding_equals_one_pass(qformer):
    queries = qformer.query(qformer.read_speech(*speech([8, 3])))
    tokens = torch.tensor([[1, 5, 6, 7], [1, 9, 9, 4]])
    whole = qformer.decode_text(tokens, None, queries.cache, query_padding=queries.padding_mask).hidden
    cache, steps = queries.cache, []
    for i in range(4):
        output = qformer.decode_text(tokens[:, i : i + 1], None, cache, i, queries.padding_mask)
        cache = output.cache
        steps.append(output.hidden)
    torch.testing.assert_close(torch.cat(steps, dim=1), whole, **CLOSE)


def test_in_matching_a_query_sees_its_window_and_the_text():
    seen = torch.tensor([[True, True, True, True, True, False]])  # two windows of two queries, two tokens
    allowed = own_window_mask(2, 2, 2, seen)[0, 0].int().tolist()
    assert allowed == [[1, 1, 0, 0, 1, 0]] * 2 + [[0, 0, 1, 1, 1, 0]] * 2 + [[1, 1, 1, 1, 1, 0]] * 2


def test_every_trained_tensor_gets_a_gradient(adapter):
    values, mask = speech([13, 6, 9])
    tokens = torch.tensor([[1, 5, 6, 2], [1, 8, 2, 0], [1, 3, 4, 2]])
    keys = torch.arange(3)
    sums = adapter(values, mask, Stage1Text(tokens, tokens == 0, keys, keys), update=3)
    sum(own["sum"] for own in sums.values()).backward()
    without = [name for name, p in adapter.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not without


def test_splice_pads_short_speech_at_the_left_of_its_prompt():
    words = torch.arange(8.0).reshape(2, 4, 1)
    prompt = torch.tensor([[9, SPEECH_PLACE, 9, 9], [0, 0, SPEECH_PLACE, 9]])
    padding = torch.tensor([[False] * 4, [True, True, False, False]])
    spoken = torch.tensor([[-1.0, -2, -3], [-4, -5, -6]])[..., None]
    beyond = torch.tensor([[False, False, True], [False, False, False]])
    joined, seen = splice(words, prompt, padding, spoken, beyond)
    assert joined[..., 0].tolist() == [[-3, 0, -1, -2, 2, 3], [4, 5, -4, -5, -6, 7]]
    assert seen.tolist() == [[False] + [True] * 5, [False, False, True, True, True, True]]


@pytest.fixture(scope="module")
def windowed(world):
    return build_stage2(world, *WINDOWS)


def test_batch_mates_change_no_logit_of_the_llm(windowed):
    rows = [3, 4, 9, 1]
    together = windowed.model(**batch(windowed, "train2", rows)["net_input"])
    lengths = {len(windowed.task.dataset("train2")[row]["source"]) for row in rows}
    assert len(lengths) > 1, "utterances must have different numbers of windows"
    for i, row in enumerate(rows):
        alone = windowed.model(**batch(windowed, "train2", [row])["net_input"])[0]
        torch.testing.assert_close(together[i, : len(alone)], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("stage", ["1", "2"])
def test_hypotheses_are_those_of_the_utterance_alone(world, windowed, stage):
    built, split = (windowed, "test_fr") if stage == "2" else (build_stage1(world, *WINDOWS), "test")
    generator = built.task.build_generator([built.model], SearchOptions(beam=1, max_len_b=6))
    rows = [0, 3, 5, 6]
    together = generator.generate([built.model], batch(built, split, rows))
    for row, hypotheses in zip(rows, together, strict=True):
        alone = generator.generate([built.model], batch(built, split, [row]))[0]
        assert hypotheses[0]["tokens"].tolist() == alone[0]["tokens"].tolist()
        assert float(hypotheses[0]["score"]) == pytest.approx(float(alone[0]["score"]), abs=1e-4)


def test_an_answer_has_the_room_that_its_own_queries_leave(windowed):
    net_input = batch(windowed, "train2", [3, 4, 9, 1])["net_input"]
    room = windowed.model.max_answer_tokens(net_input)
    _, seen = windowed.model.prompt_embeddings(
        *(net_input[name] for name in ("source", "padding_mask", "prompt", "prompt_padding_mask"))
    )
    used = seen.sum(dim=1)
    spare = windowed.model.llm.context - used - room
    # The place of the speech counts as a token; frames counted by the rate alone make a window too many at the most.
    assert ((spare == 1) | (spare == 3)).all()
    assert len(set(room.tolist())) > 1


def test_an_utterance_without_room_in_the_llm_is_named(world):
    built = build_stage2(world, "--query-window-seconds", "0.02", "--queries-per-window", "40")
    built.task.load_dataset("train2")
    with pytest.raises(ManifestError, match=r"train2\.tsv:\d+ .utterance .*queries, but the LLM has room for 512"):
        [built.task.dataset("train2")[i] for i in range(16)]


def test_stage2_takes_the_windows_of_stage1(world, tmp_path):
    more = [*WINDOWS, "--speech-downsample", "conv", "--speech-stride", "2"]
    stage1 = build_stage1(world, *more)
    built = build_stage2_from(world, save_adapter(stage1, tmp_path / "stage1.pt"))
    assert built.model.adapter.qformer.config.window_frames == stage1.model.adapter.qformer.config.window_frames == 2
    for name in ("window_place", "front_end.conv.weight", "query_tokens"):
        found, expected = (m.model.adapter.qformer.get_parameter(name) for m in (built, stage1))
        assert torch.equal(found, expected), name


def test_a_stage1_checkpoint_from_before_there_were_windows_is_taken(world, stage1, tmp_path):
    path = save_adapter(stage1, tmp_path / "old.pt")
    state = torch.load(path, weights_only=True)
    for name in ("source", "query_window_seconds", "queries_per_window", "speech_downsample", "speech_stride"):
        del state["cfg"]["model"][name]
    torch.save(state, path)
    assert build_stage2_from(world, path).model.adapter.qformer.config.window_frames == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--query-window-seconds", "1"], "go together"),
        (["--query-window-seconds", "0.001", "--queries-per-window", "2"], "0.05 frames"),
        (["--query-window-seconds", "1", "--queries-per-window", "0"], "must be 1 or more"),
        (["--speech-stride", "2"], "--speech-stride 2 does not go with --speech-downsample none"),
        (["--speech-downsample", "stack"], "--speech-stride 1 does not go with --speech-downsample stack"),
        (["--time-masks", "2", "--time-mask-frames", "0"], "masks of width 1 or more"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_one_sentence(world, options, message):
    with pytest.raises(SparqleError, match=message) as error:
        build_stage1(world, *options)
    assert "\n" not in str(error.value)
