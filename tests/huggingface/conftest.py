"""One tiny model, exported once, for the tests of what transformers asks of a model."""

from __future__ import annotations

from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session")
def tiny_hub(tmp_path_factory):
    """Paths of an encoder, an LLM and an exported model (`folder`); recordings `waves` of different lengths."""
    import tiny
    import torch
    from factories import save_tiny_hugging_face
    from hugging_face_models import write_model
    from tiny_models import stir

    from sparqle_fairseq.models.config import SpeechLLMConfig
    from sparqle_fairseq.models.stage2.model import SpeechLLM

    root = tmp_path_factory.mktemp("hub")
    save_tiny_hugging_face(root / "hubert", "hubert", normalize=False)
    tiny.save_llm(root / "llm")
    sizes = {"hidden_size": 32, "layers": 2, "heads": 4, "ffn_size": 64, "queries": 6}
    options = SpeechLLMConfig(speech_encoder=str(root / "hubert"), llm=str(root / "llm"), llm_dtype="fp32", **sizes)
    torch.manual_seed(0)
    model = SpeechLLM.build(options)
    stir(model.adapter)
    folder = write_model(model.eval(), vars(options), root / "model")
    waves = [tiny.tones("red fox", seed=1), tiny.tones("blue dog runs", seed=2), tiny.tones("cat", seed=3)]
    return SimpleNamespace(root=root, folder=folder, llm=root / "llm", encoder=root / "hubert", waves=waves)
