"""Scores of generated text: one normaliser, one way to cut it into tokens, one word error rate. Needs no fairseq."""
