"""A person's own recordings into text: read in blocks, cut at pauses, translated in batches, written as subtitles."""
