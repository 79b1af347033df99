"""Generation on a device: the answers of the CPU, with few waits for each token."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import pytest
import torch
from generation import OPTIONS, answers, generate
from on_device import moved
from pretend import device_watch, pretend_device
from tiny_models import batch, build_stage1, build_stage2

from sparqle_fairseq.generate import generator
from sparqle_fairseq.generate.options import DecodingOptions, SearchOptions

WAITS_A_TOKEN = 1.5
# Beside those of tokens: lengths of the audio, limits, prompts, and whether anything overflowed.
WAITS_AT_START = 12
SEARCHES = {
    "greedy": {"beam": 1},
    "beam": {"beam": 4},
    "sampling": {"beam": 2, "sampling": True, "sampling_topk": 5},
    "n-grams blocked": {"beam": 3, "no_repeat_ngram_size": 2},
    "aligned": {"beam": 3, "nbest": 3, "print_alignment": "hard"},  # all hypotheses' frames are read together
}
# Beyond fairseq's options; with how many searches each takes at most.
DECODING = {
    "mbr": (1, {"rerank": "mbr"}),
    "likelier with speech": (3, {"speech_contrast": "removed"}),
    "all rules": (1, {"min_tokens_per_second": 2.0, "max_tokens_per_second": 8.0, "repetition_penalty": 1.3}),
    "begun and stopped": (1, {"prefix": "le", "stop": "e"}),
    "loops searched again": (2, {"loop_guard": True}),
}


@pytest.fixture(scope="module")
def built(world):
    """A model of the module's own, for it is moved."""
    return build_stage2(world)


@pytest.fixture(scope="module")
def first(world):
    return build_stage1(world)


@contextmanager
def on_device(*models) -> Iterator[object]:
    with pretend_device() as device:
        for model in models:
            model.to(device)
        try:
            yield device
        finally:
            for model in models:
                model.to("cpu")


def steps_of(found):
    """How many tokens the longest hypothesis has, which is how many steps were taken at least."""
    return max(len(tokens) for row in found for tokens in row)


# The search is one for both stages, whose decoders differ.
@pytest.mark.parametrize(
    ("stage", "name"),
    [
        *(("built", name) for name in SEARCHES),
        *(pytest.param("first", name, marks=[] if name == "beam" else pytest.mark.long) for name in SEARCHES),
    ],
)
def test_a_search_finds_the_same_and_waits_little(stage, name, request):
    own = request.getfixturevalue(stage)
    sample = batch(own, "test_fr" if stage == "built" else "test", range(4))
    here = answers(generate(own, sample, **SEARCHES[name]))
    with on_device(own.model) as device:
        there = moved(sample, device)
        with device_watch() as seen:
            found = answers(generate(own, there, **SEARCHES[name]))
    assert found == here
    assert len(seen.waits) <= WAITS_AT_START + WAITS_A_TOKEN * steps_of(found), seen


@pytest.mark.parametrize("name", DECODING)
def test_options_of_decoding_find_the_same_and_wait_little(built, name, monkeypatch):
    searches, options = DECODING[name]
    monkeypatch.setattr(generator, "is_loop", bool)  # the answers here are too short for one
    sample = batch(built, "test_fr", range(4))

    def asked(sample):
        search = SearchOptions(beam=3, nbest=3, max_len_b=OPTIONS["max_len_b"])
        made = built.task.build_generator([built.model], search, decoding=DecodingOptions(**options))
        return made.generate([built.model], sample)

    here = asked(sample)
    with on_device(built.model) as device:
        there = moved(sample, device)
        with device_watch() as seen:
            found = asked(there)
    assert answers(found) == answers(here)
    for mine, theirs in zip(chain(*found), chain(*here), strict=True):
        assert mine["flag"] == theirs["flag"]
        assert ("contrast" in mine) == (name == "likelier with speech")
        if "contrast" in mine:
            assert mine["contrast"].difference == pytest.approx(theirs["contrast"].difference, abs=1e-3)
    assert any(row[0]["flag"] for row in found) == (name == "loops searched again")
    steps = max(len(hypothesis["written"]) for row in found for hypothesis in row)
    assert len(seen.waits) <= searches * (WAITS_AT_START + WAITS_A_TOKEN * steps), seen
    reads = sum("candidates.py" in place and " read " in place for place in seen.waits)
    assert 0 < reads <= searches * steps, seen  # one a token, also where a stop text comes


@pytest.mark.parametrize("stage", ["built", pytest.param("first", marks=pytest.mark.long)])
def test_an_ensemble_finds_the_same_and_waits_little(world, stage, request):
    own = request.getfixturevalue(stage)
    other = (build_stage2 if stage == "built" else build_stage1)(world)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter += 0.1 * parameter.std(correction=0) * torch.randn_like(parameter)
    sample = batch(own, "test_fr" if stage == "built" else "test", range(4))
    models = [own.model, other.model]

    def asked(sample):
        made = own.task.build_generator(models, SearchOptions(beam=3, max_len_b=OPTIONS["max_len_b"]))
        return answers(made.generate(models, sample))

    here = asked(sample)
    with on_device(*models) as device:
        there = moved(sample, device)
        with device_watch() as seen:
            found = asked(there)
    assert found == here
    assert len(seen.waits) <= 2 * WAITS_AT_START + WAITS_A_TOKEN * steps_of(found), seen
