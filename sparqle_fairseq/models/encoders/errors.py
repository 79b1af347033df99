"""The error of this package."""

from sparqle_fairseq.errors import SparqleError


class EncoderError(SparqleError):
    """A speech encoder cannot be read or used; the message is one sentence that says what to do."""
