"""The frozen LLM: its files, its precision and memory, what is trained of it."""
