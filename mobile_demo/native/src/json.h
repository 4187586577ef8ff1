// A read-only view of JSON (cJSON) in which a missing key or a wrong type is a Failure that names it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cJSON.h"
#include "failure.h"

namespace cxr {

// One value of a document, and its path for messages. Valid as long as its JsonDocument.
class JsonValue {
  public:
    JsonValue(const cJSON* node, std::string path) : node_(node), path_(std::move(path)) {}

    JsonValue operator[](const char* key) const {
        const cJSON* child = cJSON_IsObject(node_) ? cJSON_GetObjectItemCaseSensitive(node_, key) : nullptr;
        if (child == nullptr) fail("nothing", std::string("the key ") + key);
        return {child, path_.empty() ? key : path_ + "." + key};
    }

    // The same, null where the key is absent: for a key that a dictionary may lack.
    JsonValue find(const char* key) const {
        const cJSON* child = cJSON_IsObject(node_) ? cJSON_GetObjectItemCaseSensitive(node_, key) : nullptr;
        return {child, path_ + "." + key};
    }

    bool is_null() const { return node_ == nullptr || cJSON_IsNull(node_); }

    std::string text() const {
        if (!cJSON_IsString(node_)) fail("another type", "a string");
        return node_->valuestring;
    }

    double number() const {
        if (!cJSON_IsNumber(node_)) fail("another type", "a number");
        return node_->valuedouble;
    }

    // A whole number from 0 to `limit`.
    uint64_t count(uint64_t limit = uint64_t{1} << 53) const {
        const double value = number();
        if (!(value >= 0 && value <= static_cast<double>(limit)) ||
            value != static_cast<double>(static_cast<uint64_t>(value))) {
            fail(std::to_string(value), "a whole number from 0 to " + std::to_string(limit));
        }
        return static_cast<uint64_t>(value);
    }

    bool boolean() const {
        if (!cJSON_IsBool(node_)) fail("another type", "true or false");
        return cJSON_IsTrue(node_);
    }

    std::vector<JsonValue> items() const {
        if (!cJSON_IsArray(node_)) fail("another type", "a list");
        std::vector<JsonValue> values;
        const cJSON* item = nullptr;
        cJSON_ArrayForEach(item, node_) values.emplace_back(item, path_ + "[" + std::to_string(values.size()) + "]");
        return values;
    }

    // The numbers of nested lists, first to last.
    void flatten(std::vector<float>& into) const {
        if (cJSON_IsNumber(node_)) {
            into.push_back(static_cast<float>(node_->valuedouble));
            return;
        }
        if (!cJSON_IsArray(node_)) fail("another type", "a list of numbers");
        const cJSON* item = nullptr;
        cJSON_ArrayForEach(item, node_) JsonValue(item, path_).flatten(into);
    }

    [[noreturn]] void fail(const std::string& got, const std::string& expected) const {
        throw Failure(
            CXR_BUNDLE_INVALID,
            (path_.empty() ? std::string("the document") : path_) + " of the bundle does not follow the schema", got,
            expected, "use the library that belongs to the bundle, or build the bundle anew");
    }

  private:
    const cJSON* node_;
    std::string path_;
};

class JsonDocument {
  public:
    JsonDocument(const std::string& text, const std::string& where) : root_(nullptr, cJSON_Delete) {
        if (text.find('\0') == std::string::npos) {
            root_.reset(cJSON_ParseWithLengthOpts(text.c_str(), text.size() + 1, nullptr, 1));
        }
        if (!root_) throw Failure(CXR_BUNDLE_INVALID, where + " is not JSON", "", "", kGetAgain);
    }

    JsonValue root() const { return {root_.get(), ""}; }

  private:
    std::unique_ptr<cJSON, void (*)(cJSON*)> root_;
};

}  // namespace cxr
