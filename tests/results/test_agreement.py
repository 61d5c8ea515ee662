"""Agreement of two metrics is the rank correlation of their scores in each layer."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from results import rank_agreement

FIRST = [0.1, 0.2, 0.2, 0.5, 0.4, -math.inf, 3.0]
SECOND = [7.0, 2.0, 2.0, 1.0, 1.0, 9.0, math.inf]


def scores(**metrics: list[float]) -> pd.DataFrame:
    """Scores of the channels of one layer, by metric."""
    return pd.DataFrame(
        [
            {"dataset": "d", "seed": 0, "baseline_key": "b", "layer": 0}
            | {"metric": metric, "channel": channel, "score": score}
            for metric, values in metrics.items()
            for channel, score in enumerate(values)
        ]
    )


@pytest.mark.parametrize(
    ("method", "expected"), [("kendall", stats.kendalltau), ("spearman", stats.spearmanr)]
)
@pytest.mark.parametrize("seed", range(5))
def test_ties_and_infinities_agree_with_scipy(method, expected, seed):
    chance = np.random.default_rng(seed)
    columns = {"tied": chance.integers(0, 4, 40) / 2.0, "free": chance.standard_normal(40)}
    columns["infinite"] = np.where(columns["free"] > 1, -math.inf, chance.integers(0, 9, 40))
    made = rank_agreement(scores(**{name: list(x) for name, x in columns.items()}), method)
    assert len(made) == 3
    for one, other, value in made[["metric", "other_metric", "correlation"]].itertuples(
        index=False
    ):
        assert value == pytest.approx(expected(columns[one], columns[other]).statistic, abs=1e-12)


def test_hand_computed():
    # Of six pairs three agree and two do not; one is tied in b: (3 - 2) / sqrt(6 x 5).
    made = rank_agreement(scores(a=[1, 2, 3, 4], b=[1, 2, 2, 1.5]))
    assert made["correlation"].tolist() == [pytest.approx(1 / math.sqrt(6 * 5))]


def test_a_constant_metric_has_no_correlation():
    made = rank_agreement(scores(a=FIRST, b=SECOND, c=[1.0] * 7))
    found = made.set_index(["metric", "other_metric"])["correlation"]
    assert found[("a", "b")] == pytest.approx(stats.kendalltau(FIRST, SECOND).statistic)
    assert found.drop(("a", "b")).isna().all()


def test_cells_and_unknown_methods_are_refused():
    told = "no column layer, channel, score; results.load_scores gives"
    with pytest.raises(ValueError, match=told):
        rank_agreement(scores(a=FIRST).drop(columns=["layer", "channel", "score"]))
    with pytest.raises(ValueError, match="method='pearson' is unknown; allowed: kendall, spearman"):
        rank_agreement(scores(a=FIRST), "pearson")


def test_two_scores_of_one_channel_are_refused():
    with pytest.raises(ValueError, match="two scores for one channel"):
        rank_agreement(pd.concat([scores(a=FIRST), scores(a=FIRST)]))


def test_scores_of_different_channel_groups_are_refused():
    whole = [scores(a=FIRST).assign(layer=layer) for layer in (0, 1)]
    inner = scores(b=FIRST).assign(layer=0)
    told = "d, seed 0, a and b .*: 2 with 14 channels and 1 with 7; select by scores_key"
    with pytest.raises(ValueError, match=told):
        rank_agreement(pd.concat([*whole, inner]))
    # Metrics of different networks are not compared.
    assert rank_agreement(pd.concat([*whole, inner.assign(baseline_key="other")])).empty
