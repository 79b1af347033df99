"""Each workaround removes its symptom, and the symptom is there without it."""

import argparse
import importlib
import io
import os
import subprocess
import sys
import textwrap
import zipfile

import numpy as np
import pytest
import torch
from commands import script
from hypothesis import given, settings
from hypothesis import strategies as st

from sparqle_fairseq import fairseq_fixes
from sparqle_fairseq.data import torchaudio_import
from sparqle_fairseq.data.checkpoint_files import allow_fairseq_checkpoints
from sparqle_fairseq.fairseq_fixes import numpy_names, optimizers
from sparqle_fairseq.fairseq_fixes.batches import batch_by_size_keeping_all


def fresh_python(code: str) -> str:
    """Run code in a Python in which nothing of the plugin is applied: imported before fairseq, it only waits."""
    result = script("import sparqle_fairseq\n" + textwrap.dedent(code))
    assert result.returncode == 0, result.stderr
    return result.stdout


def saved(value: object) -> io.BytesIO:
    """What torch.save writes for a value, ready to be read."""
    stream = io.BytesIO()
    torch.save(value, stream)
    stream.seek(0)
    return stream


# -- torchaudio


def test_torchaudio_stand_in_is_used_exactly_where_the_import_fails():
    out = fresh_python("""
        import sys
        try:
            import torchaudio
            broken = False
        except OSError:
            broken = True
        from sparqle_fairseq.data.torchaudio_import import ensure_torchaudio
        used = ensure_torchaudio()
        again = ensure_torchaudio()
        assert used == again == broken, (used, again, broken)
        import torch, torchaudio
        assert torchaudio.functional.resample(torch.randn(1, 800), 8000, 16000).shape == (1, 1600)
        assert torchaudio.compliance.kaldi.mfcc(torch.randn(1, 16000)).shape[1] == 13
        torchaudio.transforms.Spectrogram()(torch.randn(1, 1600))
        assert torchaudio._extension is sys.modules["torchaudio._extension"]
        from transformers import HubertModel
        print("done")
    """)
    assert out.strip() == "done"


def test_torchaudio_that_works_is_left_alone(monkeypatch):
    monkeypatch.delitem(sys.modules, "torchaudio._extension", raising=False)
    monkeypatch.setattr(importlib, "import_module", lambda _name: object())
    assert torchaudio_import.ensure_torchaudio() is False
    assert "torchaudio._extension" not in sys.modules


def test_torchaudio_that_is_missing_is_not_an_error(monkeypatch):
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.delitem(sys.modules, "torchaudio._extension", raising=False)
    monkeypatch.setattr(importlib, "import_module", missing)
    assert torchaudio_import.ensure_torchaudio() is False


# -- checkpoints


def test_fairseq_checkpoint_loads_only_after_the_allow_list():
    out = fresh_python("""
        import argparse, io, pickle
        import numpy as np, torch
        from fairseq import checkpoint_utils
        from fairseq.data import Dictionary
        from omegaconf import OmegaConf
        dictionary = Dictionary()
        dictionary.add_symbol("hello")
        state = {
            "args": None,
            "cfg": OmegaConf.create({"model": {"sizes": [1, 2.0, None, True, "x"]}, "task": {"data": None}}),
            "model": {"weight": torch.ones(2)},
            "task_state": {"dictionaries": [dictionary]},
            "extra_state": {"val_loss": np.float64(3.5), "best": np.float32(1), "epoch": np.int64(2),
                            "curve": np.arange(3.0), "train_iterator": {"epoch": 1}},
            "optimizer_history": [{"num_updates": 4, "lr_scheduler_state": {"best": 1}}],
            "last_optimizer_state": {"old": argparse.Namespace(lr=[0.1])},
        }
        import tempfile, os
        path = os.path.join(tempfile.mkdtemp(), "checkpoint.pt")
        torch.save(state, path)
        strict = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 6)
        try:
            checkpoint_utils.load_checkpoint_to_cpu(path)
            assert not strict
        except pickle.UnpicklingError:
            assert strict
        from sparqle_fairseq.data.checkpoint_files import allow_fairseq_checkpoints
        allow_fairseq_checkpoints()
        allow_fairseq_checkpoints()
        read = checkpoint_utils.load_checkpoint_to_cpu(path)
        assert read["task_state"]["dictionaries"][0].index("hello") == dictionary.index("hello")
        assert read["extra_state"]["val_loss"] == 3.5 and read["extra_state"]["epoch"] == 2
        assert list(read["extra_state"]["curve"]) == [0, 1, 2]
        assert list(read["cfg"].model.sizes) == [1, 2.0, None, True, "x"]
        assert read["last_optimizer_state"]["old"].lr == [0.1]
        print("done")
    """)
    assert out.strip() == "done"


@pytest.mark.parametrize("core", ["core", "_core"])
def test_numpy_scalars_of_old_and_new_numpy_are_read(core):
    allow_fairseq_checkpoints()
    # Protocol 2 as torch.save writes it, the module's name as numpy 1 or numpy 2 writes it.
    stream = saved(np.float64(2.5)).getvalue()
    names = {"core": b"numpy.core.multiarray", "_core": b"numpy._core.multiarray"}
    written = next(name for name in (names["_core"], names["core"]) if name in stream)
    source, target = zipfile.ZipFile(io.BytesIO(stream)), io.BytesIO()
    with zipfile.ZipFile(target, "w") as out:
        for item in source.infolist():
            out.writestr(item.filename, source.read(item).replace(written, names[core]))
    target.seek(0)
    assert torch.load(target, weights_only=True) == 2.5


class Stranger:
    """Stands for code that a stranger's checkpoint would like to run."""

    def __reduce__(self):
        return (os.getenv, ("HOME",))


def test_checkpoint_with_anything_else_is_still_refused():
    allow_fairseq_checkpoints()
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(saved({"model": {}, "surprise": Stranger()}), weights_only=True)


# -- batches


def test_fairseq_drops_the_last_batch_and_ours_does_not():
    from fairseq.data import data_utils

    indices, lengths = np.arange(12), np.full(12, 10)
    limits = {"max_tokens": None, "max_sentences": 8, "required_batch_size_multiple": 8}
    theirs = data_utils.batch_by_size(indices, num_tokens_fn=None, num_tokens_vec=lengths, **limits)
    assert sum(map(len, theirs)) < 12  # the symptom; when this fails the workaround can go
    ours = batch_by_size_keeping_all(indices, lengths, **limits)
    assert np.concatenate(ours).tolist() == indices.tolist()


@settings(max_examples=200, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 50), max_size=60),
    max_tokens=st.one_of(st.none(), st.integers(50, 400)),
    max_sentences=st.one_of(st.none(), st.integers(1, 20)),
    multiple=st.sampled_from([1, 2, 3, 8]),
)
def test_no_index_is_lost_and_every_limit_holds(lengths, max_tokens, max_sentences, multiple):
    indices = np.arange(100, 100 + len(lengths))[::-1]
    batches = batch_by_size_keeping_all(
        indices,
        np.array(lengths, dtype=np.int64),
        max_tokens=max_tokens,
        max_sentences=max_sentences,
        required_batch_size_multiple=multiple,
    )
    assert [index for batch in batches for index in batch.tolist()] == indices.tolist()
    length_of = dict(zip(indices.tolist(), lengths, strict=True))
    for position, batch in enumerate(batches):
        assert len(batch) > 0
        if max_tokens is not None:
            assert len(batch) * max(length_of[index] for index in batch.tolist()) <= max_tokens
        if max_sentences is not None:
            assert len(batch) <= max_sentences
        if position < len(batches) - 1:
            assert len(batch) < multiple or len(batch) % multiple == 0


@pytest.mark.parametrize("multiple", [1, 8])
def test_batches_that_fairseq_makes_are_those_it_makes_of_a_plain_array_and_are_parts_of_one(multiple):
    from fairseq.data import data_utils

    draw = np.random.default_rng(0)
    indices, lengths = draw.permutation(5000), np.sort(draw.integers(10, 500, 5000))
    limits = {"max_tokens": 4000, "max_sentences": 30, "required_batch_size_multiple": multiple}
    theirs = data_utils.batch_by_size(indices, num_tokens_fn=None, num_tokens_vec=lengths, **limits)
    ours = batch_by_size_keeping_all(indices, lengths, **limits)
    assert len(ours) - len(theirs) in (0, 1), "an incomplete last batch, which fairseq may leave out"
    assert np.concatenate(ours).tolist() == indices.tolist()
    for one, other in zip(ours[: len(theirs)], theirs, strict=True):
        assert type(one) is np.ndarray  # split by slices, and not by numpy
        assert one.tolist() == other.tolist()
    assert all(one.base is ours[0].base is not None for one in ours)


def test_item_longer_than_max_tokens_is_named():
    with pytest.raises(ValueError, match=r"Item 7 has length 90, more than --max-tokens 50"):
        batch_by_size_keeping_all(np.array([5, 7]), np.array([10, 90]), max_tokens=50)


# -- numpy


def test_masking_without_overlap_works_after_the_alias():
    out = fresh_python("""
        import numpy as np
        from fairseq.data import data_utils
        def mask(kind="static", other=0.0, **options):
            return data_utils.compute_mask_indices((2, 40), None, 0.5, 4, kind, other, **options)
        def works(**options):
            try:
                return bool(mask(**options).any())
            except AttributeError:
                return False
        symptoms = not works(no_overlap=True, min_space=1) or not works(kind="uniform", other=1)
        from sparqle_fairseq.fairseq_fixes.numpy_names import ensure_numpy_aliases
        with_seed = mask(seed=1, epoch=1, indices=np.array([3, 4]))
        assert ensure_numpy_aliases() == symptoms
        assert ensure_numpy_aliases() is False
        assert works(no_overlap=True, min_space=1) and works(kind="uniform", other=1)
        assert (mask(seed=1, epoch=1, indices=np.array([3, 4])) == with_seed).all()  # same numbers
        assert not hasattr(np, "int") or np.int is int  # numpy itself is as it was
        print("done")
    """)
    assert out.strip() == "done"


def test_numpy_is_left_alone_where_fairseq_does_not_need_the_alias(monkeypatch):
    from fairseq.data import data_utils

    monkeypatch.setattr(data_utils, "np", np)
    monkeypatch.setattr(numpy_names.inspect, "getsource", lambda _module: "np.int64(1)")
    assert numpy_names.ensure_numpy_aliases() is False
    assert data_utils.np is np


def test_masks_of_fairseqs_own_models_follow_the_seed():
    from fairseq.data import data_utils

    fairseq_fixes.apply()

    def drawn() -> np.ndarray:
        return data_utils.compute_mask_indices((2, 40), None, 0.5, 4, "static", 0.0, min_masks=2)

    torch.manual_seed(1)
    first, second = drawn(), drawn()
    torch.manual_seed(1)
    assert (drawn() == first).all()
    assert (drawn() == second).all()
    assert (first != second).any()
    assert (first[0] != first[1]).any()  # a draw for each row
    assert fairseq_fixes.numpy_names.seed_masks() is False  # once is enough


# -- options


def test_bf16_on_the_command_line_does_not_ask_for_a_tpu():
    out = fresh_python("""
        import argparse, importlib.util
        from fairseq import options
        def parse(*flags):
            parser = options.get_training_parser()
            return options.parse_args_and_arch(parser, ["data", "--arch", "lstm", "--optimizer", "adam",
            *flags])
        before = parse("--bf16").tpu
        from sparqle_fairseq.fairseq_fixes import flags
        wrapped = flags.fix_bf16_flag()
        assert flags.fix_bf16_flag() is False
        assert wrapped == before == (importlib.util.find_spec("torch_xla") is None)
        args = parse("--bf16")
        assert args.bf16 and not args.tpu
        assert parse("--memory-efficient-bf16").bf16 and not parse("--memory-efficient-bf16").tpu
        assert parse("--bf16", "--tpu").tpu and not parse().bf16
        print("done")
    """)
    assert out.strip() == "done"


def test_a_bad_checkpoint_is_named_where_fairseq_names_none(tmp_path):
    (tmp_path / "cut.pt").write_bytes(b"PK")
    out = fresh_python(f"""
        from fairseq import checkpoint_utils
        def message(read):
            try:
                read()
            except Exception as error:
                return str(error)
        path = {str(tmp_path / "cut.pt")!r}
        assert path not in message(lambda: checkpoint_utils.load_checkpoint_to_cpu(path))
        from sparqle_fairseq.fairseq_fixes import checkpoint_reading
        checkpoint_reading.name_bad_checkpoints()
        assert checkpoint_reading.name_bad_checkpoints() is False  # once is enough
        said = message(lambda: checkpoint_utils.load_checkpoint_to_cpu(path))
        assert said.startswith(path + " is damaged"), said
        assert "there is no such file" in message(lambda: checkpoint_utils.load_model_ensemble_and_task(["none.pt"]))
        print("done")
    """)
    assert out.strip() == "done"


# -- all of them


def test_applying_twice_changes_nothing_more():
    from fairseq import options

    fairseq_fixes.apply()
    parser, extension = options.parse_args_and_arch, sys.modules.get("torchaudio._extension")
    fairseq_fixes.apply()
    assert options.parse_args_and_arch is parser
    assert sys.modules.get("torchaudio._extension") is extension
    assert torch.load(saved(argparse.Namespace(a=1)), weights_only=True) == argparse.Namespace(a=1)


# -- torch's optimizers


def test_an_optimizer_is_made_saved_and_loaded_without_the_compiler():
    """In a new Python with torch and this one file, or the compiler may be there for others."""
    code = """
        import runpy, sys
        import torch

        leave_the_compiler_unloaded = runpy.run_path(sys.argv[1])["leave_the_compiler_unloaded"]
        assert leave_the_compiler_unloaded()
        assert not leave_the_compiler_unloaded()
        optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))], lr=0.5)
        other = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))], lr=0.1)
        other.load_state_dict(optimizer.state_dict())
        assert other.param_groups[0]["lr"] == 0.5
        assert len(other.param_groups[0]["params"]) == 1
        assert "torch._dynamo" not in sys.modules
    """
    words = [sys.executable, "-c", textwrap.dedent(code), optimizers.__file__]
    result = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
