"""`sparqle report`: systems side by side, with intervals and paired tests, as a paper needs them."""
