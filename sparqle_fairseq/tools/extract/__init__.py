"""Features and discrete units of audio, written once: `sparqle extract-features`, `sparqle extract-units`."""
