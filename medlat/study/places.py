"""Where the artifacts of direction methods stand among those of a run: `directions`, `others/NAME`, `controls/NAME`."""

SHUFFLED = "controls/shuffled"  # the main method, asked of a classifier that was trained on shuffled labels

ORACLE = "oracle"  # the classifier beside the one explained


def is_control(place: str) -> bool:
    """Whether the method there knows nothing."""
    return place.startswith("controls/")


def judge_of(place: str) -> str:
    """The place of the classifier that the method at a place learns from."""
    return "shuffled" if place == SHUFFLED else "classifier"


def name_of(place: str) -> str | None:
    """What the directions at a place are called, where not as their method calls them."""
    return place.partition("/")[2] if place == SHUFFLED or place.startswith("others/") else None
