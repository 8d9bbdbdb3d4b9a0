"""How often is something else called unlike what a run has seen, and how often a held-out image?

    python experiments/explain/likeness.py DATA [RUN]

DATA: folder with knee_oa/, histology_lc25000/, ct_tcga_luad/, ct_lidc/, ct_lung_dx/ and medmnist/pneumoniamnist.npz.
RUN: a finished run on the knees with an encoder; what its codes and its reconstruction tell then stands beside it.
Leaves likeness.csv here. Images are 64²; photographs come with scikit-learn and matplotlib.
"""

import csv
import itertools
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import matplotlib
import numpy as np
import scipy.ndimage
import sklearn.datasets
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import medlat
from medlat.data.ct.dicom import CTDicom
from medlat.data.image_store import ImageStore, Preparation, prepare
from medlat.data.pictures.image_folder import ImageFolder
from medlat.data.pictures.medmnist import MedMNIST
from medlat.data.pictures.polarity import inverted_among
from medlat.explain.likeness import LEVEL, Likeness

SIZE, DRAWS, ASKED = 64, 10, 200
FEWEST = round(1 / LEVEL) - 1  # held-out images that a rank can say something among
AIR, LUNG, FEW, MUCH = -300.0, -500.0, 0.05, 0.15  # HU; share of the body that is as dark as lung

Judge = Callable[[Tensor], np.ndarray]  # images -> p
Fit = Callable[[Tensor, Tensor], Judge]


def main(data: Path, run: Path | None) -> None:
    rows = [{"what": what, "distance": "likeness", **row} for what, *given in tasks(data) for row in table(*given)]
    if run is not None:
        for name, fit in by_codes(run).items():
            what, images, people, others, train = next(tasks(data))
            rows += [{"what": what, "distance": name, **row} for row in table(images, people, others, train, fit, 2)]
    with open(Path(__file__).with_name("likeness.csv"), "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(*(f"{row[key]:.0%}" if key == "unlike" else row[key] for key in row), sep=" | ")


def table(
    images: Tensor, people: np.ndarray, others: Mapping[str, Tensor | Callable[[Tensor], Tensor]], held_out: float,
    fit: Fit | None = None, draws: int = DRAWS,
) -> Iterator[dict]:  # fmt: skip
    """Of each set of other images, and of held-out images themselves, how many are called unlike: the mean over draws
    of the people, of whom a share is held out. Of these one half is what is ranked among, the other is asked about.
    """
    found, counts = defaultdict(list), defaultdict(list)
    for seed in itertools.count():
        order = np.random.default_rng(seed).permutation(np.unique(people))
        count = round(len(order) * held_out)
        train, known, asked = (
            np.isin(people, part) for part in (order[count:], order[: count // 2], order[count // 2 : count])
        )
        if known.sum() < FEWEST:  # of few people, some of whom have many images: nothing could be said
            continue
        judge = (fit or by_likeness)(images[train], images[known])
        some = images[asked][:ASKED]
        sets = {"held-out images": some, **{name: x(some) if callable(x) else x for name, x in others.items()}}
        for name, x in sets.items():
            found[name].append(float((judge(x) <= LEVEL).mean()))
            counts[name].append((int(train.sum()), int(known.sum()), len(x)))
        if len(found["held-out images"]) == draws:
            break
    for name, shares in found.items():
        sizes = np.mean(counts[name], axis=0).round().astype(int).tolist()
        numbers = dict(zip(("training", "held out", "asked"), sizes, strict=True))
        yield {"set": name, "unlike": float(np.mean(shares)), **numbers, "draws": draws}


def by_likeness(train: Tensor, held_out: Tensor) -> Judge:
    likeness = Likeness.fit(train, held_out)
    return lambda images: np.array([found.p for found in likeness(images)])


def by_codes(folder: Path) -> dict[str, Fit]:
    """The same by Mahalanobis's distance of a run's codes, by the error of its reconstruction, and by the larger."""
    run = medlat.load(folder)

    def distances(train: Tensor, images: Tensor) -> np.ndarray:
        known, codes = (run.encode(x).flatten(1).double().numpy() for x in (train[:2000], images))
        away = codes - known.mean(0)
        inside = np.sqrt(np.einsum("ni,ij,nj->n", away, np.linalg.pinv(np.cov(known.T)), away))
        error = (run.decode(run.encode(images)) - images).square().mean(dim=(1, 2, 3)).log().double().numpy()
        return np.stack([inside, error], axis=1)

    def fit(columns: list[int]) -> Fit:
        def fitted(train: Tensor, held_out: Tensor) -> Judge:
            known = distances(train, held_out)
            middle, far = np.median(known, axis=0), np.quantile(known, 0.95, axis=0)
            one = lambda x: ((x - middle) / (far - middle))[:, columns].max(axis=1)  # noqa: E731
            ranked = one(known)
            return lambda x: (1 + (ranked[None] >= one(distances(train, x))[:, None]).sum(axis=1)) / (1 + len(ranked))

        return fitted

    return {"codes": fit([0]), "reconstruction": fit([1]), "codes and reconstruction": fit([0, 1])}


def tasks(data: Path) -> Iterator[tuple]:
    """What is it called, its images, whose they are, what else is asked about, and how many people are held out."""
    knees, knee_people = network(stored(ImageFolder(str(data / "knee_oa"), colour=False)), 0, 255)
    tiles, tile_groups = network(stored(ImageFolder(str(data / "histology_lc25000"))), 0, 255)
    xrays, _ = network(stored(MedMNIST(str(data / "medmnist" / "pneumoniamnist.npz"))), 0, 255)
    parts = [stored(CTDicom(str(data / name)), 400.0) for name in ("ct_tcga_luad", "ct_lidc", "ct_lung_dx")]
    ct = torch.cat([network(part, -1000, 2000)[0] for part in parts])
    ct_people = np.concatenate([1000 * i + part.patient for i, part in enumerate(parts)])
    photos, step = photographs(), slice(None, None, 30)
    common = {"noise": noise, "one value everywhere": lambda x: torch.zeros_like(x), "negatives": lambda x: -x}
    odd = {
        "a quarter shifted": lambda x: x.roll(SIZE // 4, 3),
        "half the contrast": lambda x: 0.5 * x,
        "upside down": lambda x: x.flip(2),
    }
    odd |= {"mirrored": lambda x: x.flip(3), "blurred": blurred}
    radiographs = {
        "photographs": grey(photos),
        "chest radiographs": xrays[step],
        "CT": ct,
        "H&E, as grey": grey(tiles[::10]),
    }
    negative = inverted_among((knees.numpy() + 1.0) * 127.5, np.arange(len(knees))).inverted
    yield "knees", knees, knee_people, {**radiographs, **common, **odd}, 0.2
    mended = torch.where(torch.from_numpy(negative)[:, None, None, None], -knees, knees)
    yield "knees, negatives turned about", mended, knee_people, {**radiographs, **common, **odd}, 0.2
    others = {"photographs": photos, "knees": rgb(knees[step]), "CT": rgb(ct), "grey": lambda x: rgb(grey(x))}
    yield "H&E tiles", tiles, tile_groups, {**others, **common, **odd}, 0.2
    lung = np.array([dark_share(image) for image in ct[:, 0].numpy()])
    others = {"abdomen, pelvis, neck": ct[lung < FEW], "between": ct[(lung >= FEW) & (lung <= MUCH)]}
    others |= {
        "photographs": grey(photos),
        "knees": knees[step],
        "another window": lambda x: (3.0 * x + 1.0).clamp(-1, 1),
    }
    yield "chest CT", ct[lung > MUCH], ct_people[lung > MUCH], {**others, **common, **odd}, 0.6


def stored(source: object, field_of_view_mm: float | None = None) -> ImageStore:
    folder = Path(tempfile.mkdtemp())
    prepare(source, Preparation(SIZE, field_of_view_mm, 0.5, "salt", 1), folder)  # type: ignore[arg-type]
    return ImageStore.open(folder)


def network(store: ImageStore, low: float, high: float) -> tuple[Tensor, np.ndarray]:
    return store.fetch(np.arange(len(store)), store.spec((low, high))), store.patient


def dark_share(image: np.ndarray) -> float:
    hu = (image + 1.0) * 1500.0 - 1000.0
    body = scipy.ndimage.binary_fill_holes(hu > AIR)
    return float((body & (hu < LUNG)).sum() / max(1, body.sum()))


def photographs() -> Tensor:
    """Crops of the photographs that come with two libraries, [36, 3, S, S]."""
    people = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    whole = [*sklearn.datasets.load_sample_images().images, np.asarray(Image.open(people).convert("RGB"))]
    rng, found = np.random.default_rng(0), []
    for picture in whole:
        for _ in range(12):
            side = int(min(picture.shape[:2]) * rng.uniform(0.4, 1.0))
            y, x = (int(rng.integers(0, n - side + 1)) for n in picture.shape[:2])
            crop = Image.fromarray(picture[y : y + side, x : x + side]).resize((SIZE, SIZE), Image.Resampling.BOX)
            found.append(np.asarray(crop, np.float32).transpose(2, 0, 1) / 127.5 - 1.0)
    return torch.from_numpy(np.stack(found))


def grey(images: Tensor) -> Tensor:
    return (images * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)


def rgb(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1)


def noise(images: Tensor) -> Tensor:
    return (0.5 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))).clamp(-1.0, 1.0)


def blurred(images: Tensor) -> Tensor:
    return F.interpolate(F.avg_pool2d(images, 4), scale_factor=4, mode="bilinear")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
