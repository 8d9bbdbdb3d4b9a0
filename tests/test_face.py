"""The Python face: a finished run, opened again, says and makes what it said and made."""

import json
import re
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

import medlat
from medlat.classifiers.networks import DenseNet
from medlat.classifiers.trained import Trained
from medlat.config.locate import config_dir
from medlat.core.checkpoints import save_generator
from medlat.core.digests import DamagedFile
from medlat.core.errors import UserError
from medlat.core.randomness import generator_for
from medlat.core.spaces import Directions, ImageSpec, decode_in_parts, stack_steps
from medlat.core.store import Recipe, Store
from medlat.data.image_store import ImageStore
from medlat.data.splits import Split
from medlat.directions.sefa import SeFa
from medlat.generators.dcgan.networks import DCGAN
from medlat.generators.stylegan2.networks import StyleGAN2
from medlat.generators.vae.networks import VAE


@pytest.fixture
def run(finished):
    return medlat.load(finished / "run")


# --- a whole run ------------------------------------------------------------------------------------------------


def test_its_images_are_a_data_module(run):
    data = run.data
    assert data.spec == run.image
    assert data.augment is not None or run.config.data.augment is None
    batch = next(iter(data.test_dataloader()))
    assert batch["image"].shape[1:] == run.image.shape
    assert -1.0 <= batch["image"].min() < batch["image"].max() <= 1.0
    groups = [set(data.store.patient[getattr(data.split, part)]) for part in ("train", "validation", "test")]
    assert not groups[0] & groups[2]
    assert set(batch["group"].tolist()) <= groups[2]
    assert run.encode(batch["image"]).shape == (len(batch["row"]), *run.space.shape)


def test_its_numbers_are_found_again(run, finished):
    opened = ImageStore.open(run.artifacts["images"].path)
    parts, spec = Split.load(run.artifacts["split"].path / "split.json"), opened.spec((-1000.0, 2000.0))
    assert run.image == spec
    images = opened.fetch(parts.test, spec)
    codes = run.encode(images)
    assert codes.shape == (len(parts.test), *run.space.shape)
    again = run.decode(codes)
    assert again.abs().max() <= 1.0
    psnr = 10.0 * torch.log10(4.0 / (again - images).square().mean(dim=(1, 2, 3)))
    assert float(psnr.mean()) == pytest.approx(run.metrics["reconstruction/psnr"], rel=1e-4)
    affine = run.generator.latent_affines("z")[0]
    found = run.directions["sefa"]
    assert torch.allclose((found.vectors @ affine.T).square().sum(1), found.scores, rtol=1e-3)
    named = [row for row in run.table("names") if row["method"] == "sefa" and row["name"] != "unnamed"]
    assert len(named) == run.metrics["semantics/sefa/named"]
    assert run.config.data.image_size == 32
    noted = json.loads((finished / "run" / "metrics.json").read_text())
    assert set(run.metrics) == set(noted)
    assert all(isinstance(value, float) for value in run.metrics.values()), "NaN for what is not known"


@pytest.mark.parametrize("method", ["sefa", "random"])
def test_a_traversal_is_the_runs_own(run, method):
    """The run has kept the images that its figures show: those of one held-out image's code, found by the image in the
    middle.
    """
    with np.load(run.artifacts[f"semantics/{method}"].path / "traversal.npz") as arrays:
        kept, steps = arrays["images"], arrays["steps"].tolist()
    codes = run.encode(torch.cat([batch["image"] for batch in run.data.test_dataloader()]))
    middle = run.image.pictures(run.decode(codes))
    code = codes[int(np.abs(middle - kept[0, steps.index(0.0)]).mean(axis=(1, 2)).argmin())]
    for k, name in enumerate(run.directions[method].names):
        images = run.traverse(code, name, steps)
        assert np.array_equal(run.image.pictures(images), kept[k]), name
    both = run.traverse(codes[:2], f"{method} 01", [0, 1.5])
    assert both.shape == (2, 2, *run.image.shape)
    assert torch.allclose(both[1], run.traverse(codes[1].numpy(), f"{method} 01", [0, 1.5]), atol=1e-5)
    assert torch.allclose(both[:, 0], run.decode(codes[:2]), atol=1e-5), "no step is the code's own image"
    assert not both.is_inference(), "gradients can be taken of what is done with it"


def test_methods_by_name_and_by_role(run):
    assert list(run.directions) == ["sefa", "random", "coordinate"]
    assert run.directions.roles == {"sefa": "main", "random": "control", "coordinate": "control"}
    assert run.directions["main"] is run.directions["sefa"]
    assert isinstance(run.directions["random"], medlat.Directions)
    assert torch.equal(run.directions["sefa"].vectors, Directions.load(run.folder / "directions.safetensors").vectors)
    assert "sefa" in run.directions
    assert "pca" not in run.directions
    assert run.directions.get("pca") is None
    assert repr(run.directions) == "Methods(sefa: 8 (main), random: 8 (control), coordinate: 8 (control))"


def test_tables(run):
    rows = run.table("semantics")
    assert {row["method"] for row in rows} == {"sefa", "random", "coordinate"}
    assert all(isinstance(row["r2"], float) for row in rows)
    assert [row["rank"] for row in run.table("names") if row["method"] == "sefa"] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert {row["method"] for row in run.table("atlas")} == {"sefa", "random", "coordinate"}, "a figure's numbers"


def test_what_a_run_without_a_classifier_says(run):
    assert run.classifier is None
    with pytest.raises(UserError, match="the run has no classifier"):
        run.predict(torch.zeros(1, *run.image.shape))


CODE = torch.zeros(8)
WRONG = {
    "method": (lambda run: run.directions["seffa"], "no method 'seffa'; did you mean 'sefa'?"),
    "direction": (lambda run: run.traverse(CODE, "sefa 0", [1]), "the run has no 'sefa 0'; did you mean 'sefa 0"),
    "move": (lambda run: run.move(CODE[None], {"sefa 0": 1}), "the run has no 'sefa 0'; did you mean 'sefa 0"),
    "move of one": (lambda run: run.move(CODE, {"sefa 00": 1}), "codes: found [8], expected [N, 8] of the space z"),
    "invert": (lambda run: run.invert(torch.zeros(2, 32, 32)), "images: found [2, 32, 32], expected [N, 1, 32, 32]"),
    "table": (lambda run: run.table("semantic"), "no table 'semantic'; did you mean 'semantics'?"),
    "space": (lambda run: run.decode(CODE[None], "w"), "space=w: the generator has no such latent space"),
    "code": (
        lambda run: run.traverse(CODE[:5], "sefa 00", [1]),
        "code: found [5], expected [8] of the space z, or [N, 8] of the space z",
    ),
    "codes": (lambda run: run.decode(CODE), "codes: found [8], expected [N, 8] of the space z"),
    "shape": (lambda run: run.encode(torch.zeros(2, 32, 32)), "images: found [2, 32, 32], expected [N, 1, 32, 32]"),
    "size": (lambda run: run.encode(np.zeros((2, 1, 64, 64))), "found [2, 1, 64, 64], expected [N, 1, 32, 32]"),
    "none": (lambda run: run.encode(torch.zeros(0, 1, 32, 32)), "images: found [0, 1, 32, 32]"),
    "range": (lambda run: run.encode(torch.full((1, 1, 32, 32), -900.0)), "makes them of values from -1000 to 2000 HU"),
    "nan": (lambda run: run.encode(torch.full((1, 1, 32, 32), torch.nan)), "images: expected float in [-1, 1]"),
    "type": (lambda run: run.encode(torch.zeros(1, 1, 32, 32, dtype=torch.int16)), "expected float in [-1, 1]"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input(run, case):
    call, words = WRONG[case]
    with pytest.raises(UserError) as caught:
        call(run)
    assert words in str(caught.value)


def test_physical_values_go_in_and_stay_as_they_are(run):
    values = torch.full((1, *run.image.shape), 500.0)
    assert torch.equal(run.image.to_network(values), torch.zeros(1, *run.image.shape))
    assert values.min() == 500.0, "the user's own array"
    assert run.encode(run.image.to_network(values)).shape == (1, 8)


# --- where it lies ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("noted", "run_at", "store_at"),
    [
        ("/gone/work/store", "run", "store"),
        ("/gone/work/outputs/store", "outputs/study/2026-11-29_14-00-00", "outputs/store"),
        ("outputs/store", "elsewhere/study/2026-11-29_14-00-00", "elsewhere/store"),
        ("../shared/store", "study/run", "shared/store"),
    ],
)
def test_a_run_that_was_moved_with_its_store(finished, tmp_path, monkeypatch, noted, run_at, store_at):
    folder, store = tmp_path / "new" / run_at, tmp_path / "new" / store_at
    shutil.copytree(finished / "run", folder)
    shutil.copytree(finished / "store", store)
    _set(folder, store=noted)
    monkeypatch.chdir(tmp_path)
    run = medlat.load(folder)
    assert run.store == store
    assert torch.equal(run.decode(torch.ones(1, 8)), medlat.load(finished / "run").decode(torch.ones(1, 8)))
    monkeypatch.chdir(folder)
    assert medlat.load(".").store.samefile(store)


def test_a_store_that_is_not_found(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished / "run", folder)
    _set(folder, store="/gone/work/store")
    with pytest.raises(UserError) as caught:
        medlat.load(folder)
    assert re.search(
        r"its store is not found: looked for generator/\w{16} in /gone/work/store, and in gone/work/store, work/store, "
        r"store beside the run and above it; medlat.load\(folder, store=DIR\) says where",
        str(caught.value),
    )
    assert medlat.load(folder, store=finished / "store").store == finished / "store"
    with pytest.raises(UserError, match=f"store={tmp_path}: holds no generator/"):
        medlat.load(str(folder), store=tmp_path)


def test_a_folder_that_is_no_run(finished, tmp_path):
    with pytest.raises(UserError, match=f"no run: .*did you mean '{finished / 'run'}'"):
        medlat.load(finished)
    with pytest.raises(UserError, match="expected the folder of a finished run"):
        medlat.load(tmp_path / "nowhere")
    shutil.copytree(finished / "run", tmp_path / "run")
    (tmp_path / "run" / "config.yaml").write_text("a: [")
    with pytest.raises(UserError, match="not the configuration of a run"):
        medlat.load(tmp_path / "run")


def test_a_run_that_failed(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished / "run", folder)
    made = json.loads((folder / "artifacts.json").read_text())
    (folder / "artifacts.json").write_text(json.dumps({name: made[name] for name in ("images", "split", "generator")}))
    (folder / "failure.json").write_text(json.dumps({"where": "in directions", "reason": "a full disk"}))
    (folder / "metrics.json").unlink()
    run = medlat.load(folder)
    assert run.decode(torch.ones(1, 8)).shape == (1, 1, 32, 32)
    with pytest.raises(UserError, match="the run has no directions; it failed in directions: a full disk"):
        _ = run.directions
    with pytest.raises(UserError, match="no numbers; it failed in directions"):
        _ = run.metrics


def test_a_damaged_store_is_seen(finished, tmp_path):
    shutil.copytree(finished / "store", tmp_path / "store")
    run = medlat.load(finished / "run", store=tmp_path / "store")
    file = run.artifacts["generator"].path / "generator.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    with pytest.raises(DamagedFile, match="damaged since it was written; the same command makes it anew"):
        _ = run.generator
    (run.artifacts["directions/sefa"].path / "artifact.json").unlink()
    with pytest.raises(UserError, match=r"directions/.* is not there, or was left by an older medlat"):
        _ = run.directions


def _set(folder: Path, **values: str) -> None:
    config = OmegaConf.load(folder / "config.yaml")
    config.update(values)
    OmegaConf.save(config, folder / "config.yaml")


# --- other generators, and a classifier, not trained ------------------------------------------------------------

GREY = ImageSpec(1, 32, 32, -1000.0, 2000.0, "HU", 12.5)
SIGMA = np.array([0.5, 0.8, 1.3], dtype=np.float32)  # of three directions
STYLES = {"z_dim": 16, "w_dim": 16, "mapping_layers": 2, "channel_base": 256, "channel_max": 16}


@pytest.fixture
def untrained(tmp_path):
    """What a run leaves of networks that nothing was trained of: (recipe and network by step, direction finders by
    step, overrides) -> the run.
    """

    def left(networks: dict, finders: dict, *overrides: str) -> medlat.Run:
        store, folder = Store(tmp_path / "store"), tmp_path / "run"

        def network(step: str, out: Path) -> None:
            recipe, made = networks[step]
            save_generator(out / f"{step}.safetensors", made, recipe, GREY)

        def directions(step: str, out: Path) -> None:
            found = finders[step].find(networks["generator"][1])
            found.renamed(step.partition("/")[2]).save(out / "directions.safetensors")

        def semantics(step: str, out: Path) -> None:
            np.savez(out / "traversal.npz", sigma=SIGMA)

        made = {step: store.make(Recipe(step, {}, {}), partial(network, step)) for step in networks}
        for step in finders:
            made[step] = store.make(Recipe("directions", {"step": step}, {}), partial(directions, step))
            moved = step.replace("directions", "semantics")
            made[moved] = store.make(Recipe("semantics", {"step": moved}, {}), partial(semantics, moved))
        GlobalHydra.instance().clear()
        with initialize_config_dir(config_dir(), version_base="1.3"):
            config = compose("config", ["scale=tiny", f"store={store.root}", *overrides])
        folder.mkdir()
        OmegaConf.save(config, folder / "config.yaml", resolve=True)
        paths = {name: {"key": a.key, "path": str(a.path.relative_to(store.root))} for name, a in made.items()}
        for step, role in zip(finders, ("main", "compared"), strict=False):
            paths[step]["role"] = role
        (folder / "artifacts.json").write_text(json.dumps(paths))
        return medlat.load(folder)

    return left


def _network(kind: type, target: str, **arguments):
    torch.manual_seed(0)
    return {"_target_": f"{kind.__module__}.{target}", **arguments}, kind(GREY, **arguments).eval()


def test_a_direction_in_w_moves_codes_of_every_layer(untrained):
    """Images are encoded into w+ of StyleGAN2, directions may be of w: a step is the same move."""
    recipe, network = _network(StyleGAN2, "StyleGAN2", encoder=True, **STYLES)
    run = untrained(
        {"generator": (recipe, network)}, {"directions/sefa": SeFa(count=3, space="w")}, "generator=stylegan2"
    )
    assert run.space.name == "w+"
    w = run.generator.sample(2, "w", generator_for(1))
    wide = run.generator.broadcast(w)
    assert torch.allclose(run.decode(wide), run.decode(w, "w"), atol=1e-5)
    steps = [-2.0, 0.0, 3.0]
    low, high = run.traverse(w, "sefa 01", steps, space="w"), run.traverse(wide, "sefa 01", steps)
    assert torch.allclose(low, high, atol=1e-4)
    moved = stack_steps(w, run.directions["sefa"].vectors[1:2] * float(SIGMA[1]), steps)[:, 0]
    assert torch.allclose(low.flatten(0, 1), decode_in_parts(run.generator, moved.flatten(0, 1), "w"), atol=1e-5)
    assert (low[:, 0] - low[:, 2]).abs().mean() > 1e-3, "it moves"
    assert torch.allclose(run.move(wide, {"sefa 01": 3.0}), high[:, 2], atol=1e-4)
    both = run.move(wide, {"sefa 01": 3.0, "sefa 00": -2.0})
    again = w + float(SIGMA[1]) * 3.0 * run.directions["sefa"].vectors[1]
    again = again - float(SIGMA[0]) * 2.0 * run.directions["sefa"].vectors[0]
    assert torch.allclose(both, run.decode(again, "w"), atol=1e-4), "moves add up"
    assert torch.allclose(run.move(wide, {}), run.decode(wide), atol=1e-6)
    assert run.encode(torch.zeros(2, 1, 32, 32)).shape == wide.shape
    with pytest.raises(UserError, match=r"found \[8, 8\], expected \[8, 16\] of the space w\+, or \[N, 8, 16\] of"):
        run.traverse(torch.zeros(8, 8), "sefa 00", steps)
    one = run.traverse(wide[0], "sefa 01", steps)
    assert torch.allclose(one, high[0], atol=1e-5)
    assert run.traverse(wide[0], "sefa 01", steps, space="w").shape[:2] == (len(wide[0]), 3), "as many codes of w"


def test_a_generator_without_an_encoder(untrained):
    recipe, network = _network(DCGAN, "DCGAN", latent_dim=8, capacity=8)
    run = untrained({"generator": (recipe, network)}, {"directions/sefa": SeFa(count=3)}, "generator=dcgan")
    assert run.decode(torch.zeros(1, 8)).shape == (1, 1, 32, 32)
    with pytest.raises(UserError, match="DCGAN has no encoder, and the run trained none"):
        run.encode(torch.zeros(1, 1, 32, 32))


def test_predictions_of_a_classifier(untrained):
    generator = _network(VAE, "VAE", latent_dim=6, capacity=8)
    sizes = {"growth_rate": 4, "init_features": 8, "blocks": [1, 1], "stem_stride": 2}
    classifier = _network(DenseNet, "DenseNet", task="multiclass", classes=["a", "b", "c"], **sizes)
    run = untrained(
        {"generator": generator, "classifier": classifier},
        {"directions/sefa": SeFa(count=2), "directions/axes": SeFa(count=3)},
        *("classifier=densenet", "data=histology_phantom", "+directions@compared.axes=sefa"),
    )
    images = torch.rand(5, 1, 32, 32, generator=generator_for(0)) * 2.0 - 1.0
    predicted = run.predict(images.numpy())
    with torch.no_grad():
        assert torch.allclose(predicted, Trained(classifier[1])(images), atol=1e-6)
    assert predicted.shape == (5, 3)
    assert torch.allclose(predicted.sum(dim=1), torch.ones(5), atol=1e-5)
    assert run.classifier.outputs == ("a", "b", "c")
    again = medlat.load(run.folder)
    assert torch.equal(predicted, again.predict(images))
    assert torch.allclose(run.encode(images), generator[1].encode(images, "z"), atol=1e-6)
    assert run.directions.roles == {"sefa": "main", "axes": "compared"}
    assert run.traverse(run.encode(images), "axes 02", [0.0, 1.0]).shape == (5, 2, 1, 32, 32)


# --- the package ------------------------------------------------------------------------------------------------


def test_what_it_offers():
    assert set(medlat.__all__) == {"load", "Run", "LatentModel", "Directions", "ImageSpec", "__version__"}
    assert set(medlat.__all__) <= set(dir(medlat))
    assert medlat.Directions is Directions
    assert isinstance(VAE(GREY, latent_dim=4, capacity=8), medlat.LatentModel)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = medlat.lode


def test_it_is_there_at_once(finished):
    """Seconds of the CPU, so that others at work on the machine do not count."""
    script = f"""
import sys, time
import medlat
assert time.process_time() < 0.5, time.process_time()
assert not {{"torch", "numpy", "hydra"}} & set(sys.modules)
medlat.load({str(finished / "run")!r}).decode([[0.0] * 8])
assert time.process_time() < 5.0, time.process_time()
assert not {{"pytorch_lightning", "wandb", "matplotlib"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
