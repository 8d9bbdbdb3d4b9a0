"""Every number and list of `conf/` with values that make no sense: refused with one line that names the key, or known
to be harmless.
"""

import math
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from medlat.config import build
from medlat.config.kinds import complaint, members, of_values
from medlat.config.locate import config_dir
from medlat.config.preflight import problems
from medlat.config.schema import Root
from medlat.config.signatures import signature, signature_of
from medlat.core.errors import ArgumentError, ConfigErrors, UserError
from medlat.core.spaces import ImageSpec
from medlat.steps import checks

CONF = Path(config_dir())
OTHERS = ("experiment", "hydra", "scale")  # made of the others; Hydra's own; read by the others and checked there
NAN, INF, ABSURD = math.nan, math.inf, 10**15
NUMBERS = (NAN, INF, -INF, -1, 0, ABSURD, -1.0, 0.0, 1e30)
SPEC = ImageSpec(1, 32, 32, -1000.0, 2000.0, "HU", 12.5)

# (class or section, argument), or an argument of any: values that mean something.
ALLOWED = {
    "seed": (0, ABSURD),
    "probes": (0,),  # none: the encoder's code is the start
    "oversampling": (0,),
    "gifs": (0,),  # none is drawn
    "permuted": (0,),  # no such control
    "correlation": (0, 0.0),  # independent
    "reference": (0, 0.0),  # red
    "intercept": (-1, 0, -1.0, 0.0),
    **dict.fromkeys(("white", "black", "fill"), (-1, 0, -1.0, 0.0)),  # stored values
    "mean": (-1, 0, -1.0, 0.0),  # of what a network takes
    "label": (-1, 0, ABSURD),  # by its number; which there are, the file says
    "max_damaged": (0, 0.0),  # not one damaged file
    "validation": (0, 0.0),  # none is held out for curves
    "active_kl": (0, 0.0),
    "checkpoint_every_s": (0, 0.0),  # after each step
    "threshold": (-1, 0, ABSURD, -1.0, 0.0, 1e30),  # of a regression any; how it lies to the predictions is known later
    **dict.fromkeys(
        ("max_tilt_deg", "rotation_deg", "shift", "offset_hu", "gain", "noise_hu", "seen_radius_mm"), (0, 0.0)
    ),
    **dict.fromkeys(
        ("stain_scale", "stain_shift", "blur", "stain", "label_smoothing", "noise", "min_tissue"), (0, 0.0)
    ),
    **dict.fromkeys(("beta", "weight", "code_weight", "image_weight", "prediction_weight", "prior_weight"), (0, 0.0)),
    **dict.fromkeys(("locality", "r1", "path_length", "style_mixing", "shift_min", "shift_weight"), (0, 0.0)),  # off
    **dict.fromkeys(("warmup", "ema_decay", "truncation", "initial", "maximum"), (0, 0.0)),
    **dict.fromkeys(("rendered_weight", "rendered_from"), (0, 0.0)),  # off; from the start
    "target": (0, 0.0),  # a mean of signs
    "betas": ([0, 0], [0.999, 0.5], [0.99, 0.9], [0.99, 0.0], [0.999, 0.9]),  # Adam without memory; a short second one
    "blocks": ([4, 3, 1], [1]),  # layers at each resolution, of which there may be any number
    "editing": ([-8.0],),
    "spread": (0, 0.0),  # codes as the encoder says them
    "widths": ([16], [32, 16]),  # channels at each resolution, of which there may be any number
}
# Refused by a constructor, as it takes two arguments to see it, or an image.
BUILT: dict[tuple[str, str], dict[str, Any]] = {
    ("DCGANModule", "real_labels"): {},
    ("ResNet", "layers"): {"image": SPEC, "task": "binary", "classes": ["no", "yes"]},
    **{("Modality", name): {} for name in ("channels", "fill", "intensity_range")},
    ("data.source.modality.display_windows", "chest"): {},
    ("MonaiDatalist", "lists"): {},
    ("Compose", "transforms"): {},
}


def composed(*overrides: str) -> DictConfig:
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=["scale=tiny", *overrides])


def options() -> Iterator[list[str]]:
    """Overrides that choose each option of each group at least once: one of each group at a time."""
    groups: dict[str, list[list[str]]] = {}
    for path in sorted(CONF.rglob("*.yaml")):
        group, _, option = path.relative_to(CONF).with_suffix("").as_posix().partition("/")
        if not option or group in OTHERS or option.endswith("_base"):
            continue
        if group == "ada":
            chosen = ["generator=stylegan2", f"ada@generator.module.augmentation={option}"]
            groups.setdefault("generator", []).append(chosen)
        elif group == "features":
            groups.setdefault(group, []).append([f"+features@evaluation.features.mine={option}"])
        elif "/" in option:
            groups.setdefault(group, []).append(
                [f"{group}=shift_reconstruction", f"{group}/{option.replace('/', '=')}"]
            )
        else:
            groups.setdefault(group, []).append([f"{group}={option}"])
    for turn in range(max(map(len, groups.values()))):
        yield [override for choices in groups.values() for override in choices[turn % len(choices)]]


def values(node: DictConfig) -> dict[str, Any]:
    """What a section holds, resolved; without what is missing."""
    found: dict[str, Any] = {}
    for key in map(str, node):
        if OmegaConf.is_missing(node, key) or key == "root":
            continue
        try:
            value = node[key]
        except Exception:  # it reads what is missing
            continue
        found[key] = values(value) if isinstance(value, DictConfig) else value
    return found


def leaves(found: dict[str, Any], kind: Any, key: str = "") -> Iterator[tuple[str, str, str, Any, Any]]:
    """(class or section, argument, key, value, type) of every number, list and null below a section."""
    target = found.get("_target_")
    taken = signature(target) if target else signature_of(kind) if is_dataclass(kind) else None  # type: ignore[arg-type]
    who = target.rpartition(".")[2] if target else key
    for name, value in found.items():
        if name.startswith("_"):
            continue
        known = taken is not None and name in taken.parameters
        inner = taken.parameters[name].annotation if taken is not None and known else of_values(kind) if kind else Any
        where = f"{key}.{name}".lstrip(".")
        if isinstance(value, dict):
            section = next((m for m in members(inner) if isinstance(m, type) and is_dataclass(m)), None)
            yield from leaves(value, section or inner, where)
        elif not isinstance(value, bool | str) and (known or taken is None):
            yield who, name, where, OmegaConf.to_container(value) if OmegaConf.is_list(value) else value, inner


def bad_values(value: Any) -> list[Any]:
    if not isinstance(value, list):
        return [*NUMBERS, []] if value is not None else list(NUMBERS)
    same = [[bad] * len(value) for bad in (NAN, INF, -1, 0, ABSURD)]
    return [bad for bad in ([], value[::-1], value[:1], *same) if bad != value]


@pytest.fixture(scope="module")
def every_leaf() -> dict[tuple[str, str], tuple[str, Any, Any]]:
    found: dict[tuple[str, str], tuple[str, Any, Any]] = {}
    for overrides in options():
        for who, name, key, value, kind in leaves(values(composed(*overrides)), Root):
            if not key.startswith("scale."):  # read by other sections
                found.setdefault((who, name), (key, value, kind))
    return found


def test_values_that_make_no_sense_are_refused_by_type(every_leaf: dict) -> None:
    assert len(every_leaf) > 200
    accepted = []
    for (who, name), (key, value, kind) in every_leaf.items():
        for bad in bad_values(value):
            line = complaint(key, bad, kind)
            if line:
                assert line.startswith(key), line
                assert "\n" not in line
            elif bad not in ALLOWED.get(name, ()) and (who, name) not in BUILT:
                accepted.append((who, name, bad))
    texts = {"space", "annotations", "published_split"}  # null here, and text where they are given
    assert [found for found in accepted if found[1] not in texts | {"low", "high"}] == []


@pytest.mark.parametrize("bad", [[1.0, 0.9], [-1, -1], [0, 0], [0.9, 1.5]])
def test_labels_of_real_images(bad: list[float]) -> None:
    section = composed("generator=dcgan", f"generator.module.real_labels={bad}")
    with pytest.raises(ConfigErrors, match=r"generator\.module\.real_labels="):
        checks._attempt([lambda: checks._module(section)])


@pytest.mark.parametrize("bad", [[1], [1, 1, 1, 1, 1]])
def test_layers_of_a_resnet(bad: list[int]) -> None:
    section = composed("classifier=resnet", f"classifier.network.layers={bad}").classifier.network
    with pytest.raises(ArgumentError, match=r"^classifier\.network\.layers="), torch.device("meta"):
        build.build(section, **BUILT["ResNet", "layers"])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("modality.channels=0", "channels.*1 or 3"),
        ("modality.fill=1e15", "fill.*a value from -1024"),
        ("modality.intensity_range=[2000,-1000]", "intensity_range.*two rising numbers"),
        ("modality.display_windows.chest=[0,0]", "display_windows.*two rising numbers"),
        ("lists=[]", r"^data\.source\.lists=\[\]: expected at least one"),
        ("transform.transforms=[0]", r"^data\.source\.transform: none of the 1 items became an image"),
    ],
)
def test_what_a_datalist_is_made_of(tmp_path: Path, override: str, words: str) -> None:
    (tmp_path / "a.json").write_text('{"training": ["a.nii"]}')
    config = composed("data=monai", f"data.root={tmp_path}/a.json", f"data.source.{override}")
    with pytest.raises(UserError, match=words):
        build.build(config.data.source).scan(lambda function, items, description: map(function, items))


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("seed=-1", "seed=-1: expected a whole number from 0 to 9,223,372,036,854,775,807"),
        ("data.split.test=nan", "data.split.test=nan: expected a finite number"),
        ("data.split.test=0", "data.split.test=0: expected a number above 0 and below 1"),
        ("data.intensity_range=[500,-1000]", "data.intensity_range=[500, -1000]: expected [low, high] with low"),
        ("report.display_window=[1,0]", "report.display_window=[1, 0]: expected [low, high] with low below high"),
        ("evaluation.steps=[]", "evaluation.steps=[]: expected at least three rising numbers, 0 among them"),
        ("evaluation.steps=[-1,1,2]", "evaluation.steps=[-1, 1, 2]: expected at least three rising numbers"),
        ("evaluation.samples=0", "evaluation.samples=0: expected a whole number from 2 to 10,000,000"),
        ("explain.threshold=nan", "explain.threshold=nan: expected a finite number"),
        ("explain.threshold=inf", "explain.threshold=inf: expected a finite number"),
        ("explain.target_range=[0.9,0.1]", "explain.target_range=[0.9, 0.1]: expected [low, high] with low below high"),
        ("data.max_damaged=-1", "data.max_damaged=-1: expected a number from 0 to 1"),
        ("workers=-1", "workers=-1: expected a whole number from 1 to 1,024 or null"),
        ("trainer.threads=100000", "trainer.threads=100000: expected a whole number from 1 to 1,024 or null"),
        ("objective=nope", "objective='nope': expected the final number that a search makes best, e.g. semantics/"),
        ("generator.training.checkpoint_every_s=nan", "generator.training.checkpoint_every_s=nan: expected a finite"),
        ("data.field_of_view_mm=1e-9", "data.field_of_view_mm=1e-09: expected a number from 0.01 to 10,000"),
        ("name=../../evil", "name='../../evil': expected the name of a folder below outputs/"),
        ("name=''", "name='': expected the name of a folder below outputs/"),
        ("store=''", "store='': expected text that is not empty"),
        ("store_mode=0700", "store_mode: '0700' is not a whole number or null; write 700"),
        ("store_mode=999", "store_mode=999: expected 700 (only me), 750 (my group reads), 770, 755 or the like"),
        ("generator.module.augmentation=nan", "generator.module.augmentation: nan is not a section with a _target_"),
        ("scale.latent_dim=0", "scale.latent_dim=0: expected a whole number from 1 to 65,536"),
    ],
)  # fmt: skip
def test_what_the_types_refuse(override: str, line: str) -> None:
    more = ["generator=dcgan"] if "augmentation" in override else []
    lines = problems(composed(*more, override), Root, build.PROVIDED)
    assert any(found.startswith(line) for found in lines), lines


BESIDE = (
    "+classifier@compared.b=python compared.b.function=toy_models:brightness compared.b.task=binary "
    "compared.b.classes=[no,yes]"
)
NET = "classifier=python classifier.function=toy_models:brightness classifier.task=binary classifier.classes=[no,yes]"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ("classifier=densenet inversion.method.space=bogus", "inversion.method.space=bogus: with this generator"),
        ("classifier=densenet directions=svm directions.space=bogus", "directions.space=bogus: this generator has z"),
        ("+directions@compared.mine=pca compared.mine.space=w", "compared.mine.space=w: this generator has z"),
        ("data.damaged_list=/nowhere/at/all", "data.damaged_list=/nowhere/at/all: cannot be written (No such file"),
        (f"store=/tmp/{'x' * 300}", f"store=/tmp/{'x' * 300}: cannot be made (File name too long)"),
        (f"store={__file__}/store", f"store={__file__}/store: cannot be made ({__file__} is a file)"),
        (
            f"{NET} explain.target=nope",
            "explain.target=nope: the classifier predicts no such thing; did you mean 'no'?",
        ),
        (f"{NET} classifier.range=[1,1]", "classifier.range"),
        (f"{NET} classifier.layer=conv", "classifier.layer: conv, but the function is no torch.nn.Module"),
        (
            f"{NET} explain.integrated_gradients=true",
            "explain.integrated_gradients: true, and the classifier is a black",
        ),
        (
            f"classifier=densenet directions=mean_gradient {BESIDE}",
            "directions: MeanGradient needs gradients, and compared.b is a black box without",
        ),
        ("data.split.test=0.7 data.split.validation=0.5", "data.split.validation=0.5: with data.split.test"),
        # the key that was typed
        ("controls.random.count=0", "controls.random.count=0: expected a whole number of at least 1"),
        (
            "+directions@compared.mypca=pca compared.mypca.samples=1",
            "compared.mypca.samples=1: expected at least 2 codes",
        ),
        (
            "classifier=resnet +classifier@compared.two=resnet compared.two.network.layers=[1]",
            "compared.two.network.layers=[1]: expected 4 numbers",
        ),
        (
            "classifier=densenet classifier.module.optimisation.learning_rate=-1",
            "classifier.module.optimisation.learning_rate=-1: expected a number above 0",
        ),
        (
            "classifier=densenet +classifier@compared.two=densenet compared.two.module.blur=-1",
            "compared.two.module.blur=-1: expected a number of pixels",
        ),
        (
            "classifier=densenet +classifier@compared.main=resnet",
            "compared.main: in tables the classifier that is explained is called so",
        ),
        ("generator=vae_classifier_guided classifier=densenet scale.image_size=17", "scale.image_size=17"),
        (
            "data=radiographs data.root=. data.labels=null classifier=densenet",
            "classifier: it is trained on labels, and data.label or data.labels is null; expected a CSV (data.labels)",
        ),
        ("data=image_folder data.root=. data.label=null classifier=resnet", "classifier: it is trained on labels"),
        ("data=radiographs data.root=. data.white=10 data.black=20", "data.white=10: expected a stored value above"),
    ],
)
def test_what_objects_refuse_together(overrides: str, words: str) -> None:
    with pytest.raises(ConfigErrors) as caught:
        checks.check_values(composed(*overrides.split()))
    assert any(line.startswith(words) for line in caught.value.problems), caught.value.problems


def test_integrated_gradients_without_captum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    config = composed("classifier=densenet", "explain.integrated_gradients=true")
    with pytest.raises(ConfigErrors) as caught:
        checks.check_values(config)
    (line,) = caught.value.problems
    assert line.startswith(
        'explain.integrated_gradients: Captum is not installed; pip install -e ".[captum]" in a clone'
    )


@pytest.mark.parametrize("override", ["data.labels=null", "data.label=null"])
def test_pictures_need_no_labels_where_nothing_reads_them(override: str) -> None:
    checks.check_values(composed("data=radiographs", "data.root=.", override, "classifier=none"))


def test_a_list_of_damaged_files_is_tried_and_not_left(tmp_path: Path) -> None:
    path = tmp_path / "damaged.txt"
    config = composed(f"data.damaged_list={path}")
    assert problems(config, Root, build.PROVIDED) == []
    checks._check_damaged_list(config)
    assert not path.exists()


def test_a_section_with_another_class_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    from medlat.config.compose_errors import with_replaced

    overrides = ["directions={_target_: medlat.directions.coordinate.Coordinate}", "directions.count=3"]
    config = with_replaced(composed(*overrides), overrides)
    assert config.directions == {"_target_": "medlat.directions.coordinate.Coordinate", "count": 3}
    assert problems(config, Root, build.PROVIDED) == []
    assert with_replaced(composed("directions.count=3"), ["directions.count=3"]).directions.count == 3
