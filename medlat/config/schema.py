"""What a run's configuration holds. A `Component` is a section that an object is built from, checked by its signature.

A section's keys are the fields here; one more is fine where another value reads it, as `data.source` reads `data.root`.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator

from medlat.config.kinds import Component
from medlat.core.ranges import (
    Count,
    Interval,
    Name,
    NotNegative,
    Number,
    Rising,
    Seed,
    Share,
    ShareBelowOne,
    Traversal,
    Width,
)

Processes = Annotated[int, Ge(1), Le(1024)]
FOLDER = "the name of a folder below outputs/ (letters, digits, spaces, . ( ) + - _), e.g. lung_study"


def run_name(name: str) -> str:
    """Raises ValueError for an experiment's `name` that is not a path of folders below `outputs/`."""
    parts = name.split("/")
    fits = all(re.fullmatch(r"[\w .()+-]+", part) and part.strip(" .") for part in parts)
    if not fits or max(len(part.encode()) for part in parts) > 100 or len(name.encode()) > 1000:
        raise ValueError(FOLDER)
    return name


def final_number(name: str) -> str:
    """Raises ValueError for what cannot be the name of a number of metrics.json."""
    if not re.fullmatch(r"[\w.+-]+(/[\w.+-]+)+", name):
        raise ValueError("the final number that a search makes best, e.g. semantics/sefa/factor_coverage")
    return name


def mode(digits: int) -> int:
    """Raises ValueError for permissions that would shut the owner out, or are none."""
    if not 700 <= digits <= 777 or set(str(digits)) - set("01234567"):
        raise ValueError("700 (only me), 750 (my group reads), 770, 755 or the like, or null")
    return digits


@dataclass
class Split:
    test: Annotated[float, Gt(0.0), Lt(1.0)]  # share of the patients held out for evaluation
    validation: ShareBelowOne  # share of the patients for the curves during training
    seed: Seed  # of the draw of patients
    by: Literal["patient", "slab", "given"]  # what is held out together


@dataclass
class Data:
    source: Component  # where slices come from
    image_size: Annotated[int, Ge(16), Le(4096)]  # pixels along each side of an image
    field_of_view_mm: (
        Annotated[float, Ge(0.01), Le(10_000.0)] | None
    )  # square cut out about the image's centre; null: the whole slice
    intensity_range: Interval | None  # values that the network sees as [-1, 1]; null: the modality's
    max_damaged: Share  # share of unreadable slices above which the run stops
    damaged_list: Name | None  # a file for the paths of what is damaged, left out or remarked on
    salt: str | None  # for hashing patient identities
    augment: Component | None  # what training images pass through
    duplicates: Literal["stop", "drop"]  # of images that stand in two parts of the split
    group: Annotated[int, Ge(1), Le(100)] | Name | None  # how the patient of a file is found by its path
    split: Split


@dataclass
class Training:
    images: Count  # shown in all
    batch_size: Width
    checkpoint_every_s: NotNegative  # seconds of work that an interruption costs at most
    validations: Annotated[int, Ge(1), Le(10_000)]


@dataclass
class Generator:
    network: Component
    module: Component  # how the network is trained
    training: Training


@dataclass
class Bias:
    column: Name  # of the slice store, e.g. factor.table_height
    share: Annotated[
        float, Ge(0.5), Le(1.0)
    ]  # of the training images in which the label goes with a high value of it, 0.5 to 1


@dataclass
class Classifier:
    task: Literal["binary", "multiclass", "ordinal", "regression"] | None  # null: by the label's classes
    network: Component
    module: Component  # how it is trained
    training: Training
    bias: Bias | None  # train on a biased choice of images: an audit of the explanation


@dataclass
class Encoder:
    network: Component
    module: Component  # how it is trained
    training: Training


@dataclass
class Inversion:
    method: Component
    encoder: Encoder  # trained where the method needs one and the generator has none of its own
    compared: dict[str, Component]  # methods that the table compares
    compared_images: Count  # images that they are tried on


@dataclass
class Explain:
    label: str | None  # of the data that the classifier is about
    positive: list[str | int] | None  # classes of the label that are one, and all others the other
    target: str | None  # the output that is explained
    threshold: float | None  # prediction at which an image is said to have changed side
    target_range: Interval | None  # predictions that images are moved to
    steps: Traversal  # of a series, in standard deviations of the latent space
    images: Count  # held-out images that are explained
    codes: Annotated[int, Ge(10), Le(10**9)]  # training images that directions are found from
    control_directions: Count  # directions of each control that are followed
    permuted: Number  # a control: so many times the same classifier, trained on permuted labels
    shown: Count  # images in the figure
    integrated_gradients: bool  # a further map beside them, of a classifier that has gradients


@dataclass
class Evaluation:
    chance: str | None  # the control that says what chance gives
    base_codes: Annotated[int, Ge(4), Le(10**6)]  # codes that each direction is tried from
    samples: Annotated[int, Ge(2), Le(10**7)]  # images drawn for distances
    steps: Traversal  # of a traversal, in standard deviations of the latent space
    editing: Rising  # steps at which the distance to the data is looked at
    active_kl: NotNegative  # nats above which a latent dimension counts as used
    regressor_steps: Count  # of training the network whose features distances are taken over, where factors are known
    features: dict[str, Component]  # further extractors, by the name that results carry


@dataclass
class Report:
    display_window: Interval | str | None  # shown as black and white; null: the modality's first
    directions: Count  # shown of each method
    gifs: Number
    pdf: bool  # leave every figure as PDF too
    dpi: Annotated[int, Ge(50), Le(1200)]  # pixels per inch of figures
    page: bool  # draw figures and write the page; false: tables and numbers only


@dataclass
class Trainer:
    accelerator: Literal["auto", "cpu", "gpu"]
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
    threads: Processes | None  # CPU threads; null: torch's own choice
    devices: Processes  # processes on a node that train together
    nodes: Processes  # machines that train together
    compile: bool  # torch.compile for GANs


@dataclass
class Root:
    name: Annotated[str, AfterValidator(run_name)]  # of the experiment
    seed: Seed  # decides everything random
    store: Name  # the folder of the artifacts
    workers: Processes | None  # processes that prepare data; null: one per core
    dry_run: bool  # print the plan and stop
    debug: bool  # show the traceback of a user error
    objective: Annotated[str, AfterValidator(final_number)] | None  # final number "stage/name" that a search makes best
    store_mode: (
        Annotated[int, AfterValidator(mode)] | None
    )  # permissions of the store and the run folder, e.g. 750; null: as the system has it
    data: Data
    generator: Generator
    classifier: Classifier | None  # what is explained, trained here or the user's own
    inversion: Inversion
    directions: Component
    compared: dict[str, Component | Classifier]  # further methods and classifiers beside the main ones
    steps: dict[str, Component]  # of the user's own
    controls: dict[str, Component]  # methods that know nothing, which every result is compared with
    measure: dict[str, Component | None]  # sets of measurements by any name; null: the set that the modality names
    explain: Explain
    evaluation: Evaluation
    report: Report
    scale: dict[str, Any]  # sizes that other sections read
    trainer: Trainer
    logger: Component | None  # what mirrors the record of a run
