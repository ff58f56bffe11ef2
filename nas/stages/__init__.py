"""One module per stage of a run. A stage recognises finished work by the hash of its inputs and returns figures."""
