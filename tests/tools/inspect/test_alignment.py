"""fairseq-generate --print-alignment: an A- line for every hypothesis, within the recording."""

from __future__ import annotations

from argparse import Namespace

import pytest
import torch
from commands import generate_arguments, generate_here, lines
from tiny_models import batch

from sparqle_fairseq.data.manifest import read_manifest

SAMPLES_PER_FRAME = 320
STAGES = [("stage1", "sparqle_pretrain"), ("stage2", "sparqle_finetune")]


@pytest.fixture
def generate(world, checkpoints):
    """What fairseq-generate prints, run in this process."""

    def run(stage, split, *more):
        checkpoint = getattr(checkpoints, stage)
        return generate_here(generate_arguments(world, checkpoint, dict(STAGES)[stage], split, *more))

    return run


@pytest.mark.parametrize("stage", dict(STAGES))
def test_every_token_of_every_row_has_a_frame_of_its_recording(world, generate, caplog, stage):
    caplog.set_level("INFO")
    output = generate(stage, "test", "--print-alignment", "--beam", 2)
    found, scores = lines(output, "A"), lines(output, "P")
    manifest = read_manifest(world.data / "test.tsv")
    assert sorted(found) == sorted(scores) == list(range(len(manifest)))
    assert "frames of 0.02 seconds" in caplog.text
    for row, line in found.items():
        pairs = [tuple(map(int, pair.split("-"))) for pair in line.split()]
        assert [token for _, token in pairs] == list(range(len(scores[row].split()) - 1)), "all but the end"
        assert all(0 <= frame < manifest.n_frames[row] // SAMPLES_PER_FRAME for frame, _ in pairs)
    assert any(line for line in found.values()), "all hypotheses are empty"


def test_a_soft_alignment_spreads_1_over_the_frames_of_the_recording(world, generate):
    output = generate("stage2", "test", "--print-alignment", "soft", "--beam", 2, "--nbest", 2)
    scores = [line.split("\t")[1].split() for line in output.splitlines() if line.startswith("P-")]
    found = [line for line in output.splitlines() if line.startswith("A-")]
    assert len(found) == len(scores) == 2 * 16
    manifest = read_manifest(world.data / "test.tsv")
    for line, tokens in zip(found, scores, strict=True):
        name, _, rows = line.partition("\t")
        frames = (manifest.n_frames[int(name[2:])] - 400) // SAMPLES_PER_FRAME + 1
        shares = [[float(share) for share in row.split(",")] for row in rows.split()]
        assert len(shares) == len(tokens)
        assert all(len(row) == frames and sum(row) == pytest.approx(1, abs=1e-3) for row in shares)


def test_alignments_change_no_hypothesis_and_are_made_only_on_request(stage2):
    sample = batch(stage2, "test", range(4))
    options = {"beam": 3, "nbest": 2, "lenpen": 1.0, "unnormalized": False, "min_len": 1, "max_len_a": 0.0}
    options |= {"max_len_b": 12, "temperature": 1.0, "sampling": False, "sampling_topk": -1, "sampling_topp": -1.0}

    def run(alignment):
        given = Namespace(**options, no_repeat_ngram_size=0, print_alignment=alignment)
        return stage2.task.build_generator([stage2.model], given).generate([stage2.model], sample)

    for plain, aligned in zip(run(None), run("hard"), strict=True):
        assert len(plain) == len(aligned) == 3
        for rank, (one, other) in enumerate(zip(plain, aligned, strict=True)):
            assert torch.equal(one["tokens"], other["tokens"])
            assert torch.equal(one["positional_scores"], other["positional_scores"])
            assert len(one["alignment"]) == 0
            assert len(other["alignment"]) == (len(other["tokens"]) - 1 if rank < 2 else 0), "for the --nbest alone"
