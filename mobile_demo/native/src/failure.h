// The library's one exception: what happened, what was found, what was expected, what to do about it.
#pragma once

#include <exception>
#include <string>
#include <utility>

#include "cxr_classifier.h"

namespace cxr {

class Failure : public std::exception {
  public:
    Failure(cxr_status code, const std::string& what, const std::string& got, const std::string& expected,
            const std::string& remedy)
        : status(code), text_(what) {
        append("got", got);
        append("expected", expected);
        append("remedy", remedy);
    }

    const char* what() const noexcept override { return text_.c_str(); }

    const cxr_status status;

  private:
    void append(const char* name, const std::string& value) {
        if (!value.empty()) text_ += std::string("; ") + name + ": " + value;
    }

    std::string text_;
};

inline constexpr const char* kGetAgain = "get the bundle again from where it was built, and do not use this copy";

}  // namespace cxr
