"""Feature extraction in batches; a batch's features are copied while the next batch is computed."""

from collections.abc import Callable

import torch
from torch import Tensor

from ..progress import Progress
from .distributed import gather_rows_on_host


@torch.no_grad()
def extract_features(method, loader, encode: Callable[[dict], dict[str, Tensor]] | None = None) -> dict[str, Tensor]:
    """The features of every image, in evaluation mode, in the order of the data set.

    A GPU gets the next batch before this function waits for the features of the last one, so it holds the features of
    two batches at most.

    Args:
        method: a `PseudoLabelMethod`, or with `encode` any model with a `device`; left in the mode that it came in.
        loader: this rank's consecutive share of the data set.
        encode: from a batch to features by name, each (B, D); the method's `cluster_features` by default.

    Returns:
        Features by name, each (N, D) on the CPU, equal on all ranks.
    """
    training, collected, arriving = method.training, [], []
    encode = encode or method.cluster_features
    method.eval()
    with Progress("Features", len(loader), "batches") as progress:
        for batch in loader:
            batch["images"] = batch["images"].to(method.device, non_blocking=True)
            arriving.append(send(encode(batch)))
            if len(arriving) > 1:
                collected.append(arriving.pop(0)())
            progress.advance()
    collected += [arrived() for arrived in arriving]
    method.train(training)
    return {name: gather_rows_on_host(torch.cat([part[name] for part in collected])) for name in collected[0]}


def extract_test_features(model, loader) -> Tensor:
    """The feature (N, D) of every image that the evaluator compares: the model's forward pass in evaluation mode."""
    return extract_features(model, loader, lambda batch: {"original": model(batch)})["original"]


def send(features: dict[str, Tensor]) -> Callable[[], dict[str, Tensor]]:
    """Start to copy features to the host; the returned function waits for the copies and returns them.

    The copies travel through pinned memory; the returned tensors are not pinned.
    """
    on_gpu = any(values.is_cuda for values in features.values())
    copies = {name: values.to("cpu", non_blocking=True) for name, values in features.items()}
    done = torch.cuda.current_stream().record_event() if on_gpu else None

    def arrived() -> dict[str, Tensor]:
        if done is None:
            return copies
        done.synchronize()
        return {name: values.clone() for name, values in copies.items()}

    return arrived
