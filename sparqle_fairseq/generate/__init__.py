"""From a model to text: search, rules on it, and looks into it."""
