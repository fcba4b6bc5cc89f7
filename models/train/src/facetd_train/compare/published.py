"""Figures of the paper (arXiv 2104.11502) for supervised methods that are not run here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """In percent."""

    name: str
    pairwise_f: float
    bcubed_f: float
    nmi: float
    time: str


# Table 2, MS-Celeb-1M with 584K faces (subset 1).
MS1M = (
    Published("CDP", 75.02, 78.70, 94.69, "2.3 min"),
    Published("L-GCN", 78.68, 84.37, 96.12, "63.8 min"),
    Published("DS-GCN", 87.61, 87.76, 97.04, "47.3 min"),
    Published("VE-GCN", 87.93, 86.09, 96.41, "11.5 min"),
    Published("FaceT", 91.12, 90.50, 97.61, "28.0 min"),
)
# DDC has no figure there; table 3, BCubed F on IJB-B with 512 identities.
DDC_IJBB, FACET_IJBB = 80.2, 83.1
