"""A finished run, used again from Python: `run = medlat.load("outputs/NAME/DATE_TIME")`."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from medlat.classifiers.black_box import BlackBox
from medlat.core.digests import DamagedFile, is_whole
from medlat.core.errors import UserError, did_you_mean
from medlat.core.files import read_json
from medlat.core.spaces import PIXELS_AT_ONCE, Directions, ImageSpec, LatentModel, LatentSpace, decode_in_parts
from medlat.core.store import IMAGES, RECIPE, Artifact, Store
from medlat.core.tables import read_table
from medlat.data.equal import found_again
from medlat.data.given import Given, Prepared, prepare_given
from medlat.data.image_store import ImageStore, Stored
from medlat.data.splits import Split
from medlat.evaluation.traversal import traverse
from medlat.inversion.encode import own_encoder
from medlat.inversion.inverter import Encoder
from medlat.inversion.mapping import map_codes, map_directions, moved_in_layers
from medlat.steps import builders
from medlat.steps.classifier import load_black_box
from medlat.steps.data import Images
from medlat.steps.inversion import load_encoder
from medlat.steps.step import Context, Step
from medlat.study.collect import FAILURE, has_ended
from medlat.study.run_directions import Methods
from medlat.study.run_folder import METRICS, find_store, read_run

if TYPE_CHECKING:
    from medlat.data.module import ImageData
    from medlat.inversion.inverter import Inverted
    from medlat.report.rendering import Look
    from medlat.steps.given import Answer

ROUNDING = 1e-3  # beyond [-1, 1] that an image may lie
PARTS = {"training": "train", "validation": "validation", "held-out": "test"}  # what a part of the split is called


def load(folder: str | Path, store: str | Path | None = None, device: str | torch.device = "cpu") -> "Run":
    """A finished run.

    folder: of the run, e.g. `outputs/ct_vae_sefa/2026-11-29_14-00-00`, wherever it lies now.
    store:  the folder of the artifacts. None: the one that the run used; where that is gone, one that lies to the
            folder as the run's own did, so that both may be moved together.
    device: where networks compute, e.g. "cuda".

    Nothing is unpickled. Networks are built when they are asked for; what the run's own configuration names as code
    (a class of the user's, a Python function, a TorchScript file) is then imported and run, so let it be a run that
    you trust.

    Raises UserError where the folder holds no run, or the store is not found.
    """
    folder = Path(folder).expanduser()
    config, made, roles = read_run(folder)
    root = find_store(folder, str(config.store), store, made)
    found = {name: Artifact(path.partition("/")[0], Path(path).name, root / path) for name, path in made.items()}
    return Run(folder, root, torch.device(device), config, found, roles)


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run, as `medlat.load` finds it.

    folder, store: where it and its artifacts lie. device: where networks compute; what goes in may lie anywhere, what
    comes out lies on the CPU. config: what it was configured with, e.g. `run.config.data.image_size`. artifacts: what
    it left in the store, by step. roles: of the methods, by the step that found their directions.
    """

    folder: Path
    store: Path
    device: torch.device
    config: DictConfig = field(repr=False)
    artifacts: Mapping[str, Artifact] = field(repr=False)
    roles: Mapping[str, str] = field(repr=False)
    _sigmas: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)  # read once

    @cached_property
    def generator(self) -> LatentModel:
        """The generator, frozen, in evaluation mode, on the run's device; a `torch.nn.Module` too.

        Raises UserError where the run made none, or the store has a damaged one.
        """
        return builders.load_generator(self._artifact("generator"), self.device, builders.named_classes(self.config))

    @property
    def generator_file(self) -> Path:
        """The file of the generator's weights and recipe in the store, compared with its digest: safetensors, which
        `generator=pretrained` takes.
        """
        return self._artifact("generator").path / "generator.safetensors"

    @property
    def look(self) -> "Look":
        """How the run's figures show images."""
        from medlat.report.rendering import Look

        images = self.context.images
        return Look(images.modality, builders.display_window(self.context.config), groups=images.info["groups"])

    @property
    def image(self) -> ImageSpec:
        """What images are: size, unit, and the physical values of [-1, 1]. `run.image.to_network(values)` makes images
        of physical values, e.g. of HU [N, 1, H, W]; `run.image.to_physical(images)` the other way.
        """
        return self.generator.image

    @cached_property
    def space(self) -> LatentSpace:
        """The latent space that `encode` gives codes of, and that `decode` takes them of."""
        return self.generator.spaces[builders.inversion_space(self.config, self.generator)]

    @cached_property
    def encoder(self) -> Encoder | None:
        """Images [N, C, H, W] in [-1, 1] -> codes of `run.space`: the generator's own encoder, or the one that the run
        trained for it; None where there is neither. See `encode`.
        """
        model, space = self.generator, self.space.name
        own = own_encoder(model, space)
        if own is not None or "encoder" not in self.artifacts:
            return own
        left, allowed = self._artifact("encoder"), builders.named_classes(self.config)
        return load_encoder(left, model, space, self.device, allowed)

    @cached_property
    def directions(self) -> Methods:
        """The directions of every method, by its name in the tables: `run.directions["sefa"]`; those of the main one
        are `run.directions["main"]` too.

        Raises UserError where the run made none, or the store has a damaged file.
        """
        if not self.roles:
            self._artifact("directions")
        found = {name: Directions.load(self._artifact(name).path / "directions.safetensors") for name in self.roles}
        return Methods({d.method: d for d in found.values()}, {d.method: self.roles[name] for name, d in found.items()})

    @cached_property
    def classifier(self) -> BlackBox | None:
        """The classifier that the run explains; None where it explains none. See `predict`.

        Raises UserError where the user's own is not found or does not fit.
        """
        if "classifier" not in self.artifacts:
            return None
        return load_black_box(self.config, self._artifact("classifier"), self.image)

    @cached_property
    def data(self) -> "ImageData":
        """The images that the run was made with, in its own training, validation and test parts: a LightningDataModule
        for a training of one's own. See `ImageData`; its `batch_size`, `workers` and `augment` may be set.

        Raises UserError where the run has no images, or the store has a damaged file.
        """
        from medlat.data.module import ImageData

        store = ImageStore.open(self._artifact("images").path)
        parts = Split.load(self._artifact("split").path / "split.json")
        spec = store.spec(builders.intensity_range(self._stored))
        return ImageData(store, parts, spec, augment=builders.augment(self.config))

    @cached_property
    def _stored(self) -> DictConfig:
        """The configuration with the image store in the place of the user's files, which may be gone."""
        found = copy.deepcopy(self.config)
        stored = f"{Stored.__module__}.{Stored.__name__}"
        found.data.source = {"_target_": stored, "folder": str(self._artifact("images").path)}
        return found

    @cached_property
    def context(self) -> Context:
        """What the steps of a run are given: of this one, for steps that go on from what it left."""
        found = Context(self._stored, Store(self.store), source=None)
        found.device = self.device
        for name in self.artifacts:
            found.artifacts[name] = artifact = self._artifact(name)
            found.identities[name] = (Images() if name == "images" else Step()).identity(artifact)
        return found

    def read(self, *images: str) -> Prepared:
        """Images in files, prepared as those of the run: FILE, FILE@SLICE, SLIDE@X,Y or FOLDER each, see
        `medlat.data.given`. `run.image.to_network(torch.from_numpy(found.images))` is what `explain` takes.

        Raises UserError where one is not there, or the run's data source does not read it.
        """
        store, config, split = self.context.images, self.config, self.context.split
        found = prepare_given(
            [Given.of(text) for text in images],
            lambda files: builders.source_of(config, files, store.modality),
            store,
            config.data.field_of_view_mm,
        )
        for number, row in enumerate(found_again(found.images, store.images)):
            part = next((name for name, rows in PARTS.items() if row in getattr(split, rows)), None)
            if row is not None and part is not None:
                found.notes[number] += (f"it is one of the run's own {part} images",)
        return found

    def explain(self, images: Tensor | np.ndarray) -> "Answer":
        """Images [N, C, H, W], float in [-1, 1] -> what is found of each: whether it is like the run's, what inversion
        keeps, and why the classifier says what it says.

        Raises UserError where no image can be put into the latent space. The first call adds to the store what images
        are held against.
        """
        from medlat.steps.given import answer

        return answer(self.context, self._images(images))

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The final numbers, "step/name" -> value; NaN where one is not known. Raises UserError where the run did not
        end.
        """
        found = read_json(self.folder / METRICS)
        if not isinstance(found, dict):
            raise UserError(f"{self.folder / METRICS}: no numbers{self._failure()}")
        return {name: math.nan if value is None else float(value) for name, value in found.items()}

    def table(self, name: str) -> list[dict[str, Any]]:
        """A table of the run: "semantics", "names", "scorecard" (with a classifier), or the numbers of a figure.

        A dict for each row, column -> value: numbers as int or float, True, False, text; None where a cell is empty.
        Raises UserError where there is none of that name.
        """
        paths = [*(self.folder / "figures").glob("*.csv"), *self.folder.glob("*.csv")]
        tables = {path.stem: path for path in paths}
        if name not in tables:
            raise UserError(f"{self.folder}: the run has no table '{name}'{did_you_mean(name, tables)}")
        return read_table(tables[name])

    def encode(self, images: Tensor | np.ndarray) -> Tensor:
        """Images [N, C, H, W], float in [-1, 1] -> codes [N, *run.space.shape] float32.

        By the generator's own encoder (of a VAE the mean of the posterior), or the one that the run trained for it.
        Raises UserError where there is none, and where images have another size or range.
        """
        if self.encoder is None:
            raise UserError(
                f"{self.folder}: {type(self.generator).__name__} has no encoder, and the run trained none; expected a "
                f"VAE, or the run of an experiment with a classifier"
            )
        return self._in_parts(self.encoder, self._images(images))

    def noise(self, images: Tensor | np.ndarray, codes: Tensor | np.ndarray) -> Tensor:
        """Images [N, C, H, W], float in [-1, 1], and their codes [N, *run.space.shape] -> the noise [N, ...] that
        belongs to each: what its code leaves out. Moved with it, an image keeps all that the code does not decide.

        Raises UserError where the generator knows no such noise, e.g. a VAE, and for images or codes of another size.
        """
        model, space = self.generator, self.space.name
        if not model.can("invert"):
            raise UserError(
                f"{self.folder}: {type(model).__name__} knows no noise that belongs to an image; expected a diffusion "
                f"autoencoder"
            )
        found, given = self._images(images), self._codes(codes, self.space)
        if len(found) != len(given):
            raise UserError(f"codes: found {len(given)}, expected one for each of {len(found)} images")
        pairs = zip(found.split(self._at_once), given.split(self._at_once), strict=True)
        with torch.no_grad():
            parts = [model.invert(a.to(self.device), b.to(self.device), space).float().cpu() for a, b in pairs]
        return torch.cat(parts)

    def decode(
        self, codes: Tensor | np.ndarray, space: str | None = None, noise: Tensor | np.ndarray | None = None
    ) -> Tensor:
        """Codes [N, *shape] of a latent space, by default `run.space` -> images [N, C, H, W] float32 in [-1, 1].

        noise: [N, ...] that belongs to the images, as `noise` gives it. Raises UserError where the generator has no
        such space, and for codes of another shape.
        """
        of = self._space(space)
        found = self._codes(codes, of)
        kept = None if noise is None else torch.as_tensor(noise, dtype=torch.float32)
        return decode_in_parts(self.generator, found.to(self.device), of.name, kept).clone()  # no inference tensor

    def traverse(
        self,
        code: Tensor | np.ndarray,
        direction: str,
        steps: Sequence[float],
        space: str | None = None,
        noise: Tensor | np.ndarray | None = None,
    ) -> Tensor:
        """The images along a direction from one code [*shape], or from each of N [N, *shape] -> images [S, C, H, W] or
        [N, S, C, H, W], float32 in [-1, 1].

        direction: its name in the tables, e.g. "sefa 00".
        steps:     how far to go, in standard deviations of the space's codes along the direction, as in the run's own
                   figures; 0 is the code itself.
        space:     of the code, by default `run.space`; the direction may be of another, as far as the generator knows
                   the way: StyleGAN2's directions in w move codes of w+ too.
        noise:     [...] or [N, ...] that belongs to the images, as `noise` gives it; it stays.

        Raises UserError where there is no such direction, and for a code of another shape.
        """
        of, codes = self._space(space), torch.as_tensor(code, dtype=torch.float32)
        one = codes.dim() == len(of.shape)
        codes = codes[None] if one else codes
        if codes.dim() == 0 or tuple(codes.shape[1:]) != of.shape or not len(codes):
            raise UserError(
                f"code: found {list(torch.as_tensor(code).shape)}, expected {_shape(of)}, or {_shape(of, 'N')}"
            )
        way = self.way(direction, of.name)
        codes = map_codes(self.generator, codes.to(self.device), of.name, way.space.name)
        far = [float(step) for step in steps]
        kept = None if noise is None else torch.as_tensor(noise, dtype=torch.float32)
        kept = kept[None] if kept is not None and one else kept
        images = next(traverse(self.generator, way, codes, far, way.scores, kept))
        return (images[0] if one else images).clone()  # no inference tensor

    def way(self, direction: str, space: str | None = None) -> Directions:
        """One direction as what moves codes of a space, by default `run.space`: one vector [1, *shape] of that space,
        or of one that the generator maps its codes to; its score [1] is the length of a step, one standard deviation of
        real images' codes.

        Raises UserError where there is no such direction, and where it moves no code of the space.
        """
        found, number = self.directions.find(direction)
        only = slice(number, number + 1)
        chosen = replace(found, vectors=found.vectors[only], scores=found.scores[only], names=found.names[only])
        chosen, lengths = map_directions(self.generator, chosen, self._space(space).name)
        return replace(chosen, scores=self._sigma(found.method)[only] * lengths)

    def _sigma(self, method: str) -> Tensor:
        """Standard deviations [K] of real images' codes along the directions of a method."""
        if method not in self._sigmas:
            with np.load(self._artifact(f"semantics/{method}").path / "traversal.npz") as arrays:
                self._sigmas[method] = torch.from_numpy(arrays["sigma"])
        return self._sigmas[method]

    def move(
        self,
        codes: Tensor | np.ndarray,
        steps: Mapping[str, float],
        space: str | None = None,
        noise: Tensor | np.ndarray | None = None,
        generator: LatentModel | None = None,
        layers: tuple[int, int] | None = None,
    ) -> Tensor:
        """Codes [N, *shape], moved along several directions at once -> images [N, C, H, W] float32 in [-1, 1].

        steps:     how far along each direction, by its name, in standard deviations as of `traverse`; {}: not at all.
        space:     of the codes, by default `run.space`.
        noise:     [N, ...] that belongs to the images, as `noise` and `invert` give it; it stays.
        generator: that decodes, where `invert` gave one that is tuned to the images.
        layers:    the first and the last layer, from 0, that are moved, where each has a code (w and w+ of StyleGAN2);
                   None: all.

        Raises UserError where there is no such direction, where they are of several spaces, for codes of another
        shape, and where there are no such layers.
        """
        of, model = self._space(space), generator or self.generator
        found = self._codes(codes, of).to(self.device)
        ways = {name: self.way(name, of.name) for name in steps}
        spaces = sorted({way.space.name for way in ways.values()}) or [of.name]
        if len(spaces) > 1:
            raise UserError(f"steps: directions of the spaces {' and '.join(spaces)}; expected those of one")
        found, space = map_codes(model, found, of.name, spaces[0]), spaces[0]
        moves = [float(steps[name]) * (way.vectors[0] * way.scores[0]).to(found.device) for name, way in ways.items()]
        move = sum(moves, torch.zeros_like(found[0]))
        if layers is None:
            found = found + move
        else:
            found, space = moved_in_layers(model, found, move, space, layers)
        kept = None if noise is None else torch.as_tensor(noise, dtype=torch.float32)
        return decode_in_parts(model, found, space, kept).clone()  # no inference tensor

    def invert(self, images: Tensor | np.ndarray) -> "tuple[LatentModel, Inverted]":
        """Images [N, C, H, W], float in [-1, 1], put into `run.space` by the run's own method, as `explain` does it ->
        the generator that decodes them, which is the run's or one that was tuned to these images; and their codes,
        noise, images as they come back, and how near these are: see `medlat.inversion.inverter.Inverted`.

        Raises UserError where no image can be put into the latent space.
        """
        from medlat.steps.given import inverted

        return inverted(self.context, self._images(images))

    def predict(self, images: Tensor | np.ndarray) -> Tensor:
        """Images [N, C, H, W], float in [-1, 1] -> what the classifier predicts, [N, K] float32: a column for each of
        `run.classifier.outputs`: probabilities (of two classes that of the second alone), or a value.

        Raises UserError where the run explains no classifier, and where images have another size or range.
        """
        if self.classifier is None:
            raise UserError(
                f"{self.folder}: the run has no classifier; expected one of an experiment with classifier=…"
            )
        return self._in_parts(self.classifier, self._images(images))

    def _images(self, images: Tensor | np.ndarray) -> Tensor:
        found, spec = torch.as_tensor(images), self.image
        if found.dim() != 4 or tuple(found.shape[1:]) != spec.shape or not len(found):
            raise UserError(f"images: found {list(found.shape)}, expected [N, {', '.join(map(str, spec.shape))}]")
        if not found.is_floating_point() or not bool((found.abs() <= 1.0 + ROUNDING).all()):
            raise UserError(
                f"images: expected float in [-1, 1]; run.image.to_network(values) makes them of values from "
                f"{spec.low:g} to {spec.high:g} {spec.unit}"
            )
        return found.float()

    def _codes(self, codes: Tensor | np.ndarray, of: LatentSpace) -> Tensor:
        found = torch.as_tensor(codes, dtype=torch.float32)
        if found.dim() == 0 or tuple(found.shape[1:]) != of.shape or not len(found):
            raise UserError(f"codes: found {list(found.shape)}, expected {_shape(of, 'N')}")
        return found

    @property
    def _at_once(self) -> int:
        """Images that networks take together."""
        return max(1, PIXELS_AT_ONCE // (self.image.height * self.image.width))

    @torch.no_grad()
    def _in_parts(self, function: Any, images: Tensor) -> Tensor:
        return torch.cat([function(part.to(self.device)).float().cpu() for part in images.split(self._at_once)])

    def _space(self, name: str | None) -> LatentSpace:
        """The space of that name; None: `run.space`."""
        spaces = self.generator.spaces
        if name is not None and name not in spaces:
            raise UserError(f"space={name}: the generator has no such latent space{did_you_mean(name, spaces)}")
        return self.space if name is None else spaces[name]

    def _artifact(self, name: str) -> Artifact:
        """What the run left of a step, its files compared with their digests."""
        if name not in self.artifacts:
            raise UserError(f"{self.folder}: the run has no {name}{self._failure()}")
        found = self.artifacts[name]
        noted = (read_json(found.path / RECIPE) or {}).get("files")
        if noted is None:
            raise UserError(
                f"store={self.store}: {found.step}/{found.key} is not there, or was left by an older medlat; the "
                f"run's own command makes it"
            )
        for file, digests in noted.items():
            if file != IMAGES and not is_whole(found.path / file, digests):
                raise DamagedFile(found.path / file)
        return found

    def check_ended(self) -> None:
        """Raises UserError where the run did not end: what it left is not all that its answers rest on."""
        if not has_ended(self.folder):
            raise UserError(f"{self.folder}: expected a finished run{self._failure()}; the run's own command goes on")

    def _failure(self) -> str:
        told = read_json(self.folder / FAILURE)
        return f"; it failed {told['where']}: {told['reason']}" if told else "; it did not end"


def _shape(space: LatentSpace, *before: str) -> str:
    return f"[{', '.join(map(str, (*before, *space.shape)))}] of the space {space.name}"
