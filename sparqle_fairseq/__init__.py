"""SparQLe for fairseq: speech translation by a Q-Former between a frozen speech encoder and a frozen LLM.

`--user-dir sparqle_fairseq` imports this module: it registers the tasks, models and criterions, and nothing else.
"""

from sparqle_fairseq import compat, errors

compat.apply()
errors.install_hook()

from sparqle_fairseq.criterions import finetune as _finetune_criterion  # noqa: E402, F401
from sparqle_fairseq.criterions import pretrain as _pretrain_criterion  # noqa: E402, F401
from sparqle_fairseq.models import pretrain_model as _pretrain_model  # noqa: E402, F401
from sparqle_fairseq.models import speech_llm as _speech_llm  # noqa: E402, F401
from sparqle_fairseq.tasks import finetune as _finetune_task  # noqa: E402, F401
from sparqle_fairseq.tasks import pretrain as _pretrain_task  # noqa: E402, F401

__version__ = "0.1.0"
