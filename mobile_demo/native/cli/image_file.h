// A PGM, PNG or JPEG file as grey pixels, by its content and never by its name; the rules of edge_runtime's reader.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

struct GreyImage {
    size_t height = 0;
    size_t width = 0;
    std::vector<uint8_t> pixels;
};

// Why a file gives no image. `is_refusal` false: the file could not be reached at all.
struct ImageFailure {
    bool is_refusal;
    std::string reason;  // the codes of edge_runtime: unreachable, unreadable, too_large, colour_photo
    std::string message;
};

// Throws ImageFailure.
GreyImage read_image_file(const std::string& path);
