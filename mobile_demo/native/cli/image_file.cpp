#include "image_file.h"

#include <cctype>
#include <cerrno>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <memory>

#include <jerror.h>
#include <jpeglib.h>
#include <png.h>

#include "cxr_classifier.h"

namespace {

constexpr size_t kMaxFileBytes = size_t{256} << 20;

[[noreturn]] void unreadable(const std::string& what, const std::string& remedy = "copy or export the file again") {
    throw ImageFailure{true, "unreadable", what + "; remedy: " + remedy};
}

void check_size(uint64_t height, uint64_t width) {
    if (height == 0 || width == 0) unreadable("it has no pixels");
    if (height > CXR_MAX_PIXELS || width > CXR_MAX_PIXELS || height * width > CXR_MAX_PIXELS) {
        throw ImageFailure{true, "too_large",
                           "it claims more pixels than this program decodes; got: " + std::to_string(width) + " x " +
                               std::to_string(height) + " pixels; expected: at most " +
                               std::to_string(CXR_MAX_PIXELS / 1000000) + " megapixels; remedy: export it smaller"};
    }
}

// What a decoder leaves: interleaved channels, 1, 3 or 4 of them.
struct Decoded {
    size_t height = 0, width = 0, channels = 0;
    std::vector<uint8_t> bytes;
    std::string fault;  // set instead of throwing through C code
};

std::vector<uint8_t> read_file(const std::string& path) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
    if (!file) throw ImageFailure{false, "unreachable", std::string("it cannot be read; got: ") + std::strerror(errno)};
    std::vector<uint8_t> bytes;
    std::vector<uint8_t> buffer(1 << 18);
    while (const size_t count = std::fread(buffer.data(), 1, buffer.size(), file.get())) {
        bytes.insert(bytes.end(), buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(count));
        if (bytes.size() > kMaxFileBytes) throw ImageFailure{true, "too_large", "it has more than 256 MiB"};
    }
    if (std::ferror(file.get()))
        throw ImageFailure{false, "unreachable", "it cannot be read; got: a folder or a disk error"};
    return bytes;
}

// --- PGM ---

uint64_t pgm_number(const std::vector<uint8_t>& file, size_t& at) {
    while (at < file.size() && (std::isspace(file[at]) || file[at] == '#')) {
        if (file[at] == '#')
            while (at < file.size() && file[at] != '\n') ++at;
        else
            ++at;
    }
    uint64_t value = 0;
    size_t digits = 0;
    for (; at < file.size() && std::isdigit(file[at]) && digits < 10; ++at, ++digits)
        value = value * 10 + (file[at] - '0');
    if (digits == 0) unreadable("its PGM header is damaged");
    return value;
}

Decoded decode_pgm(const std::vector<uint8_t>& file) {
    size_t at = 2;
    const uint64_t width = pgm_number(file, at), height = pgm_number(file, at), top = pgm_number(file, at);
    check_size(height, width);
    if (top != 255)
        unreadable("it has " + std::to_string(top + 1) + " grey levels; expected: 256", "export it with 8 bits");
    ++at;  // one white space after the header
    if (at > file.size() || file.size() - at < width * height) unreadable("it is truncated");
    const auto start = file.begin() + static_cast<std::ptrdiff_t>(at);
    return {height, width, 1, {start, start + static_cast<std::ptrdiff_t>(width * height)}, ""};
}

// --- PNG ---

struct PngSource {
    const std::vector<uint8_t>* file;
    size_t at;
    char fault[128];
};

void png_read(png_structp png, png_bytep out, size_t size) {
    auto* source = static_cast<PngSource*>(png_get_io_ptr(png));
    if (source->file->size() - source->at < size) png_error(png, "it ends too early");
    std::memcpy(out, source->file->data() + source->at, size);
    source->at += size;
}

void png_fail(png_structp png, png_const_charp text) {
    auto* source = static_cast<PngSource*>(png_get_error_ptr(png));
    std::snprintf(source->fault, sizeof source->fault, "%s", text);
    png_longjmp(png, 1);
}

// Everything with a destructor is the caller's: libpng leaves by longjmp.
void decode_png_into(PngSource* source, Decoded* image, std::vector<png_bytep>* rows) {
    png_structp png =
        png_create_read_struct(PNG_LIBPNG_VER_STRING, source, png_fail, [](png_structp, png_const_charp) {});
    png_infop info = png != nullptr ? png_create_info_struct(png) : nullptr;
    if (info == nullptr) {
        png_destroy_read_struct(&png, nullptr, nullptr);
        image->fault = "out of memory";
        return;
    }
    if (setjmp(png_jmpbuf(png))) {
        png_destroy_read_struct(&png, &info, nullptr);
        image->fault = source->fault;
        return;
    }
    png_set_read_fn(png, source, png_read);
    png_set_user_limits(png, CXR_MAX_PIXELS, CXR_MAX_PIXELS);
    png_read_info(png, info);
    image->width = png_get_image_width(png, info);
    image->height = png_get_image_height(png, info);
    if (png_get_bit_depth(png, info) > 8) png_error(png, "16 bits a pixel");
    if (uint64_t{image->width} * image->height > CXR_MAX_PIXELS) {
        png_destroy_read_struct(&png, &info, nullptr);
        return;  // the caller checks the size
    }
    png_set_expand(png);  // palettes, 1 to 4 bits, transparency
    png_set_interlace_handling(png);
    if (png_get_color_type(png, info) == PNG_COLOR_TYPE_GRAY_ALPHA ||
        (png_get_color_type(png, info) == PNG_COLOR_TYPE_GRAY && png_get_valid(png, info, PNG_INFO_tRNS))) {
        png_set_gray_to_rgb(png);
    }
    png_read_update_info(png, info);
    image->channels = png_get_channels(png, info);
    const size_t stride = png_get_rowbytes(png, info);
    image->bytes.resize(stride * image->height);
    rows->resize(image->height);
    for (size_t y = 0; y < image->height; ++y) (*rows)[y] = image->bytes.data() + y * stride;
    png_read_image(png, rows->data());
    png_read_end(png, nullptr);
    png_destroy_read_struct(&png, &info, nullptr);
}

Decoded decode_png(const std::vector<uint8_t>& file) {
    PngSource source{&file, 0, {}};
    Decoded image;
    std::vector<png_bytep> rows;
    decode_png_into(&source, &image, &rows);
    if (image.fault == "16 bits a pixel") unreadable("it has 16 bits a pixel; expected: 8", "export it with 8 bits");
    return image;
}

// --- JPEG ---

struct JpegError {
    jpeg_error_mgr base;
    std::jmp_buf leave;
    char fault[JMSG_LENGTH_MAX];
    bool truncated;
};

void jpeg_fail(j_common_ptr jpeg) {
    auto* error = reinterpret_cast<JpegError*>(jpeg->err);
    jpeg->err->format_message(jpeg, error->fault);
    std::longjmp(error->leave, 1);
}

void jpeg_note(j_common_ptr jpeg, int level) {
    auto* error = reinterpret_cast<JpegError*>(jpeg->err);
    if (level < 0 && (jpeg->err->msg_code == JWRN_JPEG_EOF || jpeg->err->msg_code == JWRN_HIT_MARKER))
        error->truncated = true;
}

// Orientation of an EXIF APP1 segment (TIFF tag 0x0112), 1 where there is none.
unsigned exif_orientation(const uint8_t* data, size_t size) {
    if (size < 14 || std::memcmp(data, "Exif\0\0", 6) != 0) return 1;
    const uint8_t* tiff = data + 6;
    const size_t left = size - 6;
    const bool little = tiff[0] == 'I';
    const auto read16 = [&](size_t at) {
        return at + 2 > left ? 0u : little ? tiff[at] | tiff[at + 1] << 8u : tiff[at] << 8u | tiff[at + 1];
    };
    const auto read32 = [&](size_t at) {
        return little ? read16(at) | read16(at + 2) << 16u : read16(at) << 16u | read16(at + 2);
    };
    const size_t directory = read32(4);
    if (directory >= left) return 1;
    for (size_t i = 0; i < read16(directory); ++i) {
        const size_t entry = directory + 2 + 12 * i;
        if (entry + 12 > left) break;
        if (read16(entry) == 0x0112) return read16(entry + 8);
    }
    return 1;
}

void decode_jpeg_into(const std::vector<uint8_t>* file, Decoded* image, JpegError* error, unsigned* orientation) {
    jpeg_decompress_struct jpeg;
    jpeg.err = jpeg_std_error(&error->base);
    error->base.error_exit = jpeg_fail;
    error->base.emit_message = jpeg_note;
    if (setjmp(error->leave)) {
        jpeg_destroy_decompress(&jpeg);
        image->fault = error->fault;
        return;
    }
    jpeg_create_decompress(&jpeg);
    jpeg_mem_src(&jpeg, file->data(), static_cast<unsigned long>(file->size()));
    jpeg_save_markers(&jpeg, JPEG_APP0 + 1, 0xffff);
    jpeg_read_header(&jpeg, TRUE);
    image->width = jpeg.image_width;
    image->height = jpeg.image_height;
    for (jpeg_saved_marker_ptr marker = jpeg.marker_list; marker != nullptr; marker = marker->next) {
        if (*orientation == 1) *orientation = exif_orientation(marker->data, marker->data_length);
    }
    const bool grey = jpeg.num_components == 1;
    if (uint64_t{image->width} * image->height > CXR_MAX_PIXELS || (!grey && jpeg.num_components != 3)) {
        if (!grey && jpeg.num_components != 3) image->fault = "four colour channels (CMYK)";
        jpeg_destroy_decompress(&jpeg);
        return;
    }
    jpeg.out_color_space = grey ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_start_decompress(&jpeg);
    image->channels = static_cast<size_t>(jpeg.output_components);
    const size_t stride = image->width * image->channels;
    image->bytes.resize(stride * image->height);
    while (jpeg.output_scanline < jpeg.output_height) {
        JSAMPROW row = image->bytes.data() + jpeg.output_scanline * stride;
        jpeg_read_scanlines(&jpeg, &row, 1);
    }
    jpeg_finish_decompress(&jpeg);
    jpeg_destroy_decompress(&jpeg);
}

Decoded decode_jpeg(const std::vector<uint8_t>& file) {
    Decoded image;
    JpegError error{};
    unsigned orientation = 1;
    decode_jpeg_into(&file, &image, &error, &orientation);
    if (image.fault.empty() && error.truncated) image.fault = "it ends too early";
    if (image.fault.empty() && orientation > 1) {
        unreadable("it is marked as rotated (EXIF orientation " + std::to_string(orientation) +
                       "), which this program does not turn",
                   "export it upright, or use edge-runtime");
    }
    return image;
}

}  // namespace

GreyImage read_image_file(const std::string& path) {
    const std::vector<uint8_t> file = read_file(path);
    const auto starts = [&](const char* magic, size_t size) {
        return file.size() >= size && std::memcmp(file.data(), magic, size) == 0;
    };
    Decoded image;
    if (starts("P5", 2))
        image = decode_pgm(file);
    else if (starts("\x89PNG\r\n\x1a\n", 8))
        image = decode_png(file);
    else if (starts("\xff\xd8\xff", 3))
        image = decode_jpeg(file);
    else
        unreadable("it is no PGM, PNG or JPEG image", "read DICOM and other formats with edge-runtime");
    if (!image.fault.empty()) unreadable("it is damaged; got: " + image.fault);
    check_size(image.height, image.width);
    GreyImage grey{image.height, image.width, {}};
    if (image.channels == 1) {
        grey.pixels = std::move(image.bytes);
        return grey;
    }
    grey.pixels.resize(grey.height * grey.width);
    cxr_refusal refusal = CXR_NOT_REFUSED;
    cxr_error error;
    const cxr_status status =
        cxr_grey_from_colour(image.bytes.data(), image.channels == 3 ? CXR_RGB : CXR_RGBA, grey.height, grey.width,
                             grey.width * image.channels, grey.pixels.data(), &refusal, &error);
    if (status != CXR_OK) unreadable(error.message);
    if (refusal != CXR_NOT_REFUSED) throw ImageFailure{true, cxr_refusal_name(refusal), error.message};
    return grey;
}
