"""SeFa: closed-form factorisation (Shen & Zhou, CVPR 2021, arXiv 2007.06600)."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn.functional import normalize

from medlat.core.errors import ArgumentError, did_you_mean
from medlat.core.ranges import Count
from medlat.core.spaces import Directions, LatentModel, chosen_space
from medlat.directions.finder import check_count, need_capabilities

ImageLayers = Literal["all", "first", "last", "none"]


class SeFa:
    """Directions along which the first weights A that codes pass through change their output most.

    The solutions of max |A n|² over unit n (eq. 4) are the eigenvectors of AᵀA; where codes enter through several
    matrices, A is all of them, one above the other. The score is the eigenvalue.

    count:        directions wanted; at most the dimensions of the space.
    space:        name of the latent space; null: the generator's default.
    layers:       [first, last] of the matrices that count, from 0, both included; null: all. Early ones of a StyleGAN2
                  shape what is large, late ones texture. In `w+` only the codes of these layers are moved, all alike.
    image_layers: which matrices of layers that make the image (StyleGAN2's ToRGB, one at each resolution) count.
    unit_rows:    whether each row of A, what one feature of the network reads, is brought to length 1 first.

    The paper leaves the last two open. Its authors' code (github.com/genforce/sefa) has image_layers=last and
    unit_rows=true, rosinality's closed_form_factorization.py image_layers=first and unit_rows=false.
    """

    name = "sefa"
    needs = frozenset({"latent_affines"})

    def __init__(
        self,
        count: Count = 16,
        space: str | None = None,
        layers: Sequence[int] | None = None,
        image_layers: ImageLayers = "all",
        unit_rows: bool = False,
    ) -> None:
        check_count(count)
        if layers is not None and (len(layers) != 2 or not 0 <= layers[0] <= layers[1]):
            raise ArgumentError("layers", "expected [first, last], counted from 0", list(layers))
        if image_layers not in get_args(ImageLayers):
            known = did_you_mean(image_layers, get_args(ImageLayers))
            raise ArgumentError("image_layers", f"no such choice{known}", image_layers)
        self.count, self.space, self.layers = count, space, layers
        self.image_layers, self.unit_rows = image_layers, unit_rows

    def check(self, model: LatentModel) -> None:
        """Raises UserError for layers that the generator does not have, and where it does not show its weights."""
        self.weights(model)

    def weights(self, model: LatentModel) -> list[Tensor]:
        """The matrices [out_i, D] that count."""
        need_capabilities(self, model)
        space = chosen_space(model, self.space)
        making = model.image_affines(space.name)
        kept = {"all": making, "first": making[:1], "last": making[-1:], "none": ()}[self.image_layers]
        weights = [w for i, w in enumerate(model.latent_affines(space.name)) if i in kept or i not in making]
        if self.layers is None:
            return weights
        first, last = self.layers
        if last >= len(weights):
            raise ArgumentError(
                "layers",
                f"codes of {space.name} enter this generator through {len(weights)} "
                f"matri{'x' if len(weights) == 1 else 'ces'}; expected [first, last] within [0, {len(weights) - 1}]",
                list(self.layers),
                of=self,
            )
        return weights[first : last + 1]

    def find(self, model: LatentModel) -> Directions:
        space = chosen_space(model, self.space)
        length = space.shape[-1]  # of one code; w+ has one for each layer
        gram = torch.zeros(length, length, dtype=torch.float64)
        moved = torch.zeros(space.size // length, dtype=torch.float64)  # codes that the matrices read
        for weight in self.weights(model):
            rows = weight.detach().double().cpu()
            if self.unit_rows:
                rows = normalize(rows, dim=1)
            rows = rows.unflatten(1, (-1, length))
            gram += torch.einsum("oci,ocj->ij", rows, rows)
            moved = torch.maximum(moved, rows.abs().amax(dim=(0, 2)).sign())
        values, vectors = torch.linalg.eigh(gram)  # ascending
        best = vectors.T.flip(0)[: self.count]
        return Directions.ranked(best[:, None] * moved[:, None], values.flip(0)[: self.count], self.name, space)
