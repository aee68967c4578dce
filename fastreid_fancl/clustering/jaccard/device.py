"""The steps of `jaccard_distance` on a GPU, by tensor operations on blocks of rows.

Sums may round differently than on the CPU. No step uses atomic additions, so the same device gives the same result.

Shapes: N rows, D dimensions, B rows of a block, E sparse entries.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..neighbors.operands import squared_norms
from .cpu import STEP
from .rows import Kernel, Rows, stack

ENTRY_BYTES = 88  # memory per sparse entry: its number, value and key, their sorted copies, and sorting's own memory


class DeviceSteps:
    """The steps of `jaccard_distance` on a device.

    Besides the neighbour lists they use about `block_bytes` of its memory, or 36 bytes per entry of the encoding if
    that is more.
    """

    def __init__(self, device: torch.device, block_bytes: int):
        """Choose the device, and how much memory a step may use at once."""
        self.device, self.block_bytes = device, block_bytes

    def encode(self, features: Tensor, squared: np.ndarray, neighbors: np.ndarray, k1: int) -> Kernel:
        """Steps 2 and 3: the encoding V, given the squared distances and numbers of the neighbours, both (N, k1)."""
        distances, indices = self._tensors(squared, neighbors)
        length, half = (min(count, indices.shape[1]) for count in (k1 + 1, round(k1 / 2) + 1))
        full_lists, half_lists = (_reciprocal(indices, count, self.block_bytes) for count in (length, half))
        entries = torch.full((len(indices),), length * (1 + half))
        pairs = max(1, self.block_bytes // (12 * features.shape[1]))
        norms = squared_norms(features)
        kernel = partial(_encode_rows, features, norms, distances, indices, full_lists, half_lists, pairs)
        return self._in_blocks(kernel, entries)

    def expand_queries(self, encoding: Rows, neighbors: np.ndarray) -> Kernel:
        """Step 4: the mean of the encodings of each row's neighbours (N, k2)."""
        indices, start, column, value = self._tensors(neighbors, *encoding)
        entries = torch.diff(start)[indices].sum(dim=1)
        return self._in_blocks(partial(_expand_rows, start, column, value, indices), entries)

    def overlaps(self, encoding: Rows, max_distance: float) -> Kernel:
        """Step 5: the distances of each row to itself and to the later rows."""
        start, column, value = self._tensors(*encoding)
        row = torch.repeat_interleave(torch.diff(start)).int()
        order = column.sort(stable=True).indices
        after = torch.empty_like(order)  # the place right after an entry in the order by column
        after[order] = torch.arange(1, len(order) + 1, device=self.device)
        later = column.bincount(minlength=len(start) - 1).cumsum(0)[column] - after
        pairs = torch.cat([later.new_zeros(1), later.cumsum(0)])[start]
        by_column = row[order], value[order]
        kernel = partial(_overlap_rows, start, row, value, after, later, by_column, max_distance)
        return self._in_blocks(kernel, 1 + torch.diff(pairs))

    def _tensors(self, *arrays: np.ndarray) -> list[Tensor]:
        return [torch.from_numpy(values).to(self.device) for values in arrays]

    def _in_blocks(self, kernel: Callable[[int, int], tuple[Tensor, Tensor, Tensor]], entries: Tensor) -> Kernel:
        """Split a kernel's range into blocks whose entries (N,) fit into `block_bytes`, of one row at least."""
        total = np.append(0, entries.cumsum(0).cpu().numpy())

        def blocks(begin: int, end: int) -> Iterator[tuple[int, int]]:
            while begin < end:
                fits = np.searchsorted(total, total[begin] + self.block_bytes // ENTRY_BYTES, side="right") - 1
                stop = min(end, max(begin + 1, int(fits)))
                yield begin, stop
                begin = stop

        def run(begin: int, end: int) -> Rows:
            if begin == end:
                return Rows(np.zeros(1, dtype=np.int64), np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32))
            parts = (kernel(*block) for block in blocks(begin, end))
            return stack(
                [(counts.cpu().numpy(), column.cpu().numpy(), value.cpu().numpy()) for counts, column, value in parts]
            )

        return run


def _reciprocal(neighbors: Tensor, length: int, block_bytes: int) -> Tensor:
    """Keep the members of each row's list that have the row in their own list; set the others to -1: (N, length)."""
    lists = neighbors[:, :length].contiguous()
    number = torch.arange(len(lists), device=lists.device)
    rows = max(1, block_bytes // (16 * length**2))
    mutual = [
        (lists[members] == row[:, None, None]).any(dim=-1)
        for members, row in zip(lists.split(rows), number.split(rows), strict=True)
    ]
    return lists.where(torch.cat(mutual), -1)


def _encode_rows(
    features: Tensor,
    norms: Tensor,
    squared: Tensor,
    neighbors: Tensor,
    full: Tensor,
    half: Tensor,
    pairs: int,
    begin: int,
    end: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Steps 2 and 3 for rows begin..end: the number of entries of each row, then the columns and values of all."""
    members = full[begin:end]
    candidates = torch.where(members[..., None] >= 0, half[members.clamp(min=0)], -1)  # (B, members, candidates)
    shared = _place(members, candidates.flatten(1))[1].view_as(candidates).sum(dim=-1)
    joins = 3 * shared > 2 * (candidates >= 0).sum(dim=-1)
    joined = torch.where(joins[..., None], candidates, -1).flatten(1)
    columns = torch.cat([members, joined], dim=1).sort(dim=1).values
    stored = columns >= 0
    stored[:, 1:] &= columns[:, 1:] != columns[:, :-1]
    place, listed = _place(neighbors[begin:end], columns)
    product = (norms[begin:end, None] + norms[columns.clamp(min=0)] - squared[begin:end].gather(1, place)) / 2
    row, other = torch.nonzero(stored & ~listed, as_tuple=True)
    product[row, other] = _products(features, begin + row, columns[row, other], pairs)
    values = (2 * product).masked_fill(~stored, -torch.inf).softmax(dim=1)
    return stored.sum(dim=1), columns[stored].int(), values[stored]


def _place(lists: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Find the place of each wanted number (B, W) in its row's list (B, L), and whether it is there; -1 never is."""
    ordered, order = lists.sort(dim=1)
    place = torch.searchsorted(ordered, wanted.contiguous()).clamp(max=lists.shape[1] - 1)
    return order.gather(1, place), (ordered.gather(1, place) == wanted) & (wanted >= 0)


def _products(features: Tensor, left: Tensor, right: Tensor, pairs: int) -> Tensor:
    """Inner products (E,) of pairs of rows, `pairs` at a time."""
    parts = zip(left.split(pairs), right.split(pairs), strict=True)
    return torch.cat([(features[one] * features[other]).sum(dim=1) for one, other in parts])


def _expand_rows(
    start: Tensor, column: Tensor, value: Tensor, neighbors: Tensor, begin: int, end: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Step 4 for rows begin..end: the number of entries of each row, then the columns and values of all."""
    first = start[neighbors[begin:end]]
    length = start[neighbors[begin:end] + 1] - first
    row = torch.repeat_interleave(length.sum(dim=1))
    entry = _ranges(first.flatten(), length.flatten())
    row, columns, total = _sums(row, column[entry], value[entry], len(start) - 1)
    return row.bincount(minlength=end - begin), columns, total / neighbors.shape[1]


def _overlap_rows(
    start: Tensor,
    row: Tensor,
    value: Tensor,
    after: Tensor,
    later: Tensor,
    by_column: tuple[Tensor, Tensor],
    max_distance: float,
    begin: int,
    end: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Step 5: distances below max_distance of rows begin..end to themselves, which come first, and to later rows.

    The encoding comes as `start`, `row` and `value` of its entries, sorted by row. In the order by column, with rows
    and values `by_column`, `after` is the place right after an entry, and `later` the number of entries that follow it
    in its column.
    """
    entries = slice(int(start[begin]), int(start[end]))
    entry = _ranges(after[entries], later[entries])
    own, own_value = (values[entries].repeat_interleave(later[entries]) for values in (row, value))
    other, other_value = (values[entry] for values in by_column)
    itself = torch.arange(begin, end, device=row.device)  # the overlap of a row with itself is 1
    own, other = torch.cat([itself, own]) - begin, torch.cat([itself, other])
    shared = torch.cat([value.new_ones(end - begin), torch.minimum(own_value, other_value)])
    own, other, overlap = _sums(own, other, shared, len(start) - 1)
    distance = ((1 - overlap / (2 - overlap)).clamp(min=0) / STEP.item()).round() * STEP.item()
    near = distance < max_distance
    return own[near].bincount(minlength=end - begin), other[near].int(), distance[near]


def _ranges(first: Tensor, length: Tensor) -> Tensor:
    """Concatenate the ranges first[i]..first[i] + length[i] - 1."""
    end = length.cumsum(0)
    return torch.arange(int(end[-1]), device=first.device) + (first - end + length).repeat_interleave(length)


def _sums(row: Tensor, column: Tensor, value: Tensor, columns: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sum the entries (E,) that share a row and a column: rows, columns and sums, sorted by row and column."""
    key, order = (row * columns + column).sort(stable=True)
    key, count = key.unique_consecutive(return_counts=True)
    return key // columns, (key % columns).to(column.dtype), torch.segment_reduce(value[order], "sum", lengths=count)
