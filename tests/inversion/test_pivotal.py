import pytest
import torch
from inversion.models import Linear, stylegan2

from medlat.core.errors import UserError
from medlat.core.similarity import psnr
from medlat.inversion.optimise import Optimise
from medlat.inversion.pivotal import Pivotal


def pivots_of(model, n=4):
    """Images that the generator cannot make, and the nearest it comes."""
    images = torch.tanh(torch.randn(n, *model.image.shape, generator=torch.Generator().manual_seed(4)))
    return images, Optimise(steps=20).invert(model, images, None)


@pytest.mark.parametrize("make", [Linear, stylegan2])
def test_the_images_come_nearer_and_the_original_stays(make):
    model = make()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images, codes = pivots_of(model)
    method = Pivotal(Optimise(steps=20), steps=60, learning_rate=0.01, locality=0.0)
    assert torch.equal(method.invert(model, images, None), codes)
    tuned = method.tune(model, images, codes)
    space = "w+" if "w+" in model.spaces else "z"
    gain = psnr(tuned.decode(codes, space), images) - psnr(model.decode(codes, space), images)
    assert gain.mean() > 0.5
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not torch.equal(
        torch.cat([p.flatten() for p in tuned.parameters()]), torch.cat([p.flatten() for p in model.parameters()])
    )
    assert not any(p.requires_grad for m in (model, tuned) for p in m.parameters())


def test_locality_keeps_other_images():
    model = Linear()
    images, codes = pivots_of(model)
    others = model.sample(50, "z", torch.Generator().manual_seed(6))
    kept = {}
    for locality in (0.0, 10.0):
        tuned = Pivotal(Optimise(), steps=60, learning_rate=0.01, locality=locality).tune(model, images, codes)
        kept[locality] = psnr(tuned.decode(others), model.decode(others)).mean()
    assert kept[10.0] > kept[0.0] + 5.0


def test_every_image_has_its_turn():
    """A step sees two of the four images, and yet all come nearer."""
    model = Linear()
    images, codes = pivots_of(model)
    tuned = Pivotal(Optimise(), steps=60, learning_rate=0.01, batch_size=2, locality=0.0).tune(model, images, codes)
    assert (psnr(tuned.decode(codes), images) > psnr(model.decode(codes), images)).all()
    again = Pivotal(Optimise(), steps=60, learning_rate=0.01, batch_size=2, locality=0.0).tune(model, images, codes)
    assert torch.equal(tuned.weight, again.weight)


@pytest.mark.parametrize("arguments", [{"steps": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"locality": -1.0}])
def test_bad_arguments_are_named(arguments):
    with pytest.raises(UserError, match=rf"{next(iter(arguments))}="):
        Pivotal(Optimise(), **arguments)
