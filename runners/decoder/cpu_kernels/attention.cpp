// Attention of single tokens over the columns of their own rows.
//
// A thread takes a token and a key-value head at a time, with the query heads that share it. It
// reads the row's keys and values once, with FlashAttention's online softmax (Dao et al., 2022).

#include "vectors.h"

#include <cmath>

namespace {

constexpr int CHUNK = 256;        // columns whose scores are held at a time
constexpr int MOST_SHARED = 16;   // query heads of a key-value head that are computed together
constexpr int MOST_VECTORS = 16;  // vectors of a head: 256 numbers

template <typename Number>
struct Head {
    const Number *queries;  // of the query heads, one after the other
    const Number *keys, *values;
    Number *results;
    const int64_t *pieces;  // first column and column after the last of each
    int64_t piece_count, column_stride;
    float scale;
};

// The sizes of the catalog's models, and of the one that the benchmarks have in their place (2, 4),
// are constants, so that what a column adds to stays in registers.
// 0 stands for a size that is only known when it runs.
template <int KNOWN_SHARED, int KNOWN_VECTORS, typename Number>
void attend_head(const Head<Number> &of, int any_shared, int any_vectors) {
    const int shared = KNOWN_SHARED ? KNOWN_SHARED : any_shared;
    const int vectors = KNOWN_VECTORS ? KNOWN_VECTORS : any_vectors;
    constexpr int most_shared = KNOWN_SHARED ? KNOWN_SHARED : MOST_SHARED;
    constexpr int most_vectors = KNOWN_VECTORS ? KNOWN_VECTORS : MOST_VECTORS;
    Floats query[most_shared][most_vectors], mixed[most_shared][most_vectors];
    float scores[most_shared][CHUNK];
    float high[most_shared], total[most_shared];
    for (int head = 0; head < shared; head++) {
        for (int n = 0; n < vectors; n++) {
            query[head][n] = load(of.queries + (head * vectors + n) * LANES) * of.scale;
            mixed[head][n] = Floats{};
        }
        high[head] = -INFINITY;
        total[head] = 0;
    }
    for (int64_t piece = 0; piece < of.piece_count; piece++) {
        const int64_t end = of.pieces[2 * piece + 1];
        for (int64_t first = of.pieces[2 * piece]; first < end; first += CHUNK) {
            const int columns = end - first < CHUNK ? end - first : CHUNK;
            const int filled = (columns + LANES - 1) / LANES * LANES;
            const Number *keys = of.keys + first * of.column_stride;
            const Number *values = of.values + first * of.column_stride;
            for (int column = 0; column < columns; column++) {
                for (int head = 0; head < shared; head++) {
                    Floats products = Floats{};
                    for (int n = 0; n < vectors; n++)
                        products += query[head][n] * load(keys + column * of.column_stride + n * LANES);
                    scores[head][column] = sum(products);
                }
            }
            for (int head = 0; head < shared; head++) {
                for (int column = columns; column < filled; column++)
                    scores[head][column] = -INFINITY;
                Floats highs = load(scores[head]);
                for (int column = LANES; column < filled; column += LANES) {
                    const Floats next = load(scores[head] + column);
                    highs = next > highs ? next : highs;
                }
                const float before = high[head], now = highest(highs);
                high[head] = now > before ? now : before;
                Floats sums = Floats{};
                for (int column = 0; column < filled; column += LANES) {
                    const Floats weights = exponential(load(scores[head] + column) - high[head]);
                    store(scores[head] + column, weights);
                    sums += weights;
                }
                const float kept = expf(before - high[head]);
                total[head] = total[head] * kept + sum(sums);
                for (int n = 0; n < vectors; n++) mixed[head][n] *= kept;
            }
            for (int column = 0; column < columns; column++)
                for (int n = 0; n < vectors; n++) {
                    const Floats value = load(values + column * of.column_stride + n * LANES);
                    for (int head = 0; head < shared; head++)
                        mixed[head][n] += value * scores[head][column];
                }
        }
    }
    for (int head = 0; head < shared; head++)
        for (int n = 0; n < vectors; n++)
            store(of.results + (head * vectors + n) * LANES, mixed[head][n] / total[head]);
}

template <typename Number>
void attend(const Number *queries, const Number *keys, const Number *values, Number *results,
            const int64_t *pieces, const int64_t *first_pieces, int64_t tokens, int64_t kv_heads,
            int64_t shared, int64_t size, int64_t query_stride, int64_t key_head_stride,
            int64_t value_head_stride, int64_t column_stride, float scale) {
    const int vectors = size / LANES;
    auto attend_one = shared == 2 && vectors == 8   ? attend_head<2, 8, Number>
                      : shared == 2 && vectors == 4 ? attend_head<2, 4, Number>
                      : shared == 4 && vectors == 8 ? attend_head<4, 8, Number>
                      : shared == 6 && vectors == 8 ? attend_head<6, 8, Number>
                      : shared == 7 && vectors == 8 ? attend_head<7, 8, Number>
                      : shared == 1 && vectors == 4 ? attend_head<1, 4, Number>
                                                    : attend_head<0, 0, Number>;
#pragma omp parallel for schedule(dynamic)
    for (int64_t item = 0; item < tokens * kv_heads; item++) {
        const int64_t head = item / tokens, token = item % tokens;
        const int64_t first_head = head * shared * size;
        for (int64_t first = 0; first < shared; first += MOST_SHARED) {
            const Head<Number> of = {
                queries + token * query_stride + first_head + first * size,
                keys + head * key_head_stride,
                values + head * value_head_stride,
                results + token * kv_heads * shared * size + first_head + first * size,
                pieces + 2 * first_pieces[token],
                first_pieces[token + 1] - first_pieces[token],
                column_stride,
                scale,
            };
            attend_one(of, shared - first < MOST_SHARED ? shared - first : MOST_SHARED, vectors);
        }
    }
}

}  // namespace

// queries: of each token [heads, size] contiguous, the next token's after query_stride numbers.
// results: [tokens, heads, size]. keys, values: a column of a head has `size` numbers, the next
// column begins after column_stride numbers, the next head after key_head_stride or
// value_head_stride. pieces: first column and column after the last of each piece of each token's
// row; those of token n are first_pieces[n] to first_pieces[n + 1] - 1. shared: query heads of a
// key-value head. size: a multiple of LANES, at most MOST_VECTORS of them.
#define EXPORT(name, Number)                                                                     \
    extern "C" void name(const Number *queries, const Number *keys, const Number *values,        \
                         Number *results, const int64_t *pieces, const int64_t *first_pieces,    \
                         int64_t tokens, int64_t kv_heads, int64_t shared, int64_t size,         \
                         int64_t query_stride, int64_t key_head_stride,                          \
                         int64_t value_head_stride, int64_t column_stride, float scale) {        \
        attend(queries, keys, values, results, pieces, first_pieces, tokens, kv_heads, shared,   \
               size, query_stride, key_head_stride, value_head_stride, column_stride, scale);    \
    }

EXPORT(attend_float32, float)
EXPORT(attend_bfloat16, bfloat16)
