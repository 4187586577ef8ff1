// What this library needs of a bundle's manifest, read strictly: a key it needs is there and of its type.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "bundle_file.h"

namespace cxr {

struct OutputSpec {
    std::string name;
    std::vector<int64_t> shape;
    size_t size() const;  // number of values
};

struct Artifact {
    std::string name;
    std::string precision;
    FileEntry file;
    double allowed_probability_difference = 0;
    size_t allowed_differing_decisions = 0;
};

// A score from `threshold` on is refused; the whole part of a score says why: 1 the first reason, 2 the second.
struct Gate {
    double threshold = 0;
    std::vector<std::string> reasons;

    bool lets_through(float score) const { return score < threshold; }  // a score that is not a number is not
    const std::string& reason(float score) const;
};

struct Manifest {
    std::string name;
    std::vector<std::string> labels;
    std::vector<OutputSpec> outputs;  // in the order in which the graph returns them
    std::vector<Artifact> artifacts;  // those for the lite interpreter
    std::string recommended;          // artifact for "phone"; empty where the manifest names none
    std::optional<Gate> gate;
    std::vector<double> set_thresholds;  // by class, of the prediction sets; empty where the bundle has none
    bool trained_on_synthetic_images = false;
    FileEntry golden_vectors;
    std::vector<FileEntry> golden_inputs;

    const OutputSpec& output(const char* wanted) const;
};

// Read manifest.json of a bundle folder. Failure: no bundle there, or not of the schema this library reads.
Manifest read_manifest(const std::string& folder);

// The artifact of that name; without a name the recommended one, else lite-fp32, else the only one.
const Artifact& choose_artifact(const Manifest& manifest, const char* name);

}  // namespace cxr
