"""The folders of runs, which may come from other people and machines: what is read from them is checked first."""
