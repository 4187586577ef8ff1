// From colour to grey, and what is no radiograph by its pixels alone: the rules of edge_runtime/reading.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "cxr_classifier.h"

namespace cxr {

struct Verdict {
    cxr_refusal refusal = CXR_NOT_REFUSED;
    std::string why;
};

// `channels` 3 or 4 bytes a pixel. Fills `grey` (height * width) unless it refuses.
Verdict grey_from_colour(const uint8_t* colour, size_t channels, size_t height, size_t width, size_t stride,
                         uint8_t* grey);

Verdict check_radiograph(const uint8_t* pixels, size_t height, size_t width, size_t stride);

}  // namespace cxr
