// One launch of every kernel, for a sanitizer to watch. Appended to the header and the kernels.
//
// Arguments: blocks, threads, and how many bytes are missing of a block's shared memory.

KERNEL(batch_errors)
KERNEL(batch_gradient)
KERNEL(batch_update)
KERNEL(batch_values)
KERNEL(check_call)
KERNEL(check_parameters)
KERNEL(differences)
KERNEL(evaluate)
KERNEL(gather_rows)
KERNEL(gradient_squares)
KERNEL(hidden_errors)
KERNEL(hidden_values)
KERNEL(mean_losses)
KERNEL(output_errors)
KERNEL(tile_hits)
KERNEL(tile_join)
KERNEL(tile_values)
KERNEL(train)
KERNEL(train_tiles)
KERNEL(update_parameters)

static unsigned int blocks, threads, missing;

template <typename... A>
static void run_with(const char* name, unsigned int own_threads, std::size_t bytes, A... arguments) {
    void* places[] = {static_cast<void*>(&arguments)...};
    if (launch(name, blocks, own_threads, bytes - missing, places) != 0) {
        std::abort();
    }
}

template <typename... A>
static void run(const char* name, A... arguments) {
    // Three doubles for each thread, and the widths of four layers.
    run_with(name, threads, 24 * threads + 4 * sizeof(int), arguments...);
}

template <typename... A>
static void run_tiles(const char* name, A... arguments) {
    run_with(name, TILE_THREADS, TILE_BYTES + sizeof(Phases), arguments...);
}

int main(int, char** words) {
    blocks = std::atoi(words[1]);
    threads = std::atoi(words[2]);
    missing = std::atoi(words[3]);
    const int rows = 23, batch = 9;
    // On the heap, so that what lies beside an array is nobody's.
    const std::vector<int> sizes = {9, 4, 3, 2};
    const int units = 9;
    // Of the first of three layers, whose moves go through a whole layer.
    const int far = 10 * 4;
    const int size = far + 5 * 3 + 4 * 2;
    std::vector<REAL> params(size), slots(2 * size), gradient(size);
    std::vector<INPUT> x(rows * 9);
    std::vector<TARGET_ELEMENT> t(rows * 2);
    std::vector<long long> order(rows);
    std::vector<REAL> values(rows * units), errors(rows * units);
    std::vector<double> losses(rows), hits(rows), coefficients(9, 1.0), means(4);
    std::vector<unsigned int> flags(4);
    const std::vector<REAL> weight_of_rows(rows, REAL(0.5));
    const REAL* const weights = weight_of_rows.data();
    for (int i = 0; i < size; ++i) {
        params[i] = REAL((i * 7919) % 101 - 50) / 100;
    }
    for (std::size_t i = 0; i < x.size(); ++i) {
        x[i] = (INPUT)((i * 31) % 3);
    }
    for (int i = 0; i < rows; ++i) {
        order[i] = (i * 5) % rows;
        t[i] = (TARGET_ELEMENT)(i % 2);
    }
    const auto of_batch = [&](const char* name, int samples, auto... first) {
        run(name, first..., 3, 1, int(GELU), 0, (const int*)sizes.data(),
            (const INPUT*)x.data(), REAL(1), (const TARGET_ELEMENT*)t.data(),
            (const long long*)order.data(), samples, weights, units, values.data(), errors.data(),
            losses.data());
    };
    REAL* const p = params.data();
    unsigned int* const told = flags.data();
    const double* const adam = coefficients.data();
    const auto updating = [&](const char* name, int samples, auto... last) {
        of_batch(name, samples, p, slots.data(), slots.data() + size, size, told, int(ADAM),
                 0.1, 0.9, 0.99, 1e-8, 0.1, 0.0, adam, last...);
    };
    run("check_parameters", (const REAL*)p, size, told);
    std::vector<signed char> given(rows, 1);
    std::vector<int> labels(rows);
    run("check_call", (const REAL*)p, size, 1e12, (const void*)given.data(), -1, (long long)rows, 0.0,
        1.0, labels.data(), told);
    const unsigned long long least = 1ull << 31, seed = 7;
    const std::vector<unsigned int> all_numbers = {0, 1, 2};
    const unsigned int* const numbers = all_numbers.data();
    of_batch("batch_errors", rows, (const REAL*)p, told, least, REAL(2), seed, numbers, 1ll);
    of_batch("batch_gradient", rows, gradient.data(), size);
    updating("batch_update", rows, 0ll);
    std::vector<REAL> work(blocks * 2 * 3);
    of_batch("batch_values", rows, (const REAL*)p, (const unsigned int*)told);
    of_batch("differences", rows, (const REAL*)p, (const unsigned int*)told, gradient.data(), size,
             far, 1e-4, 1.0, 0.5, -1.0, -0.5, work.data(), 3);
    updating("train", batch, (long long)rows, least, REAL(2), seed, numbers);
    of_batch("evaluate", rows, (const REAL*)p, (const unsigned int*)told, hits.data());

    // The last layer by products: its 3 inputs are the values of some other layer.
    std::vector<REAL> gathered(rows * 9), hidden(rows * 3), scores(rows * 2), wrong(rows * 2);
    run("gather_rows", 9, (const INPUT*)x.data(), REAL(1),
        (const TARGET_ELEMENT*)t.data(), (const long long*)order.data(), rows, weights, gathered.data());
    std::vector<REAL> pre(rows * 3);
    run("hidden_values", hidden.data(), (const REAL*)p, pre.data(), (long long)rows * 3, 3, int(GELU),
        0, least, REAL(2), seed, numbers, 1ll);
    run("output_errors", scores.data(), (const REAL*)p, 0, 2, (const INPUT*)x.data(),
        REAL(1), (const TARGET_ELEMENT*)t.data(), (const long long*)order.data(), rows,
        weights, wrong.data(), losses.data(), told);
    run("hidden_errors", hidden.data(), (const REAL*)gathered.data(), (const REAL*)pre.data(),
        (long long)rows * 3, 3, int(GELU), 0, least, REAL(2), seed, numbers, 1ll);
    run("mean_losses", (const double*)losses.data(), (long long)rows, batch, means.data(),
        (const unsigned int*)told);
    std::vector<double> squares(blocks);
    run("gradient_squares", (const REAL*)gradient.data(), size, squares.data());
    run("update_parameters", p, slots.data(), slots.data() + size, size, told,
        int(ADAMW), 0.1, 0.9, 0.99, 1e-8, 0.1, 0.0, adam, 3, 1, (const int*)sizes.data(), 0ll,
        (const REAL*)gradient.data(), 0.1, (const double*)squares.data(), (int)blocks);

    // An evaluation by tiles, the sums of the first layer in two parts.
    std::vector<REAL> sums(2 * rows * 4), inner(rows * 4), outer(rows * 2);
    const INPUT* pixels = x.data();
    const TARGET_ELEMENT* targets = t.data();
    const long long* chosen = order.data();
    run_tiles("tile_values", (const REAL*)nullptr, (const REAL*)p, 9, 4, 2, sums.data(), pixels,
              REAL(1), targets, chosen, rows, weights);
    run("tile_join", (const REAL*)sums.data(), (const REAL*)p, 4, int(GELU), 2, rows,
        inner.data());
    run_tiles("tile_values", (const REAL*)inner.data(), (const REAL*)p, 4, 2, 1, outer.data(), pixels,
              REAL(1), targets, chosen, rows, weights);
    run("tile_join", (const REAL*)outer.data(), (const REAL*)p, 2, -1, 1, rows, outer.data());
    run("tile_hits", (const REAL*)outer.data(), 0, 2, pixels, REAL(1), targets, chosen, rows, weights,
        losses.data(), hits.data());

    // Steps in tiles, of which the last is short, with sums in parts and in one; then fused.
    const std::vector<int> splits = {2, 1, 2, 1, 2, 1, 2, 1, 3};
    std::vector<REAL> all_sums(2 * batch * 4), gradients(3 * size), gathered_batch(batch * 9);
    for (int is_fused = 0; is_fused < 2; ++is_fused) {
        run_tiles("train_tiles", p, slots.data(), slots.data() + size, size, told, int(ADAM), 0.1,
                  0.9, 0.99, 1e-8, 0.1, 0.0, adam, (long long)rows, 3, 1, int(GELU), 0,
                  (const int*)sizes.data(), pixels, REAL(1), targets, chosen, batch, weights,
                  (const int*)splits.data(), 2, is_fused, batch, gathered_batch.data(), values.data(),
                  errors.data(), all_sums.data(), gradients.data(), losses.data());
    }
}
