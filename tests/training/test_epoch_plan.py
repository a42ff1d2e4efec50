"""Epoch order, plans and pieces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.schedules import fig04_schedule

from margin_jax.parallel import compile_on, map_pieces, row_mesh, sum_pieces
from margin_jax.training.epoch import Plan, epoch_order, make_plan, piece_rows, power_of_two


@pytest.mark.parametrize("kept", [1, 5, 12])
@pytest.mark.parametrize("shuffle", [False, True])
def test_order_is_the_kept_rows_then_padding_that_may_be_read(kept, shuffle):
    mask = np.zeros(12, bool)
    mask[np.random.default_rng(0).permutation(12)[:kept]] = True
    order, count = epoch_order(jnp.asarray(mask), jax.random.key(1), shuffle)
    order = np.asarray(order)
    assert count == kept
    assert sorted(order[:kept]) == list(np.flatnonzero(mask))
    assert (order[kept:] == order[0]).all()
    if not shuffle:
        np.testing.assert_array_equal(order[:kept], np.flatnonzero(mask))


def test_shuffle_depends_on_the_key_and_keeps_relative_order_under_removal():
    full = np.asarray(epoch_order(jnp.ones(50, bool), jax.random.key(1), True)[0])
    other = np.asarray(epoch_order(jnp.ones(50, bool), jax.random.key(2), True)[0])
    assert (full != other).any() and (full != np.arange(50)).any()
    mask = np.arange(50) % 3 == 0
    thinned = np.asarray(epoch_order(jnp.asarray(mask), jax.random.key(1), True)[0])[:mask.sum()]
    np.testing.assert_array_equal(thinned, full[mask[full]])


@pytest.mark.parametrize("kept", [1, 6, 7, 8, 20])
@pytest.mark.parametrize("batch_size,limit", [(1, 256), (7, 256), (7, 3), (0, 256), (0, 4), (20, 256), (19, 8)])
@pytest.mark.parametrize("whole", [False, True])
def test_every_kept_row_is_visited_once_per_epoch(kept, batch_size, limit, whole):
    plan, batch = make_plan(batch_size, kept, limit, whole)
    order, _ = epoch_order(jnp.arange(20) >= 20 - kept, jax.random.key(0), False)
    visited = []
    for start in range(0, kept, batch):
        stop = min(start + batch, kept)
        pieces = 1 if plan.single else -(-(stop - start) // plan.piece)
        assert stop - start <= pieces * plan.piece
        for index in range(pieces):
            rows, weights = piece_rows(order, start + index * plan.piece, stop, plan.piece)
            assert rows.shape == weights.shape == (plan.piece,)
            assert (np.asarray(rows)[np.asarray(weights) == 0] >= 20 - kept).all()
            visited += np.asarray(rows)[np.asarray(weights) == 1].tolist()
    assert visited == list(range(20 - kept, 20))


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("batch_size", [0, 1, 50, 254, 1000])
@pytest.mark.parametrize("devices", [1, 2])
def test_the_whole_schedule_meets_few_plans_and_wastes_less_than_it_keeps(whole, batch_size, devices):
    total = 50_000
    counts = fig04_schedule(total)
    assert counts[0] == total and counts[-1] == 1 and len(counts) > 40
    plans = set()
    for kept in counts:
        plan, batch = make_plan(batch_size, kept, 256, whole, devices, total)
        plans.add(plan)
        steps = -(-kept // batch)
        computed = devices * steps * plan.piece * (1 if plan.single else -(-batch // (plan.piece * devices)))
        assert computed >= kept
        assert computed <= 2 * kept + batch + 256 * devices + devices * steps
        if batch_size == 0 and whole and devices == 1:
            assert computed < 2 * kept and (kept < total or computed == total)
    assert len(plans) <= int(np.ceil(np.log2(total))) + 1


def test_plans_by_hand():
    assert make_plan(50, 1000, 256, False) == (Plan(50, True), 50)
    assert make_plan(50, 20, 256, False) == (Plan(32, True), 20)
    assert make_plan(0, 1000, 256, False) == (Plan(256, False), 1000)
    assert make_plan(0, 1000, 256, True) == (Plan(1024, True), 1000)
    assert make_plan(0, 900, 256, True, total=1000) == (Plan(1000, True), 900)
    assert make_plan(50, 1000, 256, False, devices=4) == (Plan(13, True), 50)
    assert make_plan(0, 1000, 256, True, devices=4, total=1000) == (Plan(250, True), 1000)
    assert make_plan(300, 1000, 256, False) == (Plan(150, False), 300)
    assert [power_of_two(n) for n in (1, 2, 3, 4, 5, 1025)] == [1, 2, 4, 4, 8, 2048]


@pytest.mark.parametrize("count", [1, 4, 5, 6, 13])
def test_map_pieces_matches_one_call_and_keeps_pytrees(count):
    x, y = jnp.arange(count * 2.0).reshape(count, 2), jnp.arange(count)
    fn = lambda x, y: {"sum": x.sum(1) + y, "pair": (x * 2, y > 2)}  # noqa: E731
    whole, parts = fn(x, y), jax.jit(lambda: map_pieces(fn, (x, y), 5))()
    jax.tree.map(np.testing.assert_array_equal, whole, parts)


@pytest.mark.parametrize("arrays,piece", [((jnp.ones(3), jnp.ones(4)), 2), ((jnp.ones(0),), 2), ((jnp.ones(3),), 0)])
def test_map_pieces_refuses_bad_shapes(arrays, piece):
    with pytest.raises(ValueError, match="expected piece >= 1"):
        map_pieces(lambda *a: a[0], arrays, piece)


def test_map_pieces_holds_one_piece_at_a_time():
    def temporary_bytes(count):
        def run(x, w):
            return map_pieces(lambda rows: (rows @ w).sum(1), (x,), 10)

        shapes = jax.ShapeDtypeStruct((count, 4), jnp.float32), jax.ShapeDtypeStruct((4, 1000), jnp.float32)
        return jax.jit(run).lower(*shapes).compile().memory_analysis().temp_size_in_bytes

    assert temporary_bytes(10_000) < temporary_bytes(100) + 2 * 4 * 10_000  # beyond the (N,) result itself


@pytest.mark.parametrize("piece", [1, 4, 5, 6, 23, 24])
def test_sum_pieces_counts_every_row_once(piece):
    x = jnp.arange(1.0, 24.0) ** 2
    found = jax.jit(lambda x: sum_pieces(lambda x, new: {"sum": jnp.sum(x, where=new), "count": jnp.sum(
        new.astype(jnp.float32))}, (x,), piece))(x)
    assert found == {"sum": sum(n * n for n in range(1, 24)), "count": 23}


@pytest.mark.parametrize("count", [1, 3, 4, 23])
def test_sum_pieces_shares_the_rows_out_among_devices(count):
    mesh = row_mesh(4)
    shared = compile_on(lambda x: sum_pieces(lambda x, new: jnp.sum(x, 0, where=new[:, None]), (x,), 3, mesh), mesh)
    rows = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
    np.testing.assert_array_equal(shared(rows), rows.sum(0))
