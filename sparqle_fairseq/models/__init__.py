from sparqle_fairseq.fairseq_fixes import compat

# Whoever imports a module from here, with or without a fairseq command around it, gets the workarounds first.
compat.apply()
