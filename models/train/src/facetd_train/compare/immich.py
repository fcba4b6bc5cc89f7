"""Immich's rule for people in a photo library, written from its person service: streaming, one face after the other.

A face with `min_faces` faces (itself among them) within `max_distance` is a core. It joins the person of the nearest
of them that has one, else of the nearest face at all that has one within the distance, else it founds a person. Others
wait and are tried once more when all have come; then they may join without being a core.
"""

import numpy as np
from scipy.sparse import csr_array

from facetd_train.compare.collection import Collection
from facetd_train.compare.method import Method, Setting, grid, steps
from facetd_train.data import Integers

LOWEST = 0.3  # cosine


def near(collection: Collection) -> csr_array:
    return collection.closer_than(LOWEST)


def people(near: csr_array, setting: Setting) -> Integers:
    above, min_faces = float(setting["cosine"]), int(setting["min_faces"])
    faces = near.shape[0]
    person = np.full(faces, -1)
    founded = 0

    def visit(face: int, arrived: int) -> bool:
        """Whether it has a person now; `arrived` faces are there."""
        nonlocal founded
        span = slice(near.indptr[face], near.indptr[face + 1])
        who, cosine = near.indices[span], near.data[span]
        known = (cosine > above) & (who < arrived)
        who, cosine = who[known], cosine[known]
        core = len(who) + 1 >= min_faces
        if not core and arrived < faces:
            return False
        # The nearest with a person is the nearest among the first min_faces that has one, or else any within reach.
        with_person = person[who] >= 0
        if with_person.any():
            person[face] = person[who[with_person][cosine[with_person].argmax()]]
        elif core:
            person[face] = founded
            founded += 1
        return person[face] >= 0

    waiting = [face for face in range(faces) if not visit(face, face)]
    for face in waiting:
        visit(face, faces)
    nobody = person < 0
    person[nobody] = founded + np.arange(nobody.sum())
    return person


METHODS = [
    Method(
        "Immich's rule",
        near,
        people,
        grid(min_faces=[1, 2, 3], cosine=steps(LOWEST, 0.9, 0.01)),
        note="streaming",
    ),
]
