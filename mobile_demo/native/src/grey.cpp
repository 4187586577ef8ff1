#include "grey.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <vector>

namespace cxr {
namespace {

// The limits and their reasons are those of edge_runtime/reading/colour.py.
constexpr double kMaxOffTone = 0.06;
constexpr double kOffToneChroma = 12.0;
constexpr double kMaxVivid = 0.02;
constexpr double kVividChroma = 70.0;
constexpr double kMaxMeanChroma = 30.0;
constexpr size_t kSampleEdge = 512;
constexpr size_t kTones = 16;

struct Rgb {
    uint8_t r, g, b;
};

Rgb on_black(const uint8_t* p, size_t channels) {
    if (channels == 3 || p[3] == 255) return {p[0], p[1], p[2]};
    const auto shown = [&](uint8_t value) { return static_cast<uint8_t>((value * p[3] + 127) / 255); };
    return {shown(p[0]), shown(p[1]), shown(p[2])};
}

struct Tone {
    double luma, blueness, redness;
};

Tone tone_of(Rgb p) {
    const double luma = 0.299 * p.r + 0.587 * p.g + 0.114 * p.b;  // ITU-R BT.601, as JFIF has it
    return {luma, 0.564 * (p.b - luma), 0.713 * (p.r - luma)};
}

// Least squares of a polynomial of degree N - 1 over brightness in units of 128, each tone counting by its pixels.
using Curve = std::array<double, 4>;

Curve fit(const std::vector<Tone>& means, const std::vector<double>& counts, double Tone::*chroma) {
    const size_t n = std::min<size_t>(4, means.size());
    std::array<std::array<double, 5>, 4> rows{};
    for (size_t i = 0; i < means.size(); ++i) {
        const double x = means[i].luma / 128 - 1;
        std::array<double, 4> powers{1, x, x * x, x * x * x};
        for (size_t r = 0; r < n; ++r) {
            for (size_t c = 0; c < n; ++c) rows[r][c] += counts[i] * powers[r] * powers[c];
            rows[r][4] += counts[i] * powers[r] * means[i].*chroma;
        }
    }
    for (size_t pivot = 0; pivot < n; ++pivot) {
        size_t best = pivot;
        for (size_t r = pivot + 1; r < n; ++r) {
            if (std::abs(rows[r][pivot]) > std::abs(rows[best][pivot])) best = r;
        }
        std::swap(rows[pivot], rows[best]);
        if (rows[pivot][pivot] == 0) continue;
        for (size_t r = 0; r < n; ++r) {
            if (r == pivot) continue;
            const double factor = rows[r][pivot] / rows[pivot][pivot];
            for (size_t c = pivot; c < 5; ++c) rows[r][c] -= factor * rows[pivot][c];
        }
    }
    Curve curve{};
    for (size_t i = 0; i < n; ++i) curve[i] = rows[i][i] == 0 ? 0 : rows[i][4] / rows[i][i];
    return curve;
}

double value_at(const Curve& curve, double luma) {
    const double x = luma / 128 - 1;
    return curve[0] + x * (curve[1] + x * (curve[2] + x * curve[3]));
}

Verdict judge_colour(const std::vector<Tone>& sample) {
    std::array<double, kTones> count{};
    std::array<Tone, kTones> sum{};
    for (const Tone& tone : sample) {
        const size_t bin = std::min(kTones - 1, static_cast<size_t>(tone.luma / 16));
        count[bin] += 1;
        sum[bin].luma += tone.luma, sum[bin].blueness += tone.blueness, sum[bin].redness += tone.redness;
    }
    std::vector<Tone> means;
    std::vector<double> counts;
    for (size_t bin = 0; bin < kTones; ++bin) {
        if (count[bin] == 0) continue;
        means.push_back({sum[bin].luma / count[bin], sum[bin].blueness / count[bin], sum[bin].redness / count[bin]});
        counts.push_back(count[bin]);
    }
    const Curve blue = fit(means, counts, &Tone::blueness), red = fit(means, counts, &Tone::redness);
    double mean_chroma = 0, off_tone = 0, vivid = 0;
    for (const Tone& tone : sample) {
        const double off =
            std::hypot(tone.blueness - value_at(blue, tone.luma), tone.redness - value_at(red, tone.luma));
        const double strength = std::hypot(tone.blueness, tone.redness);
        mean_chroma += strength, off_tone += off > kOffToneChroma, vivid += strength > kVividChroma;
    }
    const auto n = static_cast<double>(sample.size());
    mean_chroma /= n, off_tone /= n, vivid /= n;
    if (off_tone <= kMaxOffTone && vivid <= kMaxVivid && mean_chroma <= kMaxMeanChroma) return {};
    char why[240];
    std::snprintf(
        why, sizeof why,
        "it is a colour picture, not a radiograph; got: %.0f %% of the pixels beyond a tint, mean chroma %.0f; "
        "expected: a grey image, or a film with one tint; remedy: export the radiograph itself, in grey",
        100 * off_tone, mean_chroma);
    return {CXR_COLOUR_PHOTO, why};
}

}  // namespace

Verdict grey_from_colour(const uint8_t* colour, size_t channels, size_t height, size_t width, size_t stride,
                         uint8_t* grey) {
    bool equal = true;
    const size_t step_y = std::max<size_t>(1, (height + kSampleEdge - 1) / kSampleEdge);
    const size_t step_x = std::max<size_t>(1, (width + kSampleEdge - 1) / kSampleEdge);
    for (size_t y = 0; y < height && equal; ++y) {
        for (size_t x = 0; x < width && equal; ++x) {
            const uint8_t* p = colour + y * stride + x * channels;
            equal = p[0] == p[1] && p[0] == p[2];
        }
    }
    if (!equal) {
        std::vector<Tone> sample;
        for (size_t y = 0; y < height; y += step_y) {
            for (size_t x = 0; x < width; x += step_x) {
                sample.push_back(tone_of(on_black(colour + y * stride + x * channels, channels)));
            }
        }
        Verdict verdict = judge_colour(sample);
        if (verdict.refusal != CXR_NOT_REFUSED) return verdict;
    }
    for (size_t y = 0; y < height; ++y) {
        for (size_t x = 0; x < width; ++x) {
            const Rgb p = on_black(colour + y * stride + x * channels, channels);
            // Pillow's fixed-point luma, so that the same picture gives the same grey in every host
            grey[y * width + x] = static_cast<uint8_t>((p.r * 19595u + p.g * 38470u + p.b * 7471u + 0x8000u) >> 16);
        }
    }
    return {};
}

Verdict check_radiograph(const uint8_t* pixels, size_t height, size_t width, size_t stride) {
    if (std::min(height, width) < CXR_MIN_EDGE) {
        return {CXR_TOO_SMALL, "it is too small to be judged; got: " + std::to_string(width) + " x " +
                                   std::to_string(height) + " pixels; expected: at least " +
                                   std::to_string(CXR_MIN_EDGE) +
                                   " on the shorter side; remedy: export the radiograph itself, not its preview"};
    }
    for (size_t y = 0; y < height; ++y) {
        const uint8_t* row = pixels + y * stride;
        if (std::any_of(row, row + width, [&](uint8_t value) { return value != pixels[0]; })) return {};
    }
    return {CXR_NO_CONTRAST,
            "it is one even grey; expected: a radiograph with light and dark parts; remedy: export it again"};
}

}  // namespace cxr
