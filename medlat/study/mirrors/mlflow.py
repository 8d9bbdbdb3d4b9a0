"""MLflow: a database in the run's folder, or a server that the user names. No module but this one imports mlflow."""

import csv
import io
import logging
import os
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from medlat.core.errors import ArgumentError
from medlat.core.ranges import Name
from medlat.core.records import Record
from medlat.core.tables import to_cell
from medlat.study.mirrors.mirror import columns_of, flattened

METRICS, PARAMETERS = 1000, 100  # that MLflow takes at once
LONGEST = 6000  # letters of a parameter
SCHEMES = ("sqlite", "postgresql", "mysql", "http", "https")
NEEDED = ("mlflow", "sqlalchemy", "alembic")

# Of MLflow itself: it sends what is called of it to a host of its own. It reads these when it is imported.
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"


class MLflow:
    """project: MLflow's experiment. uri: where runs are tracked, e.g. sqlite:///mlflow.db or
    http://localhost:5000; None: `mlflow/` in the run's folder.

    Raises ArgumentError where MLflow is not installed, and for what is no such place.
    """

    def __init__(self, project: Name, uri: str | None = None) -> None:
        if missing := [package for package in NEEDED if find_spec(package) is None]:
            raise ArgumentError(
                "", f'{missing[0]} is not installed; pip install -e ".[mlflow]" in a clone, or expected logger=none'
            )
        place = urlsplit(uri or "sqlite:")
        if place.scheme.partition("+")[0] not in SCHEMES:
            raise ArgumentError("uri", f"expected null, sqlite:////DIR/FILE.db or http://HOST:PORT, not {uri}")
        if place.password is not None:
            raise ArgumentError(
                "uri", "has a password, which config.yaml would keep; expected none: MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD of the environment say it"
            )  # fmt: skip
        self.project, self.uri = project, uri

    def start(
        self, folder: Path, config: Mapping[str, Any], name: str, job_type: str | None, group: str | None
    ) -> "MLflowMirror":
        """The configuration is its parameters, with dotted keys."""
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        for noisy in ("mlflow", "alembic"):  # on every new database
            logging.getLogger(noisy).setLevel(logging.WARNING)
        own = folder / "mlflow"
        if self.uri is None:
            own.mkdir(exist_ok=True)
        client = MlflowClient(tracking_uri=self.uri or f"sqlite:///{(own / 'mlflow.db').resolve()}")
        found = client.get_experiment_by_name(self.project)
        place = (own / "artifacts").resolve().as_uri() if self.uri is None else None
        experiment = found.experiment_id if found else client.create_experiment(self.project, artifact_location=place)
        tags = {key: value for key, value in (("job_type", job_type), ("group", group)) if value is not None}
        run = client.create_run(experiment, run_name=name, tags=tags).info.run_id
        given = [Param(_name(key), str(value)[:LONGEST]) for key, value in flattened(config).items()]
        for first in range(0, len(given), PARAMETERS):
            client.log_batch(run, params=given[first : first + PARAMETERS])
        return MLflowMirror(client, run)


class MLflowMirror:
    """client: of MLflow; run: the run's number there."""

    def __init__(self, client: Any, run: str) -> None:
        self.client, self.run = client, run

    def curves(self, records: Sequence[Record]) -> None:
        from mlflow.entities import Metric

        found = [Metric(_name(each.name), each.value, round(1000 * each.time), each.step) for each in records]
        for first in range(0, len(found), METRICS):
            self.client.log_batch(self.run, metrics=found[first : first + METRICS])

    def figures(self, name: str, paths: Sequence[Path]) -> None:
        for path in paths:
            self.client.log_artifact(self.run, str(path), name)

    def picture(self, name: str, pixels: np.ndarray, step: int) -> None:
        from PIL import Image

        picture = Image.fromarray((255.0 * pixels).astype(np.uint8))
        self.client.log_image(self.run, picture, artifact_file=f"{_name(name)}/{step}.png")

    def table(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        columns, text = columns_of(rows), io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(map(to_cell, columns))
        writer.writerows([to_cell(row.get(column)) for column in columns] for row in rows)
        self.client.log_text(self.run, text.getvalue(), f"tables/{_name(name)}.csv")

    def file(self, name: str, kind: str, path: Path) -> None:
        self.client.log_artifact(self.run, str(path), kind)

    def finish(self, final: Mapping[str, float], exit_code: int) -> None:
        """The final numbers are among the curves."""
        self.client.set_terminated(self.run, "FAILED" if exit_code else "FINISHED")


def _name(text: str) -> str:
    """With the characters that MLflow takes."""
    return re.sub(r"[^\w./ -]", "_", text, flags=re.ASCII)
