"""Ranks equal those of `torch.linalg.matrix_rank`, and nuclear norms those of NumPy."""

import numpy as np
import pytest
import torch

from prune_core.networks import Architecture
from prune_core.statistics import singular_values
from prune_core.statistics.singular_values import nuclear_norms, ranks


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def of_spectrum(values, side=24):
    """Matrices with these singular values, [B, side, side], from [B, k]."""
    left, right = (
        torch.linalg.qr(random(len(values), side, side, seed=seed).double()).Q for seed in (1, 2)
    )
    count = values.shape[1]
    return ((left[:, :, :count] * values[:, None]) @ right[:, :, :count].mT).float()


def sparse():
    """Maps with every share of zeros."""
    maps = random(400, 12, 12)
    return maps.masked_fill(torch.rand_like(maps) > torch.linspace(0, 1, 400)[:, None, None], 0)


MATRICES = {
    "full": random(60, 32, 32),
    "rectified": random(300, 16, 16).relu(),
    "sparse": sparse(),
    "wide": random(50, 3, 17).relu(),
    "high": random(50, 17, 3).relu(),
    "of one position": random(64, 1, 1).relu(),
    "2 x 2": random(300, 2, 2).relu(),
    "4 x 4": random(600, 4, 4).relu(),
    "low rank": random(40, 20, 5) @ random(40, 5, 20, seed=3),
    "equal rows": random(40, 9, 9)[:, [0, 0, 1, 2, 2, 3, 4, 5, 5]],
    "constant": torch.full((3, 8, 8), 1.7),
    "zeros": torch.zeros(3, 8, 8),
    "tiny": 1e-38 * random(40, 8, 8).relu(),
    "huge": 1e30 * random(40, 8, 8).relu(),
    "rows of very different sizes": random(40, 8, 8) * 10.0 ** -torch.arange(8)[:, None],
    # Single values on both sides of the limit, 24 roundings of the largest one.
    "near the limit": of_spectrum(
        torch.cat([torch.ones(200, 5), torch.logspace(-8, -3, 200)[:, None]], dim=1)
    ),
}


@pytest.mark.parametrize("maps", MATRICES.values(), ids=MATRICES)
def test_ranks_are_those_of_matrix_rank(maps):
    expected = torch.linalg.matrix_rank(maps)
    assert torch.equal(ranks(maps[None]), expected[None])
    # As the network computes them, channels last.
    last = maps[:, None].contiguous(memory_format=torch.channels_last)
    assert torch.equal(ranks(last), expected[:, None])


@pytest.mark.parametrize("maps", MATRICES.values(), ids=MATRICES)
def test_nuclear_norms_are_those_of_numpy(maps):
    found = nuclear_norms(maps[None])[0].numpy()
    singular = np.linalg.svd(maps.double().numpy(), compute_uv=False)
    np.testing.assert_allclose(found, singular.sum(axis=1), rtol=1e-6, atol=0)


def test_ranks_of_a_networks_maps_need_few_decompositions(
    lived_in, coloured, scaling, feature_maps, monkeypatch
):
    net = lived_in(Architecture.named("simplenet_310k", 10))
    with torch.no_grad():
        layers = feature_maps(net, scaling(coloured(12, 10).images))
    expected = [torch.linalg.matrix_rank(values) for values in layers]
    plain, decomposed = torch.linalg.matrix_rank, []
    monkeypatch.setattr(
        torch.linalg, "matrix_rank", lambda left: decomposed.append(len(left)) or plain(left)
    )
    for values, rank in zip(layers, expected, strict=True):
        assert torch.equal(ranks(values), rank)
    assert sum(decomposed) < 0.05 * sum(rank.numel() for rank in expected)


def test_the_chunks_change_nothing(monkeypatch):
    maps = sparse().view(20, 20, 12, 12)
    expected = ranks(maps), nuclear_norms(maps)
    monkeypatch.setattr(singular_values, "VALUES_AT_A_TIME", 500)
    assert torch.equal(ranks(maps), expected[0])
    assert torch.equal(nuclear_norms(maps), expected[1])


def test_maps_that_are_not_finite_are_treated_as_by_matrix_rank():
    maps = random(1, 4, 6, 6).relu()
    maps[0, 2, 3, 3] = torch.inf
    assert torch.equal(ranks(maps), torch.linalg.matrix_rank(maps))
    maps[0, 2, 3, 3] = torch.nan
    with pytest.raises(torch.linalg.LinAlgError):
        ranks(maps)
