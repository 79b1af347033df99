"""Tests of the plan run in a process of their own, which `test_plan_apart.py` starts.

A process of these tests dies now and then of a segmentation fault inside torch 2.13, where a tensor without bytes is
freed or looked at by the search for garbage: its own part in C++ is gone. The cause is not known. With what is freed
overwritten it comes in 1 to 5 of 10 runs,

    MALLOC_PERTURB_=165 SPARQLE_PLAN_APART=1 python -m pytest tests/tools/plan/test_plan.py -k trained_parameters

and so it does without torch's table of operations, without the counter's notes, without the search for garbage and
without other models in the process. The command `sparqle plan` did not die so in 24 runs, nor did programs outside of
pytest that plan as much. To run these tests by themselves:

    SPARQLE_PLAN_APART=1 python -m pytest tests/tools/plan
"""

import os

collect_ignore = (
    ["test_plan_apart.py", "test_filling.py"]
    if os.environ.get("SPARQLE_PLAN_APART")
    else ["test_plan.py", "test_plan_options.py", "test_plan_rows.py"]
)
