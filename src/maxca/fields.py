"""Fields of options: annotations, validation, and conversion from text. This module does not import torch."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import fields
from numbers import Integral
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from maxca.errors import MaxcaError

METHOD = "Method"  # the heading of most options in ``--help``
Kind = TypeVar("Kind")
_vocabularies: dict[str, list[str]] = {"similarity": ["lncc", "mi", "mind", "mse"]}


class OptionError(MaxcaError, ValueError):
    """An invalid option; ``field`` is its name, to which the command line adds its dashes."""

    def __init__(self, field: str, value: object, advice: str) -> None:
        super().__init__(f"{field}={value}: {advice}")
        self.field, self.value, self.advice = field, value, advice


class About(NamedTuple):
    """Annotation of a field, for ``--help``, docstrings and validation.

    Args:
        help: one or two sentences.
        panel: its heading in ``--help``.
        short: the option of one letter.
        vocabulary: of a name that plugins may add to, see ``vocabulary``.
        or_else: names in addition to those of the vocabulary.
        above: a number must be larger than this.
        least: a number must be at least this.
        unit: of a number.
        repeated: the option of the command line may be given several times, and its value is then a list.
        in_python: addition to docstrings: values available in Python only.
    """

    help: str
    panel: str = METHOD
    short: str | None = None
    vocabulary: str | None = None
    or_else: tuple[str, ...] = ()
    above: float | None = None
    least: float | None = None
    unit: str = ""
    repeated: bool = False
    in_python: str = ""


class Option(NamedTuple):
    """A field of a class of options.

    Args:
        name: of the field, of the keyword, and with dashes of the option.
        type: without its annotations.
        default: ``dataclasses.MISSING`` if it is required.
        about: its annotation.
    """

    name: str
    type: Any
    default: Any
    about: About

    @property
    def choices(self) -> tuple[str, ...]:
        """The allowed names; empty for other types."""
        if self.about.vocabulary:
            return (*self.about.or_else, *vocabulary(self.about.vocabulary))
        several = get_origin(self.type) in (Union, type(int | None), tuple)
        kinds = get_args(self.type) if several else (self.type,)
        return tuple(name for kind in kinds if get_origin(kind) is Literal for name in get_args(kind))


def vocabulary(name: str) -> tuple[str, ...]:
    """The allowed names of an option, including those of plugins."""
    return tuple(_vocabularies[name])


def add_choice(name: str, value: str) -> None:
    """Add a name to a vocabulary."""
    if value not in _vocabularies[name]:
        _vocabularies[name].append(value)


def remove_choice(name: str, value: str) -> None:
    """Remove a name from a vocabulary."""
    if value in _vocabularies[name]:
        _vocabularies[name].remove(value)


def options_of(kind: type) -> tuple[Option, ...]:
    """The fields of a class of options, in order."""
    hints = get_type_hints(kind, include_extras=True)
    found = []
    for each in fields(kind):
        plain, about = get_args(hints[each.name])
        found.append(Option(each.name, plain, each.default, about))
    return tuple(found)


def about(kind: type, name: str) -> About:
    """The annotation of a field of another class, to be used again."""
    return next(each.about for each in options_of(kind) if each.name == name)


def check(options: Any) -> None:
    """Validate every field of an object of options against its annotation.

    Raises:
        OptionError: for the first invalid field.
    """
    for each in options_of(type(options)):
        value = getattr(options, each.name)
        if value is None and each.default is None:
            continue
        for one in value if isinstance(value, tuple) else (value,):
            for word in one.split("+") if each.about.vocabulary and isinstance(one, str) else (one,):
                if each.choices and word not in each.choices:
                    raise OptionError(each.name, word, f"choose one of {', '.join(each.choices)}")
            _check_bounds(each, one)


def _check_bounds(option: Option, value: Any) -> None:
    above, least = option.about.above, option.about.least
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if above is not None and not (number and above < value < math.inf):
        unit = f" of {option.about.unit}" if option.about.unit else ""
        raise OptionError(option.name, value, f"give a positive number{unit}")
    if least is not None and not (number and value >= least):
        raise OptionError(option.name, value, f"give at least {least:g}")
    if int in (option.type, *get_args(option.type)) and not isinstance(value, Integral):
        raise OptionError(option.name, value, "give a whole number")


def read_options(kind: type[Kind], text: str, without: Collection[str] = ()) -> Kind:
    """Options from ``name=value,name=value``, with values converted to the types of the fields.

    Args:
        kind: a class of options.
        text: may be empty; other fields keep their defaults.
        without: names that are not allowed.

    Raises:
        OptionError: for another name, or an invalid value.
    """
    known = {each.name: each for each in options_of(kind) if each.name not in without}
    values: dict[str, Any] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name not in known:
            raise OptionError(name, value, f"no such option; choose from {', '.join(known)}")
        kinds = get_args(known[name].type) or (known[name].type,)
        several = known[name].default == ()  # split by the class itself
        number = None if several else float if float in kinds else int if int in kinds else None
        try:
            values[name] = value if number is None else number(value)
        except ValueError as error:
            raise OptionError(name, value, "give a number") from error
    return kind(**values)


def words(given: Any) -> list[str]:
    """The words of a text with commas or plus signs between them, or of a sequence of such texts."""
    texts = [given] if isinstance(given, str) or not isinstance(given, Iterable) else given
    return [word.strip() for text in texts for word in str(text).replace("+", ",").split(",")]


def weights(field: str, given: Any) -> tuple[float, ...]:
    """Relative weights from numbers, or from text with commas or plus signs between them.

    Args:
        field: of the options, for messages.
        given: a text, or a sequence of texts or numbers; may be empty.

    Raises:
        OptionError: for a weight that is not a number of at least 0, or if all are 0.
    """
    parts = [given] if isinstance(given, str | int | float) else list(given)
    numbers = [word for part in parts for word in (words(part) if isinstance(part, str) else [part])]
    text = ",".join(map(str, numbers))
    try:
        found = tuple(float(number) for number in numbers)
    except (TypeError, ValueError) as error:
        raise OptionError(field, text, "give numbers with commas, such as 1,0.5") from error
    if not all(0 <= weight < math.inf for weight in found):
        raise OptionError(field, text, "weights are numbers from 0 up")
    if found and not any(found):
        raise OptionError(field, text, "at least one weight must be larger than 0")
    return found
