"""Extensions without a fork: one Python file that adds blocks, networks, recipes, similarity measures and readers.

    from maxca import plugins

    @plugins.block("squeeze")
    class Squeeze(nn.Module): ...

A plugin is executed only when the user names it: ``maxca --plugin mine.py train …``, or in Python
``maxca.plugins.load("mine.py")``. A model file records the plugin it needs, but never loads it. This module does not
import torch.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from maxca.errors import MaxcaError
from maxca.fields import add_choice, remove_choice
from maxca.origins import forget_origin, record_origin

if TYPE_CHECKING:
    from maxca.losses.similarity import Contrast

T = TypeVar("T", bound=Callable[..., Any])
GROUP = "maxca.plugins"  # group of the entry points of installed plugins: NAME = "package.module"
NAME = re.compile(r"[A-Za-z]\w*(?:[-.]\w+)*")  # names that fit into a command line and the method strings of evaluate
SUFFIX = re.compile(r"(?:\.\w+)+")


@dataclass(frozen=True)
class Plugin:
    """A loaded plugin.

    Args:
        name: of its file, or of its entry point, as recorded in models.
        source: its absolute path, or the name of its entry point, the argument of ``load`` and ``--plugin``.
        undo: removes its registrations.
    """

    name: str
    source: str
    undo: list[Callable[[], None]] = field(default_factory=list)


UNNAMED = Plugin("", "this script")  # owner of names registered outside a plugin, in a script or a notebook
_loaded: dict[str, tuple[Plugin, ModuleType]] = {}
_loading: list[Plugin] = []
_owners: dict[tuple[str, str], str] = {}  # the source of each registered name


def block(name: str) -> Callable[[T], T]:
    """Register a block, under a name for ``build_network(…, block=name)``, which is recorded in saved models.

    The decorated function or class takes the number of channels, and optionally keywords, and returns a module
    that keeps the shape of (N, C, I, J, K).
    """

    def added(factory: T) -> T:
        from maxca.blocks import BLOCKS

        _add("block", BLOCKS, name, factory)
        return factory

    return added


def network(name: str) -> Callable[[T], T]:
    """Register a network, under a name for ``build_network`` and recipes.

    The decorated function or class takes keywords with JSON values (and ``block`` and ``flow`` like the bundled
    networks) and returns a module: fixed and moving (N, 1, I, J, K) → ``Prediction``.
    """

    def added(factory: T) -> T:
        from maxca.networks import NETWORKS

        _add("network", NETWORKS, name, factory)
        return factory

    return added


def recipe(name: str) -> Callable[[T], T]:
    """Register a training recipe, under a name for ``maxca train``.

    The decorated function returns a ``TrainingConfig`` or a ``SegmentationConfig``.
    """

    def added(make: T) -> T:
        from maxca.training.recipes import RECIPES

        _add("recipe", RECIPES, name, lambda: replace(make(), recipe=name))
        return make

    return added


def similarity(name: str, *, contrast: Contrast = "linear", refines_affine: bool = False) -> Callable[[T], T]:
    """Register a similarity measure, under a name for ``--similarity`` and the losses of training.

    The decorated function or class takes ``fixed`` (I, J, K) with values in [0, 1], ``grid``, ``mask``
    (I, J, K) or None, and ``window``, the voxels of a local window. It returns a function: warped (I, J, K) → the
    similarity, larger is better. That is a number, which autograd then differentiates, or a ``Score`` of it and its
    gradient.

    Args:
        name: of the measure.
        contrast: the assumed relation between the intensities of the two images; see ``Measure``.
        refines_affine: the affine ends by maximising local NCC instead of mutual information.
    """

    def added(build: T) -> T:
        from maxca.losses.differentiated import differentiated
        from maxca.losses.similarity import SIMILARITIES, Measure

        measure = Measure(differentiated(build), contrast, refines_affine)
        plugin = _add("similarity", SIMILARITIES, name, measure)
        add_choice("similarity", name)
        plugin.undo.append(lambda: remove_choice("similarity", name))
        return build

    return added


def reader(*suffixes: str) -> Callable[[T], T]:
    """Register a reader of images, for files or folders whose names end with one of some suffixes.

    The decorated function takes a path and returns an argument of ``maxca.read_image``: an image of nibabel or
    SimpleITK, a ``maxca.Image``, or an array (I, J, K) and its affine (4, 4), voxel to world in RAS+ mm.
    """

    def added(read: T) -> T:
        from maxca.io.readers import BUNDLED, READERS

        for suffix in suffixes:
            if not SUFFIX.fullmatch(suffix) or any(name.endswith(suffix.lower()) for name in BUNDLED):
                raise MaxcaError(f"reader({suffix!r}): give a suffix with its dot that maxca does not read already")
            _add("reader", READERS, suffix.lower(), read, SUFFIX)
        return read

    return added


def load(source: str | Path) -> ModuleType:
    """Execute a plugin, once.

    Args:
        source: a Python file, or the name of an entry point of the group ``maxca.plugins`` of an installed package.

    Returns:
        Its module.

    Raises:
        MaxcaError: if there is no such plugin or it fails; its registrations are then removed.
    """
    plugin, execute = _found(source)
    if plugin.source in _loaded:
        return _loaded[plugin.source][1]
    _loading.append(plugin)
    try:
        module = execute()
    except BaseException as error:
        for step in reversed(plugin.undo):
            step()
        if isinstance(error, MaxcaError) or not isinstance(error, Exception):
            raise
        raise MaxcaError(f"{plugin.source}: the plugin fails: {_told(error, plugin.source)}") from error
    finally:
        _loading.pop()
    _loaded[plugin.source] = plugin, module
    return module


def unload(source: str | Path) -> None:
    """Remove the registrations of a loaded plugin, so that a changed file can be loaded again."""
    plugin, module = _loaded.pop(str(source) if str(source) in _loaded else _found(source)[0].source)
    sys.modules.pop(module.__name__, None)  # otherwise an installed one would not be executed again
    for step in reversed(plugin.undo):
        step()


def loaded() -> list[str]:
    """The sources of the plugins of this process, for ``load`` in another process."""
    return list(_loaded)


def arguments() -> list[str]:
    """The sources as options of ``maxca``."""
    return [word for source in _loaded for word in ("--plugin", source)]


def _found(source: str | Path) -> tuple[Plugin, Callable[[], ModuleType]]:
    path = Path(source)
    if path.suffix == ".py":
        from maxca.io.regular import check_regular

        check_regular(path)
        plugin = Plugin(path.name, str(path.resolve()))
        return plugin, lambda: _executed(path.resolve())
    entries = {each.name: each for each in metadata.entry_points(group=GROUP)}
    if str(source) not in entries:
        installed = f"; installed are {', '.join(sorted(entries))}" if entries else ""
        raise MaxcaError(f"{source}: not a plugin; pass a Python file (.py) or the name of an installed one{installed}")
    return Plugin(str(source), str(source)), entries[str(source)].load


def _executed(path: Path) -> ModuleType:
    name = f"maxca_plugin_{path.stem}"
    spec = spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # the suffix is .py
    module = module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # where dataclasses look up their module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name)
        if before is not None:
            sys.modules[name] = before
        raise
    return module


def _add(kind: str, table: Any, name: str, value: object, form: re.Pattern[str] = NAME) -> Plugin:
    """Register a value in the table of its kind; names of maxca or of another plugin are rejected."""
    plugin = _loading[-1] if _loading else UNNAMED
    if not isinstance(name, str) or not form.fullmatch(name):
        raise MaxcaError(f"{plugin.source}: {name!r} is not a valid name of a {kind}; use letters, digits, - and _")
    if not callable(value) and kind != "similarity":
        raise MaxcaError(
            f"{plugin.source}: the {kind} {name} is a {type(value).__name__}; register a function or class"
        )
    entries: MutableMapping[str, object] = table
    owner = _owners.get((kind, name))
    if name in entries and owner != plugin.source:
        raise MaxcaError(f"{plugin.source}: a {kind} {name!r} already exists ({owner or 'bundled'}); use another name")
    entries[name] = value
    _owners[kind, name] = plugin.source
    plugin.undo.append(lambda: _forget(entries, kind, name))
    if plugin is not UNNAMED:
        record_origin(kind, name, plugin.name)
    return plugin


def _forget(entries: MutableMapping[str, object], kind: str, name: str) -> None:
    """Remove an entry."""
    entries.pop(name, None)
    _owners.pop((kind, name), None)
    forget_origin(kind, name)


def _told(error: Exception, source: str) -> str:
    """An error of a plugin's code with its line."""
    lines = [step.lineno for step in traceback.extract_tb(error.__traceback__) if step.filename == source]
    where = f" (line {lines[-1]})" if lines else ""
    return f"{type(error).__name__}: {error}{where}; correct it"
