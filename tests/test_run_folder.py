"""What may become a run folder, who owns it, and when what lies in it counts as done."""

from __future__ import annotations

import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy

from scalselect.coordinates_file import writing_coordinates
from scalselect.errors import MisuseError, RunFolderError
from scalselect.records import DominantSubspace
from scalselect.run_folder import RunFolder
from scalselect.run_json import refuse_other_keys
from scalselect.scores_file import SCORES_SCHEMA
from scalselect.seals import SEAL_KEY
from scalselect.storage import sha256_of_file
from scalselect.subspace_file import facts_of_subspace

INPUTS = {"score": {"energy": 0.9}, "store": "abc"}


def run_json(**represent):
    return {
        "represent": {"rows": 5, "shard_size": 5, "threads": 1, "attention_mass": 0.9, **represent},
        "data": {"path": "pool.json"},
        "score": None,
    }


def subspace(gap=1.5):
    generator = np.random.default_rng(0)
    return DominantSubspace(
        mean=generator.normal(size=6),
        basis=np.linalg.qr(generator.normal(size=(6, 2)))[0],
        singular_values=np.array([3.0, 2.0]),
        energy=0.95,
        gap=gap,
        largest_dimension_energy=0.4,
        rows=4,
        spectrum=np.array([3.0, 2.0, 0.5]),
        total_energy=13.5,
        scale=generator.random(6) + 1,
        normalised_rows=True,
    )


def write_coordinates(folder, inputs):
    with writing_coordinates(folder.coordinates, np.arange(4), {"vision": 2}, inputs):
        pass  # zeros


def scores():
    columns = {
        "row": [0, 1],
        "source": ["pool", "pool"],
        "id": ["7", None],
        "id_type": ["number", "absent"],
        "status": ["scored", "skipped"],
        "reason": [None, "image_missing"],
        "leverage_score": [0.5, None],
        "rank": [1, None],
        "selected": [None, None],
        "stratum": [None, None],
    }
    return pa.table(columns, schema=SCORES_SCHEMA)


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


@pytest.fixture
def created(folder):
    folder.create(run_json())
    return folder


class TestUsable:
    def test_new_paths_and_empty_folders(self, tmp_path, monkeypatch):
        (tmp_path / "empty").mkdir()
        monkeypatch.chdir(tmp_path)
        for path in (tmp_path / "new", tmp_path / "new" / "deep" / "down", tmp_path / "empty", "relative", "empty"):
            RunFolder(path).check_usable()
        assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty"]

    def test_an_existing_run(self, created):
        before = snapshot(created.path)
        created.check_usable()
        assert snapshot(created.path) == before

    def test_a_folder_with_other_files(self, folder):
        folder.path.mkdir()
        (folder.path / "thesis.tex").write_text("")
        with pytest.raises(RunFolderError, match=rf"holds files but no run\.json: {folder.path}; give that of a run"):
            folder.check_usable()

    def test_a_file(self, folder):
        folder.path.write_text("")
        with pytest.raises(RunFolderError, match=f"output is a file, a folder is wanted: {folder.path}"):
            folder.check_usable()

    @pytest.mark.parametrize("below", ["run", "run/deep"])
    def test_below_a_file(self, tmp_path, below):
        (tmp_path / "file").write_text("")
        folder = RunFolder(tmp_path / "file" / below)
        with pytest.raises(
            RunFolderError, match=f"output folder cannot be created: {folder.path} .*{tmp_path / 'file'}"
        ):
            folder.check_usable()

    def test_folders_that_may_not_be_written(self, created, tmp_path, monkeypatch):
        monkeypatch.setattr(os, "access", lambda *_: False)  # permissions do not bind every user
        with pytest.raises(RunFolderError, match=f"run folder cannot be written: {created.path}"):
            created.check_usable()
        with pytest.raises(RunFolderError, match=f"cannot be created: {tmp_path / 'new'} .*{tmp_path} is not writable"):
            RunFolder(tmp_path / "new").check_usable()


class TestRunJson:
    def test_what_was_created_is_read(self, created):
        assert created.read() == run_json()
        assert created.require() == run_json()
        written = json.loads(created.run_json.read_text(encoding="utf-8"))
        assert written == {**run_json(), SEAL_KEY: written[SEAL_KEY]}

    def test_no_run_yet(self, folder):
        assert folder.read() is None
        with pytest.raises(RunFolderError, match=rf"not a run folder, it holds no run\.json: {folder.path}"):
            folder.require()
        assert not folder.path.exists()

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{",
            b"[]",
            b"5",
            b"null",
            b"{}",
            b'{"represent": {}}',
            b"\xff\xfe",
            pytest.param(
                b'{"represent": null, "data": {}}',
            ),
        ],
    )
    def test_damaged(self, created, content):
        created.run_json.write_bytes(content)
        for call in (created.read, created.require, lambda: created.create(run_json())):
            with pytest.raises(RunFolderError, match=rf"run\.json is damaged: {created.run_json} \(.*; restore it"):
                call()
        assert created.run_json.read_bytes() == content

    def test_the_second_with_the_same_keys_joins(self, created):
        created.create({**run_json(), "created": "later"})
        assert created.read() == run_json()

    def test_the_second_with_other_keys_is_refused_by_name_and_values(self, created):
        wanted = run_json(attention_mass=0.5, exif="apply")
        with pytest.raises(RunFolderError) as raised:
            created.create(wanted)
        message = str(raised.value)
        assert message.startswith(f"run folder belongs to another run: {created.path}\n")
        assert "\n  attention_mass: 0.9 in the run folder, 0.5 in this call\n" in message
        assert "\n  exif: not given in the run folder, 'apply' in this call\n" in message
        assert "rows" not in message
        assert "another output folder" in message
        assert created.read() == run_json()

    @pytest.mark.parametrize("same", [True, False])
    def test_many_at_once(self, folder, same):
        gate = threading.Barrier(8)

        def create(number):
            gate.wait(timeout=30)
            try:
                folder.create(run_json(attention_mass=0.5 if same else number / 10))
            except RunFolderError:
                return False
            return True

        with ThreadPoolExecutor(8) as threads:
            created = list(threads.map(create, range(1, 9)))
        assert created.count(True) == (8 if same else 1)
        mass = folder.read()["represent"]["attention_mass"]
        assert mass == (0.5 if same else (created.index(True) + 1) / 10)
        assert [path.name for path in folder.path.iterdir()] == ["run.json"]

    def test_a_folder_that_cannot_be_made(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(RunFolderError, match=r"output folder cannot be written: .* \(Not a directory\)"):
            RunFolder(tmp_path / "file" / "run").create(run_json())

    def test_update_replaces_groups_and_keeps_the_others(self, created):
        created.update(score={"energy": 0.5}, select={"budget": "3"})
        assert created.read() == {**run_json(), "score": {"energy": 0.5}, "select": {"budget": "3"}}
        before = created.run_json.stat().st_ino
        created.update(score={"energy": 0.5})
        assert created.run_json.stat().st_ino == before  # nothing to change, so nothing is written

    def test_update_needs_a_run(self, folder):
        with pytest.raises(RunFolderError, match="not a run folder"):
            folder.update(score={})

    def test_refusal_needs_a_difference(self, tmp_path):
        refuse_other_keys({"a": 1, "b": None}, {"b": None, "a": 1}, tmp_path)
        with pytest.raises(RunFolderError, match="  b: 2 in the run folder, not given in this call"):
            refuse_other_keys({"a": 1, "b": 2}, {"a": 1}, tmp_path)

    def test_refusals_are_misuse(self):
        assert issubclass(RunFolderError, MisuseError)


class TestSubspace:
    @pytest.mark.parametrize("gap", [1.25, float("inf")])
    def test_comes_back_bit_by_bit(self, created, gap):
        written = subspace(gap)
        created.write_subspace(written, INPUTS)
        read = created.read_subspace()
        for name in ("mean", "basis", "singular_values", "spectrum", "scale"):
            assert getattr(read, name).dtype == np.float64
            assert getattr(read, name).tolist() == getattr(written, name).tolist()
        for name in ("energy", "gap", "largest_dimension_energy", "rows", "rank", "total_energy", "normalised_rows"):
            assert getattr(read, name) == getattr(written, name)

    def test_a_basis_of_any_layout(self, created):
        written = subspace()
        created.write_subspace(replace(written, basis=np.asfortranarray(written.basis)), INPUTS)
        assert created.read_subspace().basis.tolist() == written.basis.tolist()

    def test_equal_subspaces_are_equal_files(self, created):
        contents = set()
        for _ in range(4):
            created.write_subspace(subspace(float("inf")), INPUTS)
            contents.add(created.subspace.read_bytes())
        assert len(contents) == 1

    def test_none_yet(self, created):
        with pytest.raises(RunFolderError, match=f"no scores yet: {created.path}; `scalselect score {created.path}`"):
            created.read_subspace()

    def test_infinity_becomes_null(self):
        assert facts_of_subspace(subspace(float("inf")))["gap"] is None
        assert facts_of_subspace(subspace(1.5))["gap"] == 1.5


class TestScores:
    def test_come_back(self, created):
        created.write_scores(scores(), INPUTS)
        assert created.read_scores().to_pylist() == scores().to_pylist()
        assert pq.read_table(created.scores).schema.equals(SCORES_SCHEMA)

    def test_none_yet(self, created):
        with pytest.raises(RunFolderError, match=f"no scores yet: {created.path}; `scalselect score {created.path}`"):
            created.read_scores()

    @pytest.mark.parametrize("content", [b"", b"no parquet at all"])
    def test_unreadable(self, created, content):
        created.scores.write_bytes(content)
        with pytest.raises(
            RunFolderError, match=rf"scores\.parquet was changed since it was written: {created.scores}; `scal"
        ):
            created.read_scores()

    def test_count_as_done_from_the_same_inputs_only(self, created):
        assert created.state_of_scores()[0] != INPUTS
        created.write_subspace(subspace(), INPUTS)
        assert created.state_of_scores()[0] != INPUTS  # stopped between the files
        write_coordinates(created, INPUTS)
        assert created.state_of_scores()[0] != INPUTS
        created.write_scores(scores(), INPUTS)
        assert created.state_of_scores()[0] == INPUTS
        assert created.state_of_scores()[0] != {**INPUTS, "store": "abd"}
        assert created.state_of_scores()[0] != {**INPUTS, "score": {"energy": 0.8}}
        created.write_instruction_subspace(subspace(), INPUTS)
        created.write_scores(scores(), INPUTS)
        assert created.state_of_scores()[0] == INPUTS
        for write in (created.write_subspace, created.write_instruction_subspace, write_coordinates):
            arguments = (created,) if write is write_coordinates else (subspace(),)
            write(*arguments, {**INPUTS, "store": "abd"})
            assert created.state_of_scores()[0] != INPUTS  # the files disagree
            assert created.state_of_scores()[0] != {**INPUTS, "store": "abd"}
            write(*arguments, INPUTS)
            assert created.state_of_scores()[0] == INPUTS

    @pytest.mark.parametrize("name", ["subspace", "scores", "coordinates"])
    @pytest.mark.parametrize("content", [None, b"", b"short", "half"])
    def test_damaged_files_do_not_count(self, created, name, content):
        created.write_subspace(subspace(), INPUTS)
        write_coordinates(created, INPUTS)
        created.write_scores(scores(), INPUTS)
        assert created.state_of_scores()[0] == INPUTS
        path = getattr(created, name)
        if content is None:
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content == "half" else content)
        assert created.state_of_scores()[0] != INPUTS

    def test_a_subspace_of_another_writer_does_not_count(self, created):
        created.write_scores(scores(), INPUTS)
        safetensors.numpy.save_file({"mean": np.zeros(2)}, created.subspace)
        assert created.state_of_scores()[0] != INPUTS

    def test_scores_of_another_writer_do_not_count(self, created):
        created.write_subspace(subspace(), INPUTS)
        pq.write_table(scores(), created.scores)
        assert created.state_of_scores()[0] != INPUTS


class TestSelection:
    @pytest.fixture
    def selected(self, created):
        """Return a run folder with a selection that vouches for two files."""
        created.write_scores(scores(), INPUTS)
        (created.path / "selected.json").write_bytes(b"[]")
        files = {path.name: sha256_of_file(path) for path in (created.scores, created.path / "selected.json")}
        created.write_selection({"inputs": INPUTS, "files": files, "words": "é"})
        return created

    def test_comes_back(self, selected):
        assert selected.read_selection()["words"] == "é"
        assert selected.state_of_selection(INPUTS)[0]

    def test_none_yet(self, created):
        assert not created.state_of_selection(INPUTS)[0]
        with pytest.raises(RunFolderError, match=f"nothing was selected yet: {created.path}"):
            created.read_selection()

    def test_other_inputs(self, selected):
        assert not selected.state_of_selection({**INPUTS, "store": "abd"})[0]

    def test_forgotten_with_the_listing_of_its_files(self, selected):
        listing = selected.path / "selected_rows.parquet"
        listing.touch()
        selected.forget_selection()
        assert not listing.exists()

    @pytest.mark.parametrize("name", ["scores.parquet", "selected.json"])
    def test_tampered_or_missing_files(self, selected, name):
        path = selected.path / name
        path.write_bytes(path.read_bytes() + b" ")
        assert not selected.state_of_selection(INPUTS)[0]
        path.unlink()
        assert not selected.state_of_selection(INPUTS)[0]

    def test_one_that_vouches_for_nothing(self, selected):
        selected.write_selection({"inputs": INPUTS, "files": {}})
        assert not selected.state_of_selection(INPUTS)[0]

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{",
            b"[1]",
        ],
    )
    def test_damaged(self, selected, content):
        selected.selection.write_bytes(content)
        with pytest.raises(
            RunFolderError, match=rf"selection\.json is not what was written: {selected.selection}; rep"
        ):
            selected.read_selection()
        assert selected.state_of_selection(INPUTS) == (False, "selection.json is not what was written")
