"""Every experiment and every option of every group is composed, checked and built."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from generators.imported.brought_files import KL, monai_network
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from medlat.config import build
from medlat.config.locate import config_dir
from medlat.config.preflight import problems
from medlat.config.schema import Root
from medlat.core.checkpoints import save_generator
from medlat.core.errors import ConfigErrors
from medlat.core.spaces import ImageSpec, LatentModel
from medlat.generators.gan.augmentation import CT, Histology, Published
from medlat.steps import builders, checks

CONF = Path(config_dir())
EXPERIMENTS = sorted(
    p.relative_to(CONF / "experiment").with_suffix("").as_posix() for p in (CONF / "experiment").rglob("*.yaml")
)
OPTIONS = [
    f"{group}={path.stem}"
    for group in (
        *("data", "generator", "classifier", "inversion", "directions", "explain", "evaluation", "report", "scale"),
        *("trainer", "logger"),
    )
    for path in sorted((CONF / group).glob("*.yaml"))
    if not path.stem.endswith("_base")
]


def composed(*overrides: str):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))


SUPERVISED = ("linear", "logistic", "svm", "mean_gradient", "latent_shift", "style_channels", "conditional")
NETWORKS = {"torchscript": "network.pt", "onnx": "network.onnx", "medlat": "classifier.safetensors"}


def supply(config, tmp_path) -> None:
    """Files where a configuration asks for them."""
    if OmegaConf.is_missing(config.data, "root"):
        config.data.root = str(tmp_path)
        if config.data.source._target_.endswith("MedMNIST"):
            config.data.root = str(tmp_path / "mnist.npz")
            empty = {f"{part}_images": np.zeros((4, 28, 28), np.uint8) for part in ("train", "val", "test")}
            labels = {f"{part}_labels": np.array([[0], [1], [0], [1]]) for part in ("train", "val", "test")}
            np.savez(config.data.root, **empty, **labels)
        if config.data.source._target_.endswith("MonaiDatalist"):
            config.data.root = str(tmp_path / "dataset.json")
            Path(config.data.root).write_text('{"training": [{"image": "a.nii"}]}')
        if "ImageFolder" in config.data.source._target_:
            (tmp_path / "labels.csv").write_text("path,label,group\na.png,0,1\nb.png,1,2\n")
    if config.directions._target_.endswith("Conditional") and OmegaConf.is_missing(config.directions, "confounders"):
        config.directions.confounders = ["rotation"]
    if config.classifier is not None and "_target_" in config.classifier:
        _supply_classifier(config.classifier, tmp_path)


def _supply_classifier(section, tmp_path) -> None:
    """The user's own, as a file of each kind."""
    if "task" in list(section):  # `in` alone is false for ???
        section.task, section.classes, section.output = "binary", ["no", "yes"], "logits"
    if "function" in list(section):
        section.function, section.output = "toy_models:brightness", "probabilities"
        return
    section.path = str(tmp_path / NETWORKS[section._target_.rpartition(".")[2].removesuffix("Classifier").lower()])
    spec = ImageSpec(1, 32, 32, -1000.0, 2000.0, "HU", 12.5)
    recipe = {"_target_": "medlat.classifiers.networks.DenseNet", "task": "binary", "classes": ["no", "yes"]}
    network = builders.network_from(recipe, spec).eval()
    if section.path.endswith(".safetensors"):
        save_generator(Path(section.path), network, recipe, spec)
    elif section.path.endswith(".onnx"):
        names = {"input_names": ["x"], "dynamic_axes": {"x": {0: "n"}}}
        torch.onnx.export(network, (torch.zeros(2, 1, 32, 32),), section.path, dynamo=False, **names)
    else:
        torch.jit.trace(network, torch.zeros(2, 1, 32, 32)).save(section.path)


def _supply_generator(section, tmp_path) -> None:
    """Somebody's, through each of its doors."""
    door = section._target_.rpartition(".")[2]
    if door == "PythonGenerator":
        section.function = "toy_models:own_generator"
    elif door == "TorchScriptGenerator":
        section.path, section.code, section.value_range = str(tmp_path / "g.pt"), [4], [-1, 1]
        torch.jit.trace(torch.nn.Linear(4, 32 * 32), torch.zeros(1, 4)).save(section.path)
    elif door == "MonaiGenerator":
        section.network, section.arguments = "AutoencoderKL", KL
        section.weights, section.value_range = str(tmp_path / "g.pt"), [0, 1]
        torch.save(monai_network("AutoencoderKL").state_dict(), section.weights)


def check(config, tmp_path) -> None:
    supply(config, tmp_path)
    if "_target_" in config.generator:
        _supply_generator(config.generator, tmp_path)
    if OmegaConf.is_missing(config.generator, "weights"):
        config.generator.weights = str(tmp_path / "generator.safetensors")
        spec = ImageSpec(1, 32, 32, -1000.0, 2000.0, "HU", 12.5)
        recipe = {"_target_": "medlat.generators.dcgan.networks.DCGAN", "latent_dim": 4, "capacity": 2}
        save_generator(Path(config.generator.weights), builders.network_from(recipe, spec), recipe, spec)
    assert problems(config, Root, build.PROVIDED) == []
    config.trainer.accelerator = "cpu"  # the machine that tests need not have a GPU
    checks.check_values(config)


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("scale", ["tiny", "laptop"])
def test_experiment(experiment, scale, tmp_path):
    check(composed(f"+experiment={experiment}", f"scale={scale}"), tmp_path)


@pytest.mark.parametrize("option", OPTIONS)
def test_option(option, tmp_path):
    more = ["scale=tiny"] if not option.startswith("scale") else []
    if option.removeprefix("directions=") in SUPERVISED or option.endswith("_classifier_guided"):
        more.append("classifier=densenet")
    if option in ("trainer=gpus", "trainer=nodes"):
        more.append("generator=dcgan")  # a VAE trains in one process
    if option in ("generator=monai", "generator=torchscript"):
        more.append("directions=pca")  # they do not show the weights that SeFa needs
    if option in ("logger=tensorboard", "logger=mlflow"):
        extra = option.removeprefix("logger=")
        pytest.importorskip(extra, reason=f"the extra {extra} is not installed")
    check(composed(option, *more), tmp_path)


def test_there_is_something_to_test():
    assert {"ct_vae_sefa", "ct_stylegan_sefa", "ct_dcgan_sefa", "histology_vae_linear"} <= set(EXPERIMENTS)
    assert {"data=ct_dicom", "generator=vae_resnet", "directions=random", "scale=paper"} <= set(OPTIONS)
    assert {f"directions={name}" for name in SUPERVISED} <= set(OPTIONS)
    assert {f"classifier={name}" for name in (*NETWORKS, "python", "densenet", "resnet", "none")} <= set(OPTIONS)


@pytest.mark.parametrize("kind", ["none", "ct", "published", "histology"])
def test_augmentation(kind, tmp_path):
    data = "histology_phantom" if kind == "histology" else "ct_phantom"
    ada = f"ada@generator.module.augmentation={kind}"
    check(composed("generator=stylegan2", ada, f"data={data}", "scale=tiny"), tmp_path)


@pytest.mark.parametrize("kind", ["torchscript", "inception"])
def test_features(kind, tmp_path):
    path = tmp_path / "network.pt"
    torch.jit.script(torch.nn.Flatten()).save(str(path))
    place = "evaluation.features.mine"
    check(composed(f"+features@{place}={kind}", f"{place}.path={path}", "scale=tiny"), tmp_path)
    with pytest.raises(ConfigErrors, match=r"evaluation.features.mine.path=/nowhere.pt: no such file"):
        checks.check_values(composed(f"+features@{place}={kind}", f"{place}.path=/nowhere.pt", "scale=tiny"))


def test_networks_are_checked_before_data_are_read():
    config = composed(
        "generator=stylegan2", "generator.network.z_dim=0", "generator.module.discriminator.channel_max=0"
    )
    with pytest.raises(ConfigErrors, match=r"generator.network.z_dim=0"):
        checks.check_values(config)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("generator.module.accumulate=5", "generator.module.accumulate=5: expected a divisor of the 16 images"),
        ("generator.module.generator_adam.learning_rate=-1", "generator.module.generator_adam.learning_rate=-1"),
        ("generator.network.clamp=-1", "generator.network.clamp=-1: expected a number above 0"),
        ("data.image_size=8", "data.image_size=8: expected at least 16"),
        ("trainer.devices=3", "scale.stylegan2.batch_size=16: expected a multiple of trainer.devices=3"),
        ("ada@generator.module.augmentation=histology", "expected images of 3 channels"),
        ("+features@evaluation.features.factors=torchscript", "evaluation.features.factors"),
    ],
)
def test_what_does_not_go_together_is_said_before_data_are_read(override, words):
    more = ["evaluation.features.factors.path=x"] if "factors" in override else []
    with pytest.raises(ConfigErrors) as caught:
        checks.check_values(composed("generator=stylegan2", "scale=tiny", override, *more))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["directions=sefa", "directions.layers=[0,3]"], "directions.layers=[0, 3]: codes of z enter this generator"),
        (["directions=sefa", "directions.layers=[3,1]"], "directions.layers=[3, 1]: expected [first, last]"),
        (["directions=pca", "directions.of=codes"], "directions.of=codes: codes of z are spread alike"),
        (["directions=ica", "generator=dcgan"], "directions=ica: DCGAN has no encoder"),
        (["directions=posterior_axes", "generator=stylegan2"], "directions=posterior_axes: StyleGAN2 has no posterior"),
        (
            ["directions=shift_reconstruction", "directions/deformator=orthonormal", "+directions.deformator.count=9"],
            "directions.deformator.count=9: an orthonormal deformator has as many directions as the space",
        ),
        (["directions=shift_reconstruction", "directions.space=w"], "directions.space=w: this generator has z"),
        (["directions=shift_reconstruction", "directions.shift_min=7"], "directions.shift_min=7"),
    ],
)
def test_directions_that_do_not_fit_the_generator_are_refused_before_data_are_read(overrides, words):
    with pytest.raises(ConfigErrors) as caught:
        checks.check_values(composed("scale=tiny", *overrides))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("generator", "module"),
    [
        ("vae", "ClassifierGuidedVAEModule"),
        ("stylegan2", "ClassifierGuidedStyleGAN2Module"),
        ("dae", "ClassifierGuidedDiffusionAutoencoderModule"),
    ],
)
@pytest.mark.parametrize(
    ("classifier", "words"),
    [
        ("none", "generator.module: {} is trained on what a classifier predicts, and there is none"),
        ("onnx", "generator.module: {} needs gradients, and the classifier is a black box without"),
        ("python", "generator.module: {} needs gradients, and the classifier is a black box without"),
    ],
)
def test_a_generator_that_asks_a_classifier_needs_one_with_gradients(generator, module, classifier, words, tmp_path):
    config = composed("scale=tiny", f"generator={generator}_classifier_guided", f"classifier={classifier}")
    words = words.format(module)
    supply(config, tmp_path)
    with pytest.raises(ConfigErrors) as caught:
        checks.check_values(config)
    assert [line.strip().startswith(words) for line in str(caught.value).splitlines()].count(True) == 1


def test_the_key_of_a_generator_holds_the_classifier_only_where_it_asks_one(tmp_path):
    from medlat.core.store import Artifact
    from medlat.study.pipeline import plan

    (tmp_path / "slices.json").write_text('{"digest": "d"}')
    found = {}
    guided = [f"{generator}_classifier_guided" for generator in ("vae", "stylegan2", "dae")]
    for generator in ("vae", "vae_fine", "dcgan", "stylegan2", "dae", *guided):
        asked = plan(composed("scale=tiny", f"generator={generator}", "classifier=densenet", f"store={tmp_path}"))
        for step in asked.steps:
            if step.name in ("images", "split", "classifier"):
                asked.context.add(step, Artifact(step.name, f"key of {step.name}", tmp_path))
            elif step.name == "generator":
                found[generator] = step.recipe(asked.context).inputs
    for explaining in guided:
        assert found.pop(explaining) == found["vae"] | {"classifier": "key of classifier"}
    assert all(inputs == {"images": "d", "split": "key of split"} for inputs in found.values())


def test_another_base_grid():
    checks.check_values(composed("generator=stylegan2", "data.image_size=48", "generator.network.base=[3,3]"))


def test_the_lightning_module_of_every_generator_is_built():
    import pytorch_lightning as pl

    for option in (o for o in OPTIONS if o.startswith("generator=")):
        config = composed(option, "scale=tiny")
        if builders.is_imported(config):
            continue
        network = builders.network(config, ImageSpec(1, 32, 32, -1000.0, 2000.0, "HU", 12.5))
        assert isinstance(network, LatentModel)
        assert isinstance(builders.module(config, network, steps=10), pl.LightningModule)


@pytest.mark.parametrize(
    ("data", "pipeline"), [("ct_phantom", CT()), ("histology_phantom", Histology()), ("radiographs", Published())]
)
def test_adaptive_augmentation_is_the_modalitys(data, pipeline, tmp_path):
    config = composed("generator=stylegan2", "scale=tiny", f"data={data}")
    supply(config, tmp_path)
    kind = builders.modality(config)
    image = ImageSpec(kind.channels, 32, 32, *builders.intensity_range(config), kind.unit, 12.5)
    found = builders.module(config, builders.network(config, image), steps=10).augmentation.pipeline
    assert type(found) is type(pipeline)
    assert {k: v for k, v in vars(found).items() if k != "config_keys"} == vars(pipeline)


def test_adaptive_augmentation_may_be_another():
    config = composed("generator=stylegan2", "scale=tiny", "ada@generator.module.augmentation=published")
    network = builders.network(config, ImageSpec(1, 32, 32, -1000.0, 2000.0, "HU", 12.5))
    assert isinstance(builders.module(config, network, steps=10).augmentation.pipeline, Published)


def test_what_is_measured_is_told_by_functions_and_settings():
    chest = {"_target_": "medlat.measure.ct.chest_ct"}
    assert builders.measured_by(composed()) == builders.measured_by(composed("measure=chest_ct")) == [chest]
    some = composed("measure=chest_ct", "measure.chest_ct.only=[lung_hu,body_area]")
    assert builders.measured_by(some) == [chest | {"only": ["lung_hu", "body_area"]}]
    assert builders.measurements(some).names == ["body_area", "lung_hu"]
    assert builders.measured_by(composed("measure=none")) == []
    both = composed("measure=[default,grey]", "measure.grey.only=[brightness]")
    assert builders.measurements(both).names[-2:] == ["slice_level", "brightness"]


def test_windows_and_ranges_are_the_modalitys_unless_others_are_asked_for():
    assert builders.intensity_range(composed()) == (-1000.0, 2000.0)
    assert builders.display_window(composed()) == (-1000.0, 500.0)
    config = composed("data.intensity_range=[-500,500]", "report.display_window=soft_tissue")
    assert builders.intensity_range(config) == (-500.0, 500.0)
    assert builders.display_window(config) == (-160.0, 240.0)
    assert builders.display_window(composed("report.display_window=[0,80]")) == (0.0, 80.0)


def test_weights_begin_with_the_seed():
    spec = ImageSpec(1, 32, 32, -1000.0, 2000.0, "HU", 12.5)
    first = [builders.network(composed("scale=tiny", f"seed={s}"), spec).entry.weight for s in (0, 0, 1)]
    assert first[0].equal(first[1])
    assert not first[0].equal(first[2])


def test_a_modality_may_name_nothing_to_measure(monkeypatch):
    nothing = replace(builders.modality(composed()), measurements=None)
    monkeypatch.setattr("medlat.phantoms.ct.source.CTPhantom.modality", nothing)
    assert len(builders.measurements(composed())) == 0
    assert builders.measured_by(composed()) == []
    assert len(builders.measurements(composed("measure=[default,chest_ct]"))) == 12


def test_a_modality_may_name_what_does_not_exist(monkeypatch):
    wrong = replace(
        builders.modality(composed()),
        measurements="medlat.measure.ct.chest_tc",
        augmentation="medlat.generators.gan.augmentation.CTs",
    )
    monkeypatch.setattr("medlat.phantoms.ct.source.CTPhantom.modality", wrong)
    with pytest.raises(ConfigErrors) as caught:
        checks.check_values(composed("generator=stylegan2", "scale=tiny"))
    assert "measure.default: no name 'chest_tc' in medlat.measure.ct; did you mean" in str(caught.value)
    assert "no name 'CTs' in medlat.generators.gan.augmentation; did you mean" in str(caught.value)
