"""SparQLe for transformers: frozen speech encoder, Q-Former (or plain adapter) and projector, frozen causal LM.

N recordings of a batch, S samples, T encoder frames, W width of the encoder, Q queries of a recording, B rows of text,
L tokens, M width of the LLM's embeddings, V vocabulary. The modules are those of the fairseq plugin, and the adapter's
tensors have the same names in both. Masks that come from transformers are 1 at what counts; they become padding masks,
True at padding, here and nowhere else.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationMixin, LogitsProcessorList, PreTrainedModel

from sparqle_fairseq.data.text import load_tokenizer
from sparqle_fairseq.generate.stopping import StopTexts
from sparqle_fairseq.huggingface.configuration import HUB_OPTIONS, SparqleConfig
from sparqle_fairseq.huggingface.encoder import build_network
from sparqle_fairseq.huggingface.folder import (
    check_all_loaded,
    check_generation,
    check_weight_files,
    fitting,
    hold_parts,
    is_folder_of_parts,
    keep_precision,
    keep_trained,
    read_parts,
)
from sparqle_fairseq.huggingface.logits import JoinEnds, KnownIds
from sparqle_fairseq.huggingface.outputs import SparqleModelOutput, SparqleOutput, SpeechOutput
from sparqle_fairseq.huggingface.stopping import Answers, NotTooEarly, StopsBeforeTexts
from sparqle_fairseq.huggingface.token_space import TokenSpace
from sparqle_fairseq.models.adapted import LayerMix
from sparqle_fairseq.models.encoders import EncoderError, parse_layer
from sparqle_fairseq.models.encoders.lengths import utterance_lengths
from sparqle_fairseq.models.llm.llm import text_codec
from sparqle_fairseq.models.llm.lora import add_lora
from sparqle_fairseq.models.llm.recompute import recompute_layers
from sparqle_fairseq.models.stage2.adapter import Stage2Adapter


class SparqlePreTrainedModel(PreTrainedModel):
    config_class = SparqleConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    input_modalities = ["audio", "text"]
    supports_gradient_checkpointing = True
    _no_split_modules = ["QFormerLayer"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = False
    _keep_in_fp32_modules_strict = {"speech_encoder"}  # as in training, whatever the dtype of the rest

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: the parts that come from the plugin draw their weights as they are made."""


class SparqleModel(SparqlePreTrainedModel):
    """Speech encoder, adapter and LLM, without logits.

    Args:
        config: what it is made of.
        speech_encoder, language_model: made before, with their weights; by default new ones of `config`'s shape.
        adapter: made before between these two, with its weights and its LoRA in the language model.

    Attributes:
        num_updates: how many there were in training; masks over the speech are drawn anew in each.
    """

    num_updates = 0

    def __init__(
        self,
        config: SparqleConfig,
        speech_encoder: nn.Module | None = None,
        language_model: PreTrainedModel | None = None,
        adapter: Stage2Adapter | None = None,
    ) -> None:
        super().__init__(config)
        text: Any = config.text_config
        self.speech_encoder: Any = build_network(config) if speech_encoder is None else speech_encoder
        if language_model is None:
            language_model = AutoModelForCausalLM.from_config(text, attn_implementation=text._attn_implementation)
        self.language_model: Any = language_model
        self.layer = parse_layer(config.encoder_layer)
        if adapter is not None:  # post_init would let the LLM's own class draw the LoRA in it anew
            for module in (*self.language_model.modules(), *self.speech_encoder.modules()):
                module._is_hf_initialized = True
        self.adapter: Any = self._new_adapter() if adapter is None else adapter
        self.post_init()
        self.freeze()
        self.train(False)

    def _new_adapter(self) -> Stage2Adapter:
        """One of the configuration's shape, with its LoRA in the language model."""
        config, shape = self.config, cast(Any, self.config.adapter_config)
        embeddings: Any = self.get_input_embeddings()
        width = int(embeddings.embedding_dim)
        adapter: Any = Stage2Adapter(
            shape.reader(self.speech_encoder.width),
            width,
            projector=shape.projector,
            soft_tokens=shape.soft_tokens,
        )
        adapter.llm_space = TokenSpace(self.language_model, width) if shape.compress_queries else None
        if parse_layer(config.encoder_layer) == "weighted":
            adapter.layer_mix = LayerMix(self.speech_encoder.depth)
        adapter.lora = add_lora(self.language_model, shape, config.llm or "the LLM")
        return adapter

    def freeze(self) -> None:
        """Let the adapter learn, with its LoRA, and nothing else."""
        self.speech_encoder.requires_grad_(False)
        self.language_model.requires_grad_(False)
        if self.adapter.llm_space is not None:
            self.adapter.llm_space.requires_grad_(False)
        if self.adapter.lora is not None:
            self.adapter.lora.requires_grad_(True)

    # ---- transformers' interface

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str],
        *model_args: Any,
        config: Any = None,
        speech_encoder: str | None = None,
        llm: str | None = None,
        **kwargs: Any,
    ) -> Self:
        """A model from a folder or hub id, in eval mode; code that lies there is never run.

        Args:
            pretrained_model_name_or_path: as `save_pretrained` or `sparqle export-hf` wrote it.
            config: in place of the one that lies there.
            speech_encoder, llm: where encoder and LLM lie now, if they are not in the folder and have moved.
            kwargs: as for any model of transformers (`dtype`, `device_map`, `attn_implementation`,
                `quantization_config`, `revision`, …). Where the LLM lies elsewhere they hold for the LLM.

        Raises:
            SparqleError: the folder is damaged or of another model, a part is missing, or is not the one that the
                adapter was trained with.
        """
        kwargs.pop("trust_remote_code", None)
        hub = {name: kwargs[name] for name in HUB_OPTIONS if name in kwargs}
        folder, found = is_folder_of_parts(os.fspath(pretrained_model_name_or_path), config, speech_encoder, llm, hub)
        if cls.can_generate():
            check_generation(folder)
        if not found.adapter_only:
            check_weight_files(folder)
            usual: Any = super().from_pretrained
            wanted = kwargs.pop("output_loading_info", False)
            named = {"config": found, "trust_remote_code": False, "output_loading_info": True, **kwargs}
            with fitting(folder):
                model, report = usual(folder, *model_args, **named)
            check_all_loaded(folder, report)
            if kwargs.get("dtype") is None and kwargs.get("quantization_config") is None:
                keep_precision(model.language_model, found.text_config)
            model.freeze()  # reading makes parameters anew
            model.__dict__["_folder"] = folder
            return cast(Any, (model.eval(), report)) if wanted else model.eval()
        for name in HUB_OPTIONS:
            kwargs.pop(name, None)
        parts = read_parts(found, **kwargs)
        model = cls(parts.config, parts.speech_encoder, parts.language_model)
        hold_parts(model, folder, parts)
        model.__dict__["_folder"] = folder
        return model.eval()

    def save_pretrained(self, save_directory: Any, *args: Any, self_contained: bool = False, **kwargs: Any) -> None:
        """Write what was trained, with the identity of what was not; everything where encoder and LLM lie nowhere else.

        Args:
            save_directory: a folder.
            self_contained: write encoder and LLM too.
            args, kwargs: as for any model of transformers.
        """
        config = self.config
        state = kwargs.pop("state_dict", None)
        state = self.state_dict() if state is None else state
        whole = self_contained or not config.adapter_only
        self.config = config.without_places() if whole else config
        try:
            usual: Any = super().save_pretrained
            usual(save_directory, *args, state_dict=keep_trained(state, whole), **kwargs)
        finally:
            self.config = config

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_output_embeddings(value)

    def get_decoder(self) -> nn.Module:
        return self.language_model.base_model

    def train(self, mode: bool = True) -> SparqleModel:
        """Encoder and LLM stay as they are in use: without dropout; only what is trained in them has its own."""
        super().train(mode)
        self.speech_encoder.eval()
        self.language_model.eval()
        for name, module in self.language_model.named_modules():
            if name.endswith("lora_dropout") or ".lora_dropout." in name:
                module.train(mode)
        return self

    # ---- speech

    @torch.no_grad()
    def encode(self, input_values: Tensor, input_values_mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Features (N, T, W) of waveforms (N, S), and their padding mask (N, T).

        Raises:
            EncoderError: a recording is too short, or is not padded on the right.
        """
        padding_mask = None if input_values_mask is None else input_values_mask == 0
        lengths = utterance_lengths(input_values, padding_mask)
        check_lengths(lengths, self.speech_encoder.min_samples, self.speech_encoder.sample_rate)
        with torch.autocast(input_values.device.type, enabled=False):
            return self.speech_encoder(input_values[:, : max(lengths)], lengths, self.layer)

    def get_audio_features(
        self,
        input_values: Tensor | None = None,
        input_values_mask: Tensor | None = None,
        input_features: Tensor | None = None,
        input_features_mask: Tensor | None = None,
        utterance: Tensor | None = None,
        **_: Any,
    ) -> SpeechOutput:
        """What the LLM is given of N recordings.

        Args:
            input_values: (N, S) waveforms, normalised where the encoder wants it.
            input_values_mask: (N, S), 1 at samples and 0 at padding, which is on the right.
            input_features: (N, T, W) what the encoder gave of them, in its place.
            input_features_mask: (N, T), likewise.
            utterance: (N,) int64 keys of the recordings; in training, they say where masks over the speech lie.
        """
        if input_features is None:
            if input_values is None:
                raise ValueError("neither input_values nor input_features came; give one of them")
            values, padding_mask = self.encode(input_values, input_values_mask)
        else:
            values = input_features
            padding_mask = torch.zeros(values.shape[:2], dtype=torch.bool, device=values.device)
            if input_features_mask is not None:
                padding_mask = input_features_mask == 0
        weight = next(self.adapter.parameters())
        values, padding_mask = values.to(weight), padding_mask.to(weight.device)
        mix = getattr(self.adapter, "layer_mix", None)
        if mix is not None:
            values = mix(values)
        spoken, beyond = self.adapter(values, padding_mask, utterance, self.num_updates)  # (N, Q, M), (N, Q) or None
        counts = torch.full((spoken.size(0),), spoken.size(1), device=spoken.device)
        if beyond is not None:
            counts = (~beyond).sum(dim=1)
        places = self.adapter.reader.config.query_count((~padding_mask).sum(dim=1))
        real = torch.arange(spoken.size(1), device=spoken.device) < counts[:, None]
        return SpeechOutput(last_hidden_state=spoken, pooler_output=spoken[real], counts=counts, places=places)

    def get_placeholder_mask(self, input_ids: Tensor, places: Tensor) -> Tensor:
        """(B, L) True where speech stands. Raises `ValueError` where the places are not those of the recordings."""
        mask = input_ids == self.config.audio_token_id
        found, needed = int(mask.sum()), int(places.sum())
        if found != needed:
            raise ValueError(
                f"the text has {found} places for speech, and {len(places)} recording(s) need {needed} "
                f"({', '.join(map(str, places.tolist()[:8]))}{', …' if len(places) > 8 else ''}); give one audio token "
                "for each recording to the processor, and do not cut its input_ids"
            )
        return mask

    def merge(
        self, input_ids: Tensor, attention_mask: Tensor | None, speech: SpeechOutput
    ) -> tuple[Tensor, Tensor | None]:
        """Embeddings (B, L, M) of the text with the speech in its places, and the mask (B, L) that is 1 at what counts.

        With --compress-queries a recording has fewer embeddings than places; the places left over do not count.
        """
        assert speech.places is not None
        assert speech.counts is not None
        assert speech.pooler_output is not None
        mask = self.get_placeholder_mask(input_ids, speech.places)
        embeddings = self.get_input_embeddings()(input_ids.masked_fill(mask, 0))
        if not torch.equal(speech.places, speech.counts):
            # The i-th place of all: of which recording it is, and how many of that recording's come before it.
            of = torch.repeat_interleave(torch.arange(len(speech.places), device=mask.device), speech.places)
            ends = speech.places.cumsum(0)
            rank = torch.arange(len(of), device=mask.device) - (ends - speech.places)[of]
            counts = torch.zeros_like(mask)
            counts[mask] = rank < speech.counts[of]
            if attention_mask is None:
                attention_mask = torch.ones_like(input_ids)
            attention_mask = attention_mask.masked_fill(mask & ~counts, 0)
            mask = counts
        spoken = speech.pooler_output.to(embeddings.device, embeddings.dtype)
        return embeddings.masked_scatter(mask[..., None].expand_as(embeddings), spoken), attention_mask

    def _inputs(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        inputs_embeds: Tensor | None,
        speech: Mapping[str, Tensor | None],
    ) -> tuple[Tensor, Tensor | None, SpeechOutput | None]:
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give input_ids or inputs_embeds, and not both")
        if inputs_embeds is not None:
            return inputs_embeds, attention_mask, None
        assert input_ids is not None
        if all(speech.get(name) is None for name in SPEECH_INPUTS):
            if bool((input_ids == self.config.audio_token_id).any()):
                raise ValueError("the text has places for speech, and no recording came; give input_values")
            return self.get_input_embeddings()(input_ids), attention_mask, None
        found = self.get_audio_features(**speech)
        return *self.merge(input_ids, attention_mask, found), found

    def forward(
        self,
        input_ids: Tensor | None = None,
        input_values: Tensor | None = None,
        input_values_mask: Tensor | None = None,
        input_features: Tensor | None = None,
        input_features_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        **named: Any,
    ) -> SparqleModelOutput:
        """Hidden states (B, L, M) of the LLM's last layer."""
        embeddings, attention_mask, speech = self._inputs(
            input_ids,
            attention_mask,
            inputs_embeds,
            {
                "input_values": input_values,
                "input_values_mask": input_values_mask,
                "input_features": input_features,
                "input_features_mask": input_features_mask,
            },
        )
        named.pop("return_dict", None)
        output = self.language_model.base_model(
            inputs_embeds=embeddings,
            attention_mask=attention_mask,
            position_ids=positions_of(attention_mask, embeddings, position_ids, past_key_values),
            past_key_values=past_key_values,
            use_cache=use_cache,
            **named,
        )
        return SparqleModelOutput(
            last_hidden_state=output.last_hidden_state,
            past_key_values=output.past_key_values,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
            audio_hidden_states=None if speech is None else speech.pooler_output,
        )


class SparqleForConditionalGeneration(SparqleModel, GenerationMixin):
    """Speech and text in, text out.

    The weights that `save_pretrained` writes are the adapter's where `config` names encoder and LLM, and all of them
    where it does not. `from_pretrained` reads either.
    """

    _keys_to_ignore_on_load_missing = [r"\.lora_[AB]\."]  # one tensor under two names: the adapter's is written

    def forward(  # type: ignore[override]
        self,
        input_ids: Tensor | None = None,
        input_values: Tensor | None = None,
        input_values_mask: Tensor | None = None,
        input_features: Tensor | None = None,
        input_features_mask: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        num_items_in_batch: int | Tensor | None = None,
        **named: Any,
    ) -> SparqleOutput:
        """Logits, and with `labels` the mean loss of the labelled tokens.

        Args:
            input_ids: (B, L) text with `audio_token_id` in the places of the speech.
            input_values, input_values_mask: (N, S) recordings in the order of their places; see `get_audio_features`.
            input_features, input_features_mask: (N, T, W) what the encoder gave of them, in their place.
            attention_mask: (B, L), 1 at what counts.
            labels: (B, L), -100 where there is no loss. Logits are then made from the first label on and nowhere else,
                unless `logits_to_keep` says otherwise.
            logits_to_keep: so many positions from the end, or their columns (K,); 0: all.
            num_items_in_batch: what the summed loss is divided by, in place of the batch's own labels.
        """
        embeddings, attention_mask, speech = self._inputs(
            input_ids,
            attention_mask,
            inputs_embeds,
            {
                "input_values": input_values,
                "input_values_mask": input_values_mask,
                "input_features": input_features,
                "input_features_mask": input_features_mask,
                "utterance": named.pop("utterance", None),
            },
        )
        targets = None
        if labels is not None:
            targets = torch.nn.functional.pad(labels, (0, 1), value=-100)[:, 1:]  # (B, L): what each column predicts
            if isinstance(logits_to_keep, int) and not logits_to_keep:
                labelled = (targets != -100).any(dim=0)
                first = int(labelled.int().argmax()) if bool(labelled.any()) else labels.size(1) - 1
                logits_to_keep = torch.arange(first, labels.size(1), device=embeddings.device)
            if isinstance(logits_to_keep, int):
                targets = targets[:, -logits_to_keep:]
            else:
                targets = targets[:, logits_to_keep.to(targets.device)]
        output = self.language_model(
            inputs_embeds=embeddings,
            attention_mask=attention_mask,
            position_ids=positions_of(attention_mask, embeddings, position_ids, past_key_values),
            past_key_values=past_key_values,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
            **named,
        )
        loss = None
        if targets is not None:
            loss = self.loss_function(
                logits=output.logits,
                labels=None,
                shift_labels=targets,
                vocab_size=output.logits.size(-1),
                num_items_in_batch=num_items_in_batch,
            )
        return SparqleOutput(
            loss=loss,
            logits=output.logits,
            past_key_values=output.past_key_values,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
            audio_hidden_states=None if speech is None else speech.pooler_output,
        )

    @torch.no_grad()
    def generate(self, inputs: Tensor | None = None, **named: Any) -> Any:  # type: ignore[override]
        """`GenerationMixin.generate`; the speech is heard once, whatever the number of beams and samples.

        Answers end before the `stop_strings`, which are cut off; scores are of all that was written.
        """
        usual: Any = cast(Any, super()).generate
        input_ids = named.pop("input_ids", inputs)
        if self._asked(named, "num_beams") not in (None, 1) and self._asked(named, "early_stopping") is None:
            named["early_stopping"] = True  # as fairseq: a search ends with as many hypotheses as it has beams
        answers = self._stopping(named, 0 if input_ids is None else input_ids.size(1))
        if answers is not None:
            usual = partial(_cut, usual, answers)
        speech = {name: named.pop(name, None) for name in SPEECH_INPUTS}
        if all(value is None for value in speech.values()):
            if input_ids is not None and bool((input_ids == self.config.audio_token_id).any()):
                raise ValueError("the text has places for speech, and no recording came; give input_values")
            return usual(input_ids, **named)
        if input_ids is None:
            raise ValueError("recordings came without input_ids; the processor makes both")
        if named.get("assistant_model") is not None:  # transformers gives it token ids alone
            raise ValueError(
                "an assistant hears no speech; leave assistant_model out, or give prompt_lookup_num_tokens"
            )
        mask = named.pop("attention_mask", None)
        embeddings, mask = self.merge(input_ids, mask, self.get_audio_features(**speech))
        if mask is None:
            mask = torch.ones_like(input_ids)
        return usual(input_ids, inputs_embeds=embeddings, attention_mask=mask, **named)

    def _stopping(self, named: dict[str, Any], begin: int) -> Answers | None:
        """What finds the stop texts of a call, and is put among its processors and criteria; None without any."""
        texts, tokenizer = self._asked(named, "stop_strings"), named.get("tokenizer")
        named.pop("stop_strings", None)
        if not texts:
            return None
        texts = tuple([texts] if isinstance(texts, str) else texts)
        known: Any = self.__dict__.setdefault("_stop_texts", {})
        key = texts, id(tokenizer)
        if key not in known:
            known[key] = StopTexts(texts, *text_codec(self._tokenizer() if tokenizer is None else tokenizer))
        ends, pad = self._asked(named, "eos_token_id"), self._asked(named, "pad_token_id")
        ends = [ends] if isinstance(ends, int) else list(ends or ())
        embeddings: Any = self.get_input_embeddings()
        fewest, size = self._asked(named, "min_new_tokens") or 0, embeddings.num_embeddings
        answers = Answers(known[key], begin, ends, ends[0] if pad is None else pad, fewest, size)
        named["stopping_criteria"] = [*(named.get("stopping_criteria") or ()), StopsBeforeTexts(answers)]
        named["logits_processor"] = [*(named.get("logits_processor") or ()), NotTooEarly(answers)]
        return answers

    def _asked(self, named: Mapping[str, Any], name: str) -> Any:
        """A setting of generation: of the call, of its configuration, or of the model's, the first that says it."""
        places = (named.get("generation_config"), self.generation_config)
        said = [named.get(name), *(getattr(place, name, None) for place in places if place is not None)]
        return next((value for value in said if value is not None), None)

    def _tokenizer(self) -> Any:
        """The tokenizer of the folder that the model came from. Raises `ValueError` where it came from none."""
        place = self.__dict__.get("_folder")
        if place is None:
            raise ValueError("stop_strings are looked for in text; give generate the processor's tokenizer")
        return load_tokenizer(str(place))

    def _get_stopping_criteria(self, generation_config: Any, *rest: Any, **named: Any) -> Any:
        """transformers' own, without its stop strings: `generate` has put ours in their place."""
        usual: Any = cast(Any, super())._get_stopping_criteria
        if generation_config.stop_strings is not None:
            generation_config = copy.copy(generation_config)
            generation_config.stop_strings = None
        return usual(generation_config, *rest, **named)

    def prompt_embeds(self, input_ids: Tensor, **speech: Any) -> Tensor:
        """The prompt as vectors, (L, M): what vLLM takes as `prompt_embeds` for the LLM alone.

        Args:
            input_ids: (1, L) of the processor.
            speech: `input_values` and its mask, or `input_features` and its mask.

        Raises:
            ValueError: several prompts came.
        """
        if input_ids.size(0) != 1:
            raise ValueError(f"{input_ids.size(0)} prompts came; prompt_embeds takes one at a time")
        named = {name: value for name, value in speech.items() if name in SPEECH_INPUTS}
        with torch.no_grad():
            embeddings, mask = self.merge(input_ids, None, self.get_audio_features(**named))
        return embeddings[0] if mask is None else embeddings[0, mask[0] == 1]

    def _get_logits_processor(self, generation_config: Any, *rest: Any, **named: Any) -> LogitsProcessorList:
        usual: Any = cast(Any, super())._get_logits_processor
        processors: LogitsProcessorList = usual(generation_config, *rest, **named)
        ends = generation_config.eos_token_id
        if isinstance(ends, list) and len(ends) > 1:
            processors.insert(0, JoinEnds(ends))
        known = self.get_input_embeddings().num_embeddings
        if self.config.audio_token_id < known:
            return processors
        first = ends[0] if isinstance(ends, list) else ends
        return KnownIds(processors, self.config.audio_token_id, int(first or 0))

    def gradient_checkpointing_enable(self, *_: Any, **__: Any) -> None:
        """Compute the LLM's layers again in the backward pass. Raises `SparqleError` where it cannot."""
        recompute_layers(self.language_model, self.config.llm or "the LLM")


def _cut(generate: Any, answers: Answers, *args: Any, **named: Any) -> Any:
    """What `generate` gives, each answer cut before its stop text."""
    output = generate(*args, **named)
    if isinstance(output, Tensor):
        return answers.cut(output)
    output.sequences = answers.cut(output.sequences)
    return output


SPEECH_INPUTS = ("input_values", "input_values_mask", "input_features", "input_features_mask")


def positions_of(mask: Tensor | None, embeddings: Tensor, given: Tensor | None, cache: Any) -> Tensor | None:
    """Positions (B, L) that count what counts: padding at the left and places left over shift nothing."""
    if given is not None or mask is None or mask.dim() != 2:
        return given
    if cache is not None and cache.get_seq_length() > 0:
        return (mask.long().cumsum(dim=1) - 1).clamp(min=0)[:, -embeddings.size(1) :]
    return (mask.long().cumsum(dim=1) - 1).clamp(min=0)


def check_lengths(lengths: Sequence[int], least: int, rate: int) -> None:
    """Raise `EncoderError` for a recording that is too short for a single frame."""
    for item, length in enumerate(lengths):
        if length < least:
            raise EncoderError(
                f"recording {item + 1} of {len(lengths)} has {length} samples ({1000 * length / rate:.0f} ms), and the "
                f"speech encoder needs at least {least} (at {rate} Hz); leave such short audio out"
            )
