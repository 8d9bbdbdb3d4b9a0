"""What is asked of the classifier now and then, as it takes a while: where it looks, and what it sees otherwise."""

from typing import Any

import numpy as np
import torch

from medlat.classifiers.black_box import predict
from medlat.core.errors import UserError
from medlat.explore.view import Explorer, View
from medlat.report.explanation import SALIENCY
from medlat.report.sprites import data_uri, image_sprite, saliency_sprite
from medlat.report.style import number
from medlat.steps.explained import saliency
from medlat.steps.inversion import spread
from medlat.steps.semantics import features

SEEN = 512  # held-out images that are looked through, evenly spread


def where(explorer: Explorer, view: View) -> list[dict[str, Any]]:
    """Saliency maps of a view's images, as far as the classifier allows: a row for each map and image, in that order.

    Raises UserError where the run has no classifier.
    """
    target, start, look = explorer.target, explorer.start(view), explorer.window(view)
    shown = {"original": start.real, "reconstruction": start.images, "moved": explorer.moved(view)}
    images = {of: one for of, one in shown.items() if one is not None}
    maps = saliency(target, torch.cat(list(images.values())).to(explorer.run.device), explorer.run.context.config)
    return [
        {"of": of, "map": SALIENCY[name], "picture": data_uri(saliency_sprite(explorer.pictures(one), each, look))}
        for name in SALIENCY if name in maps
        for (of, one), each in zip(images.items(), maps[name], strict=True)
    ]  # fmt: skip


def otherwise(explorer: Explorer, view: View) -> dict[str, Any]:
    """The held-out image nearest to the one of a view, by the features that distances to the data are taken of in their
    standard deviations, of those that the classifier puts on the other side of the threshold: `start` is where it would
    be begun with.

    Raises UserError where the run has no classifier, or all held-out images are on one side.
    """
    target, start, run = explorer.target, explorer.start(view), explorer.run
    assert explorer.threshold is not None
    here = start.images if start.real is None else start.real
    name, rows, seen, predictions = run.context.kept("held-out images, seen", lambda: _seen(explorer))
    own = float(predict(target, here, run.device)[0])
    other = (predictions > explorer.threshold) != (own > explorer.threshold)
    if not other.any():
        side = "above" if own > explorer.threshold else "not above"
        nouns = explorer.look.nouns
        raise UserError(f"of {len(rows)} held-out {nouns} all are {side} {number(explorer.threshold)}, as this one is")
    see = features(run.context)[1]
    scale = seen.std(axis=0)
    apart = (seen - see(here)) / np.where(scale > 0, scale, 1.0)
    place = int(np.argmin(np.where(other, np.linalg.norm(apart, axis=1), np.inf)))
    image = run.context.images.fetch(explorer.held_out[[rows[place]]], explorer.image)
    return {
        "start": f"image {rows[place]}",
        "picture": data_uri(image_sprite(explorer.pictures(image)[None], explorer.window(view))),
        "said": f"Of {len(rows)} held-out {explorer.look.nouns} {int(other.sum())} are on the other side of "
        f"{number(explorer.threshold)}; the nearest to it (features: {name}) is image {rows[place]}: "
        f"{number(float(predictions[place]))} in place of {number(own)}.",
    }


def _seen(explorer: Explorer) -> tuple[str, np.ndarray, np.ndarray, np.ndarray]:
    """What features are called; of held-out images their numbers [N], features [N, F], and predictions [N]."""
    context = explorer.run.context
    rows = spread(np.arange(len(explorer.held_out)), SEEN)
    images = context.images.fetch(explorer.held_out[rows], explorer.image)
    name, see = features(context)
    return name, rows, see(images), predict(explorer.target, images, explorer.run.device).numpy()
