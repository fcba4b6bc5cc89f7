"""Trains the Face Transformer (arXiv 2104.11502) and exports it as a facetd model artefact."""
