"""Whole runs that explain a classifier: what they leave, that all methods stand in one table, that copies of a
classifier are explained alike, and what is said of wrong input.
"""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import FEW_FIGURES, NO_FIGURES, finish, linked, once, start

from medlat import load as open_run
from medlat.classifiers.trained import load
from medlat.core import trial
from medlat.core.checkpoints import read_generator
from medlat.core.spaces import Directions
from medlat.core.tables import read_table
from medlat.explain.scorecard import SCORES

HISTOLOGY = ("+experiment=histology_vae_linear", "scale=tiny")
SHORT = (
    *("generator.training.images=640", "classifier.training.images=1280", "evaluation.base_codes=4"),
    *("evaluation.samples=8", "evaluation.regressor_steps=5"),
    *("explain.images=6", "explain.shown=2", "explain.control_directions=2", "explain.codes=60", "inversion=encoder"),
)
QUICK, CHEAP = (*SHORT, *FEW_FIGURES), (*SHORT, *NO_FIGURES)
TWO = ("+directions@compared.svm=svm", "+classifier@compared.second=resnet", "compared.second.training.images=640")
OF_OTHERS = ("agreement", "effectiveness", "alignment", "drift")  # scores with a row for each other classifier
FURTHER = ("logistic", "mean_gradient", "latent_shift", "style_channels", "conditional", "sefa")
ALL = (
    *TWO,
    *(f"+directions@compared.{name}={name}" for name in FURTHER),
    "compared.conditional.confounders=[eosin]",
    "compared.style_channels.codes=2",
)


class Copy(torch.nn.Module):
    """The predictions of a classifier that was trained here, from its folder; sharper ones are 0.5 at `middle`."""

    def __init__(self, classifier: Path, sharpness: float = 1.0, middle: float = 0.5):
        super().__init__()
        self.network = load(classifier / "classifier.safetensors").network
        self.sharpness, self.middle = sharpness, float(np.log(middle / (1.0 - middle)))

    def forward(self, images):
        return torch.sigmoid(self.sharpness * (self.network(images) / self.network.temperature - self.middle))


def scores(run: Path) -> dict[tuple[str, str], float]:
    with open(run / "scorecard.csv", newline="") as file:
        return {(row["method"], row["score"]): float(row["value"]) for row in csv.DictReader(file)}


def place(run: Path, stage: str, store: Path) -> Path:
    return store / json.loads((run / "artifacts.json").read_text())[stage]["path"]


@pytest.fixture(scope="session")
def explained_once(tmp_path_factory) -> Path:
    """Where two finders explain a classifier, beside another: `run/` and `store/`; nobody changes it."""
    return once(
        "explained", lambda folder: finish(start(folder, *HISTOLOGY, *QUICK, *TWO, "logger=none")), tmp_path_factory
    )


def test_two_finders_in_one_table(explained_once):
    explained(explained_once, ("linear", "svm"))


@pytest.mark.slow
def test_every_finder_in_one_table(explained_once, tmp_path):
    linked(explained_once / "store", tmp_path / "store")
    finish(start(tmp_path, *HISTOLOGY, *QUICK, *ALL, "logger=none"))
    explained(tmp_path, ("linear", "svm", *FURTHER))


def explained(folder, finders):
    """What a run below the folder leaves of these."""
    run = folder / "run"
    found = scores(run)
    for method in (*finders, "random", "coordinate", "permuted"):
        for score in SCORES:
            key = f"{score.key}/second" if score.key in OF_OTHERS else score.key
            assert key in lacking(method) or (method, key) in found, (method, key)
        assert found[method, "flips_in_range"] <= found[method, "flip_rate"]
        assert found[method, "flip_area"] <= found[method, "flips_in_range"]
        assert found[method, "composition_1"] > 0.0
        for key, low in (("randomisation", 0.0), ("minimality", 0.0), ("cout", -1.0)):
            value = found.get((method, key), 0.0)
            assert low <= value <= 1.0 or value != value, (method, key)
        assert 0.0 <= found[method, "flip_rate"] <= 1.0
        assert found[method, "reach_rate"] <= found[method, "flip_rate"]
        assert -1.0 <= found[method, "monotonicity"] <= 1.0
        assert found[method, "seconds"] > 0.0
    drifts = {found[method, "inversion_drift"] for method in (*finders, "random", "coordinate", "permuted")}
    assert max(drifts) - min(drifts) < 1e-6  # the same images, inverted once
    numbers = json.loads((run / "metrics.json").read_text())
    assert 0.0 <= numbers["classifier/auc"] <= 1.0
    assert 0.0 <= numbers["classifier/second/auc"] <= 1.0
    assert numbers["classifier/second/auc"] != numbers["classifier/auc"]
    cells = {(row["of"], row["asked"]): row for row in read_table(run / "alignment.csv")}
    assert set(cells) == {(a, b) for a in ("main", "second") for b in ("main", "second")}
    assert all(cells[name, name]["change"] == 1.0 for name in ("main", "second") if cells[name, name]["images"])
    assert "Which classifiers share a reason" in (run / "report" / "index.html").read_text()
    assert numbers["inversion/encode/psnr"] > 3.0
    assert 0.0 <= numbers["permuted/auc"] <= 1.0
    assert "permuted/auc_low" not in numbers  # of several classifiers
    assert numbers["copying/pixels_copies"] == numbers["copying/measurements_copies"] == 0.0
    assert 0.0 <= numbers["disentanglement/linear/mig"] <= 1.0
    assert numbers["explanation/linear/flip_rate"] == found["linear", "flip_rate"]
    for name in (
        "counterfactuals",
        "response_curves",
        "flip_curves",
        "scorecard",
        "mean_effect",
        "inversion",
        "reliability",
    ):
        assert (run / "figures" / f"{name}.png").exists(), name
    page = (run / "report" / "index.html").read_text()
    assert "tumour?" in page
    series = np.load(place(run, "explanation/linear", folder / "store") / "series.npz")
    assert series["images"].shape == (6, 9, 32, 32, 3)
    assert (np.diff(series["real_prediction"]) >= 0.0).all()
    assert series["shown"].tolist() == [0, 5]
    assert series["saliency_gradcam"].shape == (2, 32, 32)
    directions = Directions.load(run / "directions.safetensors")
    assert len(directions) == 1
    opened_again(folder, series)


def lacking(method: str) -> set[str]:
    """Scores that a method has none of: only the main one is asked again with random weights, and of controls only the
    directions of permuted labels are not orthogonal; each image has its own by latent_shift.
    """
    compared = method not in ("linear", "random", "coordinate", "permuted")
    own = {"randomisation"} if compared else set()
    return own | ({"diversity"} if method in ("permuted", "latent_shift") else set())


def opened_again(folder, series):
    """From Python, the run's images of real images' codes and its predictions are what it kept."""
    run = open_run(folder / "run")
    assert next(iter(run.directions)) == "linear"
    assert run.directions.roles["svm"] == "compared"
    assert run.directions.roles["permuted"] == "control"
    real = run.image.to_network(torch.from_numpy(series["real"]).permute(0, 3, 1, 2))
    assert run.classifier.outputs == ("tumour",)
    assert run.predict(real)[:, 0].numpy() == pytest.approx(series["real_prediction"], abs=1e-5)
    moved = run.traverse(run.encode(real), "linear 00", series["steps"])
    pictures = run.image.pictures(moved.flatten(0, 1)).reshape(series["images"].shape)
    assert np.allclose(pictures, series["images"], atol=0.01), "of 255"
    score = next(row for row in run.table("scorecard") if (row["method"], row["score"]) == ("random", "flip_rate"))
    assert score["control"] is True
    assert score["value"] == run.metrics["explanation/random/flip_rate"]
    n = {row["method"]: row["images"] for row in run.table("scorecard") if row["score"] == "flip_rate"}
    assert (n["linear"], n["random"], n["permuted"]) == (6, 6 * 2, 6 * 2)  # two of each control are followed
    assert len(run.directions["permuted"]) == 2


@pytest.mark.slow
def test_a_moved_image_keeps_the_noise_that_belongs_to_it(tmp_path):
    """Of a diffusion autoencoder, from training to the Python face: the images of the figure are found again. The first
    class is explained, and controls ask the same classifier as the method, after its saliency.
    """
    short = ("inversion=exact", "explain.images=4", "explain.control_directions=1", "explain.permuted=0")
    short += ("explain.target=normal",)
    finish(start(tmp_path, "+experiment=histology_dae_linear", "scale=tiny", *CHEAP, *short, "logger=none"))
    with open(place(tmp_path / "run", "inversion", tmp_path / "store") / "methods.csv", newline="") as file:
        psnr = {row["method"]: float(row["psnr"]) for row in csv.DictReader(file)}
    assert psnr["exact"] > 40.0
    assert psnr["exact"] > psnr["code_alone"] + 15.0
    found = scores(tmp_path / "run")
    drifts = [found[method, "inversion_drift"] for method in ("linear", "random", "coordinate")]
    assert max(drifts) < 0.01
    assert max(drifts) - min(drifts) < 1e-6
    series = np.load(place(tmp_path / "run", "explanation/linear", tmp_path / "store") / "series.npz")
    run = open_run(tmp_path / "run")
    real = run.image.to_network(torch.from_numpy(series["real"]).permute(0, 3, 1, 2))
    codes = run.encode(real)
    noise = run.noise(real, codes)
    assert float((run.decode(codes, noise=noise) - real).abs().max()) < 0.05
    moved = run.traverse(codes, "linear 00", series["steps"], noise=noise)
    pictures = run.image.pictures(moved.flatten(0, 1)).reshape(series["images"].shape)
    assert np.abs(pictures - series["images"]).mean() < 1.0, "of 255: bf16 rounds as images lie in a batch"
    one = run.traverse(codes[0], "linear 00", [0.0], noise=noise[0])
    assert float((one - real[0]).abs().max()) < 0.05


OF_TRAINED = ("seconds", "randomisation", *(f"{score}/second" for score in OF_OTHERS))  # no other, no own weights


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["torchscript", "onnx"])
def test_a_copy_of_a_classifier_is_explained_alike(explained_once, medlat, tmp_path, kind):
    """A copy of the trained classifier gets its scorecard, and trains no generator again."""
    module = Copy(place(explained_once / "run", "classifier", explained_once / "store")).eval()
    example, path = torch.randn(2, 3, 32, 32), tmp_path / "copy"
    if kind == "torchscript":
        torch.jit.trace(module, example).save(str(path))
    else:
        names = {"input_names": ["images"], "output_names": ["p"]}
        axes = {"images": {0: "n"}, "p": {0: "n"}}
        torch.onnx.export(module, (example,), str(path), dynamo=False, dynamic_axes=axes, **names)
    linked(explained_once / "store", tmp_path / "store")
    own = [f"classifier={kind}", f"classifier.path={path}", "classifier.task=binary"]
    cheap = [o for o in CHEAP if not o.startswith("classifier.")]
    own.append("classifier.classes=[normal,tumour]")
    code, _, err = medlat(*HISTOLOGY, *cheap, *own)
    assert code == 0, err
    assert "generator: reused" in err
    found = scores(tmp_path / "run")
    for (method, key), value in scores(explained_once / "run").items():
        if method in ("linear", "random", "coordinate") and key not in OF_TRAINED:
            assert found[method, key] == pytest.approx(value, abs=1e-3, nan_ok=True), (kind, method, key)
    if kind == "onnx":
        code, _, err = medlat(*HISTOLOGY, *cheap, *own, "directions=mean_gradient")
        assert code == 2
        assert "MeanGradient needs gradients" in err


@pytest.mark.slow
def test_findings_that_come_along(explained_once, medlat, tmp_path):
    """Three findings: the opposite of a tumour, one that nothing moves, and the tumour."""

    class Findings(torch.nn.Module):
        def __init__(self, copy):
            super().__init__()
            self.copy = copy

        def forward(self, images):
            p = self.copy(images).clamp(1e-4, 1.0 - 1e-4)
            return torch.cat([1.0 - p, torch.full_like(p, 0.485), p], dim=1)

    copy = Copy(place(explained_once / "run", "classifier", explained_once / "store")).eval()
    path = tmp_path / "findings.pt"
    torch.jit.trace(Findings(copy), torch.randn(2, 3, 32, 32)).save(str(path))
    linked(explained_once / "store", tmp_path / "store")
    cheap = [o for o in SHORT if not o.startswith("classifier.")]
    own = ["classifier=torchscript", f"classifier.path={path}", "classifier.task=multilabel", *FEW_FIGURES]
    own += ["classifier.classes=[healthy,other,Tumour]", "explain.target=Tumour"]
    code, _, err = medlat(*HISTOLOGY, *cheap, *own)
    assert code == 0, err
    found = {(row["method"], row["finding"]): row for row in read_table(tmp_path / "run" / "by_catch.csv")}
    assert {name for _, name in found} == {"healthy", "other", "Tumour"}
    for method in ("linear", "random"):
        tumour, healthy = found[method, "Tumour"], found[method, "healthy"]
        assert tumour["change"] == pytest.approx(-healthy["change"], rel=1e-3)
        assert found[method, "other"]["change"] == pytest.approx(0.0, abs=1e-5)
        assert tumour["explained"]
        assert tumour["control"] == (method == "random")
    assert found["random", "Tumour"]["directions"] == 2
    numbers = json.loads((tmp_path / "run" / "metrics.json").read_text())
    trained = json.loads((explained_once / "run" / "metrics.json").read_text())
    assert numbers["classifier/auc"] == pytest.approx(trained["classifier/auc"]), "of the finding that is explained"
    assert "What else the classifier says along the direction" in (tmp_path / "run/report/index.html").read_text()


@pytest.mark.slow
def test_a_scikit_learn_pipeline_on_measurements(explained_once, medlat, tmp_path, monkeypatch):
    """It learns from a finished run's training images, is better than chance on held-out ones, and is explained."""
    linked(explained_once / "store", tmp_path / "store")
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs" / "tiles").symlink_to(explained_once / "run")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "experiments" / "brought")
    cheap = [o for o in CHEAP if not o.startswith("classifier.")]
    own = ["classifier=python", "classifier.function=pipeline:tumour", "classifier.task=binary"]
    code, _, err = medlat(*HISTOLOGY, *cheap, *own, "classifier.classes=[normal,tumour]")
    assert code == 0, err
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["classifier/auc"] > 0.7
    found = scores(tmp_path / "run")
    assert 0.0 <= found["linear", "flip_rate"] <= 1.0
    assert ("linear", "randomisation") not in found, "its weights are not medlat's to draw"


@pytest.mark.slow
def test_a_classifier_that_answers_differently_each_time(explained_once, medlat, tmp_path):
    """It is said on the terminal and on the page, and the mean of several answers is explained; the same run again asks
    nothing.
    """
    linked(explained_once / "store", tmp_path / "store")
    cheap = [o for o in SHORT if not o.startswith("classifier.")]
    own = ["classifier=python", "classifier.function=classifiers.own_functions:dropout", "classifier.task=binary"]
    own += ["classifier.classes=[normal,tumour]", "classifier.range=[0,1]", *FEW_FIGURES]
    code, out, err = medlat(*HISTOLOGY, *cheap, *own)
    assert code == 0, err
    assert "asked twice for the same image it answers differently, by up to 0." in out + err
    assert "ms an image in batches of at most 64; the run asks for up to" in out + err
    numbers = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert numbers["classifier/repeats"] == 8
    assert "the mean of 8 answers" in (tmp_path / "run/report/index.html").read_text()
    files = {path: path.read_bytes() for path in (tmp_path / "store" / "answers").glob("*.bin")}
    assert len(files) == 1
    code, _, err = medlat(*HISTOLOGY, *cheap, *own, "explain.threshold=0.6")
    assert code == 0, err
    ((path, before),) = files.items()
    assert path.read_bytes().startswith(before), "nothing that was answered is asked again, or otherwise"


@pytest.mark.slow
def test_classes_are_matched_by_their_names(explained_once, medlat, tmp_path):
    """The same classifier with its classes the other way round, and with names that the data do not have."""
    module = Copy(place(explained_once / "run", "classifier", explained_once / "store")).eval()
    path = tmp_path / "copy.pt"
    torch.jit.trace(module, torch.randn(2, 3, 32, 32)).save(str(path))
    linked(explained_once / "store", tmp_path / "store")
    cheap = [o for o in CHEAP if not o.startswith("classifier.")]
    asked = [*HISTOLOGY, *cheap, "classifier=torchscript", f"classifier.path={path}", "classifier.task=binary"]
    code, _, err = medlat(*asked, "classifier.classes=[a,b]")
    assert code == 2
    assert "classifier.classes: the classifier says a, b, and the label 'tumour' of the data normal, tumour" in err
    assert "explain.positive=[...], the classes of the label that mean 'b'" in err
    code, _, err = medlat(*asked, "classifier.classes=[a,b]", "explain.positive=[tumour]")
    assert code == 0, err
    numbers, trained = (
        json.loads((run / "metrics.json").read_text()) for run in (tmp_path / "run", explained_once / "run")
    )
    assert numbers["classifier/auc"] == pytest.approx(trained["classifier/auc"])


@pytest.mark.slow
def test_a_classifier_beside_itself_agrees(explained_once, medlat, tmp_path):
    """With all that it says itself. It changes its mind easily, at predictions that the trained one gives along the
    direction. Another that predicts something else is refused.
    """
    responses = np.load(place(explained_once / "run", "explanation", explained_once / "store") / "responses.npz")[
        "linear"
    ]
    classifier, middle = (
        place(explained_once / "run", "classifier", explained_once / "store"),
        float(np.median(responses)),
    )
    path = tmp_path / "sharp.pt"
    torch.jit.trace(Copy(classifier, 1e4, middle).eval(), torch.randn(2, 3, 32, 32)).save(str(path))
    linked(explained_once / "store", tmp_path / "store")
    cheap = [o for o in CHEAP if not o.startswith("classifier.")]
    own = ["classifier=torchscript", f"classifier.path={path}", "classifier.classes=[normal,tumour]"]
    own += ["classifier.task=binary", "+classifier@compared.same=torchscript"]
    own += [f"compared.same.path={path}", "compared.same.task=binary"]
    asked = [*HISTOLOGY, *cheap, *own]
    code, _, err = medlat(*asked, "compared.same.classes=[normal,tumour]")
    assert code == 0, err
    found = scores(tmp_path / "run")
    reached = [method for method, key in found if key == "reach_rate" and found[method, key] > 0.0]
    assert reached
    assert {found[method, "agreement/same"] for method in reached} == {1.0}
    assert all(found[method, "drift/same"] == found[method, "inversion_drift"] for method in reached)
    cells = read_table(tmp_path / "run" / "alignment.csv")
    assert {row["change"] for row in cells if row["images"]} == {1.0}
    code, _, err = medlat(*asked, "compared.same.classes=[normal,ill]")
    assert code == 2
    assert "compared.same: it predicts ill, expected tumour" in err
    assert "generator: " not in err, "before that is trained"


@pytest.mark.slow
def test_stylegan_with_every_inversion_and_a_biased_classifier(medlat, tmp_path):
    """The encoder is trained, all methods of inversion stand in the table, a tuned generator decodes what is shown."""
    quick = [o for o in QUICK if not o.startswith("inversion")]
    small = ("inversion.encoder.training.images=320", "inversion.method.steps=2", "inversion.method.base.steps=2")
    run, store = tmp_path / "run", tmp_path / "store"
    code, _, err = medlat(
        "+experiment=audit_confounder",
        "scale=tiny",
        "generator=stylegan2",
        *quick,
        *small,
        "inversion=pivotal",
        "+directions@compared.style_channels=style_channels",
        "compared.style_channels.codes=1",
        "+directions@compared.w=linear",
        "compared.w.origin=both",
    )
    assert code == 0, err
    assert (place(run, "encoder", store) / "encoder.safetensors").exists()
    before = read_generator(place(run, "generator", store) / "generator.safetensors")[2]
    tuned = read_generator(place(run, "inversion", store) / "generator.safetensors")[2]
    assert any(not torch.equal(before[name], tuned[name]) for name in before)
    numbers = json.loads((run / "metrics.json").read_text())
    assert numbers["inversion/pivotal/psnr"] >= numbers["inversion/before tuning/psnr"] - 0.5
    assert Directions.load(place(run, "directions/style_channels", store) / "directions.safetensors").space.name == "s"
    assert Directions.load(place(run, "directions/w", store) / "directions.safetensors").space.name == "w+"
    rows = read_table(run / "audit.csv") if (run / "audit.csv").exists() else []
    audit = {row["quantity"]: row for row in rows}
    readable = "table_height" in audit  # not by what a training of seconds can read
    told = "Planted was table height" if readable else "A shortcut was planted (factor.table_height)"
    assert told in (run / "report" / "index.html").read_text()
    assert ("explanation/bias_exposed" in numbers) == readable
    assert all(row["low"] != row["low"] for row in rows), "NaN: five held-out patients have no interval"
    assert all(numbers[f"explanation/{name}/p"] == pytest.approx(row["p"]) for name, row in audit.items())


WRONG = {
    "no classifier": (["+experiment=ct_vae_sefa", "directions=linear"], "Linear learns from a classifier"),
    "another alone": (
        ["+experiment=ct_vae_sefa", "+classifier@compared.b=densenet"],
        "compared.b: it is compared with the classifier that is explained, and there is none",
    ),
    "no such label": ([*HISTOLOGY, "explain.label=tumor"], "did you mean 'tumour'"),
    "steps": ([*HISTOLOGY, "explain.steps=[1,2,3]"], "explain.steps=[1, 2, 3]: expected at least three rising"),
    "images": ([*HISTOLOGY, "explain.images=0"], "explain.images=0"),
    "task": ([*HISTOLOGY, "classifier.task=multiclass"], "the label 'tumour' has 2 classes; expected binary"),
    "target": ([*HISTOLOGY, "explain.target=tumor"], "did you mean 'tumour'"),
    "wanted": ([*HISTOLOGY, "explain.target_range=[0.6,0.9]"], "explain.target_range=[0.6, 0.9]"),
    "space": ([*HISTOLOGY, "inversion.method.space=w"], "inversion.method.space=w: with this generator"),
    "bias column": ([*HISTOLOGY, "classifier.bias={column: factor.eosn, share: 0.9}"], "did you mean 'factor.eosin'"),
    "bias share": ([*HISTOLOGY, "classifier.bias={column: factor.eosin, share: 0.2}"], "classifier.bias.share=0.2"),
    "no file": (
        [*HISTOLOGY, "classifier=torchscript", "classifier.path=/nowhere.pt", "classifier.task=binary",
         "classifier.classes=[a,b]"],
        "classifier.path=/nowhere.pt: no such file",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input(case, medlat, shared_store):
    arguments, words = WRONG[case]
    quick = [o for o in SHORT if "classifier=" not in " ".join(arguments) or not o.startswith("classifier.")]
    quick = quick if "ct_vae_sefa" not in " ".join(arguments) else []
    code, out, err = medlat(*quick, *arguments, "scale.patients=6", "scale=tiny", store=shared_store)
    assert code == 2, err
    assert words in err
    assert "Traceback" not in out + err


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (lambda x: x.mean((2, 3)), "expected [2, 1] or [2, 2]"),
        pytest.param(lambda x: x.mean((1, 2, 3)) * float("nan"), "NaN", marks=pytest.mark.slow),
        pytest.param(lambda x: x.mean((1, 2, 3)) + 7.0, "classifier.output=logits", marks=pytest.mark.slow),
    ],
)
def test_a_wrong_classifier_is_refused_before_data_are_read(network, words, medlat, tmp_path):
    class Wrong(torch.nn.Module):
        def forward(self, x):
            return network(x)

    path = tmp_path / "wrong.pt"
    torch.jit.trace(Wrong(), torch.zeros(2, 3, 32, 32), check_trace=False).save(str(path))
    own = (f"classifier.path={path}", "classifier.task=binary", "classifier.classes=[a,b]")
    code, _, err = medlat(*HISTOLOGY, "classifier=torchscript", *own)
    assert code == 2
    assert words in err
    assert not (tmp_path / "store" / "images").exists()


def test_fourteen_findings_are_no_classes(medlat, tmp_path):
    """Nobody is told to take a softmax of what are probabilities already."""

    class Findings(torch.nn.Module):
        def forward(self, x):
            return torch.sigmoid(x.mean((1, 2, 3))[:, None] + torch.linspace(-1.0, 1.0, 14))

    path, names = tmp_path / "findings.pt", ",".join(f"f{number}" for number in range(14))
    torch.jit.script(Findings()).save(str(path))
    own = (f"classifier.path={path}", "classifier.task=multiclass", f"classifier.classes=[{names}]")
    code, _, err = medlat(*HISTOLOGY, "classifier=torchscript", *own, "explain.target=f3")
    assert code == 2
    assert "classifier.task: multiclass, but the probabilities of an image sum to" in err
    assert "(a sigmoid each) the task is multilabel" in err
    assert "logits" not in err


def test_three_channels_for_one(medlat, tmp_path):
    class Colour(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Conv2d(3, 1, 1)

        def forward(self, x):
            return torch.sigmoid(self.first(x).mean((2, 3)))

    path = tmp_path / "colour.pt"
    torch.jit.script(Colour()).save(str(path))
    own = (f"classifier.path={path}", "classifier.task=binary", "classifier.classes=[a,b]")
    code, _, err = medlat("+experiment=ct_vae_nodule", "scale=tiny", "classifier=torchscript", *own)
    assert code == 2
    assert "classifier.channels=3" in err


def test_a_file_that_is_no_torchscript(medlat, tmp_path):
    (tmp_path / "text.pt").write_text("not a network")
    own = (f"classifier.path={tmp_path / 'text.pt'}", "classifier.task=binary", "classifier.classes=[a,b]")
    code, _, err = medlat(*HISTOLOGY, "classifier=torchscript", *own)
    assert code == 2
    assert "not a TorchScript file" in err


# --- files that are programs ------------------------------------------------------------------------------------------


class Writes(torch.nn.Module):
    """Writes a file when it is loaded, and when it is called: TorchScript's operators can."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = str(path)

    @torch.jit.export
    def __getstate__(self):
        return self.path, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]):
        self.path = state[0]
        self.training = bool(torch.from_file(state[0], shared=True, size=4).numel() == 0)

    def forward(self, x):
        return torch.from_file(self.path, shared=True, size=4).zero_().sum() + x.mean((1, 2, 3)).sigmoid()


class Loops(torch.nn.Module):
    def forward(self, x):
        while True:
            x = x + 1.0
        return x


class Crashes(torch.nn.Module):
    """Writes far beyond the end of a tensor."""

    def forward(self, x):
        beyond = torch.full([2, 1], 10**12, dtype=torch.long)
        return torch.ops.aten._sparse_coo_tensor_unsafe(beyond, torch.ones(1), [2, 2]).to_dense()


def program(module, path, place="classifier"):
    """The arguments that name the module's file."""
    torch.jit.script(module).save(str(path))
    if place == "features":
        return ["+features@evaluation.features.mine=torchscript", f"evaluation.features.mine.path={path}"]
    asked = "classifier=torchscript" if place == "classifier" else "+classifier@compared.two=torchscript"
    return [asked, f"{place}.path={path}", f"{place}.task=binary", f"{place}.classes=[a,b]"]


@pytest.mark.parametrize(
    "place", ["classifier", *(pytest.param(place, marks=pytest.mark.slow) for place in ("compared.two", "features"))]
)
def test_a_program_is_run_in_no_dry_run_and_beside_no_mistake(place, medlat, tmp_path):
    trace, path = tmp_path / "trace", tmp_path / "writes.pt"
    own = program(Writes(trace), path, place)
    for more, expected in (("dry_run=true", 0), ("explain.steps=[1,2,3]", 2), ("store=/proc/medlat", 2)):
        code, out, err = medlat(*HISTOLOGY, *own, more)
        assert code == expected, err
        assert not trace.exists(), more
        planned = more == "dry_run=true" and place == "classifier"
        assert (f"  classifier: from {path}, asked and not trained" in out) == planned
    torch.jit.load(path)
    assert trace.exists(), "it does write"


@pytest.mark.parametrize(
    ("place", "key"),
    [
        ("classifier", "classifier.path"),
        pytest.param("compared.two", "compared.two.path", marks=pytest.mark.slow),
        pytest.param("features", "evaluation.features.mine.path", marks=pytest.mark.slow),
    ],
)
def test_a_program_that_never_ends_is_refused_before_data_are_read(place, key, medlat, tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "LIMIT_S", 2.0)
    path = tmp_path / "loops.pt"
    code, _, err = medlat(*HISTOLOGY, *program(Loops(), path, place))
    assert code == 2, err
    assert f"{key}={path}: the network did not answer within 2 s" in err
    assert not (tmp_path / "store" / "images").exists()
    commands = [p.read_bytes() for child in children() if (p := Path("/proc", child, "cmdline")).exists()]
    assert not [command for command in commands if b"spawn_main" in command]


def children() -> list[str]:
    """The processes that this one has started, and has not seen the end of."""
    return [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]


def test_a_program_that_crashes_is_refused_before_data_are_read(medlat, tmp_path):
    code, out, err = medlat(*HISTOLOGY, *program(Crashes(), tmp_path / "crashes.pt"))
    assert code == 2, err
    assert "crashes.pt: the network ended the process that tried it on two made-up images (SIGSEGV)" in err
    assert "Traceback" not in out + err
    assert not (tmp_path / "store" / "images").exists()
