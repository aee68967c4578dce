"""The evaluator's own call of the ranking gives the scores of fast-reid's evaluator."""

import numpy as np
import pytest
import torch
from bag_of_tricks import stock_cfg
from fastreid.evaluation import ReidEvaluator

from fastreid_fancl.data.datasets.protocols import Protocol
from fastreid_fancl.engine.evaluation import ProtocolEvaluator

NUM_QUERY, NUM_GALLERY = 12, 30


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"TEST__METRIC": "euclidean"},
        {"TEST__AQE__ENABLED": True},
        {"TEST__RERANK__ENABLED": True},
        {"TEST__METRIC": "euclidean", "TEST__RERANK__ENABLED": True},
        {"TEST__ROC__ENABLED": True},
    ],
    ids=str,
)
def test_a_protocol_is_scored_as_by_fast_reid(changes, tmp_path):
    rng = np.random.default_rng(0)
    number = NUM_QUERY + NUM_GALLERY
    identities, cameras = rng.integers(0, 5, number), rng.integers(0, 3, number)
    features = torch.from_numpy(rng.normal(size=(5, 8))[identities] + rng.normal(0, 2, (number, 8))).float()
    cfg = stock_cfg(**changes)

    stock = ReidEvaluator(cfg, NUM_QUERY)
    stock._predictions = [
        {"feats": features, "pids": torch.from_numpy(identities), "camids": torch.from_numpy(cameras)}
    ]
    items = [
        (f"{row}.png", int(pid), int(camid)) for row, (pid, camid) in enumerate(zip(identities, cameras, strict=True))
    ]
    test = Protocol(items[:NUM_QUERY], items[NUM_QUERY:], [])
    ours = ProtocolEvaluator(cfg, test, str(tmp_path / "queries.csv"))
    assert ours._score(features, identities, cameras) == stock.evaluate()
