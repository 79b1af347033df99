"""What learns, and what is frozen beside it."""

from sparqle_fairseq.data.torchaudio_import import ensure_torchaudio

# Before anything of transformers: it imports torchaudio wherever that is installed, and fails with it.
ensure_torchaudio()
