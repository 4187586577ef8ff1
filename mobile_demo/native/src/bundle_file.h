// One file of a bundle: size and SHA-256 checked before it is used.
#pragma once

#include <cstdint>
#include <string>

namespace cxr {

struct FileEntry {
    std::string path;  // inside the bundle, '/' between parts; plain and relative, which the manifest's reader checked
    uint64_t bytes = 0;
    std::string sha256;
};

// Path of the file in the bundle folder, after its size and SHA-256 held. Failure: absent, changed, unreadable.
std::string checked_path(const std::string& folder, const FileEntry& entry);

// Content of a file of at most `limit` bytes. Failure with `absent` where there is none.
std::string read_text(const std::string& path, uint64_t limit);

bool is_plain_file(const std::string& path);

}  // namespace cxr
