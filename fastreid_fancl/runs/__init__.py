"""The folders of runs. They may come from other people and machines, so everything read from them is checked."""
