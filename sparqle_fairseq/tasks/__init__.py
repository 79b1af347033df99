"""Tasks of both stages, as fairseq knows them."""

from sparqle_fairseq import fairseq_fixes

# Whoever imports a module from here, with or without a fairseq command around it, gets the workarounds first.
fairseq_fixes.apply()
