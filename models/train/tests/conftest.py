"""Shared pieces: everything seeded, one small model whose every weight matters."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from facetd_train import fixtures, validation
from facetd_train.data import Faces, normalise
from facetd_train.model import FaceTransformer

torch.set_num_threads(1)  # matrices are tiny here: a second thread only waits for the first


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(1)


@pytest.fixture
def model() -> FaceTransformer:
    made = FaceTransformer(fixtures.TINY).eval()
    fixtures.disturb(made)
    return made


@pytest.fixture(scope="session")
def people() -> Faces:
    """400 faces of 100 identities that are easy to tell apart, in no order."""
    generator = np.random.default_rng(3)
    identities = generator.permutation(np.repeat(np.arange(100), 4))
    centres = generator.normal(size=(100, 16))
    features = centres[identities] + 0.35 * generator.normal(size=(400, 16))
    return Faces(normalise(features.astype(np.float32)), identities)


@pytest.fixture(scope="module")
def few_thresholds() -> Iterator[None]:
    """For tests of a whole fit, whose time would be spent on scoring all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(validation, "THRESHOLDS", np.round(np.arange(0.1, 0.99, 0.1), 3))
        yield


@pytest.fixture(scope="session")
def artefact_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artefact")
    fixtures.write(folder)
    return folder
