"""Okabe and Ito's colours, which the colour-blind tell apart: each on white, and on black.

On white some are darkened, on black some lightened, to a contrast of 3 to 1 at least.
"""

BLUE = ("#0072b2", "#3d9bd6")
VERMILION = ("#d55e00", "#d55e00")
GREEN = ("#009e73", "#009e73")
PURPLE = ("#c575a1", "#cc79a7")
ORANGE = ("#bd8100", "#e69f00")
SKY = ("#4493c0", "#56b4e9")
BLACK = ("#000000", "#e8e6e1")
YELLOW = ("#979026", "#f0e442")
SERIES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK, YELLOW)
