"""Options of generation beyond fairseq's: lengths by seconds, repetition, prefixes, contrast to no speech, MBR."""

from __future__ import annotations

import math
from argparse import Namespace

import pytest
import torch
from commands import finetune_arguments, generate, lines, train_here
from generation import OPTIONS, answers
from sacrebleu.metrics import CHRF
from tiny_models import batch, build_stage2

from sparqle_fairseq.data.manifest import read_manifest, write_manifest
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate import generator as module
from sparqle_fairseq.generate.contrast import Contrast, contrast_text
from sparqle_fairseq.generate.generator import REPETITION
from sparqle_fairseq.generate.inspection import look_into
from sparqle_fairseq.generate.mbr import expected_chrf, mbr_order, posterior
from sparqle_fairseq.generate.options import DecodingOptions, decoding_options
from sparqle_fairseq.scoring.outputs import read_results
from sparqle_fairseq.tools.merge_results import lines_in_order

CLOSE = {"atol": 1e-4, "rtol": 1e-4}


def build_generator(built, decoding=None, **options):
    chosen = Namespace(**{**OPTIONS, "beam": 3, "nbest": 1, **options})
    return built.task.build_generator(
        [built.model], chosen, decoding=decoding_options(DecodingOptions(**decoding or {}))
    )


def run(built, sample, decoding=None, prefixes=None, **options):
    generator = build_generator(built, decoding, **options)
    return generator.generate([built.model], sample if prefixes is None else {**sample, "prefix": prefixes})


def log_probs_of(built, sample, texts):
    """(sum over tokens) for each row's text, as training sees it."""
    found = []
    for i, text in enumerate(texts):
        net_input = {name: value[i : i + 1] for name, value in sample["net_input"].items()}
        answer = torch.tensor(text)[None]
        net_input |= {"answer": answer, "answer_padding_mask": torch.zeros_like(answer, dtype=torch.bool)}
        with torch.no_grad():
            scores = built.model(**net_input).log_softmax(dim=-1)[0]
        found.append(scores.gather(1, answer[0][:, None])[:, 0])
    return found


class TestLengths:
    def test_most_and_fewest_tokens_go_by_each_utterances_own_seconds(self, stage2):
        sample = batch(stage2, "test_fr", range(8))
        seconds = (~sample["net_input"]["padding_mask"]).sum(dim=1) / 16000
        assert seconds.unique().numel() > 1
        limits = {"min_tokens_per_second": 20.0, "max_tokens_per_second": 30.0}
        for length, row in zip(seconds.tolist(), run(stage2, sample, limits, max_len_b=100), strict=True):
            tokens = [len(hypothesis["tokens"]) - 1 for hypothesis in row]
            assert math.floor(20 * length) <= min(tokens)
            assert max(tokens) <= math.ceil(30 * length)

    def test_they_do_not_depend_on_the_batch(self, stage2):
        limits = {"min_tokens_per_second": 20.0, "max_tokens_per_second": 30.0}
        together = run(stage2, batch(stage2, "test_fr", range(8)), limits, max_len_b=100)
        for i in range(8):
            alone = run(stage2, batch(stage2, "test_fr", [i]), limits, max_len_b=100)
            assert answers(alone) == answers(together[i : i + 1])

    def test_features_count_as_the_waveform_that_they_came_from(self, stage2):
        sample = batch(stage2, "test_fr", range(4))["net_input"]
        speech = stage2.model.encode_speech(sample["source"], sample["padding_mask"])
        features = {**sample, "source": speech.values, "padding_mask": speech.padding_mask}
        generator = build_generator(
            stage2, {"min_tokens_per_second": 40.0, "max_tokens_per_second": 50.0}, max_len_b=100
        )
        heard, stored = (generator.lengths.limits([stage2.model], net_input) for net_input in (sample, features))
        for difference in (heard.most - stored.most, heard.fewest - stored.fewest):
            assert difference.abs().max() <= 2, "the encoder's last frames are of the window's length"

    def test_the_stricter_limit_counts(self, stage2):
        sample = batch(stage2, "test_fr", range(4))
        for row in run(stage2, sample, {"min_tokens_per_second": 900.0, "max_tokens_per_second": 1000.0}, max_len_b=5):
            assert {len(hypothesis["tokens"]) for hypothesis in row} == {6}
        for row in run(stage2, sample, {"max_tokens_per_second": 1e-6}, max_len_b=5):
            assert {len(hypothesis["tokens"]) for hypothesis in row} <= {1, 2}

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ({"min_tokens_per_second": 5.0, "max_tokens_per_second": 3.0}, "is more than --max-tokens-per-second 3"),
            ({"min_tokens_per_second": -1.0}, "--min-tokens-per-second -1 must be"),
            ({"repetition_penalty": 0.9}, "--repetition-penalty 0.9 must be 1"),
        ],
    )
    def test_limits_that_none_can_meet_are_one_sentence(self, options, sentence):
        with pytest.raises(SparqleError, match=sentence):
            decoding_options(DecodingOptions(**options))


class TestRepetition:
    def test_a_penalty_makes_what_was_said_unlikely(self, stage2):
        sample = batch(stage2, "test_fr", range(4))
        long = {"min_len": 20, "max_len_b": 20}

        def repeated(found):
            return sum(len(h["tokens"]) - h["tokens"].unique().numel() for row in found for h in row)

        plain = run(stage2, sample, **long)
        assert repeated(plain) > 0, "without the option something must repeat"
        assert repeated(run(stage2, sample, {"repetition_penalty": 1.5}, **long)) < repeated(plain)
        assert repeated(run(stage2, sample, {"repetition_penalty": 1e4}, **long)) == 0
        assert answers(run(stage2, sample, {"repetition_penalty": 1.0}, **long)) == answers(plain)

    def test_only_what_loops_is_searched_again(self, stage2, monkeypatch):
        sample = batch(stage2, "test_fr", range(4))
        long = {"min_len": 20, "max_len_b": 20}
        plain = run(stage2, sample, **long)
        monkeypatch.setattr(module, "BLOCKED_NGRAM", 1)  # so few tokens hold no loop of three
        blocked = run(stage2, sample, **long, no_repeat_ngram_size=1)
        row = next(i for i in range(4) if answers(blocked)[i][0] != answers(plain)[i][0])
        looping = stage2.task.dictionary.text(plain[row][0]["tokens"])
        monkeypatch.setattr(module, "is_loop", lambda text: text == looping)
        found = run(stage2, sample, {"loop_guard": True}, **long)
        for i in range(4):
            assert answers(found)[i] == answers(blocked if i == row else plain)[i]
            assert found[i][0]["flag"] == (REPETITION if i == row else None)


class TestPrefix:
    @pytest.mark.parametrize("stage", ["stage1", "stage2"])
    @pytest.mark.parametrize("sampling", [False, True])
    def test_every_hypothesis_begins_with_it(self, request, stage, sampling):
        built = request.getfixturevalue(stage)
        sample = batch(built, "test", range(4))
        prefixes = [[7, 8, 9], [], [11], [12, 12, 12, 12, 12]]
        free = run(built, sample, sampling=sampling)
        found = run(built, sample, prefixes=prefixes, sampling=sampling)
        for row, prefix in zip(found, prefixes, strict=True):
            assert all(h["tokens"].tolist()[: len(prefix)] == prefix for h in row)
            assert any(len(h["tokens"]) > len(prefix) + 1 for h in row)
        assert answers(found)[1] == answers(free)[1], "no prefix, no change"
        alone = run(built, batch(built, "test", [3]), prefixes=prefixes[3:], sampling=sampling)
        assert answers(alone)[0] == answers(found)[3]

    def test_its_scores_are_the_models(self, stage2):
        sample = batch(stage2, "test_fr", range(3))
        found = run(stage2, sample, prefixes=[[7, 8, 9]] * 3)
        best = [row[0] for row in found]
        for hypothesis, expected in zip(
            best, log_probs_of(stage2, sample, [h["tokens"].tolist() for h in best]), strict=True
        ):
            torch.testing.assert_close(hypothesis["positional_scores"], expected, **CLOSE)

    def test_it_comes_before_limits_of_length_and_blocked_ngrams(self, stage2):
        sample = batch(stage2, "test_fr", range(2))
        prefix = [12, 12, 12, 12, 12]
        found = run(stage2, sample, prefixes=[prefix] * 2, max_len_b=2, no_repeat_ngram_size=2)
        assert all(h["tokens"].tolist() == [*prefix, stage2.model.llm.end] for row in found for h in row)

    def test_fairseqs_prefix_size_forces_the_references_first_tokens(self, stage2):
        sample = batch(stage2, "test_fr", range(4))
        generator = build_generator(stage2, prefix_size=2)
        targets = sample["target"][:, :2]
        found = stage2.task.inference_step(generator, [stage2.model], sample, prefix_tokens=targets, constraints=None)
        for row, target in zip(found, targets.tolist(), strict=True):
            first = [token for token in target if token != stage2.model.llm.end]
            assert all(h["tokens"].tolist()[: len(first)] == first for h in row)

    def test_a_prefix_beyond_the_context_is_one_sentence(self, stage2):
        with pytest.raises(SparqleError, match="a prefix of 600 tokens is longer than the"):
            run(stage2, batch(stage2, "test_fr", [0]), prefixes=[[7] * 600])

    def test_a_rows_own_comes_before_that_of_the_option(self, world, tmp_path):
        manifest = read_manifest(world.data / "test_fr.tsv")
        rows = [
            {**{name: getattr(manifest.row(i), name) or "" for name in manifest.columns}, "prefix": ["Vert", ""][i % 2]}
            for i in range(4)
        ]
        write_manifest(tmp_path / "own.tsv", rows, [*manifest.columns, "prefix"])
        built = build_stage2(world, "--prefix", "Le chat")
        built.task.cfg.data = str(tmp_path)
        built.task.load_dataset("own", task_cfg=Namespace())
        sample = batch(built, "own", range(4))
        found = built.task.inference_step(build_generator(built), [built.model], sample)
        texts = [built.task.dictionary.text(row[0]["tokens"]) for row in found]
        assert [text.startswith("Vert") for text in texts] == [True, False, True, False]
        assert [text.startswith("Le chat") for text in texts] == [False, True, False, True]

    def test_a_validation_with_generation_begins_with_it(self, world, monkeypatch):
        built = build_stage2(world, "--prefix", "Le chat", "--eval-generate")
        usual, texts = module.HypothesisGenerator.generate, []

        def overheard(*arguments, **options):
            found = usual(*arguments, **options)
            texts.extend(built.task.dictionary.text(row[0]["tokens"]) for row in found)
            return found

        monkeypatch.setattr(module.HypothesisGenerator, "generate", overheard)
        built.task.valid_step(batch(built, "dev2", range(3)), built.model, built.criterion)
        assert len(texts) == 3
        assert all(text.startswith("Le chat") for text in texts)

    def test_inspection_begins_with_it(self, world):
        built = build_stage2(world, "--prefix", "Le chat")
        built.task.load_dataset("dev2")
        (look,) = look_into(built.task, built.model, built.task.dataset("dev2"), [0], beam=1)
        assert look.hypothesis.startswith("Le chat")


def test_the_options_of_a_caller_stay_as_they_are(stage2):
    options = Namespace(**OPTIONS, print_step=False)
    before = vars(options).copy()
    for _ in range(2):
        decoding = decoding_options(DecodingOptions(speech_contrast="removed"))
        stage2.task.build_generator([stage2.model], options, decoding=decoding)
    assert vars(options) == before


class TestReferences:
    @pytest.mark.parametrize("stage", ["stage1", "stage2"])
    def test_score_reference_gives_the_references_with_their_scores(self, request, stage):
        built = request.getfixturevalue(stage)
        sample = batch(built, "test", range(4))
        generator = build_generator(built, score_reference=True)
        found = generator.generate([built.model], sample)
        pad = built.task.dictionary.pad()
        expected = [[token for token in row if token != pad] for row in sample["target"].tolist()]
        assert [row[0]["tokens"].tolist() for row in found] == expected
        if stage == "stage2":
            for row, scores in zip(found, log_probs_of(built, sample, expected), strict=True):
                torch.testing.assert_close(row[0]["positional_scores"], scores, **CLOSE)
                assert float(row[0]["score"]) == pytest.approx(float(scores.mean()), abs=1e-4)

    @pytest.mark.parametrize(
        ("options", "power"), [({"lenpen": 0.5}, 0.5), ({"lenpen": 2.0}, 2.0), ({"unnormalized": True}, 0.0)]
    )
    def test_their_score_is_by_the_length_penalty_as_a_hypothesis_has_it(self, stage2, options, power):
        generator = build_generator(stage2, score_reference=True, **options)
        for (reference,) in generator.generate([stage2.model], batch(stage2, "test_fr", range(3))):
            total = float(reference["positional_scores"].sum())
            assert float(reference["score"]) == pytest.approx(total / len(reference["tokens"]) ** power, rel=1e-5)

    def test_without_references_there_is_nothing_to_score(self, stage2):
        sample = {**batch(stage2, "test_fr", range(2)), "target": None}
        with pytest.raises(SparqleError, match="a row of this batch has none"):
            build_generator(stage2, score_reference=True).generate([stage2.model], sample)


class TestContrast:
    def test_removed_is_the_score_of_the_prompt_without_its_speech(self, stage2):
        sample = batch(stage2, "test_fr", range(3))
        found = run(stage2, sample, {"speech_contrast": "removed"}, nbest=2)
        llm = stage2.model.llm
        for i, row in enumerate(found):
            assert ["contrast" in hypothesis for hypothesis in row] == [True, True, False], "as many as are printed"
            for hypothesis in row[:2]:
                tokens = hypothesis["tokens"]
                prompt = sample["net_input"]["prompt"][i]
                words = prompt[prompt.ge(0) & ~sample["net_input"]["prompt_padding_mask"][i]]
                with torch.no_grad():
                    logits = llm.model(torch.cat([words, tokens])[None]).logits[0]
                scores = logits[len(words) - 1 : -1].log_softmax(dim=-1).gather(1, tokens[:, None])
                contrast = hypothesis["contrast"]
                assert contrast.without == pytest.approx(float(scores.mean()) / math.log(2), abs=1e-3)
                given = float(hypothesis["positional_scores"].mean()) / math.log(2)
                assert contrast.given_speech == pytest.approx(given, abs=1e-3)

    @pytest.mark.parametrize("kind", ["removed", "silence"])
    def test_it_does_not_depend_on_the_batch(self, stage2, kind):
        together = run(stage2, batch(stage2, "test_fr", range(6)), {"speech_contrast": kind})
        for i in range(6):
            alone = run(stage2, batch(stage2, "test_fr", [i]), {"speech_contrast": kind})[0][0]["contrast"]
            assert alone.difference == pytest.approx(together[i][0]["contrast"].difference, abs=1e-3)

    @pytest.mark.parametrize("stage", ["stage1", "stage2"])
    def test_a_silent_recording_is_never_heard(self, request, stage):
        built = request.getfixturevalue(stage)
        sample = batch(built, "test", range(4))
        heard = run(built, sample, {"speech_contrast": "silence"})
        assert all(abs(row[0]["contrast"].difference) > 1e-3 for row in heard)
        sample["net_input"]["source"] = torch.zeros_like(sample["net_input"]["source"])
        generator = build_generator(built, {"speech_contrast": "silence"})
        for row in generator.generate([built.model], sample):
            assert row[0]["contrast"].difference == pytest.approx(0, abs=1e-5)
            assert generator.unheard(row[0])

    def test_a_prompt_that_ignores_the_speech_is_flagged(self, stage2, monkeypatch):
        sample = batch(stage2, "test_fr", range(3))
        generator = build_generator(stage2, {"speech_contrast": "removed"})
        monkeypatch.setattr(stage2.model, "prompt_embeddings", stage2.model.prompt_without_speech)
        assert all(generator.unheard(row[0]) for row in generator.generate([stage2.model], sample))

    def test_scores_are_those_of_the_model_whatever_the_search(self, stage2):
        sample = batch(stage2, "test_fr", range(2))
        options = {"speech_contrast": "removed", "repetition_penalty": 2.0}
        found = run(stage2, sample, options, temperature=1.7)
        texts = [row[0]["tokens"].tolist() for row in found]
        for row, scores in zip(found, log_probs_of(stage2, sample, texts), strict=True):
            given = float(scores.mean()) / math.log(2)
            assert row[0]["contrast"].given_speech == pytest.approx(given, abs=1e-3)

    def test_what_cannot_be_removed_is_one_sentence(self, stage1, stage2):
        with pytest.raises(SparqleError, match="a stage-1 model has none; take silence"):
            run(stage1, batch(stage1, "test", [0]), {"speech_contrast": "removed"})
        sample = batch(stage2, "test_fr", [0])
        speech = stage2.model.encode_speech(sample["net_input"]["source"], sample["net_input"]["padding_mask"])
        sample["net_input"] |= {"source": speech.values, "padding_mask": speech.padding_mask}
        with pytest.raises(SparqleError, match="needs audio"):
            run(stage2, sample, {"speech_contrast": "silence"})

    def test_a_line_says_difference_scores_and_a_word(self):
        assert contrast_text(Contrast(-0.5, -2.25), flag=False) == "1.7500\t-0.5000\t-2.2500\theard"
        assert contrast_text(Contrast(-0.5, -0.5), flag=True).endswith("\tunheard")


class TestMinimumBayesRisk:
    def test_expected_chrf_is_the_weighted_mean_of_sentence_scores(self):
        texts, weights = ["the cat sat", "the cat sits", "a dog"], [0.5, 0.3, 0.2]
        metric = CHRF()
        expected = [
            sum(w * metric.sentence_score(text, [other]).score for other, w in zip(texts, weights, strict=True))
            for text in texts
        ]
        assert expected_chrf(texts, weights) == pytest.approx(expected)

    def test_the_one_that_is_most_like_the_others_comes_first(self):
        texts = ["zebra", "the cat sat here", "the cat sat there", "the cat sits there"]
        assert mbr_order(texts, [0.0] * 4, sampled=True)[-1] == 0
        assert mbr_order(texts, [0.0] * 4, sampled=True)[0] == 2
        # In a beam the likely ones count more than the many.
        assert mbr_order(texts, [-0.1, -9, -9, -9], sampled=False)[0] == 0
        assert mbr_order(texts, [-0.1, -9, -9, -9], sampled=True)[0] == 2, "how often it was drawn says it already"
        assert mbr_order(["a b", "a b"], [-1.0, -2.0], sampled=False) == [0, 1]

    def test_posterior_shares_add_up(self):
        assert posterior([-1000.0, -1000.0]) == pytest.approx([0.5, 0.5])
        assert posterior([math.log(0.3), math.log(0.1)]) == pytest.approx([0.75, 0.25])

    @pytest.mark.parametrize("sampling", [False, True])
    def test_reranking_reorders_what_the_search_found(self, stage2, sampling):
        sample = batch(stage2, "test_fr", range(6))
        plain = run(stage2, sample, beam=6, sampling=sampling)
        ranked = run(stage2, sample, {"rerank": "mbr"}, beam=6, sampling=sampling)
        assert [sorted(row) for row in answers(ranked)] == [sorted(row) for row in answers(plain)]
        for before, after in zip(plain, ranked, strict=True):
            texts = [stage2.task.dictionary.text(h["tokens"]) for h in before]
            order = mbr_order(texts, [float(h["positional_scores"].sum()) for h in before], sampling)
            assert [h["tokens"].tolist() for h in after] == [before[i]["tokens"].tolist() for i in order]
        if sampling:
            assert answers(ranked) != answers(plain)


def written(world, checkpoint, *more):
    """What fairseq-generate writes below --results-path."""
    out = checkpoint.parent / "out"
    generate(world, checkpoint, "sparqle_finetune", "test_fr", "--results-path", out, *more)
    return out / "generate-test_fr.txt"


def test_the_command_reads_the_options_and_prints_contrasts_with_hypotheses(world, tmp_path):
    small = ["--hidden-size", 32, "--layers", 1, "--heads", 4, "--ffn-size", 64, "--queries", 4]
    train_here(finetune_arguments(world, tmp_path, "--speech-encoder", world.encoder, *small, updates=1))
    checkpoint = tmp_path / "checkpoint_last.pt"
    more = ["--speech-contrast", "removed", "--least-contrast", 1000, "--rerank", "mbr", "--prefix", "Vert"]
    more += ["--max-tokens-per-second", 30, "--min-tokens-per-second", 1, "--repetition-penalty", 1.1, "--loop-guard"]
    path = written(world, checkpoint, *more, "--beam", 2)
    contrasts, hypotheses = lines(path.read_text(), "I"), lines(path.read_text(), "D")
    assert contrasts.keys() == hypotheses.keys() == set(range(16))
    assert all(len(line.split("\t")) == 5 and line.endswith("\tunheard") for line in contrasts.values())
    assert all(line.split("\t", 1)[1].startswith("Vert") for line in hypotheses.values())
    assert sum(line.startswith("I-") for line in lines_in_order(read_results([path]))) == 16
    plain = lines(written(world, checkpoint, "--beam", 2, "--min-len", 12).read_text(), "I")
    assert plain == dict.fromkeys(range(16), "length"), "no hypothesis ends before 12 tokens, nor is longer"
