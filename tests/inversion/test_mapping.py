import pytest
import torch
from inversion.models import Linear, stylegan2

from medlat.core.errors import UserError
from medlat.directions.sefa import SeFa
from medlat.inversion.mapping import code_statistics, layer_space, map_codes, map_directions, moved_in_layers

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


@pytest.mark.parametrize("space", ["w", "w+"])
def test_a_move_in_some_layers_leaves_the_others(space):
    model = stylegan2()
    generator = torch.Generator().manual_seed(0)
    codes, move = model.sample(2, space, generator), model.sample(1, space, generator)[0]
    count = model.spaces["w+"].shape[0]
    whole, name = moved_in_layers(model, codes, move, space, (0, count - 1))
    assert name == layer_space(model, space) == "w+"
    torch.testing.assert_close(model.decode(whole, "w+"), model.decode(codes + move, space))
    some, _ = moved_in_layers(model, codes, move, space, (1, 2))
    still = map_codes(model, codes, space, "w+")
    assert torch.equal(some[:, 1:3], whole[:, 1:3])
    assert torch.equal(some[:, 3:], still[:, 3:])
    assert torch.equal(some[:, :1], still[:, :1])


def test_layers_that_there_are_not(vae):
    model = stylegan2()
    assert layer_space(model, "z") is None, "a direction in z is none in w+"
    assert layer_space(vae, "z") is None
    with pytest.raises(UserError, match="layers: this generator has no code for each of its layers behind z"):
        moved_in_layers(vae, vae.sample(1), vae.sample(1)[0], "z", (0, 0))
    last = model.spaces["w+"].shape[0] - 1
    for wrong in ((-1, 0), (2, 1), (0, last + 1)):
        with pytest.raises(UserError, match=f"expected the first and the last of 0 to {last}"):
            moved_in_layers(model, model.sample(1, "w"), model.sample(1, "w")[0], "w", wrong)
