#include "bundle_file.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "failure.h"
#include "sha256.h"

namespace cxr {
namespace {

struct Closer {
    void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, Closer>;

File open_file(const std::string& path) {
    File file(std::fopen(path.c_str(), "rb"));
    if (!file) {
        const int reason = errno;
        throw Failure(CXR_FILE_MISSING, path + " cannot be read", std::strerror(reason), "",
                      "check the file's permissions and the disk");
    }
    return file;
}

Failure changed(const FileEntry& entry, const std::string& got, const std::string& expected) {
    return Failure(CXR_FILE_CHANGED, entry.path + " of the bundle is damaged or was changed", got, expected, kGetAgain);
}

}  // namespace

bool is_plain_file(const std::string& path) {
    struct stat status;
    return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

std::string checked_path(const std::string& folder, const FileEntry& entry) {
    const std::string path = folder + "/" + entry.path;
    if (!is_plain_file(path)) {
        throw Failure(CXR_FILE_MISSING, entry.path + " of bundle " + folder + " is missing", "no such file",
                      "the file that the manifest lists", kGetAgain);
    }
    const File file = open_file(path);
    Sha256 digest;
    uint64_t size = 0;
    std::vector<uint8_t> buffer(1 << 18);
    while (const size_t count = std::fread(buffer.data(), 1, buffer.size(), file.get())) {
        size += count;
        if (size > entry.bytes) break;
        digest.update(buffer.data(), count);
    }
    if (size != entry.bytes) {
        const std::string got = size > entry.bytes ? "more than " + std::to_string(entry.bytes) : std::to_string(size);
        throw changed(entry, got + " bytes", std::to_string(entry.bytes) + " bytes");
    }
    const std::string hex = digest.hex();
    if (hex != entry.sha256) {
        throw changed(entry, "SHA-256 " + hex.substr(0, 16) + "...", "SHA-256 " + entry.sha256.substr(0, 16) + "...");
    }
    return path;
}

std::string read_text(const std::string& path, uint64_t limit) {
    const File file = open_file(path);
    std::string text;
    std::vector<char> buffer(1 << 16);
    while (const size_t count = std::fread(buffer.data(), 1, buffer.size(), file.get())) {
        text.append(buffer.data(), count);
        if (text.size() > limit) {
            throw Failure(CXR_BUNDLE_INVALID, path + " is too large", "more than " + std::to_string(limit) + " bytes",
                          "", kGetAgain);
        }
    }
    return text;
}

}  // namespace cxr
