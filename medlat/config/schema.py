"""What a run's configuration holds. A `Component` is a section that an object is built from, checked by its signature.

A section's keys are the fields here; one more is fine where another value reads it, as `data.source` reads `data.root`.
"""

from dataclasses import dataclass
from typing import Any, Literal

from medlat.config.kinds import Component


@dataclass
class Split:
    test: float  # share of the patients held out for evaluation
    validation: float  # share of the patients for the curves during training
    seed: int  # of the draw of patients
    by: Literal["patient", "slab", "given"]  # what is held out together


@dataclass
class Data:
    source: Component  # where slices come from
    image_size: int  # pixels along each side of an image
    field_of_view_mm: float | None  # square cut out about the image's centre; null: the whole slice
    intensity_range: tuple[float, float] | None  # values that the network sees as [-1, 1]; null: the modality's
    max_damaged: float  # share of unreadable slices above which the run stops
    damaged_list: str | None  # a file for the paths of damaged files
    salt: str | None  # for hashing patient identities
    augment: Component | None  # what training images pass through
    split: Split


@dataclass
class Training:
    images: int  # shown in all
    batch_size: int
    checkpoint_every_s: float  # seconds of work that an interruption costs at most
    validations: int


@dataclass
class Generator:
    network: Component
    module: Component  # how the network is trained
    training: Training


@dataclass
class Bias:
    column: str  # of the slice store, e.g. factor.table_height
    share: float  # of the training images in which the label goes with a high value of it, 0.5 to 1


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
    compared_images: int  # images that they are tried on


@dataclass
class Explain:
    label: str | None  # of the data that the classifier is about
    target: str | None  # the output that is explained
    threshold: float | None  # prediction at which an image is said to have changed side
    target_range: tuple[float, float] | None  # predictions that images are moved to
    steps: list[float]  # of a series, in standard deviations of the latent space
    images: int  # held-out images that are explained
    codes: int  # training images that directions are found from
    control_directions: int  # directions of each control that are followed
    permuted: bool  # a control: the same classifier trained on permuted labels
    shown: int  # images in the figure


@dataclass
class Evaluation:
    chance: str | None  # the control that says what chance gives
    base_codes: int  # codes that each direction is tried from
    samples: int  # images drawn for distances
    steps: list[float]  # of a traversal, in standard deviations of the latent space
    editing: list[float]  # steps at which the distance to the data is looked at
    active_kl: float  # nats above which a latent dimension counts as used
    regressor_steps: int  # of training the network whose features distances are taken over, where factors are known
    features: dict[str, Component]  # further extractors, by the name that results carry


@dataclass
class Report:
    display_window: tuple[float, float] | str | None  # shown as black and white; null: the modality's first
    directions: int  # shown of each method
    gifs: int
    pdf: bool  # leave every figure as PDF too
    page: bool  # draw figures and write the page; false: tables and numbers only


@dataclass
class Trainer:
    accelerator: Literal["auto", "cpu", "gpu"]
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
    threads: int | None  # CPU threads; null: torch's own choice
    devices: int  # processes on a node that train together
    nodes: int  # machines that train together
    compile: bool  # torch.compile for GANs


@dataclass
class Logger:
    mode: Literal["offline", "online", "disabled"]
    project: str
    entity: str | None


@dataclass
class Root:
    name: str  # of the experiment
    seed: int  # decides everything random
    store: str  # the folder of the artifacts
    workers: int | None  # processes that prepare data; null: one per core
    dry_run: bool  # print the plan and stop
    debug: bool  # show the traceback of a user error
    objective: str | None  # final number "stage/name" that a search makes best
    store_mode: int | None  # permissions of the store and the run folder, e.g. 750; null: as the system has it
    data: Data
    generator: Generator
    classifier: Classifier | None  # what is explained, trained here or the user's own
    oracle: Classifier | None  # a second one, trained here or the user's own, that judges counterfactuals
    inversion: Inversion
    directions: Component
    compared: dict[str, Component]  # further methods beside the main one
    steps: dict[str, Component]  # of the user's own
    controls: dict[str, Component]  # methods that know nothing, which every result is compared with
    measure: dict[str, Component | None]  # sets of measurements by any name; null: the set that the modality names
    explain: Explain
    evaluation: Evaluation
    report: Report
    scale: dict[str, Any]  # sizes that other sections read
    trainer: Trainer
    logger: Logger
