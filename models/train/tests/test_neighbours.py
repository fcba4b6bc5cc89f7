"""Neighbourhoods are the nearest others, of everyone or of a population."""

import numpy as np
import torch

from facetd_train.data import Faces
from facetd_train.neighbours import CHUNK, search, within


def test_search_is_brute_force(people: Faces) -> None:
    rows, similarity = search(people.features, 10)
    cosine = people.features @ people.features.T
    np.fill_diagonal(cosine, -2)
    expected = np.argsort(-cosine, axis=1)[:, :10]
    np.testing.assert_array_equal(rows.numpy(), expected)
    np.testing.assert_allclose(similarity.numpy(), np.take_along_axis(cosine, expected, 1), atol=1e-6)


def test_search_crosses_chunks() -> None:
    features = torch.nn.functional.normalize(torch.randn(CHUNK + 10, 8), dim=1).numpy()
    rows, _ = search(features, 1)
    cosine = features @ features.T
    np.fill_diagonal(cosine, -2)
    np.testing.assert_array_equal(rows[:, 0].numpy(), cosine.argmax(1))


def test_few_faces_have_few_neighbours() -> None:
    rows, _ = search(np.eye(3, dtype=np.float32), 10)
    assert rows.shape == (3, 2)


def test_within_takes_the_first_of_the_population() -> None:
    long = torch.tensor([[1, 2, 3, 4], [4, 3, 2, 0]])
    population = torch.tensor([True, False, True, False, True])
    near = within(long, population, 2)
    assert near.rows.tolist() == [[2, 4], [4, 2]]
    near = within(long, population, 3)
    assert near.rows.tolist() == [[2, 4, 0], [4, 2, 0]]
    assert near.mask.tolist() == [[True, True, False], [True, True, True]]
    assert not within(long, torch.zeros(5, dtype=torch.bool), 2).mask.any()
