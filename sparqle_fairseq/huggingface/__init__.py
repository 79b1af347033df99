"""SparQLe for transformers: importing this registers the model with its Auto classes.

    import sparqle_fairseq.huggingface
    from transformers import AutoModelForMultimodalLM, AutoProcessor

Needs no fairseq. Import it before transformers: beside a torch without CUDA, transformers cannot be imported until
torchaudio was taken care of.
"""

# isort: skip_file
from sparqle_fairseq.data.torchaudio_import import ensure_torchaudio

ensure_torchaudio()

from transformers import AutoConfig, AutoModel, AutoModelForMultimodalLM, AutoProcessor  # noqa: E402

from sparqle_fairseq.huggingface.configuration import SparqleAdapterConfig, SparqleConfig  # noqa: E402
from sparqle_fairseq.huggingface.modeling import SparqleForConditionalGeneration, SparqleModel  # noqa: E402
from sparqle_fairseq.huggingface.processing import SparqleProcessor  # noqa: E402

AutoConfig.register(SparqleConfig.model_type, SparqleConfig, exist_ok=True)
AutoModel.register(SparqleConfig, SparqleModel, exist_ok=True)
AutoModelForMultimodalLM.register(SparqleConfig, SparqleForConditionalGeneration, exist_ok=True)
AutoProcessor.register(SparqleConfig, SparqleProcessor, exist_ok=True)

__all__ = [
    "SparqleAdapterConfig",
    "SparqleConfig",
    "SparqleForConditionalGeneration",
    "SparqleModel",
    "SparqleProcessor",
]
