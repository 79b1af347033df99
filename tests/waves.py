"""Waveforms for tests of speech encoders, alone and padded."""

import torch


def speech(samples: int, seed: int = 0) -> torch.Tensor:
    """(samples,) noise with an offset, so that a norm over padding would show."""
    return 0.3 * torch.randn(samples, generator=torch.Generator().manual_seed(seed)) + 0.1


def padded(waves: list[torch.Tensor], extra: int = 0, fill: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, S) waveforms padded on the right with `fill`, and their mask."""
    longest = max(map(len, waves)) + extra
    source = torch.full((len(waves), longest), fill)
    mask = torch.ones(len(waves), longest, dtype=torch.bool)
    for row, wave in enumerate(waves):
        source[row, : len(wave)] = wave
        mask[row, : len(wave)] = False
    return source, mask


def close(a: torch.Tensor, b: torch.Tensor) -> None:
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
