"""Model `sparqle_llm` of stage 2: frozen encoder, Q-Former, projector, frozen LLM.

B utterances, P prompt ids (one of them the place of the speech), Q queries, L answer tokens, M width of the LLM.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from fairseq.models import register_model, register_model_architecture
from torch import Tensor, nn

from sparqle_fairseq.data.checkpoint_files import allow_fairseq_checkpoints
from sparqle_fairseq.data.instructions import SPEECH_PLACE
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.models.adapted import AdaptedModel, add_layer_mix, check_names
from sparqle_fairseq.models.config import (
    DTYPES,
    ENCODER_FIELDS,
    SHAPE_FIELDS,
    SIZES,
    AdapterConfig,
    SpeechLLMConfig,
    architecture,
    feature_masks,
    qformer_config,
)
from sparqle_fairseq.models.encoders import SpeechEncoder
from sparqle_fairseq.models.identity import STATE_NAME, check_identity, decode_identity
from sparqle_fairseq.models.llm.llm import LanguageModel, LLMOptions, load_llm
from sparqle_fairseq.models.llm.lora import LoRA, add_lora, check_lora_options, fill_lora, take_lora_options
from sparqle_fairseq.models.llm.quantized import quantize
from sparqle_fairseq.models.llm.sharding import check_sharding
from sparqle_fairseq.models.qformer.compression import join_repeats
from sparqle_fairseq.models.qformer.masking import FeatureMasks
from sparqle_fairseq.models.qformer.projector import ScaledLinear, build_projector, start_among
from sparqle_fairseq.models.qformer.qformer import QFormer, QFormerConfig, of_text_branch
from sparqle_fairseq.models.stage1.model import open_speech_encoder
from sparqle_fairseq.models.stage1.objectives import parts_left_behind, trained_objective
from sparqle_fairseq.models.stage1.objectives.llm_ctc import LLMSpace
from sparqle_fairseq.models.stage2.decoder import PromptedLLM


class Stage2Adapter(nn.Module):
    """Q-Former without its text branch, and the projector. `masks` hide parts of the speech in training mode only.

    With `freeze_qformer` the projector learns alone; the Q-Former is in the checkpoint all the same. `llm_embeddings`
    (V, M) are given where blanks are to be left out and repeats joined before the LLM; with `soft_tokens` what
    is left is then read as tokens, and the LLM is given their mean embedding.
    """

    def __init__(
        self,
        config: QFormerConfig,
        llm_width: int,
        masks: FeatureMasks | None = None,
        projector: str = "linear",
        freeze_qformer: bool = False,
        llm_embeddings: Tensor | None = None,
        soft_tokens: bool = False,
    ) -> None:
        super().__init__()
        self.masks = masks
        self.soft_tokens = soft_tokens
        # Where the projected queries are read as tokens, with --compress-queries. The blank has learned in stage 1.
        self.llm_space = None if llm_embeddings is None else LLMSpace(llm_embeddings).requires_grad_(False)
        self.lora: LoRA | None = None  # of the LLM, with --lora-rank
        self.qformer = QFormer(config, with_text=False)
        self.projector = build_projector(projector, config.hidden_size, llm_width)
        self.freeze_qformer = freeze_qformer
        self.qformer.requires_grad_(not freeze_qformer)

    def train(self, mode: bool = True) -> Stage2Adapter:
        """A frozen Q-Former stays as it is in use: without dropout."""
        super().train(mode)
        if self.freeze_qformer:
            self.qformer.eval()
        return self

    def forward(
        self, values: Tensor, padding_mask: Tensor, utterance: Tensor | None = None, update: int = 0
    ) -> tuple[Tensor, Tensor | None]:
        """Speech (B, T, W) with its padding mask (B, T) -> embeddings for the LLM (B, Q, M).

        Also which of them do not count, (B, Q) True at padding; None where all do. `utterance` (B,) keys and `update`
        say where masks lie.
        """
        if self.training and self.masks is not None and utterance is not None:
            values = self.masks(values, padding_mask, utterance, update)
        queries = self.qformer.query(self.qformer.read_speech(values, padding_mask))
        points = self.projector(queries.hidden)
        if self.llm_space is None:
            return points, queries.padding_mask
        points, beyond = join_repeats(points, self.llm_space.labels(points), queries.padding_mask)  # (B, Q', M)
        return self.llm_space.soft_tokens(points) if self.soft_tokens else points, beyond


@register_model("sparqle_llm", dataclass=SpeechLLMConfig)
class SpeechLLM(AdaptedModel):
    """Speech and instruction in, logits of the answer out."""

    def __init__(self, encoder: SpeechEncoder, adapter: Stage2Adapter, llm: LanguageModel) -> None:
        super().__init__(encoder, adapter, {"speech encoder": encoder.identity, "LLM": llm.identity})
        self.llm = llm
        self.answer = "direct"  # style of the answers it was trained to give

    @classmethod
    def build_model(cls, cfg: SpeechLLMConfig, task: Any) -> SpeechLLM:
        if not cfg.llm:
            raise SparqleError("no LLM was named; give a folder or hub id with --llm")
        check_lora_options(cfg, training=not task.building_from_checkpoint)
        if cfg.soft_tokens and not cfg.compress_queries:
            raise SparqleError("--soft-tokens reads the runs of queries that --compress-queries joins; give both")
        encoder = open_speech_encoder(cfg, task)
        llm = load_llm(
            cfg.llm,
            LLMOptions(
                dtype=DTYPES[str(cfg.llm_dtype)],
                attention=cfg.attn_implementation,
                gradient_checkpointing=cfg.llm_gradient_checkpointing,
                sharding=check_sharding(cfg, not task.building_from_checkpoint, task.cfg.eval_generate),
            ),
        )
        quantize(llm.model, str(cfg.llm_quantization), llm.frozen.dtype, cfg.llm)
        # No text branch, so no vocabulary of its own: one word stands for it while the layers are built.
        adapter = Stage2Adapter(
            qformer_config(cfg, encoder.width, 1, encoder.frame_rate),
            llm.width,
            feature_masks(cfg, int(task.cfg.seed)),
            str(cfg.projector),
            cfg.freeze_qformer,
            llm.all_embeddings() if cfg.compress_queries else None,
            cfg.soft_tokens,
        )
        add_layer_mix(adapter, encoder)
        adapter.lora = add_lora(llm.model, cfg, cfg.llm)
        if cfg.pretrained_adapter and not task.building_from_checkpoint:
            _start_from(adapter, cfg.pretrained_adapter, encoder, llm)
        elif not task.building_from_checkpoint:
            for option in ("freeze_qformer", "compress_queries"):
                if cfg[option]:
                    name = option.replace("_", "-")
                    raise SparqleError(f"--{name} uses what stage 1 has learned; give it with --pretrained-adapter")
            _place(adapter.projector, llm)
        model = cls(encoder, adapter, llm)
        model.answer = str(cfg.answer)
        return model

    def forward(
        self,
        source: Tensor,
        padding_mask: Tensor,
        prompt: Tensor,
        prompt_padding_mask: Tensor,
        answer: Tensor,
        answer_padding_mask: Tensor,
        utterance: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, L, V): column j says what follows the prompt and the answer's first j tokens."""
        prefix, seen = self.prompt_embeddings(source, padding_mask, prompt, prompt_padding_mask, utterance)
        embeddings = torch.cat([prefix, self.llm.embed(answer[:, :-1]).to(prefix)], dim=1)
        seen = torch.cat([seen, ~answer_padding_mask[:, :-1]], dim=1)
        columns = torch.arange(prefix.size(1) - 1, embeddings.size(1), device=embeddings.device)
        return self.llm(embeddings, seen, logits_to_keep=columns)[0]

    def prompt_embeddings(
        self,
        source: Tensor,
        padding_mask: Tensor,
        prompt: Tensor,
        prompt_padding_mask: Tensor,
        utterance: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The prompt with the speech in its place: (B, P - 1 + Q, M), left-padded, and where it is real."""
        if self.adapter.lora is not None:
            self.adapter.lora.install(self.llm.model)
        speech = self.encode_speech(source, padding_mask)
        spoken, beyond = self.adapter(speech.values, speech.padding_mask, utterance, self.num_updates)  # (B, Q, M)
        words = self.llm.embed(prompt)  # (B, P, M)
        return splice(words, prompt, prompt_padding_mask, spoken.to(words.dtype), beyond)

    def prompt_without_speech(
        self, source: Tensor, padding_mask: Tensor, prompt: Tensor, prompt_padding_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The same with nothing in the speech's place: (B, P - 1, M), and where it is real."""
        if self.adapter.lora is not None:
            self.adapter.lora.install(self.llm.model)
        words = self.llm.embed(prompt)
        return splice(words, prompt, prompt_padding_mask, words[:, :0])

    def step_decoder(self) -> PromptedLLM:
        return PromptedLLM(self)

    def deaf_decoder(self) -> PromptedLLM:
        """One that answers the prompt without its speech."""
        return PromptedLLM(self, hears=False)

    def max_answer_tokens(self, net_input: dict[str, Any]) -> Tensor:
        """Room (B,) for each answer, its end token included, behind its own prompt and speech."""
        frames = (~net_input["padding_mask"]).sum(dim=1)
        if net_input["source"].dim() == 2:  # samples: no encoder makes more frames of them than its rate says
            frames = (frames * self.speech_encoder.frame_rate / self.speech_encoder.sample_rate).ceil().long()
        prompt = (~net_input["prompt_padding_mask"]).sum(dim=1)
        return self.llm.context - prompt - self.adapter.qformer.config.query_count(frames)


def splice(
    words: Tensor, prompt: Tensor, padding_mask: Tensor, speech: Tensor, speech_padding_mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Put `speech` (B, Q, M) where each prompt has its place.

    `words` (B, P, M) are the embeddings of `prompt` (B, P), padded at the left; `speech_padding_mask` (B, Q) is True at
    the end of speech that has fewer queries. Returns (B, P - 1 + Q, M) and the bool (B, P - 1 + Q) that is True at real
    positions; what is padding goes to the left, so that answers start in the same column.
    """
    counts = [speech.size(1)] * speech.size(0)
    if speech_padding_mask is not None:
        counts = (~speech_padding_mask).sum(dim=1).tolist()
    rows, seen = [], []
    for i, place in enumerate((prompt == SPEECH_PLACE).int().argmax(dim=1).tolist()):
        count = counts[i]
        rows.append(torch.cat([speech[i, count:], words[i, :place], speech[i, :count], words[i, place + 1 :]]))
        real = ~padding_mask[i]
        beyond = real.new_zeros(speech.size(1) - count)
        seen.append(torch.cat([beyond, real[:place], real.new_ones(count), real[place + 1 :]]))
    return torch.stack(rows), torch.stack(seen)


def take_adapter_options(cfg: Any) -> None:
    """Fill in, from `--pretrained-adapter`, the adapter's sizes, and the encoder unless one was named."""
    checkpoint = _read_adapter(cfg.pretrained_adapter)
    trained = checkpoint["cfg"]
    source = str(trained.get("source", "audio"))
    if str(cfg.source) == "units" and source != "units":
        raise SparqleError(
            f"--source units, but --pretrained-adapter {cfg.pretrained_adapter} was trained on {source}; leave "
            "--source out or give a checkpoint that was trained on units"
        )
    # A named encoder may be the same one at another place; that it is the same is checked when it is loaded.
    for name in SHAPE_FIELDS if cfg.speech_encoder else SHAPE_FIELDS + ENCODER_FIELDS:
        # Checkpoints older than an option were trained with what is its default now.
        cfg[name] = trained.get(name, AdapterConfig.__dataclass_fields__[name].default)
    if any(name.startswith("adapter.projector.") for name in checkpoint["model"]):
        cfg.projector = trained.get("projector", "linear")
    take_lora_options(cfg, trained)


def _read_adapter(path: str) -> dict[str, Any]:
    """`model` tensors and `cfg` options of a checkpoint of this plugin."""
    allow_fairseq_checkpoints()
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        options = state["cfg"]["model"]
        tensors = state["model"]
    except FileNotFoundError as error:
        raise SparqleError(f"--pretrained-adapter {path}: there is no such file") from error
    except Exception as error:  # torch raises many kinds on a file that is not a checkpoint
        reason = " ".join(str(error).split())[:200]
        raise SparqleError(f"--pretrained-adapter {path} is not a checkpoint of this plugin ({reason})") from error
    if STATE_NAME not in tensors:
        raise SparqleError(f"--pretrained-adapter {path} is a checkpoint of another model; give one of stage 1 or 2")
    return {"model": tensors, "cfg": options if isinstance(options, Mapping) else vars(options)}


def _start_from(adapter: Stage2Adapter, path: str, encoder: SpeechEncoder, llm: LanguageModel) -> None:
    """Load the checkpoint's adapter, strictly: only what its objectives leave behind is left out, by name."""
    checkpoint = _read_adapter(path)
    tensors: dict[str, Tensor] = checkpoint["model"]
    trained = decode_identity(tensors[STATE_NAME])
    # A checkpoint with a projector knows the LLM that it projects for.
    parts = {name: identity for name, identity in trained.items() if name in ("speech encoder", "LLM")}
    check_identity(parts, {"speech encoder": encoder.identity, "LLM": llm.identity})
    # What learns in the encoder's place: embeddings of units.
    learned = {
        name.removeprefix("speech_encoder."): value
        for name, value in tensors.items()
        if name.startswith("speech_encoder.")
    }
    check_names(learned, encoder, f"--pretrained-adapter {path}")
    encoder.load_state_dict(learned)
    state = {}
    text_branch = {name for name in tensors if of_text_branch(name.removeprefix("adapter.qformer."))}
    left: set[str] = set()
    if text_branch:  # of stage 1
        left = parts_left_behind(trained_objective(checkpoint["cfg"], f"--pretrained-adapter {path}"))
    if adapter.llm_space is None:
        left.add("llm_space")
    for name, value in tensors.items():
        place = name.removeprefix("adapter.")
        if name.startswith("speech_encoder.") or name in text_branch or place == STATE_NAME:
            continue
        if place.split(".")[0] not in left:
            state[place] = value
    if adapter.llm_space is not None and "llm_space.blank" not in state:
        raise SparqleError(
            f"--compress-queries needs an adapter of --objective llm-ctc, and --pretrained-adapter {path} is none"
        )
    if not any(name.startswith("projector.") for name in state):  # a stage-1 checkpoint: the projector is new
        _place(adapter.projector, llm)
        state |= {f"projector.{name}": value for name, value in adapter.projector.state_dict().items()}
    fill_lora(state, adapter.lora)
    check_names(state, adapter, f"--pretrained-adapter {path}")
    adapter.load_state_dict(state)


def _place(projector: nn.Module, llm: LanguageModel) -> None:
    """Let a new projector that needs it know where the LLM's embeddings lie."""
    if isinstance(projector, ScaledLinear):
        start_among(projector, llm.all_embeddings())


# Without --pretrained-adapter the sizes must come from somewhere.
for _name, _size in SIZES.items():
    register_model_architecture("sparqle_llm", f"sparqle_llm_{_name}")(architecture(_size))
