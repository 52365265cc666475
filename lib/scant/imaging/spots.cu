// Sums over the pixels under Gaussian atoms on a GPU, those of spot_sums.py. Counts, used pixels and model are [height][width], atoms
// [n][3]: x, y, height.
//
// THREADS and LARGEST_STEP_WIDTHS come as definitions before this text. What writes to the image goes cell by cell: a block takes the atoms of one cell, one after
// the other, and the cells of one launch are so far apart that no pixel belongs to two. Nothing depends on the order of blocks, so results
// are bit-identical from run to run.

#define EACH(index, count) for (int index = threadIdx.x; index < (count); index += blockDim.x)

// The pixels of an image within a reach of an atom in x and in y.
struct Window {
    int x0, y0, across, size;
    __device__ Window(const double* atom, double reach, int height, int width) {
        x0 = max(int(ceil(atom[0] - reach)), 0);
        y0 = max(int(ceil(atom[1] - reach)), 0);
        across = max(min(int(floor(atom[0] + reach)), width - 1) - x0 + 1, 0);
        size = across * max(min(int(floor(atom[1] + reach)), height - 1) - y0 + 1, 0);
    }
};

static __device__ double gaussian(double dx, double dy, double width) {
    return exp(-0.5 * (dx * dx + dy * dy) / (width * width));
}

// Sums of what each thread of a block has, for all of them; `shared` holds COUNT * THREADS.
template <int COUNT>
static __device__ void add_up(double (&values)[COUNT], double* shared) {
    for (int k = 0; k < COUNT; k++) shared[k * THREADS + threadIdx.x] = values[k];
    __syncthreads();
    EACH(k, COUNT) {
        for (int n = 1; n < blockDim.x; n++) shared[k * THREADS] += shared[k * THREADS + n];
    }
    __syncthreads();
    for (int k = 0; k < COUNT; k++) values[k] = shared[k * THREADS];
    __syncthreads();
}

// Adds an atom, `share` times, or the derivative of that by the width.
static __device__ void draw(const double* atom, double share, double width, double reach, int by_width, int height, int across, double* image) {
    const Window window(atom, reach, height, across);
    EACH(pixel, window.size) {
        const int x = window.x0 + pixel % window.across, y = window.y0 + pixel / window.across;
        const double dx = x - atom[0], dy = y - atom[1];
        const double slope = by_width ? (dx * dx + dy * dy) / (width * width * width) : 1.0;
        image[y * across + x] += share * atom[2] * gaussian(dx, dy, width) * slope;
    }
    __syncthreads();
}

// Block b draws the atoms order[starts[b]] to order[starts[b + 1] - 1].
extern "C" __global__ void render(
    const double* atoms, const int* order, const int* starts, double width, double reach, int by_width, int height, int across, double* image
) {
    for (int k = starts[blockIdx.x]; k < starts[blockIdx.x + 1]; k++) {
        draw(atoms + 3 * order[k], 1.0, width, reach, by_width, height, across, image);
    }
}

// Solution of a symmetric 3 x 3 system, zero where it has none.
static __device__ void solve3(
    double a, double b, double c, double xx, double xy, double yy, double xz, double yz, double zz, double (&solution)[3]
) {
    const double p = yy * zz - yz * yz, q = xz * yz - xy * zz, r = xy * yz - xz * yy, determinant = xx * p + xy * q + xz * r;
    const double s = xx * zz - xz * xz, t = xz * xy - xx * yz, u = xx * yy - xy * xy;
    const bool regular = determinant > 0;
    solution[0] = regular ? (p * a + q * b + r * c) / determinant : 0.0;
    solution[1] = regular ? (q * a + s * b + t * c) / determinant : 0.0;
    solution[2] = regular ? (r * a + t * b + u * c) / determinant : 0.0;
}

// One Fisher-scoring step of the atoms of each cell, blocks as in `render`; the model is kept up to date. moved[n]: larger move of x and y.
extern "C" __global__ void sweep(
    const double* counts, const double* used, double* model, double* atoms, const int* order, const int* starts, double width, double reach,
    int height, int across, double* moved
) {
    __shared__ double shared[9 * THREADS];
    for (int k = starts[blockIdx.x]; k < starts[blockIdx.x + 1]; k++) {
        double* atom = atoms + 3 * order[k];
        const Window window(atom, reach, height, across);
        // slopes by x, y, height, then the curvatures xx, xy, yy, x height, y height, height height
        double sums[9] = {};
        EACH(pixel, window.size) {
            const int x = window.x0 + pixel % window.across, y = window.y0 + pixel / window.across, at = y * across + x;
            const double dx = x - atom[0], dy = y - atom[1], g = gaussian(dx, dy, width), w = used[at] / model[at] * g;
            const double rest = w * (counts[at] - model[at]), wg = w * g;
            sums[0] += rest * dx;
            sums[1] += rest * dy;
            sums[2] += rest;
            sums[3] += wg * dx * dx;
            sums[4] += wg * dx * dy;
            sums[5] += wg * dy * dy;
            sums[6] += wg * dx;
            sums[7] += wg * dy;
            sums[8] += wg;
        }
        add_up(sums, shared);
        // by x and y in widths of the Gaussian over its height, so that one ridge suits all three
        const double scale = atom[2] / (width * width), ridge = 1e-9 * sums[8];
        double move[3];
        solve3(
            sums[0] * scale, sums[1] * scale, sums[2], sums[3] * scale * scale + ridge, sums[4] * scale * scale,
            sums[5] * scale * scale + ridge, sums[6] * scale, sums[7] * scale, sums[8], move
        );
        const double limit = LARGEST_STEP_WIDTHS * width, move_x = min(max(move[0], -limit), limit), move_y = min(max(move[1], -limit), limit);
        draw(atom, -1.0, width, reach, 0, height, across, model);
        if (threadIdx.x == 0) {
            atom[0] = min(max(atom[0] + move_x, -0.5), across - 0.51);
            atom[1] = min(max(atom[1] + move_y, -0.5), height - 0.51);
            atom[2] = max(atom[2] + move[2], 0.1 * atom[2]);
            moved[order[k]] = max(fabs(move_x), fabs(move_y));
        }
        __syncthreads();
        draw(atom, 1.0, width, reach, 0, height, across, model);
    }
}

// couplings[n][8], a block an atom: of its height with the width, with the six powers of the background, and its own slope.
extern "C" __global__ void couplings(
    const double* counts, const double* used, const double* model, const double* by_width, const double* atoms, double width, double reach,
    int height, int across, double* out
) {
    __shared__ double shared[8 * THREADS];
    const double* atom = atoms + 3 * blockIdx.x;
    const Window window(atom, reach, height, across);
    double sums[8] = {};
    EACH(pixel, window.size) {
        const int x = window.x0 + pixel % window.across, y = window.y0 + pixel / window.across, at = y * across + x;
        const double w = used[at] / model[at] * gaussian(x - atom[0], y - atom[1], width);
        const double u = 2.0 * x / (across - 1) - 1.0, v = 2.0 * y / (height - 1) - 1.0;
        sums[0] += w * by_width[at];
        sums[1] += w;
        sums[2] += w * u;
        sums[3] += w * v;
        sums[4] += w * u * u;
        sums[5] += w * u * v;
        sums[6] += w * v * v;
        sums[7] += w * (counts[at] - model[at]);
    }
    add_up(sums, shared);
    EACH(k, 8) out[8 * blockIdx.x + k] = sums[k];
}

// blocks[k][size][size] for each pair of atoms, a block a pair: sums of d model / d (parameter of one) d model / d (parameter of the
// other) / model, parameters (x, y, height) or height alone.
extern "C" __global__ void pair_blocks(
    const double* used, const double* model, const double* atoms, double width, double reach, const int* pairs, int size, int height,
    int across, double* blocks
) {
    __shared__ double shared[9 * THREADS];
    const double *one = atoms + 3 * pairs[2 * blockIdx.x], *other = atoms + 3 * pairs[2 * blockIdx.x + 1];
    const Window window(one, reach, height, across);
    double sums[9] = {};
    EACH(pixel, window.size) {
        const int x = window.x0 + pixel % window.across, y = window.y0 + pixel / window.across, at = y * across + x;
        const double dx = x - one[0], dy = y - one[1], ex = x - other[0], ey = y - other[1];
        if (fabs(ex) > reach || fabs(ey) > reach) continue;
        const double w = used[at] / model[at] * gaussian(dx, dy, width) * gaussian(ex, ey, width);
        const double first[3] = {dx, dy, 1.0}, second[3] = {ex, ey, 1.0};
        for (int i = 0; i < 3; i++) {
            for (int j = 0; j < 3; j++) sums[3 * i + j] += w * first[i] * second[j];
        }
    }
    add_up(sums, shared);
    const double by_one[3] = {one[2] / (width * width), one[2] / (width * width), 1.0};
    const double by_other[3] = {other[2] / (width * width), other[2] / (width * width), 1.0};
    EACH(k, size * size) {
        const int i = size == 1 ? 2 : k / 3, j = size == 1 ? 2 : k % 3;
        blocks[size * size * blockIdx.x + k] = by_one[i] * by_other[j] * sums[3 * i + j];
    }
}
