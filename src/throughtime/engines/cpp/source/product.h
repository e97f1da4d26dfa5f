// Matrix products in registers: C[rows][columns] += A[rows][k] B[k][columns], tile by tile.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "vectors.h"

namespace throughtime {
namespace {  // each library's own: the loader would merge names that are the same in two

// A tile keeps ROWS x WIDTH vectors of C, WIDTH of B and one of A in registers.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int REGISTERS = 32, WIDTH = 4;
#else
constexpr int REGISTERS = 16, WIDTH = 2;
#endif
constexpr int ROWS = 8;
// Tiles of so few rows are wider: two vectors have too few sums to fill the time that each takes.
constexpr int WIDEST = 4, WIDE_ROWS = 2;
constexpr int rows_at(int width) {
    return std::min(ROWS, (REGISTERS - 1 - width) / width);
}

// By rows: A(r, k) = a[r][k]. By columns: A(r, k) = a[k][column + r], the transpose of what is stored.
template <int M, int N, bool BY_COLUMNS>
void tile(int64_t depth, const real* const* a, int64_t column, const real* b, int64_t b_stride,
          real* const* c) {
    vec total[M][N];
    const real* row[M];
#pragma GCC unroll 8
    for (int m = 0; m < M; m++) {
        row[m] = BY_COLUMNS ? nullptr : a[m];
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) total[m][n] = loadu(c[m] + n * LANES);
    }
    // Few sums would wait for each other: odd and even k have their own.
    constexpr int PARTS = M * N <= 4 ? 2 : 1;
    vec second[M][N] = {};
    int64_t k = 0;
    const auto add = [&](vec (&sum)[M][N], int64_t k) {
        vec right[N];
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) right[n] = loadu(b + k * b_stride + n * LANES);
        const real* left = BY_COLUMNS ? a[k] + column : nullptr;
#pragma GCC unroll 8
        for (int m = 0; m < M; m++) {
            const vec factor = broadcast(BY_COLUMNS ? left[m] : row[m][k]);
#pragma GCC unroll 8
            for (int n = 0; n < N; n++) sum[m][n] += factor * right[n];
        }
    };
    if (PARTS == 2)
        for (; k + 1 < depth; k += 2) {
            add(total, k);
            add(second, k + 1);
        }
    for (; k < depth; k++) add(total, k);
    if (PARTS == 2)
#pragma GCC unroll 8
        for (int m = 0; m < M; m++)
#pragma GCC unroll 8
            for (int n = 0; n < N; n++) total[m][n] += second[m][n];
#pragma GCC unroll 8
    for (int m = 0; m < M; m++)
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) storeu(c[m] + n * LANES, total[m][n]);
}

using Tile = void (*)(int64_t, const real* const*, int64_t, const real*, int64_t, real* const*);

template <int N, bool BY_COLUMNS, int M = 1>
Tile tile_of(int rows) {
    if (rows == M) return tile<M, N, BY_COLUMNS>;
    if constexpr (M < rows_at(N)) return tile_of<N, BY_COLUMNS, M + 1>(rows);
    return nullptr;
}

constexpr int width_of(bool by_columns) { return by_columns ? WIDTH : WIDEST; }

template <bool BY_COLUMNS>
Tile tile_of(int rows, int width) {
    switch (width) {
        case 1: return tile_of<1, BY_COLUMNS>(rows);
        case 2: return tile_of<2, BY_COLUMNS>(rows);
    }
    if constexpr (width_of(BY_COLUMNS) > 2) {
        if (width == 3) return tile_of<3, BY_COLUMNS>(rows);
        if (width == 4) return tile_of<4, BY_COLUMNS>(rows);
    }
    return nullptr;
}

// All tiles by shape, found once.
template <bool BY_COLUMNS>
struct Tiles {
    Tile at[WIDEST + 1][ROWS + 1] = {};
    Tiles() {
        for (int width = 1; width <= width_of(BY_COLUMNS); width++)
            for (int rows = 1; rows <= rows_at(width); rows++)
                at[width][rows] = tile_of<BY_COLUMNS>(rows, width);
    }
    static const Tiles& get() {
        static const Tiles tiles;
        return tiles;
    }
};

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t whole_vectors(int64_t n) { return divide_up(n, LANES) * LANES; }

// Rows for the next tile of what is left, so that tiles are nearly equal.
inline int64_t even_share(int64_t left, int64_t most) {
    return left <= most ? left : divide_up(left, divide_up(left, most));  // divisions are slow
}

// B packed for a product by rows: panels of at most `most` vectors of columns, [panel][k][column].
struct Packed {
    real* panels;
    int64_t depth, columns;  // columns in whole vectors
    int64_t most = WIDTH;

    static int64_t size(int64_t depth, int64_t columns) { return depth * whole_vectors(columns); }
    int64_t width(int64_t panel) const {
        return std::min<int64_t>(most, columns / LANES - panel * most);
    }
    int64_t count() const { return divide_up(columns / LANES, most); }
    real* panel(int64_t i) const { return panels + i * depth * most * LANES; }
};

// c[row][columns of panels first to last] += sum over k of a[row][k] B[k][..]
inline void multiply(int64_t rows, const real* const* a, const Packed& b, real* const* c,
                     int64_t first, int64_t last) {
    const auto& tiles = Tiles<false>::get();
    real* at[ROWS];
    for (int64_t p = first; p < last; p++) {
        const int64_t width = b.width(p), most = rows_at(int(width));
        for (int64_t r = 0, m; r < rows; r += m) {
            m = even_share(rows - r, most);
            for (int64_t i = 0; i < m; i++) at[i] = c[r + i] + p * b.most * LANES;
            tiles.at[width][m](b.depth, a + r, 0, b.panel(p), width * LANES, at);
        }
    }
}

inline void multiply(int64_t rows, const real* const* a, const Packed& b, real* const* c) {
    multiply(rows, a, b, c, 0, b.count());
}

// c[i][0 .. columns) += sum over k of a[k][i] b[k][..] for i < rows; all of them `stride` apart.
inline void multiply_transposed(int64_t rows, int64_t depth, const real* const* a, const real* b,
                                int64_t b_stride, int64_t columns, real* c, int64_t c_stride) {
    const auto& tiles = Tiles<true>::get();
    real* at[ROWS];
    for (int64_t n = 0; n < divide_up(columns, LANES); n += WIDTH) {
        const int64_t width = std::min<int64_t>(WIDTH, divide_up(columns, LANES) - n);
        const int64_t most = rows_at(int(width));
        for (int64_t i = 0, m; i < rows; i += m) {
            m = even_share(rows - i, most);
            for (int64_t j = 0; j < m; j++) at[j] = c + (i + j) * c_stride + n * LANES;
            tiles.at[width][m](depth, a, i, b + n * LANES, b_stride, at);
        }
    }
}

// c[..] += sum over k of a[k] b[k][..], with b read from its first value to its last: its columns in
// panels would be read with jumps, which the processor does not foresee.
inline void add_rows(int64_t depth, const real* a, const real* b, int64_t columns, real* c) {
    constexpr int64_t TOGETHER = 4;
    int64_t k = 0;
    for (; k + TOGETHER <= depth; k += TOGETHER, b += TOGETHER * columns) {
        vec factor[TOGETHER];
        for (int64_t i = 0; i < TOGETHER; i++) factor[i] = broadcast(a[k + i]);
        int64_t n = 0;
        for (; n + LANES <= columns; n += LANES) {
            vec sum = loadu(c + n);
            for (int64_t i = 0; i < TOGETHER; i++) sum += factor[i] * loadu(b + i * columns + n);
            storeu(c + n, sum);
        }
        for (; n < columns; n++)
            for (int64_t i = 0; i < TOGETHER; i++) c[n] += a[k + i] * b[i * columns + n];
    }
    for (; k < depth; k++, b += columns)
        for (int64_t n = 0; n < columns; n++) c[n] += a[k] * b[n];
}

// c[r][first .. last) += sum over k of a[r][k] b[k][first .. last), with rows of b as they lie.
inline void multiply_as_is(int64_t rows, int64_t depth, const real* const* a, const real* b,
                           int64_t b_stride, real* const* c, int64_t first, int64_t last) {
    if (rows <= 2 && first == 0 && last == b_stride) {
        for (int64_t r = 0; r < rows; r++) add_rows(depth, a[r], b, b_stride, c[r]);
        return;
    }
    const auto& tiles = Tiles<false>::get();
    real* at[ROWS];
    for (int64_t n = first; n < last; n += WIDTH * LANES) {
        const int64_t columns = std::min<int64_t>(WIDTH * LANES, last - n), width = columns / LANES;
        for (int64_t r = 0, m; width > 0 && r < rows; r += m) {
            m = even_share(rows - r, rows_at(int(width)));
            for (int64_t i = 0; i < m; i++) at[i] = c[r + i] + n;
            tiles.at[width][m](depth, a + r, 0, b + n, b_stride, at);
        }
        const int64_t rest = n + width * LANES, lanes = columns - width * LANES;
        for (int64_t r = 0; lanes > 0 && r < rows; r++) {
            vec total = load(c[r] + rest, lanes);
            for (int64_t k = 0; k < depth; k++)
                total += a[r][k] * load(b + k * b_stride + rest, lanes);
            store(c[r] + rest, total, lanes);
        }
    }
}

// The sum over k of a[k] b[i][k] in lane i. The rows of b are read as they lie: for few rows of a,
// that is less work than to pack them.
inline vec dots(int64_t depth, const real* a, const real* const (&b)[LANES]) {
    vec total[LANES] = {};
    int64_t k = 0;
    for (; k + LANES <= depth; k += LANES) {
        const vec left = loadu(a + k);
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++) total[i] += left * loadu(b[i] + k);
    }
    vec result = sums(total);
    for (; k < depth; k++)
        for (int i = 0; i < LANES; i++) result[i] += a[k] * b[i][k];
    return result;
}

// to[k][column] = from[column][k] for whole blocks, so that both sides stay in the nearest cache.
inline void transpose(int64_t depth, int64_t columns, const real* const* from, real* to,
                      int64_t to_stride) {
    constexpr int64_t BLOCK = 16;
    for (int64_t k0 = 0; k0 < depth; k0 += BLOCK)
        for (int64_t c = 0; c < columns; c++)
            for (int64_t k = k0; k < std::min(depth, k0 + BLOCK); k++)
                to[k * to_stride + c] = from[c] ? from[c][k] : real(0);
}

}  // namespace
}  // namespace throughtime
