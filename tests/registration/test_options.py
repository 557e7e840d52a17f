"""One list of options: the command line, the keywords, ``result.json`` and its types say the same."""

from __future__ import annotations

import inspect
import runpy
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import typer

import maxca
from maxca.cli.app import app
from maxca.cli.register import register
from maxca.datasets.options import PreparationOptions
from maxca.evaluate.options import ComparisonOptions, EvaluationOptions
from maxca.fields import Option, OptionError, options_of, vocabulary
from maxca.losses.similarity import SIMILARITIES
from maxca.options import RegistrationInputs, RegistrationOptions
from maxca.registration import facade
from maxca.registration.record import RecordedOptions
from maxca.training.options import TrainingOptions

GENERATOR = Path(__file__).parents[2] / "tools" / "facade.py"
ALL = (*options_of(RegistrationInputs), *options_of(RegistrationOptions))
COMMAND = typer.main.get_command(app).commands["register"]  # type: ignore[attr-defined]


def test_the_facade_is_made_from_the_options() -> None:
    made = runpy.run_path(str(GENERATOR))["text"]()
    assert Path(facade.__file__).read_text(encoding="utf-8") == made


@pytest.mark.parametrize("option", ALL, ids=lambda option: option.name)
def test_keywords_and_command_line_agree(option: Option) -> None:
    keyword = inspect.signature(maxca.register).parameters[option.name]
    written = next(each for each in COMMAND.params if each.name == option.name)
    if option.default is MISSING:
        assert keyword.default is inspect.Parameter.empty
        assert written.required
    else:
        assert keyword.default == option.default
        assert written.get_default(typer.Context(COMMAND)) in (option.default, None)
        assert (written.get_default(typer.Context(COMMAND)) or None) == (option.default or None)
    assert f"--{option.name.replace('_', '-')}" in written.opts
    assert written.help == option.about.help
    assert " ".join(option.about.help.split())[1:60] in " ".join((maxca.register.__doc__ or "").split())
    annotated = inspect.signature(register).parameters[option.name].annotation
    if option.choices and option.default == ():
        assert written.metavar == "|".join(option.choices)
    elif option.choices and option.about.vocabulary is None:
        assert all(repr(name) in repr(annotated) for name in option.choices)


@pytest.mark.parametrize(
    ("command", "kinds"),
    [
        ("evaluate", (ComparisonOptions, EvaluationOptions)),
        ("train", (TrainingOptions,)),
        ("prepare", (PreparationOptions,)),
    ],
)
def test_every_command_has_the_options_of_its_classes(command: str, kinds: tuple[type, ...]) -> None:
    written = {each.name: each for each in typer.main.get_command(app).commands[command].params}  # type: ignore[attr-defined]
    for option in (each for kind in kinds for each in options_of(kind)):
        assert f"--{option.name.replace('_', '-')}" in written[option.name].opts
        assert written[option.name].help == option.about.help
        default = written[option.name].get_default(typer.Context(COMMAND))
        assert (default or None) == (option.default or None)
    for kind in kinds:
        assert kind() == kind(**{each.name: each.default for each in options_of(kind)})


def test_the_record_holds_every_option() -> None:
    assert [each.name for each in fields(RecordedOptions)] == [each.name for each in options_of(RegistrationOptions)]


def test_vocabularies_are_those_of_the_library() -> None:
    assert set(vocabulary("similarity")) == set(SIMILARITIES)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("effort", value) for value in ("", "Fast", 1, None)),
        *(("similarity", value) for value in ("ssim", None, 3)),
        *(("smoothness", value) for value in (0, -1.0, float("inf"), float("nan"), "2", True)),
        *(("threads", value) for value in (0, -3, "2")),
        ("transform", "elastic"),
        ("device", "tpu"),
        ("matrix_convention", "lps"),
    ],
)
def test_errors_name_the_field(name: str, value: Any) -> None:
    with pytest.raises(OptionError) as refused:
        RegistrationOptions(**{name: value})
    assert refused.value.field == name
    assert str(refused.value).startswith(f"{name}=")
    assert isinstance(refused.value, ValueError)


def test_options_are_frozen_values() -> None:
    options = RegistrationOptions(effort="fast")
    assert replace(options, seed=3) == RegistrationOptions(effort="fast", seed=3)
    with pytest.raises(AttributeError):
        options.effort = "accurate"  # type: ignore[misc]
    assert all(get_origin(each.type) is None or get_args(each.type) for each in ALL)
