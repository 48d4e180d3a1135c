"""The commands, one file each: `add` describes it, `run` does it and returns what `--json` gets."""
