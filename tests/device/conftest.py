"""Tests on the pretend device run in a process of their own, which `test_apart.py` starts.

Autograd starts a thread for each device that it knows in its first backward pass. So the device must be known before
that, and a process with such threads can start no other one by forking, as tests of several processes do. To run a
file by itself:

    SPARQLE_PRETEND_DEVICE=1 python -m pytest tests/device/test_steps.py
"""

import os

if os.environ.get("SPARQLE_PRETEND_DEVICE"):
    from pretend import register

    register()
    collect_ignore = ["test_apart.py", "test_precisions.py"]
else:
    collect_ignore = ["test_pretend.py", "test_steps.py", "test_generation.py", "test_uses.py"]
