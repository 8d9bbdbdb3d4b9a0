import pytest
import torch
from inversion.models import Linear, stylegan2

from medlat.core.errors import UserError
from medlat.directions.sefa import SeFa
from medlat.inversion.mapping import code_statistics, map_codes, map_directions

PAIRS = [("z", "w"), ("z", "w+"), ("z", "s"), ("w", "w+"), ("w", "s"), ("w+", "s")]


@pytest.mark.parametrize(("source", "target"), PAIRS)
@pytest.mark.parametrize("truncation", [1.0, 0.5])
def test_mapped_codes_have_the_same_images(source, target, truncation):
    model = stylegan2()
    model.truncation = truncation
    model.w_mean.fill_(0.3)
    codes = model.sample(3, source, torch.Generator().manual_seed(1))
    mapped = map_codes(model, codes, source, target)
    assert mapped.shape == (3, *model.spaces[target].shape)
    assert torch.allclose(model.decode(mapped, target), model.decode(codes, source), atol=1e-6)


def test_nothing_to_map(vae):
    codes = vae.sample(2)
    assert map_codes(vae, codes, "z", "z") is codes


@pytest.mark.parametrize(("source", "target"), [(b, a) for a, b in PAIRS])
def test_no_way_back(source, target):
    model = stylegan2()
    with pytest.raises(UserError) as error:
        map_codes(model, model.sample(1, source), source, target)
    found = str(error.value)
    assert found.startswith(f"space={target}: images are inverted into {source}")
    expected = {"w": "w or w+ or s", "w+": "w+ or s", "s": "s"}[source]
    assert f"expected {expected}, or images inverted into {target}" in found


def test_other_generators_have_one_space():
    with pytest.raises(UserError, match=r"space=w: .* into z, .*expected z,"):
        map_codes(Linear(), torch.zeros(1, 4), "z", "w")


def test_a_standard_normal_is_known():
    mean, deviation = code_statistics(Linear(), "z", 1, torch.Generator())
    assert mean.tolist() == [0.0] * 4
    assert deviation.tolist() == [1.0] * 4


def test_other_priors_are_estimated_from_samples():
    model = stylegan2()
    mean, deviation = code_statistics(model, "w", 50, torch.Generator().manual_seed(2))
    samples = model.sample(50, "w", torch.Generator().manual_seed(2))
    assert torch.allclose(mean, samples.mean(0))
    assert torch.allclose(deviation, samples.std(0))
    wide, _ = code_statistics(model, "w+", 50, torch.Generator().manual_seed(2))
    assert torch.allclose(wide, mean.expand_as(wide)), "the same code for every layer"


def test_what_never_varies_still_has_a_unit():
    model = stylegan2()
    sample = model.sample
    model.sample = lambda *arguments: sample(*arguments) * torch.tensor([1.0, 1.0, 1.0, 0.0])
    _, deviation = code_statistics(model, "w", 50, torch.Generator())
    assert deviation[3] == pytest.approx(1e-3 * float(deviation.max()))


def test_a_direction_in_w_moves_all_layers_of_w_plus_alike():
    stylegan = stylegan2()
    directions = SeFa(count=3).find(stylegan)
    mapped, lengths = map_directions(stylegan, directions, "w+")
    assert mapped.space.name == "w+"
    assert mapped.names == directions.names
    w = stylegan.sample(2, "w", torch.Generator().manual_seed(0))
    length = stylegan.spaces["w+"].shape[0] ** 0.5  # of a unit direction, repeated
    there = stylegan.decode(map_codes(stylegan, w, "w", "w+") + length * mapped.vectors[:1], "w+")
    torch.testing.assert_close(there, stylegan.decode(w + directions.vectors[:1], "w"))
    assert lengths.tolist() == pytest.approx([length] * 3)
    same, ones = map_directions(stylegan, directions, "w")
    assert same is directions
    assert ones.tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(UserError, match=r"space=z: images are inverted into w\+"):
        map_directions(stylegan, SeFa(count=3, space="z").find(stylegan), "w+")
