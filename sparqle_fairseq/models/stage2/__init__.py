"""Stage 2: the Q-Former prompts the frozen LLM."""
