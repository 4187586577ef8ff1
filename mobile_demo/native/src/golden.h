// Golden vectors: inputs and the full model's outputs on them.
#pragma once

#include <string>
#include <vector>

#include "manifest.h"

namespace cxr {

struct GoldenVector {
    FileEntry input;  // an 8-bit grey PNG
    std::vector<float> probabilities;
    std::vector<float> heatmap;
};

// Read golden/vectors.json, hash checked. Failure: changed, or not of the manifest's labels, inputs and shapes.
std::vector<GoldenVector> read_golden(const std::string& folder, const Manifest& manifest);

}  // namespace cxr
