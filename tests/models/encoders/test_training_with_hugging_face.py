"""fairseq-train with a Hugging Face folder for `--speech-encoder`, and the checkpoint that knows it."""

from __future__ import annotations

import pytest
from commands import pretrain_arguments, train_here
from factories import save_tiny_hugging_face, save_tiny_whisper

from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.tasks.loading import load_trained


@pytest.mark.parametrize("kind", ["wavlm", "whisper"])
def test_a_run_and_its_checkpoint(world, tmp_path, kind):
    folder = tmp_path / "encoder"
    save = save_tiny_whisper if kind == "whisper" else lambda path, **more: save_tiny_hugging_face(path, kind, **more)
    save(folder)
    train_here(pretrain_arguments(world, tmp_path / "out", "--speech-encoder", folder, updates=2))
    checkpoint = tmp_path / "out" / "checkpoint_last.pt"
    trained = load_trained(checkpoint, cpu=True)
    assert trained.model.speech_encoder.identity["kind"] == f"hf_{kind}"

    folder.rename(tmp_path / "moved")
    load_trained(checkpoint, speech_encoder=str(tmp_path / "moved"), cpu=True)
    save(tmp_path / "other", seed=4)
    with pytest.raises(SparqleError, match="another speech encoder: its fingerprint was"):
        load_trained(checkpoint, speech_encoder=str(tmp_path / "other"), cpu=True)
