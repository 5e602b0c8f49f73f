from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from noisescale.runs import pack_id
from noisescale.sweeps import Grid
from noisescale.sweeps.cost import ModelSize, memory, seconds
from noisescale.sweeps.plan import MIN_PACK_RUNS, PACK_BYTES, PACK_PARAMETERS, PackLimits, Plan, make_packs, pack_size

MakeGrid = Callable[..., Grid]
SMALL = {2: ModelSize(100, 50, 100), 4: ModelSize(200, 60, 100)}


def test_packs_have_equal_shapes_and_hold_every_run_once(make_grid: MakeGrid) -> None:
    runs = make_grid(seeds=3, grid__width=[2, 4], grid__batch_size=[5, 10], grid__momentum=[0.0, 0.9]).runs()
    packs = make_packs(reversed(runs), SMALL)
    assert sorted(run.run_id for pack in packs for run in pack.runs) == sorted(run.run_id for run in runs)
    for pack in packs:
        assert len({run.shape_key for run in pack.runs}) == 1
        assert pack.pack_id == pack_id(list(pack.runs))
    # The runs of a pack have one width and one batch size; their rate, momentum and seed may differ.
    assert len(packs) == 4
    assert [pack.seconds for pack in packs] == sorted((pack.seconds for pack in packs), reverse=True)


@pytest.mark.parametrize(("count", "parameters"), [(100, 10_000), (100, 10**6), (7, 10), (53, 20_000), (1000, 3000)])
def test_packs_are_cut_into_equal_parts_within_the_limits(make_grid: MakeGrid, count: int, parameters: int) -> None:
    runs = make_grid(seeds=count, grid__learning_rate=[1.0]).runs()
    shape = ModelSize(parameters, 100, 100)
    size = pack_size(runs, shape)
    largest = max(MIN_PACK_RUNS, PACK_PARAMETERS // parameters)
    assert size <= largest
    parts = [len(pack.runs) for pack in make_packs(runs, {2: shape})]
    assert max(parts) - min(parts) <= len(parts)
    assert len(parts) == -(-count // largest)


def test_a_long_pack_is_divided_among_workers(make_grid: MakeGrid) -> None:
    runs = make_grid(seeds=80, grid__learning_rate=[1.0], training__steps=20_000, grid__batch_size=[50]).runs()
    shape = ModelSize(5000, 100, 100)
    (whole,) = make_packs(runs, {2: shape})
    for workers, sizes in ((2, [40, 40]), (4, [20] * 4), (100, [10] * 8)):
        packs = make_packs(runs, {2: shape}, PackLimits(workers=workers))
        assert [len(pack.runs) for pack in packs] == sizes
        assert sorted(run.run_id for pack in packs for run in pack.runs) == sorted(run.run_id for run in runs)
        assert max(pack.seconds for pack in packs) < whole.seconds
    short = make_grid(seeds=80, grid__learning_rate=[1.0], training__steps=200, grid__batch_size=[50]).runs()
    assert len(make_packs(short, {2: shape}, PackLimits(workers=2))) == 1  # starting a second worker would take longer
    small = {2: ModelSize(10, 10, 10)}  # the overhead of steps dominates, so halves take as long as the whole
    assert len(make_packs(runs, small, PackLimits(workers=2))) == 1


def test_packs_that_keep_all_workers_busy_stay_whole(make_grid: MakeGrid) -> None:
    grid = make_grid(seeds=40, grid__learning_rate=[1.0], training__steps=20_000, grid__batch_size=[50, 60])
    shape = ModelSize(5000, 100, 100)
    assert [len(pack.runs) for pack in make_packs(grid.runs(), {2: shape}, PackLimits(workers=2))] == [40, 40]
    assert [len(pack.runs) for pack in make_packs(grid.runs(), {2: shape}, PackLimits(workers=3))] == [20] * 4


def test_a_model_that_fills_the_memory_trains_alone(make_grid: MakeGrid) -> None:
    runs = make_grid(seeds=5, grid__learning_rate=[1.0]).runs()
    shape = ModelSize(PACK_BYTES, 1, 1)
    assert memory(runs[:1], shape) > PACK_BYTES
    assert pack_size(runs, shape) == 1


def test_cost_grows_with_runs_parameters_steps_and_precision(make_grid: MakeGrid) -> None:
    runs = make_grid(seeds=4).runs()
    plain = seconds(runs, SMALL[2])
    assert seconds(runs[:2], SMALL[2]) < plain < seconds(runs, SMALL[4])
    assert plain < seconds(make_grid(seeds=4, training__steps=24).runs(), SMALL[2])
    assert memory(runs, SMALL[2]) * 2 == memory(make_grid(seeds=4, training__precision="float64").runs(), SMALL[2])


def test_a_stored_plan_is_read_back_and_reused(make_grid: MakeGrid, tmp_path: Path) -> None:
    runs = make_grid(seeds=4, grid__width=[2, 4]).runs()
    plan = Plan(tmp_path / "plan.jsonl")
    plan.add(make_packs(runs, SMALL))
    again = Plan(tmp_path / "plan.jsonl")
    assert again.packs == plan.packs
    more = make_grid(seeds=6, grid__width=[2, 4]).runs()
    planned, new = again.packs_for(more, SMALL)
    assert {pack.pack_id for pack in planned} == plan.packs.keys()
    assert {run.seed for pack in new for run in pack.runs} == {4, 5}
    planned, new = again.packs_for(runs[:1], SMALL)  # a missing run trains with its whole pack
    assert len(planned) == 1 and not new


def test_packs_that_are_no_longer_required_are_removed(make_grid: MakeGrid, tmp_path: Path) -> None:
    plan = Plan(tmp_path / "plan.jsonl")
    packs = make_packs(make_grid(grid__width=[2, 4]).runs(), SMALL)
    plan.add(packs)
    plan.retain({packs[0].pack_id})
    assert list(Plan(tmp_path / "plan.jsonl").packs) == [packs[0].pack_id]
    assert plan.packs_for(packs[1].runs, SMALL)[0] == []
