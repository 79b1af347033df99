"""Public corpora, as their owners ship them, into manifests. One file a corpus; `common.py` is what they share.

Nothing is copied or converted: a manifest points into the corpus, at whole files or at slices of them. This package
imports no torch.
"""
