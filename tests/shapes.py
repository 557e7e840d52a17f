"""The run-time checker behind the tests: tensor shapes, and nothing else.

jaxtyping's own decorator binds the arguments of every call of every function, which takes a fifth of the time of the
tests. Here a function without a shape stays as it is, and dtypes and shapes that were right once are not checked again:
nothing else decides.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import jaxtyping
import numpy as np
import torch
from beartype import beartype

WORD = re.compile(r"[A-Za-z_]\w*")
context = jaxtyping.jaxtyped


def install(package: str) -> None:
    """Check the shapes in all modules of a package that are imported from now on."""
    jaxtyping.jaxtyped = decorator  # type: ignore[assignment]  # what the hook writes above every function and class
    jaxtyping.install_import_hook(package, "shapes.check")


def decorator(*, typechecker: Callable[..., Any]) -> Callable[[Any], Any]:
    """In place of ``jaxtyping.jaxtyped``."""

    def decorated(of: Any) -> Any:
        if isinstance(of, classmethod | staticmethod):
            return type(of)(decorated(of.__func__))
        if isinstance(of, property):
            return property(*(each and decorated(each) for each in (of.fget, of.fset, of.fdel)))
        if inspect.isclass(of):
            if dataclasses.is_dataclass(of):
                of.__init__ = decorated(of.__init__)
            return of
        return typechecker(of)

    return decorated


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check the arguments and results of ``function`` that are annotated with jaxtyping shapes.

    The other annotations are mypy's work: checked here too, they would forbid a NumPy array where a ``Sequence`` is
    asked for, and beartype takes no ``Protocol`` that is not made for ``isinstance``.
    """
    names = getattr(function, "__globals__", {})
    shapes = {
        name: eval(hint, names) if isinstance(hint, str) else hint
        for name, hint in function.__annotations__.items()
        if of_shapes(hint, names)
    }
    if not shapes:
        return function
    function.__annotations__ = shapes
    checked = beartype(function)
    results: list[Any] = []

    @beartype
    @wraps(function)
    def returned(*args: Any, **kwargs: Any) -> Any:
        return results.pop()

    places = [(n, name) for n, name in enumerate(inspect.signature(function).parameters) if name in shapes]
    right: dict[Any, set[Any]] = {}  # layouts of arguments → of results

    @wraps(function)
    def scoped(*args: Any, **kwargs: Any) -> Any:
        try:
            given = tuple([layout(args[n] if n < len(args) else kwargs.get(name)) for n, name in places])
            known = right.get(given)
        except TypeError:
            with context("context"):  # a letter is one size in all arguments and the result
                return checked(*args, **kwargs)
        if known is None:
            with context("context"):
                result = checked(*args, **kwargs)
            known = right.setdefault(given, set())
        else:
            result = function(*args, **kwargs)
        if "return" in shapes and (made := layout(result)) not in known:
            results.append(result)
            with context("context"):
                returned(*args, **kwargs)
            known.add(made)
        return result

    return scoped


def layout(value: Any) -> Any:
    """All of a value that a check of shapes looks at.

    Raises:
        TypeError: for what is neither an array nor made of arrays.
    """
    if isinstance(value, torch.Tensor | np.ndarray):
        return type(value), value.dtype, tuple(value.shape)
    if isinstance(value, tuple | list):
        return (type(value), *map(layout, value))
    if value is None:
        return None
    raise TypeError(type(value))


def of_shapes(hint: object, names: Mapping[str, object]) -> bool:
    """Whether an annotation, perhaps still a text, has a jaxtyping shape in it."""
    if isinstance(hint, str):
        return any(of_shapes(names[word], {}) for word in WORD.findall(hint) if word in names)
    return "jaxtyping" in f"{type(hint).__module__} {getattr(hint, '__module__', '')} {hint!r}"
