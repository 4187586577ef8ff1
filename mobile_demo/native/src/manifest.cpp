#include "manifest.h"

#include <algorithm>
#include <cmath>

#include "failure.h"
#include "json.h"

namespace cxr {
namespace {

constexpr uint64_t kManifestLimit = 4u << 20;
constexpr uint64_t kSchemaVersion = 1;

bool is_plain_path(const std::string& path) {
    if (path.empty() || path.front() == '/' || path.back() == '/' || path.find_first_of("\\:") != std::string::npos) {
        return false;
    }
    for (size_t start = 0; start <= path.size();) {
        const size_t end = std::min(path.find('/', start), path.size());
        const std::string part = path.substr(start, end - start);
        if (part.empty() || part == "." || part == "..") return false;
        start = end + 1;
    }
    return true;
}

FileEntry file_entry(const JsonValue& value) {
    FileEntry entry{value["path"].text(), value["bytes"].count(), value["sha256"].text()};
    if (!is_plain_path(entry.path)) value["path"].fail(entry.path, "a relative path that stays in the bundle");
    if (entry.sha256.size() != 64 || entry.sha256.find_first_not_of("0123456789abcdef") != std::string::npos) {
        value["sha256"].fail(entry.sha256, "64 lower-case hexadecimal digits");
    }
    return entry;
}

std::vector<OutputSpec> outputs(const JsonValue& value, size_t classes) {
    struct Wanted {
        const char* name;
        size_t axes;
        bool by_class;
    };
    constexpr Wanted kWanted[] = {{"probabilities", 2, true},
                                  {"logits", 2, true},
                                  {"heatmap", 4, true},
                                  {"embedding", 2, false},
                                  {"gate_score", 1, false}};
    std::vector<OutputSpec> specs;
    for (const JsonValue& item : value.items()) {
        OutputSpec spec;
        spec.name = item["name"].text();
        for (const JsonValue& n : item["shape"].items()) spec.shape.push_back(static_cast<int64_t>(n.count(1 << 20)));
        const auto* wanted =
            std::find_if(std::begin(kWanted), std::end(kWanted), [&](const Wanted& w) { return spec.name == w.name; });
        const bool twice = std::any_of(specs.begin(), specs.end(), [&](const auto& s) { return s.name == spec.name; });
        if (wanted == std::end(kWanted) || twice) item["name"].fail(spec.name, "each of the five outputs once");
        const bool fits = spec.shape.size() == wanted->axes && spec.shape[0] == 1 &&
                          (!wanted->by_class || spec.shape[1] == static_cast<int64_t>(classes)) && spec.size() > 0 &&
                          spec.size() <= (1 << 24);
        if (!fits || item["dtype"].text() != "float32")
            item["shape"].fail("another shape or dtype", "what the labels need");
        specs.push_back(spec);
    }
    if (specs.size() != std::size(kWanted)) value.fail(std::to_string(specs.size()) + " outputs", "5");
    return specs;
}

}  // namespace

size_t OutputSpec::size() const {
    size_t count = 1;
    for (const int64_t n : shape) {
        if (n > 0 && count > (size_t{1} << 40) / static_cast<size_t>(n)) return 0;
        count *= static_cast<size_t>(n);
    }
    return count;
}

const std::string& Gate::reason(float score) const {
    const double last = static_cast<double>(reasons.size()) - 1;
    const double index = std::isfinite(score) ? std::clamp(std::floor(double{score}) - 1, 0.0, last) : 0.0;
    return reasons[static_cast<size_t>(index)];
}

const OutputSpec& Manifest::output(const char* wanted) const {
    return *std::find_if(outputs.begin(), outputs.end(), [&](const OutputSpec& o) { return o.name == wanted; });
}

Manifest read_manifest(const std::string& folder) {
    const std::string path = folder + "/manifest.json";
    if (!is_plain_file(path)) {
        throw Failure(CXR_BUNDLE_NOT_FOUND, folder + " is not a bundle folder", "no manifest.json there",
                      "a folder with manifest.json", "give the folder that the export wrote; unpack a zip first");
    }
    const JsonDocument document(read_text(path, kManifestLimit), path);
    const JsonValue root = document.root();
    if (root["schema_version"].count() != kSchemaVersion) {
        root["schema_version"].fail(std::to_string(root["schema_version"].count()), std::to_string(kSchemaVersion));
    }
    Manifest manifest;
    manifest.name = root["name"].text();
    for (const JsonValue& label : root["labels"].items()) manifest.labels.push_back(label.text());
    if (manifest.labels.size() < 2) root["labels"].fail(std::to_string(manifest.labels.size()), "two or more");
    if (root["input"]["name"].text() != "image" || root["input"]["dtype"].text() != "uint8") {
        root["input"].fail("another input", "image, uint8 [1, 1, H, W]");
    }
    manifest.outputs = outputs(root["outputs"], manifest.labels.size());
    for (const JsonValue& item : root["artifacts"].items()) {
        if (item["format"].text() != "lite") continue;
        Artifact artifact;
        artifact.name = item["name"].text();
        artifact.precision = item["precision"].text();
        if (artifact.name != "lite-" + artifact.precision)
            item["name"].fail(artifact.name, "lite-" + artifact.precision);
        const std::vector<JsonValue> files = item["files"].items();
        if (files.size() != 1) item["files"].fail(std::to_string(files.size()) + " files", "1");
        artifact.file = file_entry(files[0]);
        const JsonValue agreement = item["golden_agreement"];
        artifact.allowed_probability_difference = agreement["max_abs_probability_difference"].number();
        artifact.allowed_differing_decisions = agreement["differing_decisions"].count();
        manifest.artifacts.push_back(artifact);
    }
    const JsonValue recommended = root["recommended"].find("phone");
    if (!recommended.is_null()) manifest.recommended = recommended.text();
    // A gate that this library does not know must not be passed by: its threshold is read or the bundle is not opened.
    const JsonValue gate = root["gate"];
    if (!gate.is_null()) {
        const double threshold = gate["threshold"].number();
        if (!std::isfinite(threshold)) gate["threshold"].fail("not a number", "a finite number");
        Gate read{threshold, {}};
        for (const JsonValue& reason : gate["reasons"].items()) read.reasons.push_back(reason.text());
        if (read.reasons.empty()) gate["reasons"].fail("none", "one or more");
        manifest.gate = read;
    }
    const JsonValue conformal = root["conformal"];
    if (!conformal.is_null()) {
        for (const std::string& label : manifest.labels) {
            manifest.set_thresholds.push_back(conformal["thresholds"][label.c_str()].number());
        }
    }
    manifest.trained_on_synthetic_images = root["provenance"]["trained_on_synthetic_data"].boolean();
    manifest.golden_vectors = file_entry(root["golden"]["vectors"]);
    for (const JsonValue& input : root["golden"]["inputs"].items()) manifest.golden_inputs.push_back(file_entry(input));
    return manifest;
}

const Artifact& choose_artifact(const Manifest& manifest, const char* name) {
    std::string wanted = name != nullptr ? name : manifest.recommended;
    if (wanted.empty()) wanted = "lite-fp32";
    std::string names;
    for (const Artifact& artifact : manifest.artifacts) {
        if (artifact.name == wanted) return artifact;
        names += (names.empty() ? "" : ", ") + artifact.name;
    }
    if (name == nullptr && manifest.recommended.empty() && manifest.artifacts.size() == 1) return manifest.artifacts[0];
    throw Failure(CXR_NO_SUCH_ARTIFACT, "the bundle has no artifact " + wanted + " for the lite interpreter",
                  names.empty() ? "none of format lite" : names, wanted,
                  names.empty() ? "build the bundle with --formats lite among them" : "choose one of those");
}

}  // namespace cxr
