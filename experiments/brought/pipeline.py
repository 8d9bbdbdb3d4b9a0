"""A scikit-learn pipeline as a classifier: normal or tumour, by what is measured on a tile.

    medlat +experiment=histology_vae_linear hydra.run.dir=outputs/tiles classifier=none directions=sefa
    medlat +experiment=histology_vae_linear classifier=python classifier.function=pipeline:tumour \
        classifier.task=binary "classifier.classes=[normal,tumour]"                        # both in this folder

The pipeline learns from the training images of a finished run, so that nobody it is asked about was seen. In place of
measurements it may have embeddings: `run.encode(images)`, or those of a network of your own.
"""

from functools import cache

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

import medlat
from medlat.core.spaces import ImageSpec
from medlat.measure.histology import he_tile


@cache
def fitted() -> tuple[Pipeline, ImageSpec]:
    """The pipeline, and what its images are."""
    run = medlat.load("outputs/tiles")
    store, rows = run.data.store, run.data.split.train
    measured = he_tile().of(store.fetch(rows, run.image), run.image)
    pipeline = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler(), LogisticRegression())
    return pipeline.fit(measured, store.columns["label.tumour"][rows]), run.image


def tumour(images: Tensor) -> np.ndarray:
    """Tiles [N, 3, H, W] in [-1, 1] -> the probability of a tumour, [N]."""
    pipeline, spec = fitted()
    return pipeline.predict_proba(he_tile().of(images.cpu(), spec))[:, 1]
