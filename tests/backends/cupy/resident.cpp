// Two launches of the kernel that keeps a net, for a sanitizer to watch. Appended to the header and it.
//
// Arguments: how many bytes are missing of a block's shared memory.

KERNEL(train_resident)

int main(int, char** words) {
    const int missing = std::atoi(words[1]), rows = 23, total = 2 * SAMPLES + 1;
    // On the heap, so that what lies beside an array is nobody's.
    const int size = FIRST_SIZE + LAST_SIZE;
    std::vector<REAL> params(size), slots(2 * size);
    std::vector<INPUT> x(rows * INPUTS);
    std::vector<TARGET_ELEMENT> t(rows * OUTPUTS);
    std::vector<long long> order(total);
    std::vector<double> losses(total), coefficients(9, 1.0);
    std::vector<unsigned int> flags(4);
    const std::vector<REAL> weight_of_rows(rows, REAL(0.5));
    std::vector<Word> sums(SAMPLES * ROW_GROUPS * HIDDEN * WORDS_EACH);
    std::vector<Word> sent((ERRORS_SENT + SAMPLES * SENT) * WORDS_EACH), weights(LAST_SIZE * WORDS_EACH);
    for (int i = 0; i < size; ++i) {
        params[i] = REAL((i * 7919) % 101 - 50) / 100;
    }
    for (std::size_t i = 0; i < x.size(); ++i) {
        x[i] = (INPUT)((i * 31) % 3);
    }
    for (int i = 0; i < total; ++i) {
        order[i] = (i * 5) % rows;
    }
    for (unsigned int first : {1u, 4u}) {
        REAL *p = params.data(), *slot = slots.data(), *other = slot + size, divisor = 1;
        unsigned int* told = flags.data();
        int count = size, rule = ADAMW, activation = GELU, loss = CROSS_ENTROPY;
        double lr = 0.1, one = 0.9, two = 0.99, eps = 1e-8, decay = 0.1, none = 0.0, *adam = coefficients.data();
        const INPUT* inputs = x.data();
        const TARGET_ELEMENT* targets = t.data();
        const long long* chosen = order.data();
        long long samples = total;
        const REAL* of_rows = weight_of_rows.data();
        double* found = losses.data();
        Word *a = sums.data(), *b = sent.data(), *c = weights.data();
        void* places[] = {
            &p, &slot, &other, &count, &told, &rule, &lr, &one, &two, &eps, &decay, &none, &adam, &inputs, &divisor,
            &targets, &chosen, &samples, &of_rows, &activation, &loss, &found, &first, &a, &b, &c};
        if (launch("train_resident", WORKERS + LAST_BLOCKS, THREADS, MEMORY_BYTES - missing, places)) {
            std::abort();
        }
    }
}
