"""Images that are the same, and images that show nothing."""

import numpy as np

from medlat.data.equal import blank, equal_pixels


def test_images_of_one_value_are_blank_and_equal_to_none():
    images = np.random.default_rng(0).integers(0, 256, (7, 1, 4, 4), dtype=np.uint8)
    images[2], images[4], images[6] = 0, 255, images[1]
    images[5], images[5, 0, 3, 3] = 0, 1
    assert blank(images, np.arange(7)) == [2, 4]
    assert blank(images, np.array([0, 4])) == [4]
    images[3] = images[2]
    assert equal_pixels(images, np.arange(7)) == [[1, 6]]
