"""Images that are the same, and images that show nothing."""

import numpy as np

from medlat.data.equal import blank, equal_pixels, found_again


def test_images_of_one_value_are_blank_and_equal_to_none():
    images = np.random.default_rng(0).integers(0, 256, (7, 1, 4, 4), dtype=np.uint8)
    images[2], images[4], images[6] = 0, 255, images[1]
    images[5], images[5, 0, 3, 3] = 0, 1
    assert blank(images, np.arange(7)) == [2, 4]
    assert blank(images, np.array([0, 4])) == [4]
    images[3] = images[2]
    assert equal_pixels(images, np.arange(7)) == [[1, 6]]


def test_images_are_found_by_all_their_pixels():
    stored = np.arange(5 * 16, dtype=np.uint8).reshape(5, 1, 4, 4)
    wanted = stored[[3, 0, 3]].copy()
    wanted[1, 0, 2, 2] += 1
    assert found_again(wanted, stored) == [3, None, 3]
    assert found_again(stored[:1], np.concatenate([stored, stored])) == [0], "the first of several"
