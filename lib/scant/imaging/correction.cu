// Hits, fillings and means of frames on a GPU, as in hits.py and average.py: a block of threads per row of an image (height, width).
//
// HOLE_WINDOW_PX, PAIR_NOISE, STRUCTURE, SUSPECT and TOUCHING come from there, as definitions before this text. A thread writes its own
// pixel alone, and reads what no other one writes: any number of threads gives the same result.

#define EACH(index, count) for (int index = threadIdx.x; index < (count); index += blockDim.x)
#define NO_PAIR 1e300

// Gaussian mean of the good pixels around every hole, in a window that grows until it holds four of them.
extern "C" __global__ void fill(float* image, const bool* holes, const bool* good, int height, int width) {
    const int y = blockIdx.x;
    EACH(x, width) {
        if (!holes[y * width + x]) continue;
        double total, weights;
        int count, reach = 2;
        while (true) {
            total = weights = 0;
            count = 0;
            for (int v = max(0, y - reach); v < min(height, y + reach + 1); v++) {
                for (int u = max(0, x - reach); u < min(width, x + reach + 1); u++) {
                    if (!good[v * width + u]) continue;
                    const double w = exp(-2.0 * ((v - y) * (v - y) + (u - x) * (u - x)) / double(reach * reach));
                    total += w * image[v * width + u];
                    weights += w;
                    count++;
                }
            }
            if (count >= 4 || reach >= HOLE_WINDOW_PX) break;
            reach *= 2;
        }
        image[y * width + x] = count ? total / weights : 0.0;
    }
}

// Median of the good pixels on the ring at a distance of `reach` pixels; NaN when it has fewer than three.
static __device__ double ring_median(const float* image, const bool* good, int y, int x, int reach, int height, int width) {
    float values[16];
    int n = 0;
    for (int v = max(0, y - reach); v < min(height, y + reach + 1); v++) {
        for (int u = max(0, x - reach); u < min(width, x + reach + 1); u++) {
            if (!good[v * width + u] || max(abs(v - y), abs(u - x)) != reach) continue;
            const float value = image[v * width + u];
            int at = n++;
            for (; at > 0 && values[at - 1] > value; at--) values[at] = values[at - 1];
            values[at] = value;
        }
    }
    return n < 3 ? nan("") : 0.5 * (double(values[(n - 1) / 2]) + double(values[n / 2]));
}

// How far a pixel stands above (sign 1) or below (-1) the opposite neighbours that are nearest to it in value; NO_PAIR without any.
static __device__ double sharp_excess(const float* image, int y, int x, double sign, int height, int width) {
    double least = NO_PAIR;
    for (int pair = 0; pair < 4; pair++) {
        const int dy = pair > 0, dx = pair == 3 ? -1 : pair != 1;
        if (y - dy < 0 || y + dy >= height || min(x - dx, x + dx) < 0 || max(x - dx, x + dx) >= width) continue;
        const double mean = 0.5 * (image[(y - dy) * width + x - dx] + image[(y + dy) * width + x + dx]);
        least = min(least, sign * (image[y * width + x] - mean));
    }
    return least;
}

// Sharp excess, either sign, of every step_y-th row and step_x-th pixel: sample[blockIdx.x][columns].
extern "C" __global__ void sharpness(const float* image, int height, int width, int step_y, int step_x, int columns, double* sample) {
    EACH(j, columns) {
        const int y = blockIdx.x * step_y, x = j * step_x;
        const double value = max(sharp_excess(image, y, x, 1.0, height, width), sharp_excess(image, y, x, -1.0, height, width));
        sample[blockIdx.x * columns + j] = value < NO_PAIR ? value : 0.0;
    }
}

// A cheap test on the four nearest pixels, which spares most pixels the medians.
static __device__ bool suspect(const float* image, int y, int x, float excess, float read, float screen, int height, int width) {
    const float* row = image + y * width;
    const float value = row[x], along = 0.5f * (row[x + (y ? -width : width)] + row[x + (y + 1 < height ? width : -width)]);
    if (x == 0 || x == width - 1) {
        // no pair across: a corner has none at all, and is always looked at
        return y == 0 || y == height - 1 || (value - along) * (value - along) > screen * (excess * max(along, 0.0f) + read);
    }
    const float across = 0.5f * (row[x - 1] + row[x + 1]);
    const float lower = min(across, along), upper = max(across, along), outside = max(max(value - upper, lower - value), 0.0f);
    return outside * outside > screen * (excess * max(lower, 0.0f) + read);
}

static __device__ bool is_hit(
    const float* image, const bool* good, int y, int x, double excess, double read, double threshold, double floor, int height, int width
) {
    const double near = ring_median(image, good, y, x, 1, height, width), far = ring_median(image, good, y, x, 2, height, width);
    if (isnan(near) || isnan(far)) return false;
    const double value = image[y * width + x], sign = value > near ? 1.0 : -1.0;
    const double above = min(sharp_excess(image, y, x, sign, height, width), sign * (value - near));
    const double sigma = sqrt(excess * max(max(near, far), 0.0) + read);
    const double tail = sign > 0 ? excess * max(threshold * threshold - 1.0, 0.0) / 6.0 : 0.0;
    return above > max(threshold * sigma * PAIR_NOISE + STRUCTURE * max(0.0, sign * (near - far)) + tail, floor);
}

// `floor` lies on the device: a quantile of `sharpness`.
extern "C" __global__ void mark(
    const float* image, const bool* good, double excess, double read, double threshold, const double* floor, int height, int width,
    bool* hits
) {
    const int y = blockIdx.x;
    const float screen = SUSPECT * threshold * (SUSPECT * threshold);
    EACH(x, width) {
        const bool looked_at = good[y * width + x] && suspect(image, y, x, excess, read, screen, height, width);
        hits[y * width + x] = looked_at && is_hit(image, good, y, x, excess, read, threshold, *floor, height, width);
    }
}

// One step of the spread of hits to the `free` pixels that touch them: grown holds the hits and those.
extern "C" __global__ void grow(
    const float* image, const bool* free, const bool* hits, double excess, double read, double threshold, int height, int width, bool* grown
) {
    const int y = blockIdx.x;
    EACH(x, width) {
        bool touched = false;
        for (int v = max(0, y - 1); v < min(height, y + 2); v++) {
            for (int u = max(0, x - 1); u < min(width, x + 2); u++) touched |= hits[v * width + u];
        }
        bool hit = hits[y * width + x];
        if (touched && free[y * width + x]) {
            const double far = ring_median(image, free, y, x, 2, height, width);
            hit |= image[y * width + x] - far > TOUCHING * threshold * sqrt(excess * max(far, 0.0) + read) + excess;
        }
        grown[y * width + x] = hit;
    }
}

// Mean of frames [n_frames][height][width], each shifted by taps: spans[frame][axis] is the first tap's offset, how many there are, and the
// first and last (exclusive) place that the frame reaches; weights[frame][axis][4] go with it, the axes y and x.
extern "C" __global__ void mean(
    const float* frames, int n_frames, int height, int width, const int* spans, const float* weights, float* means, unsigned char* used
) {
    const int y = blockIdx.x;
    EACH(x, width) {
        double total = 0;
        int count = 0;
        for (int t = 0; t < n_frames; t++) {
            const int *rows = spans + 8 * t, *columns = rows + 4;
            if (y < rows[2] || y >= rows[3] || x < columns[2] || x >= columns[3]) continue;
            const float *frame = frames + (long long)t * height * width, *by_row = weights + 8 * t, *by_column = by_row + 4;
            float value = 0;
            for (int c = 0; c < columns[1]; c++) {
                const int u = min(max(x + columns[0] + c, 0), width - 1);
                float line = 0;
                for (int r = 0; r < rows[1]; r++) line += by_row[r] * frame[min(max(y + rows[0] + r, 0), height - 1) * width + u];
                value += by_column[c] * line;
            }
            if (isnan(value)) continue;
            total += value;
            count++;
        }
        means[y * width + x] = total / count;
        used[y * width + x] = count;
    }
}
