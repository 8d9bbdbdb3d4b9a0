"""Hydra's complaints, said in our words and all at once.

Hydra stops at the first override that it cannot use, and speaks of defaults lists and struct flags. Here each override
is tried by itself, what works is composed, and the result goes through `medlat.config.preflight`: one list of
everything that is wrong.
"""

import copy
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException, MissingConfigException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from medlat.config.help import is_base
from medlat.config.kinds import show
from medlat.config.preflight import problems
from medlat.core.errors import ConfigErrors, did_you_mean, nearest

MAX_JOBS = 50  # of a sweep that are looked at: one takes up to 0.3 s
COMPOSITION_ERRORS = (HydraException, yaml.YAMLError, OmegaConfBaseException, OSError, ValueError)


def explain(
    error: Exception,
    overrides: Sequence[str],
    config_dirs: Sequence[str],
    schema: type,
    provided: Mapping[str, set[str]],
    config_name: str = "config",
    multirun: bool = False,
) -> ConfigErrors:
    """Everything that is wrong with a command line whose configuration Hydra could not compose.

    Raises `error` itself where nothing is found and it is not of Hydra's: then the fault is ours.

    error:       what Hydra raised (with HYDRA_FULL_ERROR=1 in the environment it reaches the caller).
    overrides:   as typed, e.g. ["+experiment=ct_vae_sefa", "scale=tiny"].
    config_dirs: the folder of the root configuration, then that of `--config-dir` if there is one.
    schema, provided: as for `problems`.
    multirun:    whether `-m` was given: then the values of a sweep are tried in turn.
    """
    try:
        with _hydra(config_dirs[0]):
            lines = _Diagnosis(config_name, config_dirs, multirun).run(overrides, schema, provided)
    except yaml.YAMLError as broken:  # the root itself
        lines = [_plain(broken)]
    if not lines and not isinstance(error, HydraException | OmegaConfBaseException):
        raise error
    return ConfigErrors(lines or [_plain(error)])


def sweep_configs(overrides: Sequence[str], config_dirs: Sequence[str]) -> list[DictConfig]:
    """The configurations, `hydra` included, of all jobs of a sweep; of more than MAX_JOBS, of as many as it takes to
    see each value once (at most MAX_JOBS). Raises what Hydra raises where one cannot be composed.
    """
    with _hydra(config_dirs[0]):
        diagnosis = _Diagnosis("config", config_dirs, multirun=True)
        parsed = [found for text in overrides if (found := diagnosis._parsed(text))]
        if diagnosis.lines:
            raise HydraException(diagnosis.lines[0])
        return [with_replaced(diagnosis._compose(variant), variant) for variant in _variants(parsed)]


def with_replaced(config: DictConfig, overrides: Sequence[Override | str]) -> DictConfig:
    """The configuration, with each section that an override gives a `_target_` (`directions={_target_: mine.Finder}`)
    as that override has it: Hydra merges it into what stood there, whose settings another class does not take.

    overrides: as parsed or as typed, those that made the configuration.
    """
    parser, replaced = OverridesParser.create(), []
    for override in [o if isinstance(o, Override) else parser.parse_override(o) for o in overrides]:
        key, value = override.key_or_group, override.value()
        if _is_object(value):
            replaced.append(key)
        if not override.is_delete() and any(f"{key}.".startswith(f"{other}.") for other in replaced):
            OmegaConf.update(config, key, value, merge=not _is_object(value), force_add=True)
    return config


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and "_target_" in value


@contextmanager
def _hydra(config_dir: str) -> Iterator[None]:
    GlobalHydra.instance().clear()  # left over where Hydra failed half-way
    with initialize_config_dir(os.path.abspath(config_dir), version_base="1.3"):
        yield


class _Diagnosis:
    """Tries overrides one by one: how they are written, then groups (`data=ct_dicom`), then values (`seed=3`)."""

    def __init__(self, config_name: str, folders: Sequence[str], multirun: bool) -> None:
        self.config_name = config_name
        self.folders = folders
        self.multirun = multirun
        paths = [os.path.abspath(folder).replace("'", "\\'") for folder in folders[1:]]
        self.search = ["hydra.searchpath=[" + ",".join(f"'file://{path}'" for path in paths) + "]"]
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        self.loader = hydra.config_loader
        self.composed: dict[tuple[str, ...], DictConfig] = {}
        self.unread: set[str] = set()  # keys whose value could not be read: nothing more is said about them
        self.lines: list[str] = []

    def run(self, overrides: Sequence[str], schema: type, provided: Mapping[str, set[str]]) -> list[str]:
        """All problems, each once."""
        parsed = [found for text in overrides if (found := self._parsed(text))]
        for variant in _variants(parsed):
            self._diagnose(variant, schema, provided)
        return list(dict.fromkeys(self.lines))

    def _diagnose(self, overrides: list[Override], schema: type, provided: Mapping[str, set[str]]) -> None:
        """Add the problems of one job."""
        groups = [o for o in overrides if not isinstance(o.value(), dict) and self._options(o.key_or_group)]
        config = self._composed([o for o in groups if self._has_option(o)])
        if config is None:
            return
        absent = [o for o in overrides if o not in groups and not self._applied(o, config)]
        with open_dict(config):
            chosen = config.pop("hydra").runtime.choices
        found = problems(config, schema, provided)
        about = [line.partition(": ")[0] for line in found]
        absent = [o for o in absent if not any(f"{o.key_or_group}.".startswith(f"{key}.") for key in about)]
        self.lines += [_absent(o, config) for o in absent]
        self.lines += [self._with_option(line, chosen) for line in found if line.partition(": ")[0] not in self.unread]

    # --- how it is written -----------------------------------------------------------------------------------

    def _parsed(self, text: str) -> list[Override]:
        """The override; one for each value of a sweep; none where it cannot be read, which is then noted."""
        parse = OverridesParser.create().parse_override
        name, _, typed = text.partition("=")
        key = name.lstrip("+~")
        try:
            override = parse(text)
        except HydraException:
            self.unread.add(key)
            self.lines.append(f"{key}: {self._unreadable(text)}")
            return []
        if not key:
            self.lines.append(f"{text}: has no key; write KEY=VALUE")
            return []
        if not override.is_sweep_override():
            return [override]
        value: Any = override.value()
        if not self.multirun:
            self.unread.add(key)
            self.lines.append(f"{key}: '{typed}' is several values; add -m to run each of them, "
                              f"write [{typed}] for a list or \"{key}='{typed}'\" for one text")  # fmt: skip
            return []
        if isinstance(value, Glob):
            choices = value.filter(self._listed(override.key_or_group, ObjectType.CONFIG))
            self.lines += [f"{key}: no option is like {typed}"] * (not choices)
        else:  # of an interval, one value stands for all
            choices = list(override.sweep_string_iterator()) if override.is_discrete_sweep() else [value.start]
        return [parse(f"{name}={choice}") for choice in choices]

    def _unreadable(self, text: str) -> str:
        key, equals, value = text.lstrip("+~").partition("=")
        if not equals:
            experiments = self._options("experiment")
            near = key if key in experiments else nearest(key, experiments)
            return "has no value; " + (f"did you mean '+experiment={near}'?" if near else f"write {key}=VALUE")
        for opened, closed in ("[]", "{}", "()"):
            if value.count(opened) > value.count(closed):
                return f"cannot read '{value}': the bracket '{opened}' is not closed"
        for quote in "'\"":
            if value.count(quote) % 2:
                return f"cannot read '{value}': a quote {quote} is not closed"
        quoted = value.replace("'", "\\'")
        return f"cannot read '{value}'; as text, write \"{key}='{quoted}'\""

    # --- groups ----------------------------------------------------------------------------------------------

    def _listed(self, group: str, kind: ObjectType) -> list[str]:
        return self.loader.get_group_options(group, kind, self.config_name, self.search)

    def _options(self, group: str) -> list[str]:
        """A group's options, those of its subfolders as `folder/option`."""
        below = [(f, self._options(f"{group}/{f}")) for f in self._listed(group, ObjectType.GROUP)]
        return self._listed(group, ObjectType.CONFIG) + [
            f"{folder}/{name}" for folder, names in below for name in names
        ]

    def _has_option(self, override: Override) -> bool:
        group, value = override.key_or_group, override.value()
        choices = self._options(group)
        given = [] if override.is_delete() else value if isinstance(value, list) else [value]
        wrong = [v for v in given if v not in choices]
        self.lines += [_no_option(group, v, choices) for v in wrong]
        return not wrong

    def _composed(self, groups: list[Override]) -> DictConfig | None:
        """The configuration with these groups, less those that do not work; None where nothing composes."""
        groups = sorted(groups, key=lambda o: not o.is_add())  # what `+experiment=` brings can be overridden
        with suppress(*COMPOSITION_ERRORS):
            return self._compose(groups)
        kept: list[Override] = []
        for override in [None, *groups]:
            tried = [*kept, override] if override else []
            try:
                self._compose(tried)
                kept = tried
            except COMPOSITION_ERRORS as error:
                self.lines.append(_group_line(override, error))
                if override is None:
                    return None
        return self._compose(kept)

    def _compose(self, groups: list[Override]) -> DictConfig:
        written = tuple(str(o.input_line) for o in groups)
        if written not in self.composed:
            self.composed[written] = compose(self.config_name, [*self.search, *written], return_hydra_config=True)
        return copy.deepcopy(self.composed[written])

    # --- values ----------------------------------------------------------------------------------------------

    def _applied(self, override: Override, config: DictConfig) -> bool:
        """Put the value into the configuration; False where its key was not there, though it now is."""
        key, value = override.key_or_group, override.value()
        parent, _, name = key.rpartition(".")
        try:
            if override.is_delete():
                if name in _names(config, parent):
                    with open_dict(node := OmegaConf.select(config, parent) if parent else config):
                        del node[name]
                else:
                    self.lines.append(f"{key}: cannot be removed, it is not there{_near(config, key)}")
                return True
            try:
                OmegaConf.update(config, key, value, merge=not _is_object(value))  # raises where the key is not there
            except (ConfigAttributeError, ConfigKeyError):
                if override.is_hydra_override() and not override.is_add():
                    self.lines.append(f"{key}: unknown key{_near(config, key)}")
                    return True
                OmegaConf.update(config, key, value, force_add=True)
                return override.is_add() or override.is_force_add()
            if override.is_add() and not isinstance(value, dict | list):
                text = f"{key}={override.get_value_string()}"
                self.lines.append(f"{key}: is there already; write {text} without the +")
        except OmegaConfBaseException as error:
            self.lines.append(f"{key}: cannot be {show(value)}: {str(error).splitlines()[0]}")
        return True

    def _with_option(self, line: str, chosen: Mapping[str, Any]) -> str:
        """For an unknown `data.root`, name the options of `data` that have it: most likely that one was forgotten."""
        match = re.match(r"(\w+)\.(\w+): unknown key", line)
        if match is None:
            return line
        group, key = match[1], re.compile(rf"^{match[2]}:", re.MULTILINE)
        paths = {o: Path(folder, group, f"{o}.yaml") for o in self._options(group) for folder in self.folders[::-1]
                 if Path(folder, group, f"{o}.yaml").is_file()}  # fmt: skip
        having = [o for o, path in paths.items() if key.search(path.read_text(encoding="utf-8", errors="replace"))]
        if not having or chosen.get(group) in having:
            return line
        return f"{match[0]} with {group}={chosen.get(group)}; {' or '.join(f'{group}={o}' for o in having)} has it"


def _variants(parsed: Sequence[list[Override]]) -> Iterator[list[Override]]:
    """The jobs to look at: all, or where they are more than MAX_JOBS, as many as show each value once."""
    if math.prod(map(len, parsed)) <= MAX_JOBS:
        yield from map(list, product(*parsed))
        return
    for job in range(min(MAX_JOBS, max(map(len, parsed)))):
        yield [choices[job % len(choices)] for choices in parsed]


def _no_option(group: str, value: Any, choices: list[str]) -> str:
    return f"{group}: no {show(value)}{did_you_mean(str(value), [c for c in choices if not is_base(c)])}"


def _group_line(override: Override | None, error: Exception) -> str:
    """What is wrong with a group whose option exists, or (None) with the root configuration."""
    text = str(error)
    if override is None or isinstance(error, yaml.YAMLError) or text.startswith(f"In '{override.key_or_group}/"):
        return _plain(error)
    key, option = override.get_key_element().lstrip("+~"), override.value()
    if "appears more than once" in text or "Multiple values for" in text:
        return f"{key}: is chosen already; write {key}={option} without the +"
    if override.is_delete():
        return f"{key}: cannot be removed, it is not chosen"
    if isinstance(error, MissingConfigException):  # its own defaults name what does not exist
        return f"{override.key_or_group}/{option}.yaml: {_plain(error)}"
    if "Could not override" in text:
        others = re.search(r"Did you mean to override (?:one of )?(.*)\?", text)
        near = nearest(key, others[1].split(", ")) if others else None
        return f"{key}: has no default to replace; " + (f"did you mean '{near}'?" if near else f"write +{key}={option}")
    return f"{key}: {_plain(error)}"


def _plain(error: Exception) -> str:
    """One line for an error in a file: which file, and what was found there."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name}:{mark.line + 1}: not valid YAML: {error.problem}"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, option = error.missing_cfg_file.rpartition("/")
        return _no_option(group, option, list(error.options or [])) if group else f"there is no '{option}'"
    if isinstance(error, OmegaConfBaseException) and error.full_key:
        return f"{error.full_key}: {str(error).splitlines()[0]}"
    cause = error.__cause__ if not str(error) and error.__cause__ else error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    return re.sub(r"^In '([^']*)': ", r"\1.yaml: ", lines[0]) if lines else type(cause).__name__


def _names(config: DictConfig, parent: str) -> list[str]:
    """The keys of a section; none where there is no such section."""
    node = OmegaConf.select(config, parent) if parent else config
    return [str(name) for name in node if name != "hydra"] if isinstance(node, DictConfig) else []


def _near(config: DictConfig, key: str) -> str:
    """`; did you mean 'hydra.run.dir'?` for a key that is not in its section."""
    parent, dot, name = key.rpartition(".")
    names = _names(config, parent)
    near = nearest(name, names)
    return f"; did you mean '{parent}{dot}{near}'?" if near else did_you_mean(name, names)


def _absent(override: Override, config: DictConfig) -> str:
    """The line for a key that may be there but was not, and was given without a `+`."""
    key = override.key_or_group
    parent, dot, name = key.rpartition(".")
    siblings = _names(config, parent)
    near = None if "_target_" in siblings else nearest(name, [other for other in siblings if other != name])
    hint = f"did you mean '{parent}{dot}{near}'? If not, " if near else ""
    return f"{key}: is not set here; {hint}write +{override.input_line} to add it"
