"""The model card: every number beside its interval or floor, and what it is not for."""

from dataclasses import replace

from medlat.evaluation.naming import UNNAMED
from medlat.report.card import Card, opening

CARD = Card(
    name="knees",
    finding="None of 2 ica directions has a name.",
    warnings=["Only 12 patients."],
    network={"_target_": "medlat.generators.vae.networks.VAE", "latent_dim": 24},
    noun="radiograph",
    kind="radiography",
    size=64,
    images=6604,
    groups=3302,
    whose="groups",
    parts={"training": (4624, 2312), "held out": (1320, 660)},
    directions=[
        {"direction": "ica 00", "name": "joint width +1 %/σ", "p": "0.01234"},
        {"direction": "ica 01", "name": UNNAMED, "p": "1.0"},
    ],
    numbers={
        "distance/fd_measurements": 1.5,
        "distance/fd_measurements_floor": 0.25,
        "classifier/auc": 0.86,
        "classifier/auc_low": 0.84,
        "classifier/auc_high": 0.88,
        "distance/fid_labels": float("nan"),
        "copying/pixels_share": 0.0,
        "copying/pixels_share_low": 0.0,
        "copying/pixels_share_high": 0.0,
    },
    facts={"command": "medlat +experiment=x", "seed": "0"},
)


def test_every_number_stands_beside_what_it_is_held_against():
    text = CARD.text()
    assert "- Fréchet distance of samples over measurements: 1.5, of two halves of the real ones 0.25" in text
    assert "- AUC of the explained classifier on held-out images: 0.86 [0.84, 0.88]" in text
    assert "FID" not in text, "it was not measured"
    assert "copy a training image, by pixels: 0\n" in text, "no interval of zero width"
    assert "- ica 00: joint width +1 %/σ (p 0.012 against random directions)" in text
    assert "ica 01" not in text
    assert "> Only 12 patients." in text
    assert "training 4,624 of 2,312 groups; held out 1,320 of 660 groups" in text
    assert "`medlat.generators.vae.networks.VAE`: latent_dim 24." in text
    assert "Research only" in text


def test_a_brought_model_without_names():
    text = replace(CARD, network={}, directions=[CARD.directions[1]], numbers={}).text()
    assert "Brought; see `config.yaml`." in text
    assert "None of 1 has a name." in text
    assert "## What was measured\n\nNothing." in text


def test_what_a_card_opens_with_is_read_back():
    card = replace(CARD, finding="First.\n\nSecond.", warnings=["Only 12 patients.", "Phantom data."])
    assert opening(card.text()) == (card.finding, card.warnings)
    assert opening(replace(card, warnings=[]).text()) == (card.finding, [])
    assert opening("# Notes\n\nOf something else.") == ("", [])
