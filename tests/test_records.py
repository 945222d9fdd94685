import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest

from lenet.errors import RunError
from lenet.results.statistics import student_t_95, summarize, summarize_images, summarize_runs
from lenet.schema import RunFigures, RunRecord, StudyRecord, read, to_json, write
from lenet.training.finish import environment

RECORDS = Path(__file__).resolve().parent.parent / "records"


def test_summary_of_a_worked_example() -> None:
    # Mean 5, sample variance 32/7; t(7) = 2.3646.
    s = summarize([2, 4, 4, 4, 5, 5, 7, 9])
    half = 2.365 * math.sqrt(32 / 7 / 8)
    assert (s.n, s.mean, s.min, s.max) == (8, 5, 2, 9)
    assert s.std == pytest.approx(math.sqrt(32 / 7))
    assert (s.low, s.high) == pytest.approx((5 - half, 5 + half))


@pytest.mark.parametrize(
    ("degrees", "point"),
    [(1, 12.706), (9, 2.262), (30, 2.042), (31, 2.0395), (40, 2.0211), (120, 1.9799)],
)
def test_student_t_equals_the_published_table(degrees: int, point: float) -> None:
    assert student_t_95(degrees) == pytest.approx(point, abs=6e-4)


def test_one_seed_has_no_interval_and_says_null() -> None:
    s = summarize([0.99])
    assert math.isnan(s.interval[0])
    assert json.loads(to_json(s))["low"] is None


def test_runs_are_summarized_by_the_figures_all_have() -> None:
    runs = [RunFigures(seed=0, test_accuracy=0.5), RunFigures(seed=1, test_accuracy=0.7)]
    summary = summarize_runs(runs)
    assert list(summary) == ["test_accuracy"]
    assert summary["test_accuracy"].mean == pytest.approx(0.6)


def test_images_are_summarized_by_the_share_of_runs_that_read_them() -> None:
    found = summarize_images([[0], [0, 2], []], 4)
    expected = summarize([1 / 3, 1, 2 / 3, 1])
    assert list(asdict(found).values()) == pytest.approx(list(asdict(expected).values()))
    # The mean over images is the mean over runs.
    assert found.mean == pytest.approx((3 / 4 + 2 / 4 + 1) / 3)


def test_a_record_survives_being_read_and_written(tmp_path: Path) -> None:
    study = read(RECORDS / "default.json", StudyRecord)
    write(tmp_path / "study.json", study)
    assert read(tmp_path / "study.json", StudyRecord) == study


@pytest.mark.parametrize("path", sorted(RECORDS.glob("*.json")), ids=lambda p: p.stem)
def test_published_records_name_the_images_behind_their_accuracy(path: Path) -> None:
    study = read(path, StudyRecord)
    assert study.test_images is not None
    assert study.test_images.mean == pytest.approx(study.summary["test_accuracy"].mean)
    for run in study.runs:
        assert run.test_wrong is not None
        assert 1 - len(set(run.test_wrong)) / 10_000 == pytest.approx(run.test_accuracy)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "3", '{"epochs": 3}', "\x80"])
def test_a_broken_record_is_one_clear_error(content: str, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text(content, encoding="latin-1")
    for kind in (RunRecord, StudyRecord):
        with pytest.raises(RunError, match=r"record\.json"):
            read(path, kind)


def test_environment_is_plain_and_names_no_person() -> None:
    facts = environment()
    assert str(Path.home()) not in to_json(facts)
    assert facts.packages["torch"]
