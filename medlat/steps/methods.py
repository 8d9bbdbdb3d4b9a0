"""The direction methods of a run: what each is called, and whether it is asked for, compared or a control."""

from dataclasses import dataclass, field
from typing import Any, Literal

from omegaconf import DictConfig

from medlat.config.build import build
from medlat.core.errors import UserError, did_you_mean
from medlat.directions.finder import name_of, needs_of
from medlat.steps.builders import compared_classifiers, compared_methods, is_own_classifier

Role = Literal["main", "compared", "control"]

MAIN = "main"  # the classifier that is explained, among several
PERMUTED = "permuted"  # the main method, asked of classifiers that were trained on permuted labels; those classifiers


@dataclass(frozen=True)
class Method:
    """A direction method of a run.

    name:       unique in the run: in every table, figure and message, and in the store of what is left.
    role:       "main", "compared" beside it, or a "control", which knows nothing.
    key:        where its section stands in the configuration.
    classifier: the step whose classifier a supervised method learns from.
    """

    name: str
    role: Role
    key: str
    section: DictConfig = field(repr=False)
    classifier: str = "classifier"

    @property
    def step(self) -> str:
        """The step that finds its directions."""
        return f"directions/{self.name}"

    def finder(self) -> Any:
        return build(self.section)

    @property
    def needs(self) -> frozenset[str]:
        return needs_of(self.finder())


def methods(config: DictConfig) -> list[Method]:
    """The main method first, then the compared ones, then the controls: all but one that is the main method itself. A
    name that is taken gets a number behind it.
    """
    main = config.directions
    found = [Method(name_of(build(main)), "main", "directions", main)]
    controls = {name: s for name, s in config.controls.items() if s["_target_"] != main["_target_"]}
    taken = [found[0].name, *controls]
    for name, section in compared_methods(config).items():
        taken.append(free := _free(name, taken))
        found.append(Method(free, "compared", f"compared.{name}", section))
    for name, section in controls.items():
        free = name if name != found[0].name else _free(name, taken)
        found.append(Method(free, "control", f"controls.{name}", section))
    if has_permuted(config):
        found.append(Method(_free(PERMUTED, taken), "control", "directions", main, PERMUTED))
    return found


def asked_of(config: DictConfig) -> dict[str, Method]:
    """The main method asked of each classifier: of the one that is explained, "main", and of those compared, by their
    names. One that learns from no classifier finds the same directions for all.
    """
    found = methods(config)
    main = found[0]
    supervised, taken = "supervision" in main.needs, [method.name for method in found]
    asked = {MAIN: main}
    for name in compared_classifiers(config):
        free = _free(name, taken) if supervised else main.name
        taken.append(free)
        asked[name] = Method(free, "compared", "directions", main.section, classifier_step(name))
    return asked


def classifier_step(name: str) -> str:
    """The step of a classifier, by its name among several."""
    return "classifier" if name == MAIN else f"classifier/{name}"


def has_permuted(config: DictConfig) -> bool:
    """Whether classifiers are trained on permuted labels beside the one explained."""
    return _wants_permuted(config) and not is_own_classifier(config)


def lacks_permuted(config: DictConfig) -> bool:
    """Whether that is asked for, and the classifier is one that somebody brought."""
    return _wants_permuted(config) and is_own_classifier(config)


def _wants_permuted(config: DictConfig) -> bool:
    asked = config.classifier is not None and config.explain.permuted > 0
    return asked and "supervision" in needs_of(build(config.directions))


def chance_of(config: DictConfig, found: list[Method]) -> str | None:
    """The name of the control that purity is compared with (`evaluation.chance`); None where none is. Raises UserError
    where there is no such method.
    """
    asked = config.evaluation.chance
    if asked is None:
        return None
    for method in found:
        if method.key == f"controls.{asked}" or (method.role == "main" and method.name == asked):
            return method.name
    controls = [m.name for m in found if m.role == "control"]
    raise UserError(
        f"evaluation.chance={asked}: no control of that name{did_you_mean(asked, controls)}; "
        f"null: purity is compared with nothing"
    )


def _free(name: str, taken: list[str]) -> str:
    """The name, or with the first number from 2 that makes it another than those taken."""
    numbered = (f"{name}_{i}" for i in range(2, len(taken) + 3))
    return name if name not in taken else next(n for n in numbered if n not in taken)
