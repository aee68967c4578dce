"""Features by OpenVINO, an optional library: it compiles a network for the processor and folds BatchNorm into weights.

Shapes: B images of a batch, D dimensions.
"""

import functools
import importlib.util
import logging
import warnings

import torch
from torch import Tensor, nn

from .compat.telemetry import block_telemetry
from .errors import UserError

logger = logging.getLogger(__name__)
INSTALL = "pip install 'fastreid_fancl[openvino]'"
PRECISIONS = {"float32": "f32", "bfloat16": "bf16"}
# Relative. In float32 it is below 1e-4; in bfloat16 up to 0.08 on photographs, by a pre-trained EfficientNet-Lite0.
LARGEST_ERROR = {"float32": 0.001, "bfloat16": 0.1}


def why_unusable(device: str) -> str:
    """Why OpenVINO cannot run a model on this device, with the cure; empty if it can."""
    if not device.startswith("cpu"):
        return (
            f"TEST.RUNTIME openvino: it runs on the CPU, and MODEL.DEVICE is {device}; use torch, or MODEL.DEVICE cpu"
        )
    if importlib.util.find_spec("openvino"):
        return ""
    return f"TEST.RUNTIME openvino: OpenVINO is not installed; {INSTALL}, or use torch"


def compile_forward(model: nn.Module, size: tuple[int, int], precision: str) -> None:
    """Make OpenVINO compute a model's forward pass, in place; weights that change later have no effect.

    It uses as many threads as PyTorch does now.

    Args:
        model: in evaluation mode on the CPU; a batch {"images": (B, 3, H, W)} -> features (B, D).
        size: (H, W) of its images in pixels.
        precision: "float32" or "bfloat16"; processors that do not multiply in bfloat16 take float32.

    Raises:
        UserError: if OpenVINO lacks an operation of the model, or computes other features than PyTorch.
    """
    examples = 255 * torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(0))
    examples *= torch.tensor([1.0, 0.6, 0.3]).view(3, 1, 1, 1)  # so that no two features are alike
    try:
        compiled = Compiled(model, examples[:2], precision)
        with torch.no_grad():
            expected = model({"images": examples})
            difference = float((compiled({"images": examples}) - expected).norm() / expected.norm())
    except Exception as error:  # a conversion can fail in many ways, all with the same cure
        reason = str(error).strip().partition("\n")[0]
        raise UserError(
            f"OpenVINO cannot run this {type(model).__name__} ({reason}): use TEST.RUNTIME torch."
        ) from error
    if not difference < LARGEST_ERROR[precision]:  # also if it is NaN
        raise UserError(
            f"Expected the features of OpenVINO to equal those of PyTorch, but they differ by {difference:.1%}: "
            "use TEST.RUNTIME torch."
        )
    model.forward = compiled
    logger.info("Features by %s; they differ from those of PyTorch by %.0e.", compiled, difference)


class Compiled:
    """A model's forward pass by OpenVINO."""

    def __init__(self, model: nn.Module, example: Tensor, precision: str):
        """Trace and compile the model for images of the example's size, any number of them."""
        openvino, core = library()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch.jit, on shapes that it takes for constants: they are
            network = openvino.convert_model(Network(model), example_input=example)
        network.reshape([-1, *example.shape[1:]])
        options = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,  # else processes that share a machine meet on its first cores
        }
        self.run = core.compile_model(network, "CPU", options)
        self.version = openvino.__version__.partition("-")[0]

    def __call__(self, batch: dict[str, Tensor]) -> Tensor:
        """Compute the features (B, D) float32 of a batch with "images" (B, 3, H, W)."""
        return torch.from_numpy(self.run(batch["images"].contiguous().numpy())[0])

    def __str__(self) -> str:
        precision, threads = map(self.run.get_property, ("INFERENCE_PRECISION_HINT", "INFERENCE_NUM_THREADS"))
        return f"OpenVINO {self.version} in {precision.get_type_name()} on {threads} threads"


class Network(nn.Module):
    """A model as a function of a tensor, which tracing needs: images (B, 3, H, W) -> features (B, D)."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model({"images": images})


@functools.cache
def library():
    """Import OpenVINO without its telemetry, which would report each use over the network; its module and its core.

    All models share one core, which lives as long as the process. A core installs its own stack for signal handlers and
    restores the previous one when it is destroyed. A second core would restore the stack of the first, freed by then,
    and the next signal (Ctrl-C, a worker that exits) would crash the process.
    """
    block_telemetry()
    import openvino

    return openvino, openvino.Core()
