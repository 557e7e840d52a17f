"""A job that fails in any way leaves no partial output, and an earlier output stays intact."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from maxca.errors import MaxcaError
from maxca.io.atomic import atomic_path, check_new_file, full_suffix, output_folder

FAILURES = [KeyboardInterrupt, SystemExit, ValueError, MaxcaError]


def everything_under(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def earlier_output(tmp_path: Path) -> Path:
    out = tmp_path / "out"
    out.mkdir()
    (out / "result.json").write_text("earlier")
    return out


@pytest.mark.parametrize("name", ["warped.nii.gz", "transform.h5", "points.mrk.json", "T.TFM"])
def test_the_temporary_file_is_hidden_next_to_the_target_with_its_suffix(tmp_path: Path, name: str) -> None:
    with atomic_path(tmp_path / name) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert full_suffix(temporary) == full_suffix(Path(name))
        temporary.write_text("new")
    assert everything_under(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "new"


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_file_leaves_the_earlier_one_and_nothing_else(tmp_path: Path, failure: type[BaseException]) -> None:
    target = tmp_path / "a.txt"
    target.write_text("earlier")
    with pytest.raises(failure), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise failure
    assert everything_under(tmp_path) == ["a.txt"]
    assert target.read_text() == "earlier"


def test_a_full_disc_is_one_line_that_names_the_file(tmp_path: Path) -> None:
    target = tmp_path / "a.nii.gz"
    with pytest.raises(MaxcaError, match=r"cannot write .*a\.nii\.gz: no space left"), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert everything_under(tmp_path) == []


def test_a_file_in_a_missing_folder_gets_it(tmp_path: Path) -> None:
    target = tmp_path / "study" / "subject" / "a.txt"
    check_new_file(target, (".txt",), overwrite=False)
    assert everything_under(tmp_path) == []
    with atomic_path(target) as temporary:
        temporary.write_text("new")
    assert everything_under(tmp_path) == ["study", "study/subject", "study/subject/a.txt"]


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_file_leaves_no_folder_either(tmp_path: Path, failure: type[BaseException]) -> None:
    (tmp_path / "study").mkdir()
    with pytest.raises(failure), atomic_path(tmp_path / "study" / "subject" / "a.txt") as temporary:
        temporary.write_text("half")
        raise failure
    assert everything_under(tmp_path) == ["study"]


def test_a_file_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MaxcaError, match="cannot write"):
        check_new_file(tmp_path / "file" / "deeper" / "a.txt", (".txt",), overwrite=False)
    with pytest.raises(MaxcaError, match="cannot write"), atomic_path(tmp_path / "file" / "deeper" / "a.txt"):
        pytest.fail("must refuse before the work starts")
    assert everything_under(tmp_path) == ["file"]


def test_a_new_file_follows_the_umask_of_the_user(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.touch()
    with atomic_path(tmp_path / "atomic"):
        pass
    assert (tmp_path / "atomic").stat().st_mode == plain.stat().st_mode


def test_an_output_folder_appears_whole_with_its_parents(tmp_path: Path) -> None:
    target = tmp_path / "study" / "subject" / "out"
    with output_folder(target) as folder:
        (folder / "result.json").write_text("new")
        assert not target.exists()
    assert everything_under(tmp_path / "study") == ["subject", "subject/out", "subject/out/result.json"]
    assert everything_under(tmp_path)[0] == "study"


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_output_leaves_nothing_not_even_the_parents(tmp_path: Path, failure: type[BaseException]) -> None:
    with pytest.raises(failure), output_folder(tmp_path / "study" / "out") as folder:
        (folder / "warped.nii.gz").write_text("half")
        raise failure
    assert everything_under(tmp_path) == []


def test_parents_that_were_there_stay_when_the_job_fails(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    with pytest.raises(ValueError), output_folder(tmp_path / "study" / "deeper" / "out"):
        raise ValueError
    assert everything_under(tmp_path) == ["study"]


def test_an_existing_output_needs_overwrite(earlier_output: Path) -> None:
    with pytest.raises(MaxcaError, match="exists; pass overwrite=True to replace it"), output_folder(earlier_output):
        pytest.fail("must refuse before the work starts")


def test_overwrite_replaces_an_earlier_output(earlier_output: Path) -> None:
    with output_folder(earlier_output, overwrite=True) as folder:
        (folder / "result.json").write_text("new")
        assert (earlier_output / "result.json").read_text() == "earlier"
    assert everything_under(earlier_output.parent) == ["out", "out/result.json"]
    assert (earlier_output / "result.json").read_text() == "new"


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failed_overwrite_keeps_the_earlier_output(earlier_output: Path, failure: type[BaseException]) -> None:
    with pytest.raises(failure), output_folder(earlier_output, overwrite=True) as folder:
        (folder / "result.json").write_text("half")
        raise failure
    assert everything_under(earlier_output.parent) == ["out", "out/result.json"]
    assert (earlier_output / "result.json").read_text() == "earlier"


def test_an_interrupted_swap_puts_the_earlier_output_back(
    earlier_output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, calls = Path.rename, []

    def interrupted(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return rename(self, target)

    with pytest.raises(KeyboardInterrupt), output_folder(earlier_output, overwrite=True) as folder:
        (folder / "result.json").write_text("new")
        monkeypatch.setattr(Path, "rename", interrupted)
    assert everything_under(earlier_output.parent) == ["out", "out/result.json"]
    assert (earlier_output / "result.json").read_text() == "earlier"


def test_overwrite_never_replaces_a_folder_that_is_not_an_output(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(MaxcaError, match="not an earlier output"), output_folder(tmp_path, overwrite=True):
        pytest.fail("must refuse before the work starts")
    assert everything_under(tmp_path) == ["thesis.txt"]


def test_an_empty_folder_is_filled_without_overwrite(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with output_folder(tmp_path / "out") as folder:
        (folder / "result.json").write_text("new")
    assert everything_under(tmp_path) == ["out", "out/result.json"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(MaxcaError, match="is a file"), output_folder(tmp_path / "out", overwrite=True):
        pytest.fail("must refuse before the work starts")


def test_an_unwritable_place_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(MaxcaError, match=r"cannot write .*out: permission denied"), output_folder(tmp_path / "out"):
        pytest.fail("must refuse before the work starts")


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    with pytest.raises(MaxcaError, match="cannot write"), output_folder(tmp_path / "file" / "out"):
        pytest.fail("must refuse before the work starts")


def test_a_disc_that_fills_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(MaxcaError, match="no space left"), output_folder(tmp_path / "out") as folder:
        (folder / "warped.nii.gz").write_text("half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert everything_under(tmp_path) == []
