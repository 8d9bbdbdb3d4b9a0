"""What is minimised, and that training ends where it should, also after an interruption."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from generators.gan import tiny
from scipy.ndimage import gaussian_filter
from torchmetrics.functional.classification import binary_auroc

from medlat.classifiers.module import ClassifierModule, RobustClassifierModule, blurred
from medlat.classifiers.networks import ResNet
from medlat.classifiers.trained import Trained
from medlat.core.errors import UserError
from medlat.data.module import SliceData
from medlat.training.loop import train
from medlat.training.optimisation import Optimisation
from medlat.training.settings import Schedule

CLASSES = {"binary": ["no", "yes"], "multiclass": ["a", "b", "c"], "ordinal": ["1", "2", "3"], "regression": ["age"]}
STEPS = 7  # validated after 3 and 6


class Stopping(ClassifierModule):
    """Stops before a step, or with images that are NaN in it."""

    stop_at: int | None = None
    diverge_at: int | None = None

    def training_step(self, batch, batch_idx):
        if self.global_step == self.stop_at:
            raise tiny.Stopped
        images, targets = batch
        return super().training_step((images * math.nan if self.global_step == self.diverge_at else images, targets), 0)


def made(task="binary", steps=STEPS, smoothing=0.0, rate=1e-2):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ResNet(tiny.SPEC, task, CLASSES[task], width=8)
    if task == "regression":
        network.set_target_scale(1.0, 2.0)
    return Stopping(network, 5, steps, Optimisation(learning_rate=rate, ema_decay=0.9), smoothing)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tiny.store(tmp_path_factory.mktemp("store"))


def bright(store):
    """A number of each slice that is easily seen: whether, or how far, it is brighter than most."""
    means = store.fetch(np.arange(len(store.patient)), tiny.SPEC).mean(dim=(1, 2, 3)).numpy().astype(np.float64)
    return (means - means.mean()) / means.std()


def run(module, store, folder, targets, batch=4, every_s=0.0):
    folder.mkdir(exist_ok=True)
    data = tiny.slices(store, module.steps, batch)
    data = SliceData(store, data.split, tiny.SPEC, batch, module.steps, 7, None, targets)
    schedule = Schedule(module.steps * batch, batch, every_s, 2)
    train(module, data, schedule, tiny.CPU, folder, lambda records: None)
    return module


def test_losses_by_hand():
    zeros, log = torch.zeros(2, 1), math.log
    assert made().loss(zeros, torch.tensor([0.0, 1.0])).item() == pytest.approx(log(2))
    certain = torch.full((1, 1), 100.0)
    assert made().loss(certain, torch.tensor([0.0])).item() == pytest.approx(100.0)
    assert made(smoothing=0.2).loss(certain, torch.tensor([1.0])).item() == pytest.approx(10.0), "a tenth is asked of 0"
    for task in ("multiclass", "ordinal"):
        assert made(task).loss(torch.zeros(2, 3), torch.tensor([0.0, 2.0])).item() == pytest.approx(log(3))
    assert made("regression").loss(zeros, torch.tensor([1.0, 5.0])).item() == pytest.approx(2.0), "(0² + 2²) / 2"


def test_it_learns_what_shows(store, tmp_path):
    """And every value is recorded, the last of them about the result."""
    positive = bright(store) > 0
    module = run(made(steps=80), store, tmp_path, positive.astype(float), 8, every_s=1e3)
    last = {name: value for name, _, value in tiny.curves(tmp_path)}
    assert set(last) == {"train/loss", "validation/loss", "validation/auc"}
    assert not (tmp_path / "grid").exists()
    logits = Trained(module.result).logits(store.fetch(np.arange(len(positive)), tiny.SPEC))[:, 0]
    split = tiny.slices(store, 1, 8).split
    assert ((logits > 0).numpy() == positive)[split.train].mean() > 0.9
    held_out = torch.from_numpy(positive[split.validation]).float()
    assert last["validation/auc"] == pytest.approx(binary_auroc(logits[split.validation], held_out.long()).item())
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[split.validation], held_out)
    assert last["validation/loss"] == pytest.approx(expected.item(), rel=1e-4)


def test_regression_learns_too(store, tmp_path):
    values = 1.0 + 2.0 * bright(store)
    run(made("regression", 60), store, tmp_path, values, 8, every_s=1e3)
    last = {name: value for name, _, value in tiny.curves(tmp_path)}
    assert set(last) == {"train/loss", "validation/loss", "validation/r2", "validation/mae"}
    assert last["validation/r2"] > 0.5
    assert made("regression").headline[0] == "validation/r2"
    assert made().headline == ("validation/auc", "validation AUC {:.3f}")


def test_an_interrupted_training_ends_as_if_it_never_had_been(store, tmp_path):
    targets = np.digitize(bright(store), [-0.5, 0.5]).astype(float)
    whole = run(made("multiclass"), store, tmp_path / "whole", targets)
    assert tiny.digest(whole) != tiny.digest(made("multiclass"))
    for stop in (1, 3, 5):
        module = made("multiclass")
        module.stop_at = stop
        with pytest.raises(tiny.Stopped):
            run(module, store, tmp_path / str(stop), targets)
        again = run(made("multiclass"), store, tmp_path / str(stop), targets)
        assert tiny.digest(again) == tiny.digest(whole)
        assert tiny.curves(tmp_path / str(stop)) == tiny.curves(tmp_path / "whole")


def test_the_result_is_the_average_with_the_statistics_of_the_network(store, tmp_path):
    module = run(made(), store, tmp_path, (bright(store) > 0).astype(float), every_s=1e3)
    averaged, latest = module.result, module.network
    assert torch.equal(averaged.body.bn1.running_mean, latest.body.bn1.running_mean)
    assert not torch.equal(averaged.body.conv1.weight, latest.body.conv1.weight)


def test_validation_with_one_class_has_no_auc(store, tmp_path):
    run(made(), store, tmp_path, np.ones(len(store.patient)), every_s=1e3)
    assert {name for name, _, _ in tiny.curves(tmp_path)} == {"train/loss", "validation/loss"}


def test_a_training_that_diverges_says_what_to_lower(store, tmp_path):
    module = made()
    module.diverge_at = 4
    message = r"diverged at step 4 of 7 \(loss nan\) .*learning_rate=0\.01"
    with pytest.raises(UserError, match=message):
        run(module, store, tmp_path, np.ones(len(store.patient)))
    assert sorted(path.name for path in (tmp_path / "progress").iterdir())[-1] == "000000004.ckpt"
    assert json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])["name"] == "train/loss"


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_bad_smoothing_is_named(smoothing):
    with pytest.raises(UserError, match=rf"^label_smoothing={smoothing:g}: expected a share"):
        made(smoothing=smoothing)


class StoppingRobust(Stopping, RobustClassifierModule):
    pass


def robust(strength=0.1, steps=STEPS, blur=0.0):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = ResNet(tiny.SPEC, "binary", CLASSES["binary"], width=8)
    rates = Optimisation(learning_rate=1e-2, ema_decay=0.9)
    return StoppingRobust(network, 5, steps, rates, blur=blur, strength=strength)


def test_images_are_moved_against_the_classifier_and_no_further_than_asked(store):
    module = robust(0.01, steps=1)  # the strength has risen
    module.network.eval()
    images = store.fetch(np.arange(6), tiny.SPEC)
    targets = torch.tensor([0.0, 1.0] * 3)
    moved = module.shown(images, targets)
    assert not moved.requires_grad
    assert (moved - images).square().mean(dim=(1, 2, 3)).sqrt().max() <= 0.01 + 1e-6
    losses = [
        [module.loss(module.network(x[i : i + 1]), targets[i : i + 1]).item() for i in range(6)]
        for x in (images, moved)
    ]
    assert all(after > before for before, after in zip(*losses, strict=True))
    assert all(p.grad is None for p in module.network.parameters())


def test_images_are_blurred_each_by_its_own_gaussian(store):
    images = torch.cat([store.fetch(np.arange(3), tiny.SPEC)] * 2, dim=1)
    made = blurred(images, torch.tensor([0.0, 0.7, 2.0]))
    assert torch.equal(made[0], images[0])
    for i, sigma in ((1, 0.7), (2, 2.0)):
        expected = gaussian_filter(images[i].numpy(), (0.0, sigma, sigma), mode="nearest", radius=6)
        np.testing.assert_allclose(made[i].numpy(), expected, atol=1e-5)
    module, again = robust(1e-12, 1, blur=2.0), robust(1e-12, 1, blur=2.0)
    targets = torch.zeros(len(images))
    shown = module.shown(images[:, :1], targets)
    assert torch.equal(shown, again.shown(images[:, :1], targets)), "the same again for the same step"
    steepness = [x.diff(dim=-1).abs().mean(dim=(1, 2, 3)) for x in (shown, images[:, :1])]
    left = steepness[0] / steepness[1]
    assert left.max() < 1.0 + 1e-5
    assert left.max() - left.min() > 0.05, "each by its own"


def test_an_interrupted_robust_training_ends_as_if_it_never_had_been(store, tmp_path):
    targets = (bright(store) > 0).astype(float)
    whole = run(robust(blur=1.0), store, tmp_path / "whole", targets)
    module = robust(blur=1.0)
    module.stop_at = 4
    with pytest.raises(tiny.Stopped):
        run(module, store, tmp_path / "again", targets)
    assert tiny.digest(run(robust(blur=1.0), store, tmp_path / "again", targets)) == tiny.digest(whole)


@pytest.mark.parametrize("blur", [-1.0, math.inf, math.nan])
def test_bad_blur_is_named(blur):
    with pytest.raises(UserError, match=rf"^blur={blur:g}: expected a number of pixels"):
        Stopping(robust().network, 5, 1, Optimisation(), blur=blur)


def test_training_images_are_restained_each_by_its_own():
    spec = replace(tiny.SPEC, channels=3)
    module = Stopping(ResNet(spec, "binary", CLASSES["binary"], width=8), 5, 1, Optimisation(), stain=0.2)
    images = torch.zeros(4, 3, spec.height, spec.width)
    shown = module.shown(images, torch.zeros(4))
    assert torch.equal(shown, module.shown(images, torch.zeros(4))), "the same again for the same step"
    assert shown.std(dim=(2, 3)).max() < 1e-6, "one change for a whole image"
    assert shown.mean(dim=(2, 3)).std(dim=0).min() > 0.02


@pytest.mark.parametrize(("stain", "words"), [(-0.1, "a share"), (1.0, "a share"), (0.1, "no colour")])
def test_bad_stain_is_named(stain, words):
    with pytest.raises(UserError, match=rf"^stain={stain:g}: .*{words}"):
        Stopping(robust().network, 5, 1, Optimisation(), stain=stain)


def test_bad_strength_is_named():
    with pytest.raises(UserError, match=r"^strength=0: expected a number above 0"):
        robust(strength=0.0)
