"""SparQLe for fairseq: speech translation by a Q-Former between a frozen speech encoder and a frozen LLM.

A fairseq command imports this module for `--user-dir sparqle_fairseq`, and it registers the tasks, models and
criterions. Imported before fairseq (by the `sparqle` command, or by a script that wants one module of it) it loads
nothing heavy; such a script calls `register()` where it wants fairseq to know the plugin.
"""

import sys

__version__ = "0.1.0"


def register() -> None:
    """Apply the workarounds of `fairseq_fixes`, show errors as sentences, register with fairseq. Twice is harmless."""
    from sparqle_fairseq import errors, fairseq_fixes

    fairseq_fixes.apply()
    errors.install_hook()

    from sparqle_fairseq.criterions import finetune as _finetune_criterion  # noqa: F401
    from sparqle_fairseq.criterions import pretrain as _pretrain_criterion  # noqa: F401
    from sparqle_fairseq.tasks import finetune as _finetune_task  # noqa: F401
    from sparqle_fairseq.tasks import models as _models  # noqa: F401
    from sparqle_fairseq.tasks import pretrain as _pretrain_task  # noqa: F401


if "fairseq" in sys.modules:
    register()
