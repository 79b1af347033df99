"""A page in the browser for one model. Gradio is known to `app`, `tabs`, `endpoints` and `serve` alone."""
