"""Run in a process of its own: a folder with code, where neither this package nor fairseq can be imported.

Arguments: the folder, a recording, a place to save to. Prints the texts of the model and of what was saved, as JSON.
"""

from __future__ import annotations

import importlib.abc
import json
import sys
from typing import Any


class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Any = None, target: Any = None) -> None:
        if name.split(".")[0] in ("fairseq", "fairseq_cli", "sparqle_fairseq"):
            raise ModuleNotFoundError(f"No module named {name!r} (blocked)", name=name)


sys.meta_path.insert(0, Blocked())
sys.modules["torchaudio"] = None  # beside a torch without CUDA it stops transformers, before any code of a folder runs

from transformers import AutoModelForMultimodalLM, AutoProcessor, pipeline  # noqa: E402


def texts(folder: str, recording: str) -> list[str]:
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    model = AutoModelForMultimodalLM.from_pretrained(folder, trust_remote_code=True)
    assert "transformers_modules" in type(model).__module__
    asked = processor.apply_translation_request(recording, to="fr")
    found = []
    for beams in (1, 3):
        out = model.generate(**asked, max_new_tokens=6, num_beams=beams, do_sample=False)
        found += processor.batch_decode(out[:, asked["input_ids"].size(1) :])
    if len(sys.argv) > 3 and folder != sys.argv[3]:
        model.save_pretrained(sys.argv[3], self_contained=True)
        processor.save_pretrained(sys.argv[3])
        chat = [{"role": "user", "content": [{"type": "audio", "path": recording}, {"type": "text", "text": "So?"}]}]
        ask = pipeline("any-to-any", model=model, processor=processor)
        assert ask(chat, max_new_tokens=2, return_full_text=False)
    return found


if __name__ == "__main__":
    first = texts(sys.argv[1], sys.argv[2])
    print(json.dumps([first, texts(sys.argv[3], sys.argv[2])]))
    assert not any(name.split(".")[0] in ("fairseq", "sparqle_fairseq") for name in sys.modules)
