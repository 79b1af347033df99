"""Criterions of both stages, as fairseq knows them."""

from sparqle_fairseq.errors import need_fairseq

need_fairseq("sparqle_fairseq.criterions")
