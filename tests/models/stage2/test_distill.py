"""Distillation: the teacher is the LLM that reads the transcript, at the answer's tokens and nowhere else."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from tiny_models import batch, build_stage2
from transformers import AutoModelForCausalLM, AutoTokenizer

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.stage2 import batch as stage2_batch
from sparqle_fairseq.models.stage2.batch import Lessons, Stage2Batch
from sparqle_fairseq.models.stage2.objectives.distill import divergence
from sparqle_fairseq.models.stage2.prompted import prompt_of_text

ROWS = [0, 5, 3, 9]


@pytest.fixture(scope="module")
def distilled(world):
    return build_stage2(world, "--objective", "distill")


def lessons_of(sample):
    return Lessons(**{name: sample[name] for name in Lessons._fields if name in sample})


def stage2_batch_of(built, sample):
    given = sample["net_input"]
    return Stage2Batch(
        built.model, given["answer"], given["answer_padding_mask"], lessons_of(sample), lambda: built.model(**given)
    )


def taught(built, sample):
    """(B, L, V) of the teacher."""
    return torch.cat([logits for _, logits in stage2_batch_of(built, sample).read_logits()])


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_divergence_and_its_gradient_are_torchs_on_rows_without_padding(temperature):
    torch.manual_seed(0)
    student, teacher = (3 * torch.randn(3, 5, 11)).requires_grad_(), 3 * torch.randn(3, 5, 11)
    real = torch.tensor([[True] * 5, [True] * 2 + [False] * 3, [True] * 4 + [False]])
    parts = [(slice(0, 2), teacher[:2]), (slice(2, 3), teacher[2:])]
    loss, agreed = divergence(student, real, parts, temperature)
    (2 * loss).backward()
    plain = student.detach().clone().requires_grad_()
    expected = sum(
        F.kl_div(
            (plain[i, :length] / temperature).log_softmax(-1),
            (teacher[i, :length] / temperature).softmax(-1),
            reduction="sum",
        )
        for i, length in enumerate((5, 2, 4))
    )
    expected = expected * temperature**2
    (2 * expected).backward()
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(student.grad, plain.grad)
    assert agreed == (student.argmax(-1) == teacher.argmax(-1))[real].sum()


def test_a_divergence_by_hand():
    """Two tokens: the teacher says 3 to 1, the student 1 to 1."""
    teacher = torch.tensor([[[3.0, 1.0, 0.0]]]).log()  # the third is ruled out
    student = torch.zeros(1, 1, 3)
    student[..., 2] = -torch.inf
    loss, _ = divergence(student, torch.ones(1, 1, dtype=torch.bool), [(slice(0, 1), teacher)])
    expected = 0.75 * torch.tensor(1.5).log() + 0.25 * torch.tensor(0.5).log()
    torch.testing.assert_close(loss, expected)


def test_the_teacher_is_the_plain_llm_that_reads_the_transcript(world, distilled):
    """transformers alone, on a text made by hand of the first wording: the same distribution at every answer token."""
    tokenizer, llm = AutoTokenizer.from_pretrained(world.llm), AutoModelForCausalLM.from_pretrained(world.llm).eval()
    distilled.task.load_dataset("dev2")
    sample = batch(distilled, "dev2", [0, 1, 6, 7])
    found = taught(distilled, sample)
    side = distilled.task.dataset("dev2").text
    for i, row in enumerate(distilled.task.dataset("dev2").row(k) for k in (0, 1, 6, 7)):
        wording = side.templates.instruction(row.task, row.tgt_lang).replace("{speech}", row.src_text)
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": wording}], add_generation_prompt=True, tokenize=False
        )
        ids = tokenizer.encode(prompt, add_special_tokens=False)
        answer = [*tokenizer.encode(row.tgt_text, add_special_tokens=False), tokenizer.eos_token_id]
        with torch.no_grad():
            logits = llm(torch.tensor([[*ids, *answer]])).logits[0]
        expected = logits[len(ids) - 1 : -1].log_softmax(-1)
        torch.testing.assert_close(found[i, : len(answer)].log_softmax(-1), expected, atol=1e-4, rtol=1e-4)
    distilled.task.datasets.pop("dev2")


def test_batch_mates_and_parts_change_nothing(distilled, monkeypatch):
    sample = batch(distilled, "train2", ROWS)
    whole, size, log = distilled.criterion(distilled.model, sample)
    alone = [distilled.criterion(distilled.model, batch(distilled, "train2", [row])) for row in ROWS]
    torch.testing.assert_close(whole, sum(loss for loss, _, _ in alone), atol=1e-3, rtol=1e-4)
    assert size == sum(own for _, own, _ in alone) == sample["ntokens"]
    assert log["distill_agreed"] == sum(own["distill_agreed"] for _, _, own in alone)
    monkeypatch.setattr(stage2_batch, "LOGITS_AT_A_TIME", 1)
    row_by_row, _, _ = distilled.criterion(distilled.model, sample)
    torch.testing.assert_close(whole, row_by_row, atol=1e-3, rtol=1e-4)


def test_an_llm_that_hears_what_it_would_read_has_nothing_to_learn(distilled):
    """The transcript's own embeddings in the place of the speech: prompt, answer and end stand in the same places."""
    sample = batch(distilled, "train2", ROWS)
    model = distilled.model
    prefix, seen = prompt_of_text(model.llm, sample["reading"], sample["reading_padding_mask"])
    given = sample["net_input"]
    answer = given["answer"], given["answer_padding_mask"]
    heard = Stage2Batch(model, *answer, lessons_of(sample), lambda: model.llm.forced(prefix, seen, *answer))
    sums = model.objectives["distill"].sums(heard)
    assert abs(float(sums["sum"])) < 1e-4
    assert sums["agreed"] == sums["count"]


def test_only_the_adapter_learns_and_the_teacher_has_no_lora(world):
    built = build_stage2(world, "--objective", "distill", "--lora-rank", "2")
    model, sample = built.model, batch(built, "train2", ROWS)
    with torch.no_grad():
        for name, parameter in model.adapter.lora.named_parameters():
            if name.endswith("B.weight"):
                parameter.normal_()
    plain = taught(build_stage2(world, "--objective", "distill"), sample)
    torch.testing.assert_close(taught(built, sample), plain, atol=1e-5, rtol=1e-5)
    model.train()
    loss, _, _ = built.criterion(model, sample)
    loss.backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())
    trained = set(model.parameters())
    frozen = [parameter for parameter in model.llm.model.parameters() if parameter not in trained]
    assert frozen
    assert all(parameter.grad is None for parameter in frozen)


def test_a_weighted_sum_is_the_sum_of_its_parts(world, distilled):
    both = build_stage2(world, "--objective", "answer+0.5*distill")
    answer = build_stage2(world)
    sample = batch(both, "train2", ROWS)
    loss, size, _ = both.criterion(both.model, sample)
    first, _, _ = answer.criterion(answer.model, sample)
    second, _, _ = distilled.criterion(distilled.model, sample)
    torch.testing.assert_close(loss, first + 0.5 * second)
    assert size == sample["ntokens"]


def test_a_row_without_transcript_is_one_sentence(world, tmp_path):
    lines = (world.data / "train2.tsv").read_text().splitlines()
    head, row = lines[0].split("\t"), next(line for line in lines[1:] if "translation" in line).split("\t")
    row[head.index("src_text")] = ""
    row[head.index("audio")] = str(world.data / row[head.index("audio")])
    (tmp_path / "silent.tsv").write_text("\t".join(head) + "\n" + "\t".join(row) + "\n")
    built = build_stage2(world, "--objective", "distill")
    built.task.cfg.data = str(tmp_path)
    built.task.load_dataset("silent")
    with pytest.raises(SparqleError, match=r"silent.tsv.*read the transcript .--objective.; fill in src_text"):
        built.task.dataset("silent")[0]
    # In generation nothing is read.
    built.task.load_dataset("silent", task_cfg=built.cfg.task)
    assert "reading" not in built.task.dataset("silent")[0]


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (["--objective", "distil"], "'distil' is unknown; choose from answer, distill"),
        (["--objective", "distill", "--distill-temperature", "0"], "--distill-temperature 0 must be above 0"),
    ],
)
def test_what_cannot_be_is_one_sentence(world, more, complaint):
    with pytest.raises(SparqleError, match=complaint):
        build_stage2(world, *more)
