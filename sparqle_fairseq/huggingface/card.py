"""The README.md of an exported model: what it is, what it needs, how to use it, how it was scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sparqle_fairseq.huggingface.configuration import SparqleConfig
from sparqle_fairseq.models.qformer.plain import QFORMER


def model_card(
    name: str,
    config: SparqleConfig,
    training: Mapping[str, Any],
    scores: str | None,
    licence: str | None,
    with_code: bool = False,
) -> str:
    """Markdown with the hub's header.

    Args:
        name: of the model.
        config: what it is made of.
        training: the options of fairseq, by `model`, `task`, `dataset`, `optimization`.
        scores: a table with signatures; None says that there are none.
        licence: of the adapter; None says that none was named.
        with_code: whether the model's code lies beside it.
    """
    adapter: Any = config.adapter_config
    encoder, llm = config.speech_encoder, config.llm
    task, data = training.get("task", {}), training.get("dataset", {})
    source, target = task.get("src_lang") or "its rows say", task.get("tgt_lang") or "its rows say"
    updates = training.get("optimization", {}).get("max_update")
    head = ["---", "library_name: transformers", "pipeline_tag: automatic-speech-recognition", "tags:", "- sparqle"]
    head += ["- speech-translation", *([f"license: {licence.lower()}"] if licence else []), "---"]
    trust = ", trust_remote_code=True" if with_code else ""
    reader = f"{adapter.adapter}, width {adapter.hidden_size}, an output for every {adapter.speech_stride} frames"
    if adapter.adapter == QFORMER:
        reader = f"Q-Former of {adapter.layers} layers, width {adapter.hidden_size}, {_queries(adapter)}"
    rows = [
        ("speech encoder (frozen)", f"{encoder} ({config.audio_config.model_type})"),  # type: ignore[union-attr]
        ("LLM (frozen)", f"{llm} ({config.text_config.model_type})"),  # type: ignore[union-attr]
        ("adapter (trained)", reader),
        ("between adapter and LLM", adapter.projector),
        ("LoRA", f"rank {adapter.lora_rank}" if adapter.lora_rank else "none"),
        ("trained on", str(data.get("train_subset", "not said"))),
        ("languages", f"speech {source}, text {target}"),
        ("updates", str(updates) if updates else "not said"),
    ]
    return "\n".join(
        [
            *head,
            f"# {name}",
            "",
            f"A [SparQLe](https://arxiv.org/abs/2502.09284) model: {_what(adapter)} that reads",
            "a frozen speech encoder and prompts a frozen LLM to transcribe and to translate.",
            "",
            "| | |",
            "|---|---|",
            *[f"| {what} | {value} |" for what, value in rows],
            "",
            "## Use",
            "",
            "```python",
            *([] if with_code else ["import sparqle_fairseq.huggingface"]),
            "from transformers import AutoModelForMultimodalLM, AutoProcessor",
            "",
            f'processor = AutoProcessor.from_pretrained("{name}"{trust})',
            f'model = AutoModelForMultimodalLM.from_pretrained("{name}"{trust})',
            'inputs = processor.apply_translation_request("recording.wav", to="fr")',
            "output = model.generate(**inputs, max_new_tokens=200, num_beams=5)",
            'print(processor.batch_decode(output[:, inputs["input_ids"].shape[1] :]))',
            "```",
            "",
            "## Intended use",
            "",
            "Research on speech translation and transcription. The LLM may write fluent text that the speech does not",
            "hold; what matters is to be checked by a person. Speech in other languages than that of the training is",
            "outside of what the adapter has learned.",
            "",
            "## Scores",
            "",
            scores.strip() if scores else "None were given when the model was exported.",
            "",
            "## Licence",
            "",
            f"{licence or 'None was named'} for the adapter. Encoder and LLM keep their own licences.",
            "",
        ]
    )


def _queries(adapter: Any) -> str:
    return f"{adapter.queries} queries" + (" for each window" if adapter.window_frames else "")


def _what(adapter: Any) -> str:
    return "a Q-Former" if adapter.adapter == QFORMER else f"an adapter ({adapter.adapter}, in the Q-Former's place)"
