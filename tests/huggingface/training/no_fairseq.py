"""Run in a process of its own, with a folder: both stages by the script, where fairseq cannot be imported."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[3] / "examples" / "huggingface")]

import without_fairseq  # noqa: E402, F401  (blocks it)


def run(folder: Path) -> None:
    import train  # takes care of torchaudio before transformers is imported

    import tiny  # isort: skip
    from factories import save_tiny_hugging_face  # isort: skip

    (folder / "data").mkdir()
    tiny.write_split(folder / "data", "train", 8, seed=1, languages=("en", "fr"))
    tiny.save_text_tokenizer(folder / "tokenizer")
    tiny.save_llm(folder / "llm")
    save_tiny_hugging_face(folder / "hubert", "hubert", normalize=False)

    usual = {
        "data": folder / "data", "valid_subset": "train", "max_steps": 2, "per_device_train_batch_size": 4,
        "learning_rate": 1e-3, "eval_strategy": "epoch", "eval_generate": "true", "eval_max_new_tokens": 4,
        "use_cpu": "true", "disable_tqdm": "true", "save_strategy": "no",
    }  # fmt: skip
    shape = {"hidden_size": 32, "layers": 2, "heads": 4, "ffn_size": 64, "queries": 6}
    first = {"stage": 1, "speech_encoder": folder / "hubert", "text_tokenizer": folder / "tokenizer", **shape}
    second = {"llm": folder / "llm", "llm_dtype": "fp32", "pretrained_adapter": folder / "first" / "checkpoint.pt"}
    for name, options in (("first", first), ("second", second)):
        said = {**usual, **options, "output_dir": folder / name}
        train.main([str(word) for option, value in said.items() for word in (f"--{option}", value)])
    from transformers import AutoModelForMultimodalLM

    AutoModelForMultimodalLM.from_pretrained(folder / "second")
    assert not any(name.split(".")[0] in ("fairseq", "fairseq_cli") for name in sys.modules)
    print("done")


if __name__ == "__main__":
    run(Path(sys.argv[1]))
