"""Stage 1: the Q-Former learns from speech and its transcripts, without an LLM."""
