"""Whether an explanation's name is the shortcut that was planted."""

from collections.abc import Mapping


def planted(measurements: Mapping[str, str | None], column: str) -> set[str]:
    """The names that stand for a column of the slice store (`factor.<name>`): the factor's own and those of
    measurements that read it. measurements: name -> the factor that it reads.
    """
    prefix, _, factor = column.partition(".")
    return {factor} | {name for name, read in measurements.items() if read == factor} if prefix == "factor" else set()
