// One stage of BM3D on a GPU: the same patches, groups and filters as bm3d_kernels.py, a block of threads per reference patch.
//
// PATCH, WINDOW_ROWS, WINDOW_COLUMNS, GROUP, CODE_BITS, LANE_BITS, SMALLEST_DISTANCE, THREADS and the two lists of samples come from there,
// as definitions before this text. Sums are whole numbers, so that the order in which blocks add to them does not matter: results are
// bit-identical from run to run. Every loop over threads takes strides, so any number of threads up to THREADS gives the same result.

#define AREA (PATCH * PATCH)
#define CANDIDATES (WINDOW_ROWS * WINDOW_COLUMNS)
#define REACH_ROWS (WINDOW_ROWS + PATCH - 1)
#define REACH_COLUMNS (WINDOW_COLUMNS + PATCH - 1)
#define EACH(index, count) for (int index = threadIdx.x; index < (count); index += blockDim.x)

// Fraction of a weight of 1 that sums resolve; images are in units of the noise sd.
#define RESOLUTION 67108864.0
#define CODE_MASK ((1u << CODE_BITS) - 1)

static __device__ int window_start(int position, int length, int last) {
    return min(max(position - length / 2, 0), last);
}

template <int COUNT>
static __device__ void distances(const float* reach, int own, const int (&samples)[COUNT][2], unsigned int* keys) {
    float known[COUNT];
#pragma unroll
    for (int s = 0; s < COUNT; s++) known[s] = reach[own + samples[s][0] * REACH_COLUMNS + samples[s][1]];
    EACH(candidate, CANDIDATES) {
        const int row = candidate / WINDOW_COLUMNS, lane = candidate % WINDOW_COLUMNS;
        const float* at = reach + row * REACH_COLUMNS + lane;
        float total = SMALLEST_DISTANCE;
#pragma unroll
        for (int s = 0; s < COUNT; s++) {
            const float difference = at[samples[s][0] * REACH_COLUMNS + samples[s][1]] - known[s];
            total = fmaf(difference, difference, total);
        }
        keys[candidate] = (__float_as_uint(total) & ~CODE_MASK) | (row << LANE_BITS) | lane;
    }
}

// Smallest of the threads' values, for all of them; `shared` holds one per thread.
static __device__ unsigned int smallest(unsigned int value, unsigned int* shared) {
    shared[threadIdx.x] = value;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) shared[threadIdx.x] = min(shared[threadIdx.x], shared[threadIdx.x + half]);
        __syncthreads();
    }
    const unsigned int least = shared[0];
    __syncthreads();
    return least;
}

// Places (y * width + x) of the GROUP patches nearest to each reference patch, itself first: places[blockIdx.x][GROUP].
extern "C" __global__ void match(const float* image, int height, int width, int hard, const int* references, int* places) {
    __shared__ float reach[REACH_ROWS * REACH_COLUMNS];
    __shared__ unsigned int keys[CANDIDATES];
    __shared__ unsigned int shared[THREADS];
    const int row = references[2 * blockIdx.x], column = references[2 * blockIdx.x + 1];
    const int top = window_start(row, WINDOW_ROWS, height - REACH_ROWS), left = window_start(column, WINDOW_COLUMNS, width - REACH_COLUMNS);
    EACH(pixel, REACH_ROWS * REACH_COLUMNS) {
        reach[pixel] = image[(top + pixel / REACH_COLUMNS) * width + left + pixel % REACH_COLUMNS];
    }
    __syncthreads();
    const int own = (row - top) * REACH_COLUMNS + column - left;
    if (hard) {
        distances(reach, own, NOISY_SAMPLES, keys);
    } else {
        distances(reach, own, PILOT_SAMPLES, keys);
    }
    __syncthreads();
    if (threadIdx.x == 0) keys[(row - top) * WINDOW_COLUMNS + column - left] = ((row - top) << LANE_BITS) | (column - left);
    __syncthreads();
    // keys differ, since each holds its own place: the next one is the smallest above the last
    unsigned int last = 0;
    for (int k = 0; k < GROUP; k++) {
        unsigned int least = 0xffffffffu;
        EACH(candidate, CANDIDATES) {
            const unsigned int key = keys[candidate];
            if ((k == 0 || key > last) && key < least) least = key;
        }
        last = smallest(least, shared);
        if (threadIdx.x == 0) {
            const int code = last & CODE_MASK;
            places[blockIdx.x * GROUP + k] = (top + (code >> LANE_BITS)) * width + left + (code & ((1 << LANE_BITS) - 1));
        }
    }
}

// matrix @ patch @ matrix.T of each patch of the group, in place; `half` is as large as the group.
static __device__ void transform(const float* matrix, float* group, float* half) {
    EACH(place, AREA) {
        const float* weights = matrix + place / PATCH * PATCH;
        for (int k = 0; k < GROUP; k++) {
            float total = 0;
#pragma unroll
            for (int r = 0; r < PATCH; r++) total = fmaf(weights[r], group[k * AREA + r * PATCH + place % PATCH], total);
            half[k * AREA + place] = total;
        }
    }
    __syncthreads();
    EACH(place, AREA) {
        const float* weights = matrix + place % PATCH * PATCH;
        for (int k = 0; k < GROUP; k++) {
            float total = 0;
#pragma unroll
            for (int c = 0; c < PATCH; c++) total = fmaf(weights[c], half[k * AREA + place / PATCH * PATCH + c], total);
            group[k * AREA + place] = total;
        }
    }
    __syncthreads();
}

static __device__ void load_group(const float* image, int width, const int* places, float* group) {
    EACH(pixel, GROUP * AREA) {
        group[pixel] = image[places[pixel / AREA] + pixel % AREA / PATCH * width + pixel % PATCH];
    }
    __syncthreads();
}

// Haar across the group without its factors: the sum, then differences from the coarsest level to the finest. Recursion over the levels,
// so that the compiler knows every index and keeps the coefficients in registers.
template <int SIZE>
static __device__ void haar_levels(float* sums, float* out) {
#pragma unroll
    for (int k = 0; k < SIZE; k++) {
        out[SIZE + k] = sums[2 * k] - sums[2 * k + 1];
        sums[k] = sums[2 * k] + sums[2 * k + 1];
    }
    if constexpr (SIZE > 1) haar_levels<SIZE / 2>(sums, out);
}

template <int SIZE>
static __device__ void inverse_levels(float* rows, const float* coefficients) {
    if constexpr (SIZE > 1) inverse_levels<SIZE / 2>(rows, coefficients);
#pragma unroll
    for (int k = SIZE - 1; k >= 0; k--) {
        const float sum = rows[k], detail = coefficients[SIZE + k];
        rows[2 * k] = sum + detail;
        rows[2 * k + 1] = sum - detail;
    }
}

static __device__ void haar(const float* group, int place, float* out) {
    float sums[GROUP];
#pragma unroll
    for (int k = 0; k < GROUP; k++) sums[k] = group[k * AREA + place];
    haar_levels<GROUP / 2>(sums, out);
    out[0] = sums[0];
}

static __device__ void inverse_haar(const float* coefficients, int place, float* group) {
    float rows[GROUP];
    rows[0] = coefficients[0];
    inverse_levels<GROUP / 2>(rows, coefficients);
#pragma unroll
    for (int k = 0; k < GROUP; k++) group[k * AREA + place] = rows[k];
}

// Squared norm of a row of that transform: GROUP for the sum, half of it for each finer level.
static __device__ constexpr float gain(int k) {
    int first = 1;
    while (2 * first <= k) first *= 2;
    return float(GROUP / first);
}

// Filters the group of each reference patch and adds it, weighted, to values and weights: sums[image][2][height][width], whole numbers.
// blockIdx.y: the image; hard: threshold `limits`; else the Wiener filter guided by the pilot. limits and variances (PATCH, PATCH) are those
// of a transformed patch's coefficients.
extern "C" __global__ void filter(
    const float* noisy, const float* pilot, int height, int width, int hard, const float* matrix, const float* inverse,
    const float* limits, const float* variances, const float* window, const int* places, unsigned long long* sums
) {
    __shared__ float group[GROUP * AREA];
    __shared__ float guide[GROUP * AREA];
    __shared__ float half[GROUP * AREA];
    __shared__ float powers[AREA];
    const long long image = (long long)blockIdx.y * height * width;
    const int* own = places + blockIdx.x * GROUP;
    load_group(noisy + image, width, own, group);
    transform(matrix, group, half);
    if (!hard) {
        load_group(pilot + image, width, own, guide);
        transform(matrix, guide, half);
    }
    EACH(place, AREA) {
        float coefficients[GROUP], known[GROUP], power = 0;
        haar(group, place, coefficients);
        if (!hard) haar(guide, place, known);
#pragma unroll
        for (int k = 0; k < GROUP; k++) {
            const float norm = gain(k), variance = variances[place];
            float kept;
            if (hard) {
                kept = fabsf(coefficients[k]) > limits[place] * sqrtf(norm) ? 1.0f : 0.0f;
            } else {
                const float square = known[k] * known[k];
                kept = square / (square + variance * norm);
            }
            power = fmaf(kept * kept, variance, power);
            coefficients[k] *= kept / norm;
        }
        powers[place] = power;
        inverse_haar(coefficients, place, group);
    }
    __syncthreads();
    // by every thread for itself, in one order
    float total = 0;
    for (int place = 0; place < AREA; place++) total += powers[place];
    const float weight = 1.0f / max(total, hard ? SMALLEST_KEPT : SMALLEST_POWER);
    transform(inverse, group, half);
    unsigned long long* values = sums + 2 * image;
    unsigned long long* weights = values + (long long)height * width;
    EACH(pixel, GROUP * AREA) {
        const long long at = own[pixel / AREA] + pixel % AREA / PATCH * width + pixel % PATCH;
        const float factor = weight * window[pixel % AREA];
        atomicAdd(values + at, (unsigned long long)(long long)rint(double(factor * group[pixel]) * RESOLUTION));
        atomicAdd(weights + at, (unsigned long long)(long long)rint(double(factor) * RESOLUTION));
    }
}
