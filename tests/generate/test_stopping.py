"""`--stop`: an answer ends before a text, whatever tokens that is made of, and its score is of all that was written."""

from __future__ import annotations

import itertools
import math
from argparse import Namespace

import pytest
import tiny
import torch
from commands import QUIET, finetune_arguments, generate_here, train_here
from generation import OPTIONS
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import batch, build_stage2

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate.inspection import look_into
from sparqle_fairseq.generate.limits import Limits
from sparqle_fairseq.generate.options import DecodingOptions, decoding_options
from sparqle_fairseq.generate.search import SearchSettings, search
from sparqle_fairseq.generate.stopping import StopTexts, as_option, as_typed, stop_texts

END, *PIECES = ["", "a", "b", "ab", "\nQ", "b\n", "Q", "\n"]
VOCABULARY = [END, *PIECES]


def decode(ids):
    return "".join(VOCABULARY[i] for i in ids)


def encode(text):
    """Longest first, as a tokenizer of a text of its own does."""
    ids = []
    while text:
        piece = max((piece for piece in PIECES if text.startswith(piece)), key=len)
        ids.append(VOCABULARY.index(piece))
        text = text[len(piece) :]
    return ids


class Chain:
    """The next token's distribution depends on the one before."""

    vocab_size = len(VOCABULARY)

    def __init__(self, seed=0):
        self.table = torch.randn(
            self.vocab_size + 1, self.vocab_size, generator=torch.Generator().manual_seed(seed)
        ).log_softmax(dim=-1)

    def start(self, net_input):
        return self.table[-1].expand(len(net_input), -1), None

    def step(self, tokens, state):
        return self.table[tokens], state

    def reorder(self, state, rows):
        return state

    def log_prob(self, ids):
        return sum(float(self.table[a, b]) for a, b in itertools.pairwise([-1, *ids]))


def searched(chain, stops, longest=3, count=1, prefixes=None, fewest=0, **settings):
    limits = Limits(torch.full((count,), fewest), torch.full((count,), longest), ["length"] * count)
    return search(
        chain, [None] * count, SearchSettings(**{"unnormalized": True, **settings}), limits, pad=99, end=0,
        keys=torch.arange(count), prefixes=prefixes, stop=StopTexts(stops, decode, encode) if stops else None,
    )  # fmt: skip


def every_hypothesis(chain, stops, longest):
    """(text, log-probability, why it ended) of all that can be written, by trying all."""
    found, open_ones = [], [[]]
    while open_ones:
        ids = open_ones.pop()
        text = decode(ids)
        places = [text.find(stop) for stop in stops if stop in text]
        if places:
            found.append((text[: min(places)], chain.log_prob(ids), "stop"))
            continue
        found.append((text, chain.log_prob([*ids, 0]), "end"))
        if len(ids) < longest:
            open_ones += [[*ids, token] for token in range(1, len(VOCABULARY))]
    return sorted(found, key=lambda one: -one[1])


@pytest.mark.parametrize("stops", [["\nQ"], ["ba"], ["\n", "aa"], ["b"], ["Q"], ["abQ", "\n\n"]])
def test_the_search_finds_what_trying_everything_finds(stops):
    """A beam that holds every beginning: texts, their order and log-probabilities, also over token borders."""
    chain = Chain()
    expected = every_hypothesis(chain, stops, 3)
    (found,) = searched(chain, stops, beam=800)
    assert len(found) == len(expected)
    for hypothesis, (text, log_prob, ended) in zip(found, expected, strict=True):
        assert hypothesis.score == pytest.approx(log_prob, abs=1e-4)
        assert sum(hypothesis.positional_scores) == pytest.approx(log_prob, abs=1e-4)
        assert len(hypothesis.positional_scores) == len(hypothesis.tokens)
        assert hypothesis.tokens[-1] == 0
        assert decode(hypothesis.tokens) == text
        assert (hypothesis.ended == "stop") == (ended == "stop")


@given(ids=st.lists(st.integers(1, len(VOCABULARY) - 1), min_size=1, max_size=8), seed=st.integers(0, 99))
def test_a_stop_text_anywhere_leaves_exactly_the_text_before_it(ids, seed):
    text = decode(ids)
    start = seed % len(text)
    stop = text[start : start + 1 + seed % 3]
    found = StopTexts([stop], decode, encode).stopped(ids, 0)
    assert decode(found.kept) == text[: text.index(stop)]
    assert found.written == ids
    assert found.kept[: found.whole] == ids[: found.whole]


def test_each_utterance_and_each_draw_has_its_own_end():
    chain, settings = Chain(3), {"beam": 4, "sampling": True}
    together = searched(chain, ["b"], longest=6, count=5, **settings)
    texts = [[decode(hypothesis.tokens) for hypothesis in row] for row in together]
    assert not any("b" in text for row in texts for text in row)
    assert any(hypothesis.ended == "stop" for row in together for hypothesis in row)
    without = searched(chain, [], longest=6, count=5, **settings)
    written = [sorted(decode(hypothesis.tokens) for hypothesis in row) for row in without]
    # The same draws up to there.
    assert [sorted(texts[i]) for i in range(5)] == [sorted(text.split("b")[0] for text in row) for row in written]


def test_a_stop_text_in_the_prefix_ends_nothing_and_none_comes_before_the_fewest_tokens():
    chain = Chain(1)
    prefix = encode("b\nab")
    (found,) = searched(chain, ["b"], longest=8, prefixes=[prefix], beam=3)
    for hypothesis in found:
        text = decode(hypothesis.tokens)
        assert text.startswith("b\nab")
        assert "b" not in text.removeprefix("b\nab")
    for first in ("a", "b\n", "\nQ"):  # the likeliest by far, and an end as the end token is one
        chain.table[-1] = torch.full((len(VOCABULARY),), -9.0).index_fill(0, torch.tensor(VOCABULARY.index(first)), 0)
        for sampling in (False, True):
            (found,) = searched(chain, [first], longest=4, fewest=1, beam=2, sampling=sampling)
            assert found
            assert all(len(hypothesis.tokens) > 1 for hypothesis in found)


def test_an_option_is_one_text_or_several_with_line_ends_written_out():
    assert stop_texts(r"\n") == ["\n"]
    assert stop_texts("\n") == ["\n"]
    assert stop_texts(as_option([r"\n\n", "###", r"C:\\n", "[1]", "é"])) == ["\n\n", "###", r"C:\n", "[1]", "é"]
    assert stop_texts("[1]") == ["[1]"]
    assert stop_texts("") == stop_texts(as_option([])) == []
    assert as_typed(as_option(["a", "b"])) == ["a", "b"]
    with pytest.raises(SparqleError, match="--stop '' is in every text"):
        stop_texts(as_option(["a", ""]))


# ---- with an LLM


@pytest.fixture(scope="module")
def base(world, tmp_path_factory):
    """Stage 2 over an LLM without a chat template, and an English-French prompt file for it."""
    folder = tmp_path_factory.mktemp("base")
    llm = tiny.save_base_llm(folder / "llm")
    built = build_stage2(world, "--llm", str(llm))
    built.llm = llm
    return built


def texts_of(built, rows):
    raw, _ = built.task.text_codec(built.model)
    return [[raw(hypothesis["tokens"].tolist()[:-1]) for hypothesis in row] for row in rows]


def run(built, sample, stops=(), **options):
    decoding = {name: options.pop(name) for name in ("speech_contrast", "rerank", "loop_guard") if name in options}
    generator = built.task.build_generator(
        [built.model], Namespace(**{**OPTIONS, "beam": 1, **options}),
        decoding=decoding_options(DecodingOptions(stop=as_option(stops), **decoding)),
    )  # fmt: skip
    return generator.generate([built.model], sample)


def middle(text):
    """Two characters of the middle of a text, which it is to end before."""
    readable = [i for i in range(2, len(text) - 1) if "\N{REPLACEMENT CHARACTER}" not in text[i : i + 2]]
    return text[readable[0] : readable[0] + 2]


def test_an_answer_of_an_llm_is_cut_and_scored_over_what_it_wrote(base):
    sample = batch(base, "test_fr", range(6))
    whole = run(base, sample)
    stop = middle(texts_of(base, whole)[0][0])
    found = run(base, sample, [stop], speech_contrast="removed")
    stopped = 0
    for (one,), (other,), text in zip(found, whole, texts_of(base, whole), strict=True):
        before, mark, _ = text[0].partition(stop)
        assert texts_of(base, [[one]])[0][0] == before
        if not mark:
            continue
        stopped += 1
        assert one["ended"] == "stop"
        written = one["written"].tolist()
        assert written == other["tokens"].tolist()[: len(written)], "greedy: the same tokens up to there"
        total = float(other["positional_scores"][: len(written)].sum())
        assert float(one["positional_scores"].sum()) == pytest.approx(total, abs=1e-4)
        assert float(one["score"]) == pytest.approx(total / len(one["tokens"]), abs=1e-4)
        # The LLM's own end token, which such an LLM never writes, has no part in it.
        assert one["contrast"].given_speech * math.log(2) == pytest.approx(total / len(written), abs=1e-3)
    assert stopped


def test_batch_mates_beams_and_mbr_change_nothing(base):
    sample = batch(base, "test_fr", range(5))
    stop = middle(texts_of(base, run(base, sample))[0][0])
    options = {"beam": 3, "nbest": 3, "rerank": "mbr", "loop_guard": True}
    together = texts_of(base, run(base, sample, [stop], **options))
    alone = [texts_of(base, run(base, batch(base, "test_fr", [i]), [stop], **options))[0] for i in range(5)]
    assert together == alone
    assert not any(stop in text for row in together for text in row)


def latest(text):
    """The letter of a text that comes for the first time when all others have: its first token does not have it."""
    letters = [letter for letter in text if letter.isascii() and letter.isprintable() and letter != " "]
    return max(letters, key=text.index)


TEMPLATES = """
chat_template: false
before_answer: "\\nFrench:"
stop: [STOP, "@@"]
transcription: ["{speech}"]
translation: ["{speech}"]
"""


@pytest.fixture
def prompts(base, tmp_path):
    """A template file that names a stop text; the text that it names."""
    sample = batch(base, "test_fr", range(4))
    stop = middle(texts_of(base, run(base, sample))[0][0])
    path = tmp_path / "few.yaml"
    path.write_text(TEMPLATES.replace("STOP", repr(stop) if "'" not in stop else f'"{stop}"'))
    return path


def test_a_template_file_names_stop_texts(world, base, prompts):
    built = build_stage2(world, "--llm", str(base.llm), "--prompt-templates", str(prompts))
    built.task.load_dataset("test_fr")
    assert "@@" in built.task.stopping(built.model, "").texts
    assert built.task.stopping(built.model, as_option(["x"])).texts[0] == "x"
    prompts.write_text(TEMPLATES.replace("STOP, ", "7, "))
    with pytest.raises(SparqleError, match=r"few\.yaml: 'stop' must be a text or a list of texts"):
        built.task.text_side(False, None)


def test_every_command_that_generates_stops(world, base, tmp_path):
    """fairseq-train --eval-generate, fairseq-generate, sparqle translate, sparqle inspect; the option several times."""
    from click.testing import CliRunner

    from sparqle_fairseq.cli.main import app

    template = tmp_path / "few.yaml"
    template.write_text(TEMPLATES.replace("STOP, ", ""))
    size = ["--hidden-size", "64", "--layers", "2", "--heads", "4", "--ffn-size", "128", "--queries", "8"]
    arguments = finetune_arguments(
        world, tmp_path, "--speech-encoder", world.encoder, *size, "--llm", base.llm, "--prompt-templates", template,
        "--eval-generate", "--stop", "e", "--stop", "a", updates=1,
    )  # fmt: skip
    train_here(arguments)
    checkpoint = tmp_path / "checkpoint_last.pt"
    state = torch.load(checkpoint, weights_only=True)
    assert stop_texts(state["cfg"]["task"]["stop"]) == ["e", "a"]
    common = [world.data, *QUIET[:3], "--task", "sparqle_finetune", "--path", checkpoint, "--gen-subset", "test_fr"]

    def generated(*more):
        words = [*common, "--batch-size", 8, "--beam", 1, "--max-len-b", 12, "--prompt-templates", template, *more]
        return [line.split("\t")[2] for line in generate_here(words).splitlines() if line[:2] == "D-"]

    whole = generated()
    letter = latest(whole[0])
    found = generated("--stop", "@@", "--stop", letter)
    assert len(found) == len(whole) == 16
    assert found[0] == whole[0].split(letter)[0].rstrip()
    assert not any(letter in text for text in found)
    audio = world.data / "audio" / "test_fr_0.wav"
    for words in (
        ["translate", audio, "--to", "fr", "--model", checkpoint, "--cpu", "--segment", "none", "--beam", "1"],
        ["inspect", audio, "--to", "fr", "--model", checkpoint, "--cpu", "--out", tmp_path / "pictures", "--beam", "1"],
    ):

        def first_line(*stops, words=words):
            done = CliRunner().invoke(app, [*map(str, words), *stops], catch_exceptions=False)
            return done.stdout.splitlines()[0].removeprefix("test_fr_0.wav: ")

        text = first_line()
        assert first_line("--stop", "@@", "--stop", latest(text)) == text.split(latest(text))[0].rstrip(), words[0]


def test_inspection_ends_where_the_task_says(base):
    (whole,) = look_into(base.task, base.model, base.task.dataset("test_fr"), [0], beam=1)
    base.task.cfg.stop = as_option([middle(whole.hypothesis)])
    try:
        (look,) = look_into(base.task, base.model, base.task.dataset("test_fr"), [0], beam=1)
    finally:
        base.task.cfg.stop = ""
    assert look.hypothesis == whole.hypothesis.split(middle(whole.hypothesis))[0].strip()
    assert look.ended == "stop"
