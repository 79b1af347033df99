"""`sparqle prepare llm-targets`: translations that the LLM itself makes of the transcripts, as a manifest."""
