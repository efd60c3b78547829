"""What a plan comes to, and what a cell is known by."""

import dataclasses

import pytest

from sas_jax.errors import UserError
from sas_jax.sweeps import cells as cells_lib
from sas_jax.sweeps import presets
from sas_jax.sweeps.plan import from_values
from tests.helpers.sweep_cells import cells


def test_every_task_comes_before_the_next_seed():
    found = [cell.place for cell in cells()]
    assert found == [
        ("PointGoal1", "bc", 0),
        ("CarGoal1", "bc", 0),
        ("PointGoal1", "bc", 1),
        ("CarGoal1", "bc", 1),
    ]


def test_a_method_gets_the_variants_and_settings_that_are_its_own():
    plan = {
        "tasks": ["PointGoal1"],
        "variants": ["none", "rand"],
        "methods": [
            {"algo": "dt", "name": "long", "settings": {"train": {"num_steps": 9}}},
            {"algo": "bc", "preset": "demo", "settings": {"model.hidden": [8]}},
            {"algo": "bc_safe", "cost_limits": [40]},
        ],
    }
    long, bc, safe = from_values(plan).cells()
    assert (long.name, long.config.train.num_steps) == ("long", 9)
    assert long.evaluation.variants == ("none", "rand")
    assert bc.evaluation.variants == ("none",) and bc.config.model.hidden == (8,)
    assert bc.config.model.policy_blind == ("accelerometer", "gyro")
    assert bc.evaluation.cost_limits == (20.0, 40.0, 80.0)
    assert safe.evaluation.cost_limits == (40.0,)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"tasks": []}, "tasks: expected"),
        ({"tasks": ["PointGaol1"]}, "PointGoal1"),
        ({"taks": ["PointGoal1"]}, "did you mean 'tasks'"),
        ({"variants": ["none", "sass"]}, "sass"),
        ({"seeds": [0, 0]}, "PointGoal1/bc/0 twice"),
        ({"methods": [{"algo": "bc"}, {"algo": "bc"}]}, "twice"),
        ({"methods": [{"algo": "bc", "nam": "x"}]}, "did you mean 'name'"),
        ({"methods": [{"algo": "bc", "name": "a/b"}]}, "letters"),
        ({"methods": [{"algo": "bc", "preset": "dem"}]}, "did you mean 'demo'"),
        ({"methods": [{"algo": "bc", "settings": {"train.num_seeds": 2}}]}, "seeds"),
        ({"methods": [{"algo": "bc_safe"}], "cost_limits": [10]}, "trained for"),
        ({"layouts": 0}, "num_episodes"),
        ({"data": {"mixtur": "x"}}, "did you mean 'mixture'"),
    ],
)
def test_what_is_wrong_with_a_plan_is_one_line(values, words):
    with pytest.raises(UserError, match=words) as problem:
        cells(**values)
    assert "\n" not in str(problem.value)


def test_how_far_a_cell_is_evaluated_is_not_what_it_is():
    cell = cells()[0]
    assert cells(layouts=9, cost_limits=[5, 7], shifts=["", "delay:1"])[0].id == cell.id
    others = [
        cells(methods=[{"algo": "bc", "settings": {"train.num_steps": 9}}])[0],
        cells(data={"mixture": "graded"})[0],
        cells(seed=1)[0],
        cells(target_return=3.0)[0],
        *cells()[1:],
    ]
    assert len({other.id for other in others} | {cell.id}) == len(others) + 1


def test_cells_that_differ_in_how_they_act_share_their_training():
    methods = [
        {"algo": "dt"},
        {"algo": "dt", "name": "ten", "acting": {"sas.num_first": 10}},
        {"algo": "dt", "name": "own", "settings": {"sas.num_first": 10}},
    ]
    plain, ten, own = cells(tasks=["PointGoal1"], seeds=[0], methods=methods)
    assert ten.acts_with.sas == own.config.sas and ten.config == plain.config
    assert plain.model_folder == ten.model_folder != own.model_folder
    assert len({plain.id, ten.id, own.id}) == 3
    # How a policy that is ready plans is not its training's business.
    eager = [{"algo": "dt", "settings": {"sas.plan.execute": 5}}]
    (eager,) = cells(tasks=["PointGoal1"], seeds=[0], methods=eager)
    assert eager.model_folder == plain.model_folder and eager.id != plain.id
    assert cells_lib.from_json(ten.to_json()) == ten
    assert cells_lib.normalised(ten.description()) == ten.description()
    same = [{"algo": "dt", "acting": {"sas.num_first": plain.config.sas.num_first}}]
    assert cells(tasks=["PointGoal1"], seeds=[0], methods=same)[0].id == plain.id
    wrong = [{"algo": "dt", "acting": {"train.warmup": 3}}]
    with pytest.raises(UserError, match="settings of sas alone"):
        cells(methods=wrong)


def test_a_file_of_data_is_known_by_its_name_wherever_it_lies():
    here, there, other = (
        cells(data={"source": source})[0]
        for source in ("a/{task}.hdf5", "b/{task}.hdf5", "a/{task}_2.hdf5")
    )
    assert here.id == there.id != other.id


def test_a_cell_survives_its_plain_values():
    plan = {"variants": ["none", "sas"], "methods": [{"algo": "dt"}], "layouts": 3}
    for cell in (*cells(), *cells(**plan, shifts=["", "delay:1"])):
        assert cells_lib.from_json(cell.to_json()) == cell


def test_a_setting_that_came_later_has_its_default():
    cell = cells()[0]
    old = cell.description()
    del old["experiment"]["train"]["stop_on"], old["critic"]["horizon"]
    assert cells_lib.normalised(old) == cell.description()


def test_rows_that_are_missing_are_seen():
    cell = dataclasses.replace(cells()[0], shifts=("", "delay:1"))
    assert len(cell.keys()) == 4 and not cell.has_all([])


def test_the_demo_is_a_preset_of_every_algorithm():
    for algo in ("dt", "cdt", "bc", "bc_safe", "cpq", "fisor", "coptidice"):
        config = presets.config_of("demo", "CarPush1", algo)
        assert config.model.policy_blind == ("accelerometer", "gyro"), algo
