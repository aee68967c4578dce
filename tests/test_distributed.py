"""Two gloo processes against one, for what they must hold in common after every step."""

import pytest
import torch
from conftest import on_two_ranks

from fastreid_fancl.engine.distributed import broadcast_from_main
from fastreid_fancl.errors import UserError
from fastreid_fancl.memory import ClusterMemory

STEPS, BATCH, CLUSTERS, DIM = 3, 8, 3, 5


def batches():
    generator = torch.Generator().manual_seed(0)
    queries = torch.randn(STEPS, BATCH, DIM, generator=generator)
    return queries, torch.randint(CLUSTERS, (STEPS, BATCH), generator=generator)


def banks(update: str, part: slice) -> list[torch.Tensor]:
    """The bank after every step, fed with one process's part of each batch."""
    memory, history = ClusterMemory(torch.eye(CLUSTERS, DIM), momentum=0.2, update=update), []
    for queries, targets in zip(*batches(), strict=True):
        memory.update(queries[part], targets[part])
        history.append(memory.centroids.clone())
    return history


def one_of_two(rank: int) -> dict[str, list[torch.Tensor]]:
    half = BATCH // 2
    found = {update: banks(update, slice(rank * half, (rank + 1) * half)) for update in ("mean", "hard")}
    found["main"] = [torch.tensor(broadcast_from_main(lambda: 10 + rank))]
    with pytest.raises(ValueError, match="on rank 0"):
        broadcast_from_main(lambda: fail(f"on rank {rank}"))
    return found


def fail(message: str):
    raise UserError(message)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return on_two_ranks(one_of_two, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("update", ["mean", "hard"])
def test_all_ranks_hold_the_bank_of_one_process_after_every_step(ranks, update):
    alone = banks(update, slice(None))
    for step in range(STEPS):
        assert torch.equal(ranks[0][update][step], ranks[1][update][step])
        torch.testing.assert_close(ranks[0][update][step], alone[step])


def test_what_the_first_rank_computes_or_refuses_reaches_all(ranks):
    assert [rank["main"][0].item() for rank in ranks] == [10, 10]
