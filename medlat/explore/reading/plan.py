"""What a reader study asks, and of which cases: the file STUDY.yaml, read and checked whole."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from medlat.core.errors import ConfigErrors, UserError, did_you_mean
from medlat.explore.view import FARTHEST, Explorer

KEYS = ("title", "seed", "window", "questions", "cases")
CASE_KEYS = ("kind", "shown", "count", "direction", "step", "called")
QUESTION_KEYS = ("ask", "choices")
SHAPES = {  # kind of case -> how it can be shown
    "real": ("image",),
    "sample": ("image",),
    "reconstruction": ("image", "pair"),
    "counterfactual": ("image", "pair", "series"),
    "direction": ("image", "pair", "series"),
    "random": ("image", "pair", "series"),
    "sham": ("pair", "series"),
}
CONTROLS = ("random", "sham")
WITHOUT_INVERSION = ("sample", "direction", "random", "sham")  # kinds that need no real image
NOTHING = "nothing"  # what changed in a sham case, where that is a choice
MOST_CASES = 500  # whose pictures are held in memory
STEP = 2.0  # σ
LONGEST = 300  # letters of what is asked, and of a choice


@dataclass(frozen=True)
class Question:
    """name: of `QUESTIONS`. ask: its words. choices: what can be said; () where text is free. of: shapes of the cases
    that it is asked of.
    """

    name: str
    ask: str
    choices: tuple[str, ...]
    of: tuple[str, ...]


QUESTIONS = {
    each.name: each
    for each in (
        Question("real_or_synthetic", "Is this image real or synthetic?", ("real", "synthetic"), ("image",)),
        Question("which_changed", "Which of the two was changed?", ("left", "right", "neither"), ("pair",)),
        Question("what_changed", "What changed?", (), ("pair", "series")),
        Question("useful", "How useful is this? (1 not at all, 5 very)", tuple("12345"), ("image", "pair", "series")),
    )
}
RATING = "useful"  # the question whose answers are numbers, of which none is right


@dataclass(frozen=True)
class Cases:
    """So many cases of a kind. shown: as "image", "pair" or "series". direction: of kind "direction" its name.
    step: σ that images are moved; None: that of a counterfactual is found, and random moves go as far as the others.
    called: the answer to *what changed?* that is right; None: the name that the run has for the direction.
    """

    kind: str
    shown: str
    count: int
    direction: str | None = None
    step: float | None = None
    called: str | None = None


@dataclass(frozen=True)
class Plan:
    """title: what readers see above. seed: of the choice of images and of every order. window: how images are shown;
    None: as the run's figures show them.
    """

    title: str
    seed: int
    window: str | None
    questions: tuple[Question, ...]
    cases: tuple[Cases, ...]

    def asked_of(self, shown: str) -> list[Question]:
        return [question for question in self.questions if shown in question.of]


def read_plan(path: Path, explorer: Explorer) -> Plan:
    """Raises UserError, with everything that is wrong with the file for this run."""
    try:
        found = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (YAMLError, OmegaConfBaseException, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    return plan_of(found, explorer, str(path))


def plan_of(found: Any, explorer: Explorer, where: str) -> Plan:
    """The same of what a file holds, as plain values; where: the file."""
    if not isinstance(found, dict):
        raise UserError(f"{where}: expected {', '.join(KEYS)}; found no keys")
    reading = _Reading(explorer)
    plan = reading.plan(found)
    if reading.problems:
        raise ConfigErrors(reading.problems, where)
    return plan


class _Reading:
    """Takes a plan apart, and notes what is wrong on the way."""

    def __init__(self, explorer: Explorer) -> None:
        self.explorer = explorer
        self.problems: list[str] = []

    def plan(self, found: Mapping[Any, Any]) -> Plan:
        self._unknown("", found, KEYS)
        plan = Plan(
            title=self._text("title", found.get("title", "Reader study")) or "",
            seed=self._whole("seed", found.get("seed", 0), 0, 2**31 - 1),
            window=self._window(found.get("window")),
            questions=self._questions(found.get("questions")),
            cases=self._cases(found.get("cases")),
        )
        for i, cases in enumerate(plan.cases):
            self._check_called(f"cases.{i}.called", cases, plan)
            if cases.shown and plan.questions and not plan.asked_of(cases.shown):
                shapes = sorted({shape for question in plan.questions for shape in question.of})
                self._say(f"cases.{i}.shown={cases.shown}", f"nothing is asked of it; expected {' or '.join(shapes)}")
        shown = {cases.shown for cases in plan.cases}
        for question in plan.questions:
            if "" not in shown and plan.cases and not shown & set(question.of):
                self._say(f"questions.{question.name}", f"asked of no case; it needs some shown as {question.of[0]}")
        if (total := sum(cases.count for cases in plan.cases)) > MOST_CASES:
            self._say("cases", f"{total} in all; expected at most {MOST_CASES}")
        return plan

    def _say(self, key: str, problem: str) -> None:
        self.problems.append(f"{key}: {problem}")

    def _unknown(self, prefix: str, found: Mapping[Any, Any], known: Sequence[str]) -> None:
        for key in found:
            if key not in known:
                self._say(f"{prefix}{key}", f"unknown key{did_you_mean(str(key), known)}")

    def _text(self, key: str, found: Any) -> str | None:
        if isinstance(found, str) and 0 < len(found.strip()) <= LONGEST:
            return found.strip()
        self._say(key, f"expected text of 1 to {LONGEST} letters")
        return None

    def _whole(self, key: str, found: Any, low: int, high: int) -> int:
        if isinstance(found, int) and not isinstance(found, bool) and low <= found <= high:
            return found
        self._say(f"{key}={found}", f"expected a whole number from {low} to {high}")
        return low

    def _window(self, found: Any) -> str | None:
        look = self.explorer.look
        windows = {} if look.colour else look.modality.display_windows
        if found is None or str(found) in windows:
            return None if found is None else str(found)
        expected = did_you_mean(str(found), windows) if windows else "; images in colour have none"
        self._say(f"window={found}", f"no window of {look.modality.name}{expected}")
        return None

    def _questions(self, found: Any) -> tuple[Question, ...]:
        if not isinstance(found, dict) or not found:
            self._say("questions", f"expected one or more of {', '.join(QUESTIONS)}, each with a colon")
            return ()
        self._unknown("questions.", found, tuple(QUESTIONS))
        return tuple(self._question(QUESTIONS[name], found[name]) for name in QUESTIONS if name in found)

    def _question(self, default: Question, found: Any) -> Question:
        key = f"questions.{default.name}"
        if found is None:
            return default
        if not isinstance(found, dict):
            self._say(key, f"expected {' and '.join(QUESTION_KEYS)}, or nothing")
            return default
        self._unknown(f"{key}.", found, QUESTION_KEYS)
        ask = self._text(f"{key}.ask", found["ask"]) if "ask" in found else default.ask
        choices = default.choices
        if "choices" in found and default.choices:
            self._say(f"{key}.choices", f"they are fixed: {', '.join(default.choices)}")
        elif "choices" in found:
            choices = self._choices(f"{key}.choices", found["choices"])
        return Question(default.name, ask or default.ask, choices, default.of)

    def _choices(self, key: str, found: Any) -> tuple[str, ...]:
        texts = found if isinstance(found, list) else []
        choices = tuple(dict.fromkeys(text.strip() for text in texts if isinstance(text, str) and text.strip()))
        if len(choices) < 2 or len(choices) != len(texts) or max(map(len, choices)) > LONGEST:
            self._say(key, f"expected two or more texts, each another, of 1 to {LONGEST} letters")
        return choices

    def _cases(self, found: Any) -> tuple[Cases, ...]:
        if not isinstance(found, list) or not found:
            self._say("cases", "expected a list, e.g. - {kind: sham, shown: pair, count: 10}")
            return ()
        return tuple(self._group(f"cases.{i}", each) for i, each in enumerate(found))

    def _group(self, key: str, found: Any) -> Cases:
        if not isinstance(found, dict):
            self._say(key, "expected kind, shown and count, e.g. - {kind: sham, shown: pair, count: 10}")
            return Cases("", "", 0)
        self._unknown(f"{key}.", found, CASE_KEYS)
        kind, shown = self._kind(key, found.get("kind")), found.get("shown")
        shapes = SHAPES.get(kind) or ("image", "pair", "series")
        if shown not in shapes:
            expected = f"; a case of kind {kind} is shown as {' or '.join(shapes)}" if kind else ""
            self._say(f"{key}.shown={shown}", f"cannot be{expected or did_you_mean(str(shown), shapes)}")
            shown = ""
        made_up = kind == "sample" or (kind in WITHOUT_INVERSION and not self.explorer.inverts)
        most = MOST_CASES if made_up else len(self.explorer.held_out)
        count = self._whole(f"{key}.count", found.get("count"), 1, most)
        direction = self._direction(key, kind, found.get("direction"))
        step = self._step(key, kind, found.get("step"))
        called = self._text(f"{key}.called", found["called"]) if "called" in found else None
        return Cases(kind, shown, count, direction, step, called)

    def _kind(self, key: str, kind: Any) -> str:
        if str(kind) not in SHAPES:
            self._say(f"{key}.kind={kind}", f"there is no such kind{did_you_mean(str(kind), SHAPES)}")
            return ""
        explorer = self.explorer
        if kind not in (*WITHOUT_INVERSION, "real") and not explorer.inverts:
            self._say(f"{key}.kind={kind}", "no real image can be put into this run's latent space; expected others")
        elif kind == "counterfactual" and not explorer.targets:
            self._say(f"{key}.kind={kind}", "the run explains no classifier; expected a run that does, or another kind")
        elif kind == "random" and not random_directions(explorer):
            self._say(f"{key}.kind={kind}", "the run has no random directions; expected a run with controls.random")
        return kind

    def _direction(self, key: str, kind: str, found: Any) -> str | None:
        if kind != "direction":
            if found is not None:
                self._say(f"{key}.direction", "only of kind direction; expected none here")
            return None
        if str(found) not in self.explorer.sliders:
            near = did_you_mean(str(found), self.explorer.sliders)
            self._say(f"{key}.direction={found}", f"the run has no such direction{near}")
            return None
        return str(found)

    def _step(self, key: str, kind: str, found: Any) -> float | None:
        if found is None:
            return STEP if kind == "direction" else None
        if kind not in ("direction", "random"):
            self._say(f"{key}.step", "only of kinds direction and random; expected none here")
        elif not isinstance(found, int | float) or isinstance(found, bool) or not 0 < abs(found) <= FARTHEST:
            self._say(f"{key}.step={found}", f"expected σ from -{FARTHEST:g} to {FARTHEST:g}, not 0")
        else:
            return float(found)
        return None

    def _check_called(self, key: str, cases: Cases, plan: Plan) -> None:
        if cases.called is None:
            return
        choices = next((each.choices for each in plan.questions if each.name == "what_changed"), ())
        if cases.called not in choices:
            expected = did_you_mean(cases.called, choices) if choices else "; questions.what_changed has no choices"
            self._say(f"{key}={cases.called}", f"no choice of questions.what_changed{expected}")


def random_directions(explorer: Explorer) -> list[str]:
    """Names of the run's random directions, its controls."""
    return sorted(s.name for s in explorer.sliders.values() if s.role == "control" and s.method == "random")
