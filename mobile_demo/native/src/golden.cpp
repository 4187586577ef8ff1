#include "golden.h"

#include <algorithm>

#include "json.h"

namespace cxr {
namespace {

std::vector<float> numbers(const JsonValue& value, size_t size) {
    std::vector<float> flat;
    value.flatten(flat);
    if (flat.size() != size) value.fail(std::to_string(flat.size()) + " numbers", std::to_string(size));
    return flat;
}

}  // namespace

std::vector<GoldenVector> read_golden(const std::string& folder, const Manifest& manifest) {
    const std::string path = checked_path(folder, manifest.golden_vectors);
    const JsonDocument document(read_text(path, 256u << 20), path);
    const JsonValue root = document.root();
    if (root["schema_version"].count() != 1) root["schema_version"].fail("another version", "1");
    std::vector<std::string> labels;
    for (const JsonValue& label : root["labels"].items()) labels.push_back(label.text());
    if (labels != manifest.labels) root["labels"].fail("other labels", "the manifest's");
    std::vector<GoldenVector> vectors;
    for (const JsonValue& item : root["vectors"].items()) {
        const std::string name = item["input"].text();
        const auto entry = std::find_if(manifest.golden_inputs.begin(), manifest.golden_inputs.end(),
                                        [&](const FileEntry& e) { return e.path == name; });
        if (entry == manifest.golden_inputs.end()) item["input"].fail(name, "an input that the manifest lists");
        const JsonValue outputs = item["outputs"];
        vectors.push_back({*entry, numbers(outputs["probabilities"], manifest.labels.size()),
                           numbers(outputs["heatmap"], manifest.output("heatmap").size())});
    }
    if (vectors.empty()) root["vectors"].fail("none", "one or more");
    return vectors;
}

}  // namespace cxr
