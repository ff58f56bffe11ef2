"""The space, the supernet and its training; the command line; one run from end to end."""
