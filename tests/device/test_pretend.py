"""The pretend device itself: what it refuses, what it counts, and what it lets pass, as CUDA does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pretend import MixedDevices, device_watch, pretend_device


@pytest.fixture
def device():
    with pretend_device() as there:
        yield there


@pytest.fixture
def x(device):
    return torch.arange(12.0, device=device).view(3, 4)


HERE = torch.ones(3, 4)
REFUSED = {
    "an element-wise operation": lambda x: x + HERE,
    "its mirror image": lambda x: HERE * x,
    "a product": lambda x: x @ HERE.T,
    "joined rows": lambda x: torch.cat([x, HERE]),
    "a stack with a number": lambda x: torch.stack([x.sum(), torch.tensor(1.0)]),
    "an embedding of ids of the CPU": lambda x: F.embedding(torch.tensor([1]), x),
    "a choice of rows": lambda x: x.index_select(0, torch.tensor([1])),
    "ids of the device into a tensor of the CPU": lambda x: HERE[x[:, 0].long()],
    "a number of the CPU changed in place": lambda x: torch.tensor(1.0).add_(x.sum()),
    "values of the CPU put in by index": lambda x: x.index_put_((torch.tensor([0, 1]),), torch.ones(2, 4)),
    "a layer that was left behind": lambda x: torch.nn.Linear(4, 2)(x),
    "a mask of the CPU": lambda x: x.masked_fill(HERE > 0, 0.0),
}


@pytest.mark.parametrize("name", REFUSED)
def test_operations_that_mix_devices_are_refused(x, name):
    with pytest.raises(MixedDevices, match="of the CPU"):
        REFUSED[name](x)


@pytest.mark.parametrize("read", [lambda x: x.numpy(), np.asarray, np.array], ids=["numpy", "asarray", "array"])
def test_numpy_cannot_read_the_device(x, read):
    with pytest.raises(TypeError, match="copy it to the CPU first"):
        read(x)


WAITING = {
    "item": lambda x: x[0, 0].item(),
    "float": lambda x: float(x.sum()),
    "int": lambda x: int(x.max()),
    "tolist": lambda x: x.tolist(),
    "a condition": lambda x: 1 if x.sum() > 3 else 2,
    "a printed number": lambda x: f"{x.sum():.2f}",
    "cpu": lambda x: x.cpu(),
    "to": lambda x: x.to("cpu"),
    "a copy into a tensor of the CPU": lambda x: torch.empty(3, 4).copy_(x),
    "a mask as index": lambda x: x[x > 1],
    "a row by a number of the device": lambda x: x[x.argmax() * 0],
    "a slice to a number of the device": lambda x: x[: x.argmax() * 0],
    "values put where a mask is": lambda x: x.index_put_((x > 1,), x.sum()),
    "a number of the device where a mask is": lambda x: x.masked_fill(x > 1, x.sum()),
    "nonzero": lambda x: x.nonzero(),
    "where": lambda x: torch.where(x > 1),
    "masked_select": lambda x: x.masked_select(x > 1),
    "unique": lambda x: x.unique(),
    "equal": lambda x: torch.equal(x, x),
    "repeats that the device counts": lambda x: x.repeat_interleave(x[:, 0].long(), dim=0),
    "one-hot of unknown width": lambda x: F.one_hot(x[0].long()),
}


@pytest.mark.parametrize("name", WAITING)
def test_what_waits_for_the_device_is_counted_once_with_its_place(x, name):
    with device_watch() as seen:
        WAITING[name](x)
    assert len(seen.waits) == 1, seen
    assert "test_pretend.py" in seen.waits[0]
    assert "<lambda>" in seen.waits[0]


PASSING = {
    "arithmetic": lambda x: (x * 2 + x).softmax(dim=1).argmax(dim=1),
    "a number of the CPU": lambda x: x + torch.tensor(1.0),
    "indices of the CPU": lambda x: x[torch.tensor([0, 2])],
    "indices of the device": lambda x: x[x[:, 0].long().clamp(max=2)],
    "a number where a mask is": lambda x: x.masked_fill(x > 1, -torch.inf),
    "a number put where a mask is": lambda x: x.__setitem__(x > 1, 0.0),
    "a number put into a column": lambda x: x.__setitem__((slice(None), 0), 5),
    "so many nonzeros": lambda x: torch.nonzero_static(x > 1, size=4),
    "repeats that are known": lambda x: x.repeat_interleave(2, dim=0),
    "made on the device": lambda x: torch.zeros(3, device=x.device) + x.new_ones(3) + torch.arange(3, device=x.device),
    "shapes": lambda x: len(x) + x.numel(),
    "a copy that is not waited for": lambda x: x.to("cpu", non_blocking=True),
}


@pytest.mark.parametrize("name", PASSING)
def test_what_does_not_wait_is_not_counted(x, name):
    with device_watch() as seen:
        PASSING[name](x)
    assert (seen.waits, seen.uploads) == ([], []), seen


def test_copies_to_the_device_are_counted_apart(device):
    with device_watch() as seen:
        HERE.to(device)
        torch.tensor([1, 2], device=device)
        torch.zeros(3, 4, device=device).copy_(HERE)
    assert (len(seen.waits), len(seen.uploads)) == (0, 3)


def test_cuda_reads_the_lengths_of_ctc(device):
    log_probs = torch.randn(5, 2, 4, device=device, requires_grad=True).log_softmax(-1)
    texts, lengths = torch.ones(2, 2, dtype=torch.long, device=device), torch.tensor([5, 5], device=device)
    with device_watch() as seen:
        F.ctc_loss(log_probs, texts, lengths, lengths // 3, reduction="sum").backward()
    assert len(seen.waits) == 2, seen
    with device_watch() as seen:
        F.ctc_loss(log_probs.detach(), texts, (5, 5), (2, 2), reduction="sum")
    assert not seen.waits


def test_a_module_moves_with_its_ties_and_learns_there_as_on_the_cpu(device):
    torch.manual_seed(0)
    one, other = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
    other.weight = one.weight
    model = torch.nn.Sequential(one, torch.nn.GELU(), other)
    inputs = torch.randn(5, 4)
    results = []
    for place in ("cpu", device):
        model.to(place)
        with device_watch() as seen:
            model.zero_grad()
            model(inputs.to(place)).pow(2).mean().backward()
            torch.optim.SGD(model.parameters(), lr=0.1).step()
        assert not seen.waits
        results.append([parameter.grad.cpu().clone() for parameter in model.parameters()])
        if place == "cpu":
            with torch.no_grad():  # back to where it began
                for parameter in model.parameters():
                    parameter.add_(parameter.grad, alpha=0.1)
    assert one.weight is other.weight
    assert one.weight.device.type == "pretend"
    torch.testing.assert_close(results[1], results[0])


def test_waits_of_a_backward_pass_are_seen(x):
    points = x.clone().requires_grad_()
    chosen = points[points > 1].sum()
    with device_watch() as seen:
        chosen.backward()
    assert [place.split()[0] for place in seen.waits] == ["autograd"], seen


def test_outside_of_the_block_there_is_no_such_device():
    with pretend_device():
        assert torch.accelerator.is_available()
    assert not torch.accelerator.is_available()
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.zeros(2, device="pretend")
