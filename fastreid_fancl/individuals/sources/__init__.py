"""What other programs know of photographs: a detector's boxes, a Camtrap DP folder, a table."""

from .boxes import CONFIDENCE, boxed, with_boxes
from .camtrapdp import common_offset, with_camtrapdp
from .places import Places
from .table import with_table

__all__ = ["CONFIDENCE", "Places", "boxed", "common_offset", "with_boxes", "with_camtrapdp", "with_table"]
