"""The methods, one paper per file, and FANCL for projects of individuals.

Importing this package registers their meta-architectures.
"""

from .base import PseudoLabelMethod
from .cluster_contrast import ClusterContrast
from .fancl import FANCL
from .ice import ICE
from .jcl import JCL
from .linked_fancl import LinkedFANCL
from .pcb import PCB
from .pplr import PPLR
from .spcl import SpCL

__all__ = ["FANCL", "ICE", "JCL", "PPLR", "PCB", "ClusterContrast", "LinkedFANCL", "PseudoLabelMethod", "SpCL"]
