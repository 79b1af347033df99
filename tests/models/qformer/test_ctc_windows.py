"""Windows that end where CTC hears a token end: where they lie, that padding moves none, both stages."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_qformers import CLOSE, CONFIG, speech
from tiny_models import batch, build, build_stage1, build_stage2_from, save_adapter, stage1_arguments

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.generate.attention import check_can_look
from sparqle_fairseq.models.qformer.frame_ctc import FrameCtc
from sparqle_fairseq.models.qformer.qformer import QFormer
from sparqle_fairseq.models.qformer.windows import LONGEST, joined_windows

SHAPE = ["--query-windows", "ctc", "--query-window-seconds", "0.04", "--queries-per-window", "2"]
OBJECTIVE = ["--objective", "stc+stm+stg+ctc+frame-ctc"]
HEARD = replace(CONFIG, queries=2, window_frames=3, query_windows="ctc", frame_vocabulary=7)


def test_pieces_are_joined_until_a_token_ends():
    values = torch.arange(10.0)[None, :, None].repeat(2, 1, 1)
    padding_mask = torch.zeros(2, 10, dtype=torch.bool)
    padding_mask[1, 5:] = True
    ends = torch.zeros(2, 10, dtype=torch.bool)
    ends[0, [2, 3, 7]] = True  # pieces of 2 frames: the second has both the first ends, the fourth the third
    frames, mask, beyond = joined_windows(values, padding_mask, 2, ends)
    windows = [frame[~padded, 0].tolist() for frame, padded in zip(frames, mask, strict=True)]
    assert windows == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], [0, 1, 2, 3, 4], [], []]
    assert beyond.tolist() == [[False] * 3, [False, True, True]]


def test_a_window_is_not_longer_than_the_longest():
    values, padding_mask = torch.zeros(1, 2 * LONGEST + 1, 1), torch.zeros(1, 2 * LONGEST + 1, dtype=torch.bool)
    _, mask, beyond = joined_windows(values, padding_mask, 1, torch.zeros_like(padding_mask))
    assert (~mask).sum(dim=1).tolist() == [LONGEST, LONGEST, 1]
    assert not beyond.any()


def test_a_token_ends_where_it_is_no_longer_the_likeliest():
    head = FrameCtc(3, 2)  # frames of one-hot scores: blank, first token, second token
    with torch.no_grad():
        head.blank.weight.copy_(torch.tensor([[1.0, 0, 0]]))
        head.tokens.weight.copy_(torch.tensor([[0, 1.0, 0], [0, 0, 1.0]]))
        head.blank.bias.zero_()
        head.tokens.bias.zero_()
    labels = torch.tensor([[0, 1, 1, 2, 0, 2, 1, 1], [1, 1, 1, 0, 0, 0, 0, 0]])
    padding_mask = torch.arange(8)[None] >= torch.tensor([8, 2])[:, None]
    ends = head.ends(torch.nn.functional.one_hot(labels, 3).float(), padding_mask)
    assert [row.nonzero()[:, 0].tolist() for row in ends] == [[2, 3, 5, 7], [1]]


@pytest.mark.parametrize("start", ["learned", "monotonic"])
def test_neither_padding_nor_the_batch_moves_a_window(start):
    torch.manual_seed(0)
    qformer = QFormer(replace(HEARD, query_start=start)).eval()
    with torch.no_grad():
        qformer.frame_ctc.blank.bias.zero_()
        for parameter in qformer.parameters():
            parameter.mul_(5 if parameter.dim() > 1 else 1)
    lengths = [41, 5, 1, 22]
    values, padding_mask = speech(lengths, longest=47)
    values[padding_mask] = 1e3
    together = qformer(values, padding_mask)
    counts = (~together.padding_mask).sum(dim=1)
    assert len(set(counts.tolist())) > 2
    assert (counts <= qformer.config.query_count(torch.tensor(lengths))).all()
    for i, length in enumerate(lengths):
        alone = qformer(values[i : i + 1, :length], padding_mask[i : i + 1, :length])
        assert alone.hidden.size(1) == counts[i]
        torch.testing.assert_close(together.hidden[i, : counts[i]], alone.hidden[0], **CLOSE)


def test_every_pass_of_stage_1_learns_over_them_and_stage_2_goes_on(world, tmp_path):
    first = build_stage1(world, *OBJECTIVE, *SHAPE)
    loss, _, log = first.criterion(first.model.train(), batch(first, "train", range(4)))
    loss.backward()
    assert loss.isfinite()
    assert log["frame_ctc_count"] > 0
    for name, value in first.model.named_parameters():
        assert (value.grad is not None) == value.requires_grad, name
    assert first.cfg.model.frame_vocabulary == first.model.tokenizer.vocab_size
    second = build_stage2_from(world, save_adapter(first, tmp_path / "first.pt"))
    there, here = first.model.state_dict(), second.model.state_dict()
    parts = [name for name in here if "frame_ctc" in name]
    assert len(parts) == 4
    assert all(torch.equal(here[name], there[name]) and not here[name].requires_grad for name in parts)
    with torch.no_grad():
        assert second.model.eval()(**batch(second, "dev2", range(3))["net_input"]).isfinite().all()
    with pytest.raises(SparqleError, match="with --query-windows ctc windows end where tokens do"):
        check_can_look(second.model)


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ([*SHAPE, "--objective", "ctc"], "--query-windows ctc is taught by the objective frame-ctc"),
        (["--objective", "ctc+frame-ctc"], "frame-ctc teaches where windows end; it goes with --query-windows ctc"),
        ([*SHAPE, "--objective", "frame-ctc"], "frame-ctc teaches no query; add another"),
        (["--query-windows", "ctc", *OBJECTIVE], "--query-windows ctc needs --query-window-seconds"),
    ],
)
def test_what_does_not_go_together_is_refused(more, complaint, world):
    with pytest.raises(SparqleError, match=complaint):
        build([*stage1_arguments(world), *more])
