"""Products of panels against NumPy, between guards, with NaN wherever nothing is to be read."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

import accelnn
from accelnn.backends import TrainingState

# Rows around the blocks that are summed together, and columns around the width of panels.
ROWS = (1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 24, 31)
COLUMNS = (1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65)
GUARD = 64
UNTOUCHED = -12345.0


@pytest.fixture(scope="module")
def kernels(compiled):
    """Return the products as functions that Python can call."""
    assert compiled.name == "numba"
    import numba

    from accelnn.backends.numba._jit import OPTIONS
    from accelnn.backends.numba.kernels import products, rows
    from accelnn.backends.numba.vectors import DEEP, SHORT, WIDE, load, store

    compile_ = numba.njit(**OPTIONS)
    multiply_, transposed_, transpose_ = (
        products.multiply,
        products.multiply_transposed,
        products.transpose,
    )
    rows_, rows_transposed_ = rows.multiply_rows, rows.multiply_rows_transposed
    sparse_, add_sparse_ = products.multiply_sparse_row, products.add_sparse_row

    @compile_
    def multiply(
        a,
        a_start,
        capacity,
        inner,
        b,
        b_start,
        b_row,
        c,
        c_start,
        first,
        last,
        start,
        add,
        used,
        ahead,
    ):
        from_ = load(start, 0)
        multiply_(
            a,
            a_start,
            capacity,
            inner,
            b,
            b_start,
            b_row,
            c,
            c_start,
            first,
            last,
            from_,
            add,
            used,
            ahead,
        )

    @compile_
    def multiply_transposed(a, a_start, columns, d, d_start, rows, g, g_start, used):
        transposed_(a, a_start, columns, d, d_start, rows, g, g_start, used)

    @compile_
    def multiply_rows(
        x, begins, column, inner, b, b_start, b_row, c, c_start, first, last, start, add, used
    ):
        from_ = load(start, 0)
        rows_(
            x,
            begins,
            column,
            inner,
            b,
            b_start,
            b_row,
            c,
            c_start,
            first,
            last,
            from_,
            add,
            used,
        )

    @compile_
    def multiply_rows_transposed(x, begins, column, columns, d, d_start, rows, g, g_start, used):
        rows_transposed_(x, begins, column, columns, d, d_start, rows, g, g_start, used)

    @compile_
    def multiply_sparse_row(values, columns, k, stop, b, b_start, b_row, out, out_start):
        store(out, out_start, sparse_(values, columns, k, stop, b, b_start, b_row))

    @compile_
    def add_sparse_row(values, columns, k, stop, d, g, g_start):
        add_sparse_(values, columns, k, stop, load(d, 0), g, g_start)

    @compile_
    def transpose(b, b_start, b_row, b_panel, rows, first, last, out, out_start):
        transpose_(b, b_start, b_row, b_panel, rows, first, last, out, out_start)

    return SimpleNamespace(
        multiply=multiply,
        multiply_transposed=multiply_transposed,
        multiply_rows=multiply_rows,
        multiply_rows_transposed=multiply_rows_transposed,
        multiply_sparse_row=multiply_sparse_row,
        add_sparse_row=add_sparse_row,
        transpose=transpose,
        deep=DEEP,
        short=SHORT,
        wide=WIDE,
    )


def _integers(draw, shape, dtype):
    """Return small integers: sums of their products are exact in any order."""
    return draw.integers(-9, 10, shape).astype(dtype)


def _panels(matrix, lanes, capacity):
    """Lay a matrix out in panels of `capacity` rows, NaN where it has no numbers."""
    rows, columns = matrix.shape
    panels = -(-columns // lanes)
    padded = np.full((capacity, panels * lanes), np.nan, matrix.dtype)
    padded[:rows, :columns] = matrix
    return padded.reshape(capacity, panels, lanes).transpose(1, 0, 2).ravel()


def _between_guards(flat, value=np.nan):
    guard = np.full(GUARD, value, flat.dtype)
    return np.concatenate([guard, flat, guard])


def _target(size, dtype):
    """Return memory to write to, between guards."""
    return np.full(GUARD + size + GUARD, UNTOUCHED, dtype)


@pytest.fixture(params=["one", "half", "more", "all"])
def used(request, lanes):
    """Return how many columns of a panel are used: of half of them, the rest is not computed."""
    return {"one": 1, "half": lanes // 2, "more": lanes // 2 + 1, "all": lanes}[request.param]


def _nan_after_half(matrix, used):
    """Make NaN what is not to be read, if only half of a panel is used."""
    half = matrix.shape[1] // 2
    if used <= half:
        matrix[:, half:] = np.nan
    return matrix


def _zero_after_half(matrix, used):
    half = matrix.shape[1] // 2
    if used <= half:
        matrix = matrix.copy()
        matrix[:, half:] = 0.0
    return matrix


@pytest.mark.parametrize("add", [False, True])
@pytest.mark.parametrize("apart", [0, 3])
def test_multiply(kernels, dtype, lanes, add, apart, used):
    """With rows of weights one after the other, or further apart."""
    draw = np.random.default_rng(0)
    for rows, inner in itertools.product(ROWS, COLUMNS):
        for first in {0, min(4, rows - 1)}:
            capacity = -(-rows // kernels.short) * kernels.short
            a, b = _integers(draw, (rows, inner), dtype), _integers(draw, (inner, lanes), dtype)
            start = _integers(draw, (rows if add else 1, lanes), dtype)
            b, start = _nan_after_half(b, used), _nan_after_half(start, used)
            c = _target((capacity + kernels.short) * lanes, dtype)
            if add:
                c[GUARD : GUARD + rows * lanes] = start.ravel()
            kernels.multiply(
                _between_guards(_panels(a, lanes, capacity)),
                GUARD,
                capacity,
                inner,
                _between_guards(np.pad(b, ((0, 0), (0, apart)), constant_values=np.nan).ravel()),
                GUARD,
                lanes + apart,
                c,
                GUARD,
                first,
                rows,
                np.full(lanes, np.nan, dtype) if add else start[0],
                add,
                used,
                # Prefetching changes nothing, wherever it looks.
                draw.choice([-1, 0, 1 << 40]),
            )
            written = c[GUARD : GUARD + rows * lanes].reshape(rows, lanes)
            expected = _zero_after_half(start + a @ b, used)
            np.testing.assert_array_equal(written[first:], expected[first:])
            untouched = start[:first] if add else np.full((first, lanes), UNTOUCHED)
            np.testing.assert_array_equal(written[:first], untouched)
            # Rows after the last are written where they complete a block, and no others.
            after = c[GUARD + rows * lanes :].reshape(-1)
            assert (after[(kernels.short - 1) * lanes :] == UNTOUCHED).all()
            assert (c[:GUARD] == UNTOUCHED).all()


def _scattered(draw, rows):
    """Return samples in another order, between guards, and where each row is in them."""
    order = draw.permutation(len(rows))
    begins = np.empty(len(rows), np.int64)
    begins[order] = GUARD + np.arange(len(rows)) * rows.shape[1]
    return _between_guards(rows[order].ravel()), begins


@pytest.mark.parametrize("add", [False, True])
def test_multiply_rows(kernels, dtype, lanes, add, used):
    """With some columns of rows that are in any order."""
    draw = np.random.default_rng(0)
    for rows, inner in itertools.product(ROWS, COLUMNS):
        for first, column in itertools.product({0, min(4, rows - 1)}, (0, 3)):
            capacity = -(-rows // kernels.short) * kernels.short
            a, b = (
                _integers(draw, (rows, inner + column), dtype),
                _integers(draw, (column + inner, lanes), dtype),
            )
            x, begins = _scattered(draw, a)
            # Rows that complete a block are the last one again.
            begins = np.pad(begins, (0, kernels.short), mode="edge")
            start = _integers(draw, (rows if add else 1, lanes), dtype)
            b, start = _nan_after_half(b, used), _nan_after_half(start, used)
            b[:column] = np.nan
            c = _target((capacity + kernels.short) * lanes, dtype)
            if add:
                c[GUARD : GUARD + rows * lanes] = start.ravel()
            kernels.multiply_rows(
                x,
                begins,
                column,
                inner,
                _between_guards(b.ravel()),
                GUARD,
                lanes,
                c,
                GUARD,
                first,
                rows,
                np.full(lanes, np.nan, dtype) if add else start[0],
                add,
                used,
            )
            written = c[GUARD : GUARD + rows * lanes].reshape(rows, lanes)
            expected = _zero_after_half(start + a[:, column:] @ b[column:], used)
            np.testing.assert_array_equal(written[first:], expected[first:])
            untouched = start[:first] if add else np.full((first, lanes), UNTOUCHED)
            np.testing.assert_array_equal(written[:first], untouched)
            after = c[GUARD + rows * lanes :].reshape(-1)
            assert (after[(kernels.short - 1) * lanes :] == UNTOUCHED).all()
            assert (c[:GUARD] == UNTOUCHED).all()


def test_multiply_rows_transposed(kernels, dtype, lanes, used):
    draw = np.random.default_rng(0)
    for rows, columns in itertools.product(ROWS, range(1, lanes + 1)):
        for column in (0, 3):
            a = _integers(draw, (rows, column + columns), dtype)
            x, begins = _scattered(draw, a)
            d = _nan_after_half(_integers(draw, (rows, lanes), dtype), used)
            g = _target(columns * lanes, dtype)
            kernels.multiply_rows_transposed(
                x,
                begins,
                column,
                columns,
                _between_guards(d.ravel()),
                GUARD,
                rows,
                g,
                GUARD,
                used,
            )
            written = g[GUARD:-GUARD].reshape(columns, lanes)
            expected = _zero_after_half(a[:, column:].T @ d, used)
            np.testing.assert_array_equal(written, expected)
            assert (g[:GUARD] == UNTOUCHED).all()
            assert (g[-GUARD:] == UNTOUCHED).all()


def test_multiply_reads_and_writes_the_same_buffer(kernels, dtype, lanes):
    """As layers do: panels of one layer's outputs lie beside those of the next."""
    draw = np.random.default_rng(1)
    rows, inner = 12, 2 * lanes + 1
    a, b = _integers(draw, (rows, inner), dtype), _integers(draw, (inner, lanes), dtype)
    panels, zeros = _panels(a, lanes, rows), np.zeros(lanes, dtype)
    add = False
    z = np.concatenate([np.full(rows * lanes, UNTOUCHED, dtype), panels])
    kernels.multiply(
        z, rows * lanes, rows, inner, b.ravel(), 0, lanes, z, 0, 0, rows, zeros, add, lanes, -1
    )
    np.testing.assert_array_equal(z[: rows * lanes].reshape(rows, lanes), a @ b)
    np.testing.assert_array_equal(z[rows * lanes :], panels)


def test_multiply_transposed(kernels, dtype, lanes, used):
    draw = np.random.default_rng(0)
    # The last two are more than are summed at a time.
    many = (*ROWS, kernels.deep + 1, 3 * kernels.deep)
    for rows, columns in itertools.product(many, [c for c in COLUMNS if c <= lanes]):
        a, d = _integers(draw, (rows, columns), dtype), _integers(draw, (rows, lanes), dtype)
        d = _nan_after_half(d, used)
        g = _target(lanes * lanes, dtype)
        kernels.multiply_transposed(
            _between_guards(_panels(a, lanes, rows)),
            GUARD,
            columns,
            _between_guards(d.ravel()),
            GUARD,
            rows,
            g,
            GUARD,
            used,
        )
        written = g[GUARD:-GUARD].reshape(lanes, lanes)
        np.testing.assert_array_equal(written[:columns], _zero_after_half(a.T @ d, used))
        # Columns after the last are written where they complete a block: NaN, as they were read.
        assert (written[columns + kernels.wide - 1 :] == UNTOUCHED).all()
        assert (g[:GUARD] == UNTOUCHED).all()
        assert (g[-GUARD:] == UNTOUCHED).all()


@pytest.mark.parametrize("kind", [np.uint16, np.uint32])
def test_rows_of_which_the_non_zeros_are_stored(kernels, dtype, lanes, kind):
    draw = np.random.default_rng(0)
    inputs = 70
    b = _integers(draw, (inputs, lanes), dtype)
    for count in (0, 1, 2, 3, 4, 5, 7, 8, 9, 33, 70):
        columns = np.sort(draw.permutation(inputs)[:count])
        values = _integers(draw, count, dtype)
        dense = np.zeros(inputs, dtype)
        dense[columns] = values
        # Numbers before and after the row are other samples', whose columns are far away.
        stored = np.concatenate([[0, 0, 0], columns, np.full(5, 0)]).astype(kind)
        numbers = np.concatenate([np.full(3, np.nan), values, np.full(5, np.nan)]).astype(dtype)
        out = _target(lanes, dtype)
        kernels.multiply_sparse_row(
            numbers, stored, 3, 3 + count, _between_guards(b.ravel()), GUARD, lanes, out, GUARD
        )
        np.testing.assert_array_equal(out[GUARD:-GUARD], dense @ b)
        assert (out[:GUARD] == UNTOUCHED).all()
        assert (out[-GUARD:] == UNTOUCHED).all()

        d, g = _integers(draw, lanes, dtype), _integers(draw, (inputs, lanes), dtype)
        written = _between_guards(g.ravel(), UNTOUCHED)
        kernels.add_sparse_row(numbers, stored, 3, 3 + count, d, written, GUARD)
        expected = _between_guards((g + np.outer(dense, d)).ravel(), UNTOUCHED)
        np.testing.assert_array_equal(written, expected)


@pytest.mark.parametrize("rows", COLUMNS)
def test_transpose(kernels, dtype, lanes, rows):
    """Up to `LANES` rows of all panels of weights, packed and in place."""
    draw = np.random.default_rng(0)
    rows = min(rows, lanes)
    for columns, first_row in itertools.product(COLUMNS, (0, lanes)):
        b = _integers(draw, (2 * lanes, columns), dtype)
        packed = (_panels(b, lanes, 2 * lanes), lanes, 2 * lanes * lanes)
        for (numbers, b_row, b_panel), first in itertools.product(
            (packed, (b.ravel(), columns, lanes)), range(0, columns, lanes)
        ):
            count = columns - first
            out = _target(count * lanes, dtype)
            kernels.transpose(
                _between_guards(numbers),
                GUARD + first_row * b_row,
                b_row,
                b_panel,
                rows,
                first,
                columns,
                out,
                GUARD,
            )
            written = out[GUARD:-GUARD].reshape(count, lanes)
            expected = b[first_row : first_row + rows, first:].T
            np.testing.assert_array_equal(written[:, :rows], expected)
            assert (written[:, rows:] == 0.0).all()
            assert (out[:GUARD] == UNTOUCHED).all()
            assert (out[-GUARD:] == UNTOUCHED).all()


@pytest.mark.parametrize("density", [0.1, 1.0])
@pytest.mark.parametrize("optimizer", [accelnn.SGD(0.1), accelnn.Adam(), accelnn.AdaGrad()])
def test_the_filling_of_panels_stays_zero(compiled, dtype, lanes, optimizer, density, monkeypatch):
    draw = np.random.default_rng(2)
    sizes = (lanes + 1, lanes - 1, 1, 3)
    x = draw.normal(size=(37, sizes[0])) * (draw.random((37, sizes[0])) < density)
    net = accelnn.MLP(sizes, dtype=dtype.__name__, rng=3, backend=compiled)
    data = accelnn.prepare(x, draw.integers(0, 3, 37), backend=compiled, dtype=net.dtype)
    state = TrainingState(net.flat, optimizer, "analytic", compiled)
    packed, pack = [], type(net.engine)._net

    def packing(self, *given):
        packed.append(pack(self, *given))
        return packed[-1]

    monkeypatch.setattr(type(net.engine), "_net", packing)
    net.engine.train(state, data, np.arange(37), 7)
    (trained,) = packed
    is_parameter = pack(net.engine, np.ones_like(net.flat)).params != 0.0
    assert np.count_nonzero(is_parameter) == net.size
    assert (trained.params[~is_parameter] == 0.0).all()
    assert trained.params[is_parameter].any()
