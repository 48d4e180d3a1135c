"""The command line, the demo and the study commands, on top of interp, probes and steering."""
