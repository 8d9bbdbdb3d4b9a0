import json
import struct

import pytest
import torch

from medlat.core.errors import UserError
from medlat.core.spaces import Directions, ImageSpec, LatentModel, LatentSpace, stack_steps


def test_window_maps_to_the_network_range_and_back(spec):
    hu = torch.tensor([-3024, -1000, 500, 2000, 3071], dtype=torch.int16)
    images = spec.to_network(hu)
    assert images.tolist() == [-1.0, -1.0, 0.0, 1.0, 1.0]
    assert spec.to_physical(images).tolist() == [-1000.0, -1000.0, 500.0, 2000.0, 2000.0]
    assert hu.tolist() == [-3024, -1000, 500, 2000, 3071], "the input is left as it was"


def test_a_vae_is_a_latent_model(vae):
    assert isinstance(vae, LatentModel)


def test_ranked_sorts_normalises_and_fixes_signs():
    space = LatentSpace("z", (2,))
    found = Directions.ranked(torch.tensor([[0.0, 2.0], [-3.0, -4.0]]), torch.tensor([1.0, 5.0]), "m", space)
    assert torch.allclose(found.vectors, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))
    assert found.scores.tolist() == [5.0, 1.0]
    assert found.names == ["m 00", "m 01"]


def test_directions_survive_saving(tmp_path):
    space = LatentSpace("w+", (3, 4), "empirical")
    found = Directions.ranked(torch.randn(5, 12, dtype=torch.float64).reshape(5, 12), torch.rand(5), "m", space)
    found.save(tmp_path / "d.safetensors")
    loaded = Directions.load(tmp_path / "d.safetensors")
    assert torch.equal(loaded.vectors, found.vectors)
    assert torch.equal(loaded.scores, found.scores)
    assert (loaded.names, loaded.method, loaded.space) == (found.names, found.method, found.space)


def test_damaged_directions_are_refused(tmp_path):
    path = tmp_path / "d.safetensors"
    header = json.dumps({"__metadata__": {"medlat": json.dumps({"format": 7})}}).encode()
    for content, words in ((b"nonsense", "not a readable file"), (struct.pack("<Q", len(header)) + header, "format 7")):
        path.write_bytes(content)
        with pytest.raises(UserError, match=words):
            Directions.load(path)


def test_stack_steps():
    codes, vectors = torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    moved = stack_steps(codes, vectors, [-1.0, 0.0, 1.0])
    assert moved.tolist() == [[[[0, 1], [1, 1], [2, 1]], [[1, -1], [1, 1], [1, 3]]]]


def test_size_of_a_space():
    assert LatentSpace("w+", (14, 512)).size == 7168
    assert ImageSpec(3, 4, 5, 0, 1, "RGB", 1.0).shape == (3, 4, 5)
