"""fast-reid's identity samplers loop forever on batches that cannot be made; here they raise an error."""

from fastreid.data.samplers import triplet_sampler
from fastreid.utils import comm

from ..errors import UserError
from .imports import replace


def check_identity_batches(data_source: list, mini_batch_size: int, num_instances: int) -> None:
    """Check that batches of `num_instances` images per identity can be made.

    Args:
        data_source: (path, pid, camid) of each image.
        mini_batch_size: images per process and step.

    Raises:
        UserError: if the batch does not hold a whole number of identities, or there are too few identities.
    """
    if num_instances < 1 or mini_batch_size < num_instances or mini_batch_size % num_instances:
        raise UserError(
            f"Expected a batch per process that DATALOADER.NUM_INSTANCE divides, got {mini_batch_size} images and "
            f"NUM_INSTANCE {num_instances}: change SOLVER.IMS_PER_BATCH or DATALOADER.NUM_INSTANCE."
        )
    needed = mini_batch_size // num_instances * comm.get_world_size()
    identities = len({pid for _, pid, _ in data_source})
    if identities < needed:
        raise UserError(
            f"Expected at least {needed} training identities (SOLVER.IMS_PER_BATCH / DATALOADER.NUM_INSTANCE), got "
            f"{identities}: lower SOLVER.IMS_PER_BATCH, raise DATALOADER.NUM_INSTANCE, or use SAMPLER_TRAIN "
            "TrainingSampler."
        )


@replace(triplet_sampler.BalancedIdentitySampler)
class BalancedIdentitySampler(triplet_sampler.BalancedIdentitySampler):
    """Symptom: training hangs at 100% CPU without a message, or divides by zero.

    Cause: data/samplers/triplet_sampler.py:84 and :117 yield only full batches. They retry forever if there are too
    few identities to fill one, or if NUM_INSTANCE does not divide it.
    Fix: a UserError before training.
    """

    def __init__(self, data_source, mini_batch_size, num_instances, seed=None):
        check_identity_batches(data_source, mini_batch_size, num_instances)
        super().__init__(data_source, mini_batch_size, num_instances, seed)


@replace(triplet_sampler.NaiveIdentitySampler)
class NaiveIdentitySampler(triplet_sampler.NaiveIdentitySampler):
    """Symptom and fix: see BalancedIdentitySampler. Cause: data/samplers/triplet_sampler.py:241 and :258."""

    def __init__(self, data_source, mini_batch_size, num_instances, seed=None):
        check_identity_batches(data_source, mini_batch_size, num_instances)
        super().__init__(data_source, mini_batch_size, num_instances, seed)


@replace(triplet_sampler.SetReWeightSampler)
class SetReWeightSampler(triplet_sampler.SetReWeightSampler):
    """Symptom: a TypeError or KeyError at the first batch, always.

    Cause: data/samplers/triplet_sampler.py:191 adds an array to a list, and :183 numbers cameras that have names.
    Fix: a UserError that names the samplers that work.
    """

    def __init__(self, *args, **kwargs):
        raise UserError(
            "DATALOADER.SAMPLER_TRAIN SetReWeightSampler cannot work in fast-reid 1.4: use BalancedIdentitySampler, "
            "NaiveIdentitySampler or TrainingSampler."
        )
