import pytest

from mnskills_viz import files
from mnskills_viz.errors import InputError


def fill(target, text, **options):
    with files.folder_in_place(target, **options) as building:
        (building / "x").write_text(text)


def test_a_folder_is_replaced_whole(tmp_path):
    fill(tmp_path / "a", "one")
    fill(tmp_path / "a", "two")
    assert (tmp_path / "a" / "x").read_text() == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_block_that_raises_leaves_what_was_there(tmp_path):
    fill(tmp_path / "a", "one")
    with pytest.raises(RuntimeError), files.folder_in_place(tmp_path / "a"):
        raise RuntimeError
    assert (tmp_path / "a" / "x").read_text() == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupt_between_the_two_renames_loses_nothing(tmp_path, monkeypatch, error):
    fill(tmp_path / "a", "one")
    rename, calls = files.os.replace, []

    def second_fails(source, target):
        calls.append(source)
        if len(calls) == 2:
            raise error
        rename(source, target)

    monkeypatch.setattr(files.os, "replace", second_fails)
    with pytest.raises(error):
        fill(tmp_path / "a", "two")
    assert (tmp_path / "a" / "x").read_text() == "one"


def test_a_kill_between_the_two_renames_is_mended(tmp_path):
    fill(tmp_path / "a", "one")
    (tmp_path / "a").rename(tmp_path / ".a.k1ll3d.tmp.old")
    files.restore_folders(tmp_path)
    assert (tmp_path / "a" / "x").read_text() == "one"


def test_a_folder_that_came_about_meanwhile_is_not_replaced(tmp_path):
    def fill_beside_another():
        with files.folder_in_place(tmp_path / "a", replace=False):
            (tmp_path / "a").mkdir()
            (tmp_path / "a" / "thesis").write_text("precious")

    with pytest.raises(InputError, match="there and not empty"):
        fill_beside_another()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["thesis"]
