"""Names of methods, their command lines, and the transforms that others made."""

from __future__ import annotations

import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from maxca.errors import MaxcaError
from maxca.evaluate import methods, peers
from maxca.evaluate.methods import (
    GIVEN,
    Job,
    Method,
    command,
    crossed,
    environment,
    given_transform,
    ours,
    parse,
    split,
)
from maxca.fields import options_of
from maxca.options import RegistrationOptions

JOB = Job(Path("f.nii.gz"), Path("m.nii.gz"), Path("out"), 2, "small")


@pytest.mark.parametrize(
    "name",
    [
        *("greedy", "syn@3", "maxca-fast", "maxca-balanced+auto", "maxca-accurate+cardiac-cine@2.5", "unmoved"),
        *("maxca:similarity=mi", "maxca:effort=fast,similarity=mi,smoothness=4", "maxca:model=none,transform=rigid"),
        *("maxca:model=none,guide=labels", "maxca:guide=labels+points", "maxca:exclude_as=volume"),
    ],
)
def test_a_name_is_read_as_it_is_written(name: str) -> None:
    assert parse(name).name == name


def test_labels_of_the_pair_guide_only_where_they_are_asked_to() -> None:
    known = {f"{side}_{kind}": Path(f"{side}.{kind}") for side in ("fixed", "moving") for kind in ("labels", "points")}
    job = Job(Path("f.nii.gz"), Path("m.nii.gz"), Path("out"), 2, known=known)
    words = command(parse("maxca:guide=labels"), job)
    assert (
        words[words.index("--guide") + 1] == "labels" and words[words.index("--moving-labels") + 1] == "moving.labels"
    )
    assert not {"--fixed-points", "--moving-points"} & set(words)
    assert not {"--guide", "--fixed-labels"} & set(command(parse("maxca-fast"), job))


def test_regions_of_the_pair_are_given_to_every_method_of_maxca_and_to_no_other() -> None:
    known = {
        name: Path(f"{name}.nii.gz")
        for name in ("fixed_exclude", "moving_exclude", "rigid", "initial_transform", "fixed_mask")
    }
    job = Job(Path("f.nii.gz"), Path("m.nii.gz"), Path("out"), 2, known=known)
    words = command(parse("maxca:exclude_as=rigid"), job)
    for flag, value in (
        ("--fixed-exclude", "fixed_exclude"),
        ("--moving-exclude", "moving_exclude"),
        ("--rigid", "rigid"),
        ("--initial-transform", "initial_transform"),
    ):
        assert words[words.index(flag) + 1] == f"{value}.nii.gz"
    assert words[words.index("--exclude-as") + 1] == "rigid" and "--fixed-mask" not in words
    assert "rigid.nii.gz" not in command(parse("syn"), job)


@pytest.mark.parametrize("name", ["demons", "maxca", "greedy+auto", "maxca-fast@0", "syn@x", "", "given:folder"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(MaxcaError, match=r"unknown method|smoothness must be a positive"):
        parse(name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("maxca:efort=fast", "efort fast: no such option|efort=fast: no such option"),
        ("maxca:effort=huge", "choose one of fast, balanced, accurate"),
        ("maxca:smoothness=x", "give a number"),
        ("maxca:smoothness=0", "give a positive number"),
        ("maxca:threads=4", "no such option"),
    ],
)
def test_a_wrong_option_is_named(text: str, said: str) -> None:
    with pytest.raises(MaxcaError, match=said):
        parse(text)


def test_every_option_can_be_compared() -> None:
    names = split("maxca:effort=fast,similarity=mi,smoothness=4, greedy,maxca-fast,maxca:transform=affine")
    assert names == ["maxca:effort=fast,similarity=mi,smoothness=4", "greedy", "maxca-fast", "maxca:transform=affine"]
    words = command(parse(names[0]), JOB)
    for flag, value in (("--effort", "fast"), ("--similarity", "mi"), ("--smoothness", "4"), ("--model", "auto")):
        assert words[words.index(flag) + 1] == value
    assert parse("maxca:effort=fast,model=none").name == "maxca-fast"  # one name for one method
    given = {
        "model": "none",
        "matrix_convention": "ras",
        "initial_transform": "header",
        "restrict": "0x1x0",
        "uncertainty": "8",
        "label_table": "t.tsv",
        "channel_weights": "1+0.5",
    }
    for each in options_of(RegistrationOptions):
        if each.name not in ("threads", "device"):
            value = given.get(each.name, "2" if each.type is int or "float" in str(each.type) else each.choices[-1:])
            text = f"maxca:{each.name}={value if isinstance(value, str) else value[0]}"
            assert parse(parse(text).name) == parse(text)


def test_models_and_smoothnesses_are_crossed() -> None:
    found = crossed([parse("maxca-fast"), parse("greedy")], ["folder/mine.safetensors"], [1.0, 2.0])
    assert [method.name for method in found] == [
        *("maxca-fast@1", "maxca-fast@2", "greedy@1", "greedy@2", "maxca-fast+mine@1", "maxca-fast+mine@2")
    ]
    assert found[4].options is not None and found[4].options.model == "folder/mine.safetensors"
    assert [method.name for method in crossed([parse("greedy")], ["mine"], [])] == ["greedy"]
    kept = crossed([parse("syn"), parse("elastix@10")], [], [1.0, 2.0])
    assert [method.name for method in kept] == ["syn@1", "syn@2", "elastix@10"]


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("folder/mine.safetensors", "mine"),
        ("runs/wide/best.safetensors", "wide/best"),
        ("runs/narrow/last.safetensors", "narrow/last"),
        ("hf://someone/hearts", "hearts"),
        ("hf://someone/hearts/best.safetensors@v2", "best:v2"),
    ],
)
def test_models_of_different_trainings_have_different_names(model: str, name: str) -> None:
    assert ours("fast", model).name == f"maxca-fast+{name}"


def test_a_model_that_is_not_there_is_refused_before_anything_runs() -> None:
    with pytest.raises(MaxcaError, match=r"model=none/such\.safetensors: no such file"):
        ours("fast", "none/such.safetensors").check()


def test_a_row_knows_its_model_by_its_content(tmp_path: Path) -> None:
    model = tmp_path / "mine.safetensors"
    model.write_bytes(b"weights")
    known = ours("fast", str(model)).versions
    digest = hashlib.sha256(b"weights").hexdigest()[:12]
    assert known == f"{parse('maxca-fast+auto').versions} model {digest}"
    assert parse("maxca-fast+hippocampus").versions != parse("maxca-fast").versions


def test_ours_goes_through_the_command_line_and_all_get_the_same_threads() -> None:
    files, effort = ["-f", "f.nii.gz", "-m", "m.nii.gz", "-o", "out"], ["--effort", "balanced"]
    plain = command(parse("maxca-balanced"), JOB)
    assert plain[1:] == [
        *("-m", "maxca", "register", *files, *effort, "--model", "none", "--threads", "2", "-q", "--overwrite")
    ]
    asked = command(parse("maxca-balanced+auto@2"), JOB)
    assert asked[asked.index("--model") + 1] == "auto"
    assert asked[asked.index("--smoothness") + 1] == "2"
    assert command(parse("greedy@2"), JOB)[2:] == [
        *("maxca.evaluate.peers", "greedy", "f.nii.gz", "m.nii.gz", "out", "2", "small", "2")
    ]
    assert command(parse("unmoved"), JOB) == command(Method(GIVEN, folder=Path("there")), JOB) == []
    limits = environment(2)
    assert limits["OMP_NUM_THREADS"] == limits["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] == "2"


@pytest.mark.parametrize("name", ["3.h5", "0003.nii.gz", "disp_a_b.npz", "a_b.tfm", "a_b.lta", "3.aff12.1D", "3.x5"])
def test_a_given_transform_is_found_by_number_or_images(name: str, tmp_path: Path) -> None:
    for other in ("30.h5", "a.h5", "b_a.nii.gz", "notes.txt", "3.csv", name):
        (tmp_path / other).touch()
    assert given_transform(tmp_path, 3, Path("x/a.nii.gz"), Path("x/b.nii")).name == name
    (tmp_path / "03.tfm").touch()
    if name != "03.tfm":
        with pytest.raises(MaxcaError, match=r"one transform for pair 3 \(a_b\) is needed, found .*03.tfm"):
            given_transform(tmp_path, 3, Path("a.nii.gz"), Path("b.nii.gz"))


def test_a_tool_that_refuses_gets_its_next_settings() -> None:
    tried = []

    def refuse() -> None:
        tried.append("pyramid")
        raise RuntimeError("image too small")

    peers.first_that_runs([refuse, lambda: tried.append("one level")])
    assert tried == ["pyramid", "one level"]
    with pytest.raises(RuntimeError, match="too small"):
        peers.first_that_runs([refuse])


def test_a_tool_that_is_not_there_says_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(methods.PEERS, "greedy", "no-such-package")
    with pytest.raises(MaxcaError, match=r"greedy needs an additional dependency: pip install 'maxca\[bench\]'"):
        parse("greedy").check()
    parse("maxca-fast").check()


def test_thick_slices_and_small_images_get_settings_of_their_own(tmp_path: Path) -> None:
    for shape, spacing, kind in (
        ((40, 40, 8), (1.5, 1.5, 8.0), "stack"),
        ((36, 50, 36), (1.0, 1.0, 1.0), "small"),
        ((80, 90, 80), (2.0, 2.0, 2.0), "volume"),
        ((80, 90, 1), (2.0, 2.0, 9.0), "slice"),
    ):
        path = tmp_path / f"{kind}.nii.gz"
        nib.save(nib.Nifti1Image(np.zeros(shape, np.uint8), np.diag([*spacing, 1.0])), path)
        assert peers.kind_of(path) == kind
