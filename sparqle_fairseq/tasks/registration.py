"""The one place where this plugin is registered with fairseq: importing it makes every class known, once."""

from sparqle_fairseq.criterions import finetune as _finetune_criterion  # noqa: F401
from sparqle_fairseq.criterions import pretrain as _pretrain_criterion  # noqa: F401
from sparqle_fairseq.tasks import finetune as _finetune_task  # noqa: F401
from sparqle_fairseq.tasks import models as _models  # noqa: F401
from sparqle_fairseq.tasks import pretrain as _pretrain_task  # noqa: F401
