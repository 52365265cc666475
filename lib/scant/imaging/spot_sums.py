"""Sums over the pixels under Gaussian atoms: the kernels of `spots`. Counts, used pixels and model are (H, W), atoms (n, 3): x, y, height.

The loops are plain, and inner ones run along rows, so that the compiler fills the processor's vectors.
"""

from __future__ import annotations

import numpy as np
from numba import njit

# Powers of x and y, both from -1 to 1 across the image, in the background.
POWERS = ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
LARGEST_STEP_WIDTHS = 0.5


@njit(cache=True)
def fill_background(weights, least, image):
    for y in range(image.shape[0]):
        v, across, row = 2.0 * y / (image.shape[0] - 1) - 1.0, 2.0 / (image.shape[1] - 1), image[y]
        level, slope, bend = weights[0] + weights[2] * v + weights[5] * v * v, weights[1] + weights[4] * v, weights[3]
        for x in range(image.shape[1]):
            u = across * x - 1.0
            row[x] = max(level + (slope + bend * u) * u, least)


@njit(cache=True)
def _profile(centre, reach, width, size, distance, value):
    """Distances of the pixels of one axis from a centre, and the Gaussian there, by recurrence; first pixel and their number."""
    first, last = max(int(np.ceil(centre - reach)), 0), min(int(np.floor(centre + reach)), size - 1)
    start, precision = first - centre, 1.0 / width**2
    here, ratio, bend = np.exp(-0.5 * start * start * precision), np.exp(-(start + 0.5) * precision), np.exp(-precision)
    for i in range(last - first + 1):
        distance[i], value[i] = start + i, here
        here *= ratio
        ratio *= bend
    return first, last - first + 1


@njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract"})
def render(atoms, width, reach, by_width, image):
    """Adds the atoms, or the derivative of their sum by the width."""
    room = int(2 * reach) + 2
    dx, gx, dy, gy = np.empty(room), np.empty(room), np.empty(room), np.empty(room)
    for n in range(atoms.shape[0]):
        x0, nx = _profile(atoms[n, 0], reach, width, image.shape[1], dx, gx)
        y0, ny = _profile(atoms[n, 1], reach, width, image.shape[0], dy, gy)
        for j in range(ny):
            row, height = image[y0 + j], atoms[n, 2] * gy[j]
            for i in range(nx):
                row[x0 + i] += height * gx[i] * ((dx[i] ** 2 + dy[j] ** 2) / width**3 if by_width else 1.0)


@njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract"})
def sweep(counts, used, model, atoms, width, reach):
    """One Fisher-scoring step of each atom in turn, the model of all kept up to date; returns the largest move in pixels."""
    room = int(2 * reach) + 2
    dx, gx, dy, gy = np.empty(room), np.empty(room), np.empty(room), np.empty(room)
    sums, largest, inverse = np.empty((5, room)), 0.0, 1.0 / width**2
    for n in range(atoms.shape[0]):
        height = atoms[n, 2]
        x0, nx = _profile(atoms[n, 0], reach, width, model.shape[1], dx, gx)
        y0, ny = _profile(atoms[n, 1], reach, width, model.shape[0], dy, gy)
        # column sums first, so that the inner loop fills the processor's vectors without sums across them
        sums[:, :nx] = 0.0
        for j in range(ny):
            row, seen, data, g, d = model[y0 + j], used[y0 + j], counts[y0 + j], gy[j], dy[j]
            for i in range(nx):
                w = seen[x0 + i] / row[x0 + i] * g
                r = w * (data[x0 + i] - row[x0 + i])
                w *= g
                sums[0, i] += r
                sums[1, i] += r * d
                sums[2, i] += w
                sums[3, i] += w * d
                sums[4, i] += w * d * d
        sx, sy, sa, xx, xy, yy, xa, ya, aa = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(nx):
            g, d = gx[i], dx[i]
            sa += sums[0, i] * g
            sx += sums[0, i] * g * d
            sy += sums[1, i] * g
            g *= g
            aa += sums[2, i] * g
            xa += sums[2, i] * g * d
            xx += sums[2, i] * g * d * d
            ya += sums[3, i] * g
            xy += sums[3, i] * g * d
            yy += sums[4, i] * g
        # by x and y in widths of the Gaussian over its height, so that one ridge suits all three
        scale = height * inverse
        move_x, move_y, move_a = _solved3(
            sx * scale, sy * scale, sa, xx * scale**2 + 1e-9 * aa, xy * scale**2, yy * scale**2 + 1e-9 * aa, xa * scale, ya * scale, aa
        )
        limit = LARGEST_STEP_WIDTHS * width
        move_x, move_y = min(max(move_x, -limit), limit), min(max(move_y, -limit), limit)
        new_x = min(max(atoms[n, 0] + move_x, -0.5), model.shape[1] - 0.51)
        new_y = min(max(atoms[n, 1] + move_y, -0.5), model.shape[0] - 0.51)
        for j in range(ny):
            row = model[y0 + j]
            for i in range(nx):
                row[x0 + i] -= height * gy[j] * gx[i]
        atoms[n, 0], atoms[n, 1], atoms[n, 2] = new_x, new_y, max(height + move_a, 0.1 * height)
        x0, nx = _profile(new_x, reach, width, model.shape[1], dx, gx)
        y0, ny = _profile(new_y, reach, width, model.shape[0], dy, gy)
        for j in range(ny):
            row = model[y0 + j]
            for i in range(nx):
                row[x0 + i] += atoms[n, 2] * gy[j] * gx[i]
        largest = max(largest, abs(move_x), abs(move_y))
    return largest


@njit(cache=True, error_model="numpy")
def _solved3(a, b, c, xx, xy, yy, xz, yz, zz):
    """Solution of a symmetric 3 x 3 system, zero where it has none."""
    p, q, r = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    determinant = xx * p + xy * q + xz * r
    if not determinant > 0:
        return 0.0, 0.0, 0.0
    s, t, u = xx * zz - xz * xz, xz * xy - xx * yz, xx * yy - xy * xy
    return (p * a + q * b + r * c) / determinant, (q * a + s * b + t * c) / determinant, (r * a + t * b + u * c) / determinant


@njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract"})
def shared_sums(counts, used, model, by_width, fisher, slope):
    """Sums over all pixels, row by row: moments of the weights along the row, times powers of the row's own coordinate."""
    for y in range(model.shape[0]):
        m0, m1, m2, m3, m4, d0, d1, d2, dd, r0, r1, r2, rd = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        data, seen, expected, wider, across = counts[y], used[y], model[y], by_width[y], 2.0 / (model.shape[1] - 1)
        for x in range(model.shape[1]):
            u, d = across * x - 1.0, wider[x]
            w0 = seen[x] / expected[x]
            r = w0 * (data[x] - expected[x])
            w2 = w0 * u * u
            m0 += w0
            m1 += w0 * u
            m2 += w2
            m3 += w2 * u
            m4 += w2 * u * u
            d0 += w0 * d
            d1 += w0 * d * u
            d2 += w2 * d
            dd += w0 * d * d
            r0 += r
            r1 += r * u
            r2 += r * u * u
            rd += r * d
        moments, with_width, rests, v = (m0, m1, m2, m3, m4), (d0, d1, d2), (r0, r1, r2), 2.0 * y / (model.shape[0] - 1) - 1.0
        fisher[0, 0] += dd
        slope[0] += rd
        for a in range(6):
            i, j = POWERS[a]
            slope[a + 1] += rests[i] * v**j
            fisher[0, a + 1] += with_width[i] * v**j
            fisher[a + 1, 0] = fisher[0, a + 1]
            for b in range(6):
                k, l = POWERS[b]
                fisher[a + 1, b + 1] += moments[i + k] * v ** (j + l)


@njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract"})
def shared_couplings(counts, used, model, by_width, atoms, width, reach, coupling, pull):
    """Adds each atom's sums: of its height with the width and the background's powers, coupling (n, 7), and its own slope, pull (n,)."""
    room = int(2 * reach) + 2
    dx, gx, dy, gy, sums = np.empty(room), np.empty(room), np.empty(room), np.empty(room), np.empty((5, room))
    for n in range(atoms.shape[0]):
        x0, nx = _profile(atoms[n, 0], reach, width, model.shape[1], dx, gx)
        y0, ny = _profile(atoms[n, 1], reach, width, model.shape[0], dy, gy)
        sums[:, :nx] = 0.0
        for j in range(ny):
            row, seen, data, wider = model[y0 + j], used[y0 + j], counts[y0 + j], by_width[y0 + j]
            g, v = gy[j], 2.0 * (y0 + j) / (model.shape[0] - 1) - 1.0
            for i in range(nx):
                w = seen[x0 + i] / row[x0 + i] * g
                sums[0, i] += w
                sums[1, i] += w * v
                sums[2, i] += w * v * v
                sums[3, i] += w * wider[x0 + i]
                sums[4, i] += w * (data[x0 + i] - row[x0 + i])
        for i in range(nx):
            u = 2.0 * (x0 + i) / (model.shape[1] - 1) - 1.0
            coupling[n, 0] += gx[i] * sums[3, i]
            pull[n] += gx[i] * sums[4, i]
            for a in range(6):
                k, l = POWERS[a]
                coupling[n, a + 1] += gx[i] * u**k * sums[l, i]


@njit(cache=True, error_model="numpy", fastmath={"reassoc", "contract"})
def pair_sums(used, model, atoms, width, reach, pairs, blocks):
    """Sums over pixels of d model / d (parameter of one) d model / d (parameter of the other) / model: (x, y, height), or height alone."""
    room, heights_alone, inverse = int(2 * reach) + 2, blocks.shape[1] == 1, 1.0 / width**2
    dx, gx, dy, gy, sums = np.empty(room), np.empty(room), np.empty(room), np.empty(room), np.empty((4, room))
    for k in range(pairs.shape[0]):
        a, b = pairs[k, 0], pairs[k, 1]
        x0, nx = _profile(atoms[a, 0], reach, width, model.shape[1], dx, gx)
        y0, ny = _profile(atoms[a, 1], reach, width, model.shape[0], dy, gy)
        bx, by = atoms[b, 0] - atoms[a, 0], atoms[b, 1] - atoms[a, 1]
        sums[:, :nx] = 0.0
        for j in range(ny):
            d, e, row, seen = dy[j], dy[j] - by, model[y0 + j], used[y0 + j]
            g = gy[j] * np.exp(-0.5 * e * e * inverse) if abs(e) <= reach else 0.0
            if heights_alone:
                for i in range(nx):
                    sums[0, i] += seen[x0 + i] / row[x0 + i] * g
            else:
                for i in range(nx):
                    w = seen[x0 + i] / row[x0 + i] * g
                    sums[0, i] += w
                    sums[1, i] += w * d
                    sums[2, i] += w * e
                    sums[3, i] += w * d * e
        aa, xa, ya, ax, ay, xx, xy, yx, yy = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        for i in range(nx):
            d, e = dx[i], dx[i] - bx
            g = gx[i] * np.exp(-0.5 * e * e * inverse) if abs(e) <= reach else 0.0
            aa += g * sums[0, i]
            xa += g * sums[0, i] * d
            ax += g * sums[0, i] * e
            xx += g * sums[0, i] * d * e
            ya += g * sums[1, i]
            yx += g * sums[1, i] * e
            ay += g * sums[2, i]
            xy += g * sums[2, i] * d
            yy += g * sums[3, i]
        block = blocks[k]
        if heights_alone:
            block[0, 0] = aa
            continue
        p, q = atoms[a, 2] * inverse, atoms[b, 2] * inverse
        block[0, 0], block[0, 1], block[0, 2] = p * q * xx, p * q * xy, p * xa
        block[1, 0], block[1, 1], block[1, 2] = p * q * yx, p * q * yy, p * ya
        block[2, 0], block[2, 1], block[2, 2] = q * ax, q * ay, aa
