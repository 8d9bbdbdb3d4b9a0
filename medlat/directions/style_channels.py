"""Single coordinates that change the prediction: the search of StylEx (Lang et al. 2021, arXiv 2104.13369, AttFind)."""

import torch
from torch import Tensor

from medlat.core.errors import ArgumentError, UserError
from medlat.core.ranges import Count, Positive
from medlat.core.spaces import Directions, LatentModel, decode_in_parts
from medlat.directions.finder import Origin, Supervision, check_count


class StyleChannels:
    """Each coordinate of the space is moved by itself, up and down, in some images; those that change the prediction
    most are kept. Needs no gradients.

    The first direction moves the best `count` coordinates together, each by its effect; the others are these
    coordinates alone. The score is the mean change of the logit for `step` standard deviations up, less that for as
    many down, halved.

    count: coordinates kept. codes: images that each is tried in; step: in standard deviations of the coordinate.
    space: null: style channels `s` where the generator has them, else the space of the inverted images.
    """

    name = "style_channels"
    needs = frozenset({"supervision"})
    preferred = ("s",)

    def __init__(
        self,
        count: Count = 8,
        codes: Count = 16,
        step: Positive = 2.0,
        space: str | None = None,
        origin: Origin = "real",
    ) -> None:
        check_count(count)
        if codes < 1:
            raise ArgumentError("codes", "expected a whole number of at least 1", codes)
        if not step > 0.0:
            raise ArgumentError("step", "expected standard deviations, more than 0", step)
        self.count, self.codes, self.step, self.space, self.origin = count, codes, step, space, origin

    def find(self, model: LatentModel, supervision: Supervision) -> Directions:
        effect = self._effects(model, supervision)
        best = torch.argsort(effect.abs(), descending=True, stable=True)[: self.count]
        alone = torch.zeros(len(best), supervision.space.size)
        alone[torch.arange(len(best)), best] = torch.where(effect[best] < 0.0, -1.0, 1.0)
        together = (alone * effect[best].abs()[:, None]).sum(dim=0, keepdim=True)
        if not together.any():
            raise UserError("directions=style_channels: the prediction does not change with any coordinate")
        weights = torch.cat([together, alone]).double().numpy()
        scores = torch.cat([effect[best].abs().sum()[None], effect[best].abs()])
        return supervision.directions(weights, scores, self.name)

    def _effects(self, model: LatentModel, supervision: Supervision) -> Tensor:
        """[D]: half the difference of the mean value between both ends of each coordinate."""
        spread = torch.linspace(0, len(supervision.codes) - 1, min(self.codes, len(supervision.codes))).long()
        codes = supervision.codes[spread.to(supervision.codes.device)]
        moves = self.step * supervision.sigma.to(codes.device).flatten()
        effect = torch.zeros(len(moves))
        for i, move in enumerate(moves):
            changed = torch.stack([codes, codes]).flatten(2)
            changed[0, :, i] += move
            changed[1, :, i] -= move
            images = decode_in_parts(model, changed.flatten(0, 1).reshape(-1, *codes.shape[1:]), supervision.space.name)
            with torch.no_grad():
                up, down = supervision.score(images.to(codes.device)).float().cpu().chunk(2)
            effect[i] = (up - down).mean() / 2.0
        return effect
