"""The encoder of Whisper, by folder or hub id, run on an utterance's real length.

Whisper itself pads every utterance to 30 seconds. Here the log-mel spectrogram ends where the utterance ends, position
embeddings are cut there, and what is behind it in a batch is masked. Longer audio is heard in windows of 30 seconds,
each by itself, as Whisper hears it.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sparqle_fairseq.errors import reason
from sparqle_fairseq.models.encoders.base import EncoderNetwork
from sparqle_fairseq.models.encoders.errors import EncoderError
from sparqle_fairseq.models.encoders.lengths import mask_of_lengths
from sparqle_fairseq.models.encoders.place import EncoderPlace
from sparqle_fairseq.models.encoders.registry import register_encoder
from sparqle_fairseq.models.encoders.wav2vec import attention_bias
from sparqle_fairseq.models.encoders.weights import fingerprint, in_float32, matching_tensors

MODEL_TYPE = "whisper"
PARTS = ("conv1", "conv2", "embed_positions", "layers", "layer_norm")
# Whole models keep the encoder in here; an encoder that was saved alone has no prefix.
_PREFIXES = ("model.encoder.", "encoder.")
_DYNAMIC_RANGE, _FLOOR = 8.0, 1e-10


class _Window(NamedTuple):
    row: int  # of the batch
    start: int  # first sample
    samples: int


@register_encoder
class WhisperEncoder(EncoderNetwork):
    """Log-mel front end and encoder of Whisper.

    Args:
        model: `transformers.WhisperEncoder`; its parts are taken as they are.
        front_end: `transformers.WhisperFeatureExtractor`: filters and sizes of the log-mel spectrogram.
        normalize: whether it expects normalised waveforms.
    """

    FOUND_IN = "one of a Hugging Face Whisper"

    def __init__(self, model: Any, front_end: Any, normalize: bool) -> None:
        super().__init__()
        config = model.config
        self.kind = f"hf_{MODEL_TYPE}"
        self.width, self.depth = config.d_model, config.encoder_layers
        self.normalize, self.sample_rate = normalize, front_end.sampling_rate
        self.fft, self.hop = front_end.n_fft, front_end.hop_length
        self.stride = model.conv1.stride[0] * model.conv2.stride[0]
        self.samples_per_frame = self.hop * self.stride
        self.min_samples = max(self.fft // 2 + 1, self.hop)  # the spectrogram mirrors half a window at each end
        self.window = config.max_source_positions * self.samples_per_frame
        self.conv1, self.conv2, self.embed_positions = model.conv1, model.conv2, model.embed_positions
        self.layer_list, self.layer_norm = model.layers, model.layer_norm
        # No buffer: casting the encoder to half precision shall not round the filters of the front end.
        self._filters = {torch.device("cpu"): torch.from_numpy(front_end.mel_filters).float()}  # (F, mels)

    @classmethod
    def recognises(cls, place: EncoderPlace) -> bool:
        return place.model_type == MODEL_TYPE

    @classmethod
    def read(cls, place: EncoderPlace) -> Self:
        settings = place.preprocessor() or {}
        model, front_end = _build(place, settings)
        stored = place.tensors(lambda name: name.startswith((*_PREFIXES, *PARTS)))
        prefix = next((prefix for prefix in _PREFIXES if any(name.startswith(prefix) for name in stored)), "")
        tensors = matching_tensors(
            f"{place} says that it is a Whisper",
            "give the folder as it was saved",
            {name.removeprefix(prefix): tensor for name, tensor in stored.items() if name.startswith(prefix)},
            model,
            inside=PARTS,
        )
        model.load_state_dict(in_float32(tensors), assign=True)
        network = cls(model, front_end, bool(settings.get("do_normalize", False)))
        network.fingerprint = fingerprint(tensors)
        return network

    def frames(self, samples: int) -> int:
        whole, rest = divmod(samples, self.window)
        return whole * (self.window // self.samples_per_frame) + self._frames_of_window(rest)

    def _frames_of_window(self, samples: int) -> int:
        """Frames of one window; what is too short to be heard at the end of long audio gives none."""
        return -(-(samples // self.hop) // self.stride) if samples >= self.min_samples else 0

    def layers(self, source: Tensor, lengths: Sequence[int]) -> Iterator[Tensor]:
        windows = [
            _Window(row, start, min(self.window, length - start))
            for row, length in enumerate(lengths)
            for start in range(0, length, self.window)
            if self._frames_of_window(min(self.window, length - start))
        ]
        frames = [self._frames_of_window(window.samples) for window in windows]
        x = self._convolve(self._log_mel(source, windows), [window.samples // self.hop for window in windows])
        x = x + self.embed_positions.weight[: x.size(1)]  # (N, T, W)
        padded = mask_of_lengths(frames, x.size(1), x.device)
        bias = attention_bias(padded if min(frames) < x.size(1) else None, x.dtype)
        for layer in self.layer_list:
            x = layer(x, attention_mask=bias)
            yield self._join(x, windows, frames, len(lengths))

    def _log_mel(self, source: Tensor, windows: Sequence[_Window]) -> Tensor:
        """Log-mel spectrograms (N, mels, S // hop) of the windows, zero behind each one's end; float32."""
        edge, longest = self.fft // 2, max(window.samples for window in windows)
        waves = source.new_zeros(len(windows), longest + 2 * edge, dtype=torch.float32)
        for i, (row, start, samples) in enumerate(windows):
            wave = source[row : row + 1, start : start + samples].float()
            waves[i, : samples + 2 * edge] = F.pad(wave, (edge, edge), mode="reflect")[0]
        shape = torch.hann_window(self.fft, device=source.device)
        spectrum = torch.stft(waves, self.fft, self.hop, window=shape, center=False, return_complex=True)
        power = spectrum[:, :, : longest // self.hop].abs() ** 2  # (N, F, S // hop)
        mel = self._filters_on(source.device).T @ power.contiguous()
        logarithm = mel.clamp(min=_FLOOR).log10()
        behind = mask_of_lengths([w.samples // self.hop for w in windows], mel.size(2), mel.device).unsqueeze(1)
        loudest = logarithm.masked_fill(behind, -torch.inf).amax(dim=(1, 2), keepdim=True)
        return ((torch.maximum(logarithm, loudest - _DYNAMIC_RANGE) + 4.0) / 4.0).masked_fill(behind, 0)

    def _filters_on(self, device: torch.device) -> Tensor:
        if device not in self._filters:
            self._filters[device] = self._filters[torch.device("cpu")].to(device)
        return self._filters[device]

    def _convolve(self, mel: Tensor, lengths: Sequence[int]) -> Tensor:
        """(N, mels, F) -> (N, T, W); zeros behind each one's end, as both convolutions see them without a batch."""
        x = F.gelu(self.conv1(mel.to(self.conv1.weight.dtype)))
        x = x.masked_fill(mask_of_lengths(lengths, x.size(2), x.device).unsqueeze(1), 0)
        return F.gelu(self.conv2(x)).transpose(1, 2)

    @staticmethod
    def _join(x: Tensor, windows: Sequence[_Window], frames: Sequence[int], batch: int) -> Tensor:
        """Windows (N, T, W) -> utterances (B, T', W)."""
        if len(windows) == batch:
            return x
        rows: list[list[Tensor]] = [[] for _ in range(batch)]
        for i, window in enumerate(windows):
            rows[window.row].append(x[i, : frames[i]])
        return pad_sequence([torch.cat(parts) for parts in rows], batch_first=True)

    def finish(self, x: Tensor) -> Tensor:
        return self.layer_norm(x)

    def transformer_layers(self) -> Any:
        return self.layer_list

    def keep_layers(self, count: int) -> None:
        self.layer_list = self.layer_list[:count]


def _build(place: EncoderPlace, settings: dict[str, Any]) -> tuple[Any, Any]:
    """Encoder, without memory for its tensors, and front end. Raises `EncoderError`."""
    from transformers import WhisperConfig, WhisperFeatureExtractor
    from transformers.models.whisper.modeling_whisper import WhisperEncoder as Encoder

    try:
        config = WhisperConfig.from_dict(place.config)
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            model = Encoder(config)
        front_end: Any = WhisperFeatureExtractor.from_dict({"feature_size": config.num_mel_bins, **settings})
    except Exception as error:  # transformers validates in many ways
        raise EncoderError(
            f"{place} describes a Whisper that cannot be built ({reason(error)}): check its config.json."
        ) from error
    if front_end.feature_size != config.num_mel_bins:
        raise EncoderError(
            f"{place} has {config.num_mel_bins} mel bands in config.json and {front_end.feature_size} in "
            "preprocessor_config.json: give files that belong together."
        )
    return model.eval(), front_end
