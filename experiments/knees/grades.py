"""The measurements of `measure=knee` on real radiographs, against the Kellgren-Lawrence grade.

    python experiments/knees/grades.py [--root ../shared/data/knee_oa] [--overlays FOLDER]

Reads the images (128²) and their table (path, label, group, side), measures them at 128² and, as means of 2 x 2 pixels,
at 64², and writes grades.csv beside this file: of each measurement Spearman's correlation with the grade, its interval
over people, and its mean in each grade. Of the people none of whose images are among the 2,000 on which constants of
`medlat.measure.knee` were chosen by the grade. With --overlays, pictures of 48 random knees and the edges that were
found: these are patients' images and stay out of the project.
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.stats import rankdata

from medlat.core.statistics import auc, bootstrap, nan_mean
from medlat.measure.knee import NAMES, bone_bright, find_joint, measure

CHOSEN_ON = 2000  # images on which constants were chosen by the grade, drawn with seed 0
PART = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path("../shared/data/knee_oa"))
    parser.add_argument("--overlays", type=Path)
    arguments = parser.parse_args()
    table = list(csv.DictReader((arguments.root / "labels.csv").open()))
    seen = {table[i]["group"] for i in np.random.default_rng(0).permutation(len(table))[:CHOSEN_ON]}
    table = [row for row in table if row["group"] not in seen]
    images = np.stack([np.asarray(Image.open(arguments.root / row["path"]).convert("L")) for row in table])
    rows = []
    for size in (128, 64):
        rows += against_grade(shrunk(images, size), table)
    with Path(__file__).with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    if arguments.overlays:
        arguments.overlays.mkdir(parents=True, exist_ok=True)
        chosen = np.random.default_rng(1).permutation(len(images))[:48]
        for size in (128, 64):
            overlays(shrunk(images[chosen], size)).save(arguments.overlays / f"edges_{size}.png")


def shrunk(images: np.ndarray, size: int) -> np.ndarray:
    """[N, 128, 128] -> [N, size, size] float32, means of square blocks."""
    block = images.shape[1] // size
    return images.reshape(-1, size, block, size, block).mean((2, 4), dtype=np.float32)


def against_grade(images: np.ndarray, table: list[dict[str, str]]) -> list[dict[str, object]]:
    grade = np.array([int(row["label"]) for row in table])
    people = np.array([row["group"] for row in table])
    begun = time.process_time()
    values = np.concatenate([measure(images[i : i + PART]) for i in range(0, len(images), PART)])
    milliseconds = 1000 * (time.process_time() - begun) / len(images)
    told = np.isfinite(values[:, NAMES.index("medial_width")])
    left = np.array([row["side"] == "L" for row in table])
    right_side = ((values[:, NAMES.index("fibula")] > 0) == left)[told].mean()
    size, persons = images.shape[1], len(set(people))
    print(f"{size}²: {len(images)} knees of {persons} people, {milliseconds:.2f} ms of CPU a knee;", end=" ")
    print(f"side told in {told.mean():.4f}, rightly in {right_side:.4f}")
    rows = []
    for name, column in zip(NAMES, values.T, strict=True):
        known = np.isfinite(column)
        rho = bootstrap(spearman, grade[known], column[known], people[known])
        row: dict[str, object] = {"pixels": size, "measurement": name, "measured": round(float(known.mean()), 4)}
        row |= {"spearman": round(rho.value, 3), "low": round(rho.low, 3), "high": round(rho.high, 3)}
        row |= {"AUC of grade >= 2": round(auc(grade[known] >= 2, -column[known]), 3)}
        row |= {f"grade {g}": round(float(nan_mean(column[grade == g])), 3) for g in range(5)}
        rows.append(row)
        print(row)
    return rows


def spearman(truth: np.ndarray, values: np.ndarray) -> float:
    return float(np.corrcoef(rankdata(truth), rankdata(values))[0, 1])


def overlays(images: np.ndarray, scale: int = 384, columns: int = 8) -> Image.Image:
    """A sheet of knees with the femur's edge in red, the tibia's in green, the tibia's ends in blue."""
    joint, step, tiles = find_joint(bone_bright(images)), scale / images.shape[1], []
    for i, image in enumerate(images):
        tile = Image.fromarray(image.astype(np.uint8)).resize((scale, scale), Image.Resampling.BICUBIC).convert("RGB")
        draw = ImageDraw.Draw(tile)
        for edge, colour in ((joint.femur[i], "red"), (joint.tibia[i], "lime")):
            draw.line([((x + 0.5) * step, (y + 0.5) * step) for x, y in enumerate(edge)], fill=colour, width=2)
        for end in (joint.left[i], joint.right[i]):
            x, y = (end + 0.5) * step, joint.tibia[i, end] * step
            draw.line([(x, y), (x, y + 0.12 * scale)], fill="deepskyblue", width=2)
        draw.text((4, 4), str(i), fill="yellow", font_size=24)
        tiles.append(np.asarray(tile)[scale // 5 : -scale // 5])
    lines = [np.concatenate(tiles[i : i + columns], axis=1) for i in range(0, len(tiles), columns)]
    return Image.fromarray(np.concatenate(lines))


if __name__ == "__main__":
    main()
