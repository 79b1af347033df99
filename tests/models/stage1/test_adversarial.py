"""The language adversary: sign and strength of its gradient, who takes part, one process or many, the command."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from commands import pretrain_arguments, train_here
from small_qformers import STILL
from tiny_models import batch, build_stage1

from sparqle_fairseq.criterions.pretrain import PretrainCriterion
from sparqle_fairseq.data.manifest import ManifestError, ManifestRow
from sparqle_fairseq.data.text import TranscriptTokenizer
from sparqle_fairseq.data.transcripts import TranscriptSide
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.stage1.adapter import Stage1Adapter
from sparqle_fairseq.models.stage1.batch import Foreign, Stage1Text
from sparqle_fairseq.models.stage1.objectives.adversary import DomainClassifier, reversal_strength, reverse_gradient
from sparqle_fairseq.tasks.loading import load_trained

ON = ("--objective", "sparqle+adversarial", "--train-subset", "train2", "--valid-subset", "dev2")
OBJECTIVES = ("stc", "adversarial")


def test_the_gradient_is_turned_round_and_scaled():
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    y = reverse_gradient(x, 0.25)
    assert torch.equal(y, x)
    (y * torch.tensor([3.0, 4.0])).sum().backward()
    assert x.grad.tolist() == [-0.75, -1.0]


def test_the_strength_grows_from_0_to_1():
    values = [reversal_strength(i / 10) for i in range(11)]
    assert values[0] == 0
    assert values[-1] == pytest.approx(0.99991, abs=1e-5)
    assert values[1] == pytest.approx(0.46212, abs=1e-5)
    assert values == sorted(values)
    assert (reversal_strength(-3), reversal_strength(5)) == (values[0], values[-1])


def test_the_classifier_is_the_published_one():
    """Linear, BatchNorm, ReLU, linear as torch computes them, with its running statistics, in training and in use."""
    torch.manual_seed(0)
    ours = DomainClassifier(6)
    layers = torch.nn.Sequential(
        torch.nn.Linear(6, 100), torch.nn.BatchNorm1d(100), torch.nn.ReLU(), torch.nn.Linear(100, 2)
    )
    layers[0].load_state_dict(ours.hidden.state_dict())
    layers[1].load_state_dict(ours.norm.state_dict())
    layers[3].load_state_dict(ours.output.state_dict())
    for _ in range(3):
        x = torch.randn(8, 6)
        torch.testing.assert_close(ours(x), layers(x))
    for name, value in layers[1].state_dict().items():
        torch.testing.assert_close(ours.norm.state_dict()[name], value)
    ours.eval()
    layers.eval()
    torch.testing.assert_close(ours(x), layers(x))
    assert ours.half()(x.half()).dtype == torch.float32


# ---- batches


def test_only_translations_make_pairs(world):
    side = TranscriptSide(TranscriptTokenizer.load(str(world.tokenizer)), 20, pairs=True)
    common = {"audio": "a", "n_frames": 1, "speaker": None, "prompt": None, "line": 2}

    def item(src, tgt, lang, task):
        row = ManifestRow(id=src, src_text=src, tgt_text=tgt, src_lang="en", tgt_lang=lang, task=task, **common)
        return side.item(row, "x.tsv:2", 1)

    items = [
        item("red fox", "red fox", "en", "transcription"),
        item("dog", "Chien dort", "fr", "translation"),
        item("cat", None, "fr", "translation"),
        item("red", "Rouge", "fr", "translation"),
    ]
    found = side.collate(items)["net_input"]
    assert found["foreign_rows"].tolist() == [1, 3]
    assert found["foreign_text"].shape == found["foreign_padding_mask"].shape
    assert found["foreign_text"][1][~found["foreign_padding_mask"][1]].tolist() == items[3]["foreign"]
    none = side.collate(items[:1])["net_input"]
    assert none["foreign_rows"].tolist() == []
    with pytest.raises(ManifestError, match="found a translation of"):
        item("red", "Rouge " * 40, "fr", "translation")


def adapter(**options):
    torch.manual_seed(0)
    model = Stage1Adapter(
        STILL, decode_token=18, pad_token=0, objectives=OBJECTIVES, options=SimpleNamespace(**options)
    )
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def texts(rows=range(5), pairs=(0, 2, 3), length=7):
    """Transcripts with translations of some, the padding longer than any needs."""
    generator = torch.Generator().manual_seed(1)
    words, foreign = torch.randint(3, 18, (2, 5, 6), generator=generator)
    words, foreign = (torch.nn.functional.pad(x, (0, length - 6)) for x in (words, foreign))
    lengths = torch.tensor([6, 4, 5, 3, 6])
    padded = torch.arange(length)[None] >= lengths[:, None]
    rows = list(rows)
    here = [rows.index(row) for row in pairs if row in rows]
    chosen = [rows[i] for i in here]
    translations = Foreign(
        foreign[chosen].masked_fill(padded[chosen], 0), padded[chosen], torch.tensor(here, dtype=torch.long)
    )
    keys = torch.arange(5)[rows]
    return Stage1Text(words[rows].masked_fill(padded[rows], 0), padded[rows], keys, keys, None, translations)


def domains(model, text, update=0):
    """What the adversary sees and says; it reads no speech."""
    batch = model.batch(torch.zeros(len(text.tokens), 1, 6), torch.zeros(len(text.tokens), 1), text, update)
    return model.objectives["adversarial"].domains(model, batch)


def test_padding_changes_nothing():
    model = adapter().eval()
    torch.testing.assert_close(domains(model, texts(length=7)).logits, domains(model, texts(length=12)).logits)


def test_the_labels_are_right_and_rows_without_a_translation_take_no_part():
    model = adapter().eval()
    found = domains(model, texts())
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1]
    changed = texts()
    changed.tokens[1] = 5  # has no translation
    torch.testing.assert_close(domains(model, changed).logits, found.logits)
    changed.tokens[2] = 5
    assert not torch.allclose(domains(model, changed).logits, found.logits)
    assert domains(model, texts(pairs=())).logits.shape == (0, 2)


@pytest.mark.parametrize("reads", ["features", "hidden"])
def test_the_classifier_goes_down_and_the_features_go_up(reads):
    """One step along each gradient: the classifier's lowers the loss, that of the text branch raises it."""

    def loss(model):
        return torch.nn.functional.cross_entropy(*domains(model, texts(), 10))

    for part, lower in (("domain_classifier", True), ("qformer", False)):
        model = adapter(adversarial_input=reads)
        model.objectives["adversarial"].ramp_updates = 10
        before = loss(model)
        before.backward()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.startswith(part) and parameter.grad is not None:
                    parameter -= 1e-3 * parameter.grad
        assert (loss(model) < before) == lower
    model = adapter(adversarial_input=reads)
    model.objectives["adversarial"].ramp_updates = 10
    torch.nn.functional.cross_entropy(*domains(model, texts())).backward()  # at the first update: no strength yet
    assert not any(p.grad is not None and p.grad.any() for p in model.qformer.parameters())
    assert model.domain_classifier.hidden.weight.grad.any()


def test_the_update_says_how_strongly_the_gradient_is_turned_round():
    """A tenth of the way: 2 / (1 + exp(-1)) - 1."""
    gradients = []
    for ramp in (0, 20):
        model = adapter().eval()
        model.objectives["adversarial"].ramp_updates = ramp
        torch.nn.functional.cross_entropy(*domains(model, texts(), update=2)).backward()
        gradients.append(model.qformer.text.words.weight.grad)
    torch.testing.assert_close(gradients[1], 0.46212 * gradients[0], rtol=1e-4, atol=1e-7)


# ---- processes


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.adapter = adapter()
        self.objective = dict.fromkeys(OBJECTIVES, 1.0)

    def forward(self, source, rows, pairs, active=True):
        text = texts(rows, pairs)
        mask = torch.zeros(source.shape[:2], dtype=torch.bool)
        return self.adapter(source, mask, text, update=5, active=active)


PAIRS = (0, 2, 3)


def step(rows, active=True):
    """Loss and gradients of one process, and the running statistics."""
    model = Model().train()
    criterion = PretrainCriterion(SimpleNamespace(max_update=20), SimpleNamespace(model=model))
    source = torch.randn(5, 6, 6, generator=torch.Generator().manual_seed(2))[list(rows)]
    net_input = {"source": source, "rows": rows, "pairs": PAIRS, "active": active}
    loss, size, _ = criterion(model, {"net_input": net_input, "nsentences": len(rows), "ntokens": 1})
    (loss if active else loss * 0).backward()
    classifier = model.adapter.domain_classifier
    watched = ["domain_classifier.hidden.weight", "domain_classifier.norm.weight", "text_projection.weight"]
    watched += ["qformer.text.words.weight", "qformer.layers.0.self_attention.key.weight"]
    gradients = [model.adapter.get_parameter(name).grad.numpy() for name in watched]
    return (
        loss.detach().numpy(),
        size,
        gradients,
        [classifier.norm.running_mean.numpy(), classifier.norm.running_var.numpy()],
    )


def work(rank, world, port, shares, queue):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    rows, active = shares[rank]
    _, size, gradients, running = step(rows, active)
    sums = [torch.tensor(float(size)), *map(torch.from_numpy, gradients)]
    for value in sums:
        dist.all_reduce(value)
    queue.put((rank, [(value / sums[0]).numpy() for value in sums[1:]], running))
    dist.destroy_process_group()


@pytest.mark.parametrize(
    "shares",
    [
        [(range(2), True), (range(2, 5), True)],
        [(range(5), True), (range(2), False)],  # the second ran out of data
        [([0, 2, 3, 4], True), ([1], True)],  # the second has no pair
    ],
    ids=["shared", "out of data", "no pair"],
)
def test_one_process_and_two_take_the_same_step(shares):
    """BatchNorm's statistics are those of the pairs of all processes, and so are the running ones."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = mp.get_context("fork")  # seconds faster than spawn; nothing here has threads of its own yet
    queue = context.Queue()
    processes = [context.Process(target=work, args=(rank, 2, port, shares, queue)) for rank in range(2)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=300) for _ in processes]
    for process in processes:
        process.join()
    _, size, gradients, running = step(range(5))
    for _, together, statistics in results:
        for one, other in zip(gradients, together, strict=True):
            torch.testing.assert_close(torch.from_numpy(one) / size, torch.from_numpy(other), atol=1e-6, rtol=1e-4)
        for one, other in zip(running, statistics, strict=True):
            torch.testing.assert_close(torch.from_numpy(one), torch.from_numpy(other))


# ---- the command


def test_off_there_is_no_module(world):
    assert not [name for name in build_stage1(world).model.state_dict() if "domain" in name]
    net_input = batch(build_stage1(world), "train2", range(3))["net_input"]
    assert not [name for name in net_input if "foreign" in name]


REFUSED = {
    "nothing beside it": (("--objective", "adversarial"), "nothing beside it reads none in the Q-Former"),
    "no text": (("--objective", "ctc+adversarial"), "reads none in the Q-Former"),
    "no contrastive space": (("--objective", "stg+adversarial"), "give --adversarial-input hidden"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused(world, name):
    options, expected = REFUSED[name]
    with pytest.raises(SparqleError, match=expected):
        build_stage1(world, *options)


def test_data_without_translations_and_training_without_an_end_are_refused(world):
    built = build_stage1(world, "--objective", "sparqle+adversarial", "--max-update", "5")
    with pytest.raises(SparqleError, match="has no translation row"):
        built.task.load_dataset("train")
    with pytest.raises(SparqleError, match="--adversarial-ramp-updates"):
        build_stage1(world, "--objective", "sparqle+adversarial", "--max-update", "0")


def test_two_updates_log_the_adversary_and_the_checkpoint_holds_it(world, tmp_path, caplog):
    with caplog.at_level("INFO"):
        train_here(pretrain_arguments(world, tmp_path, *ON, updates=2))
    assert "adversarial_accuracy" in caplog.text
    assert "adversarial_loss" in caplog.text
    state = torch.load(tmp_path / "checkpoint_last.pt", weights_only=True)
    assert state["model"]["adapter.domain_classifier.hidden.weight"].shape == (100, 256)
    assert state["model"]["adapter.domain_classifier.norm.num_batches_tracked"] == 2
    model = load_trained(tmp_path / "checkpoint_last.pt", cpu=True).model
    assert model.adapter.domain_classifier is not None
