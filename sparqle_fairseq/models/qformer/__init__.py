"""The Q-Former, and what stands between the speech and it, and between it and the LLM."""
