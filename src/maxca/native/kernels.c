/* Loops over voxels in C; see __init__.py. Each function works on a range of slabs, so that threads share a volume,
   and a slab does not depend on another: results are equal for any number of threads. */

#include <math.h>

#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__gnu_linux__)
#define FOR_EACH_PROCESSOR __attribute__((target_clones("arch=x86-64-v3", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif

#if defined(_WIN32)
#define EXPORTED __declspec(dllexport)
#else
#define EXPORTED __attribute__((visibility("default")))
#endif

typedef float vec __attribute__((vector_size(16))); /* x, y, z, 0 */

static inline __attribute__((always_inline)) vec all(float x) { return (vec){x, x, x, x}; }

static inline __attribute__((always_inline)) int cell(float x, int n) {
    int i = (int)x;
    return i > n - 2 ? (n > 1 ? n - 2 : 0) : i;
}

/* A field, linear between nodes, at a point in voxels, and its derivatives. The value at the border is repeated for half
   a voxel; beyond, it is 0. */
static inline __attribute__((always_inline)) vec at_point(
    const vec *field, int I, int J, int K, vec point, vec *along_i, vec *along_j, vec *along_k) {
    const float x = point[0], y = point[1], z = point[2];
    const int inside = x >= -0.5f && y >= -0.5f && z >= -0.5f && x <= I - 0.5f && y <= J - 0.5f && z <= K - 0.5f;
    if (!inside) {
        *along_i = *along_j = *along_k = all(0);
        return all(0);
    }
    const float cx = fminf(fmaxf(x, 0), I - 1), cy = fminf(fmaxf(y, 0), J - 1), cz = fminf(fmaxf(z, 0), K - 1);
    const int i = cell(cx, I), j = cell(cy, J), k = cell(cz, K);
    const vec a = all(cx - i), b = all(cy - j), c = all(cz - k);
    const long di = I > 1 ? (long)J * K : 0, dj = J > 1 ? K : 0, dk = K > 1;
    const vec *p = field + ((long)i * J + j) * K + k;
    const vec k00 = p[dk] - p[0], k01 = p[dj + dk] - p[dj], k10 = p[di + dk] - p[di], k11 = p[di + dj + dk] - p[di + dj];
    const vec v00 = p[0] + k00 * c, v01 = p[dj] + k01 * c, v10 = p[di] + k10 * c, v11 = p[di + dj] + k11 * c;
    const vec j0 = v01 - v00, j1 = v11 - v10, k0 = k00 + (k01 - k00) * b, k1 = k10 + (k11 - k10) * b;
    const vec v0 = v00 + j0 * b, v1 = v10 + j1 * b;
    *along_i = v1 - v0;
    *along_j = j0 + (j1 - j0) * a;
    *along_k = k0 + (k1 - k0) * a;
    return v0 + *along_i * a;
}

static inline __attribute__((always_inline)) float squared(vec e) { return e[0] * e[0] + e[1] * e[1] + e[2] * e[2]; }

/* (identity + derivatives)^-1 e; e itself where that matrix is nearly singular. */
static inline __attribute__((always_inline)) vec newton(vec di, vec dj, vec dk, vec e) {
    const float a = 1 + di[0], b = dj[0], c = dk[0], d = di[1], f = 1 + dj[1], g = dk[1], h = di[2], l = dj[2], m = 1 + dk[2];
    const float u = f * m - g * l, v = g * h - d * m, w = d * l - f * h, det = a * u + b * v + c * w;
    if (fabsf(det) < 0.05f) return e;
    return (vec){(u * e[0] + (c * l - b * m) * e[1] + (b * g - c * f) * e[2]) / det,
                 (v * e[0] + (a * m - c * h) * e[1] + (c * d - a * g) * e[2]) / det,
                 (w * e[0] + (b * h - a * l) * e[1] + (a * f - b * d) * e[2]) / det, 0};
}

/* Three planes of a field as vectors of four, slabs from first to last. */
EXPORTED FOR_EACH_PROCESSOR void maxca_interleave(const float *planes, float *vectors, long voxels, long first, long last) {
    for (long n = first; n < last; n++) {
        const vec v = {planes[n], planes[voxels + n], planes[2 * voxels + n], 0};
        ((vec *)vectors)[n] = v;
    }
}

/* v with v(y) = -d(y + v(y)) at the nodes y of slabs first to last, by Newton's method, a step that increases the error
   halved; and |v(y) + d(y + v(y))|. d as vectors, v as planes; all in voxels. With warm, v is where it starts; otherwise
   each node starts from the nodes before it. */
EXPORTED FOR_EACH_PROCESSOR void maxca_invert(const float *field, float *inverse, float *residual, int I, int J, int K,
                                              int first, int last, float tolerance, int iterations, int warm) {
    const long voxels = (long)I * J * K;
    for (int i = first; i < last; i++)
        for (int j = 0; j < J; j++) {
            vec one = all(0), two = all(0); /* the values at the node before, and at that before it */
            for (int k = 0; k < K; k++) {
                const long n = ((long)i * J + j) * K + k, above = n - K;
                vec start = k > 1 ? one + one - two : one;
                if (warm)
                    start = (vec){inverse[n], inverse[voxels + n], inverse[2 * voxels + n], 0};
                else if (k == 0 && j > 0)
                    start = (vec){inverse[above], inverse[voxels + above], inverse[2 * voxels + above], 0};
                vec trial = start, best = start, step = all(0);
                float least = INFINITY, share = 1;
                for (int count = 0; count < iterations; count++) {
                    vec di, dj, dk;
                    const vec here = {i + trial[0], j + trial[1], k + trial[2], 0};
                    const vec error = trial + at_point((const vec *)field, I, J, K, here, &di, &dj, &dk);
                    const float size = squared(error);
                    if (size < least) {
                        least = size;
                        best = trial;
                        if (size <= tolerance * tolerance) break;
                        step = newton(di, dj, dk, error);
                        share = 1;
                    } else {
                        share *= 0.5f;
                    }
                    trial = best - step * all(share);
                }
                for (int c = 0; c < 3; c++) inverse[c * voxels + n] = best[c];
                residual[n] = sqrtf(least);
                two = one;
                one = best;
            }
        }
}
