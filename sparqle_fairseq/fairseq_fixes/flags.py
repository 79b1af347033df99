"""Options of fairseq that mean something else than they say."""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from functools import wraps
from typing import Any

from fairseq import options

from sparqle_fairseq.fairseq_fixes.marks import mark, marks


def fix_bf16_flag() -> bool:
    """Let ``--bf16`` on the command line mean bfloat16 and not "a TPU".

    Symptom: ``fairseq-train --bf16`` stops at ``No module named 'torch_xla'``, while ``common.bf16=true``
    through Hydra runs. Reason: ``options.parse_args_and_arch`` switches ``--tpu`` on whenever ``--bf16`` is
    given, from a time when only TPUs had bfloat16. Where ``torch_xla`` is not installed and ``--tpu`` was not
    typed, the switch is turned back. Can go when fairseq leaves ``--tpu`` alone.

    Returns:
        True where this call wrapped the parser.
    """
    original = options.parse_args_and_arch
    if "leaves tpu alone" in marks(original) or importlib.util.find_spec("torch_xla") is not None:
        return False
    if not re.search(r"if args\.bf16:\s+args\.tpu = True", inspect.getsource(original)):
        return False

    @wraps(original)
    def parse_args_and_arch(parser: Any, input_args: Any = None, *rest: Any, **named: Any) -> Any:
        parsed = original(parser, input_args, *rest, **named)
        args = parsed[0] if isinstance(parsed, tuple) else parsed
        typed = sys.argv[1:] if input_args is None else input_args
        if getattr(args, "bf16", False) and "--tpu" not in typed:
            args.tpu = False
        return parsed

    mark(parse_args_and_arch, "leaves tpu alone")
    options.parse_args_and_arch = parse_args_and_arch
    return True
