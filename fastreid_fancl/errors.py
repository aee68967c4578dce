"""Wrong input that shows in one place only."""


class OneProcessError(ValueError):
    """What one of several processes may meet alone, so that this one has to tell."""
