// Classifies pictures with a bundle of zoo's, in C++: checked, decoded, resized as Pillow does, asked, tested.
//
//   classify BUNDLE picture.jpg ...     the five most probable classes of each
//   classify BUNDLE --selftest          the golden images again: exit code 0, or 3 if the answers are not the proof's

#include <algorithm>
#include <array>
#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <jpeglib.h>
#include <jerror.h>
#include <nlohmann/json.hpp>
#include <onnxruntime_cxx_api.h>
#include <openssl/sha.h>
#include <png.h>
#include <zlib.h>

using Bytes = std::vector<uint8_t>;
using nlohmann::json;

struct Image {  // RGB, row by row
  int width = 0, height = 0;
  Bytes data;
};

constexpr double kMostPixels = 64e6;
constexpr int kSchema = 1;

[[noreturn]] void fail(const std::string& text) { throw std::runtime_error(text); }

// ---- the bundle's files: none is used before its SHA-256 is what SHA256SUMS says ----------------------------------

Bytes readFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(path + ": cannot be read");
  return Bytes(std::istreambuf_iterator<char>(file), {});
}

std::string sha256(const Bytes& bytes) {
  std::array<uint8_t, SHA256_DIGEST_LENGTH> digest{};
  SHA256(bytes.data(), bytes.size(), digest.data());
  std::string text;
  char pair[3];
  for (uint8_t byte : digest) text.append(pair, std::snprintf(pair, sizeof pair, "%02x", byte));
  return text;
}

class Files {
 public:
  explicit Files(std::string folder) : folder_(std::move(folder)) {
    const Bytes text = readFile(folder_ + "/SHA256SUMS");
    std::istringstream lines(std::string(text.begin(), text.end()));
    for (std::string digest, name; lines >> digest >> name;) sums_[name] = digest;
  }

  Bytes read(const std::string& name) const {
    const auto wanted = sums_.find(name);
    Bytes bytes = wanted == sums_.end() ? Bytes() : readFile(folder_ + "/" + name);
    if (wanted == sums_.end() || sha256(bytes) != wanted->second) {
      fail(folder_ + "/" + name + " is not what the bundle was made with (its checksum differs); copy it once more");
    }
    return bytes;
  }

 private:
  std::string folder_;
  std::map<std::string, std::string> sums_;
};

// ---- golden.npz: a zip of arrays, stored or deflated --------------------------------------------------------------

struct Array {
  std::vector<size_t> shape;
  Bytes data;
};

template <typename T>
T little(const Bytes& bytes, size_t place) {
  T value;
  if (place + sizeof value > bytes.size()) fail("golden.npz is damaged");
  std::memcpy(&value, &bytes[place], sizeof value);
  return value;
}

Bytes inflateRaw(const uint8_t* packed, size_t size, size_t unpacked) {
  Bytes out(unpacked);
  z_stream stream{};
  stream.next_in = const_cast<uint8_t*>(packed);
  stream.avail_in = size;
  stream.next_out = out.data();
  stream.avail_out = out.size();
  inflateInit2(&stream, -MAX_WBITS);
  const int ended = inflate(&stream, Z_FINISH);
  inflateEnd(&stream);
  if (ended != Z_STREAM_END || stream.avail_out) fail("golden.npz is damaged");
  return out;
}

Array readNpy(const Bytes& bytes) {
  const size_t start = bytes.at(6) > 1 ? 12 : 10;
  const size_t stop = start + (start == 12 ? little<uint32_t>(bytes, 8) : little<uint16_t>(bytes, 8));
  const std::string header(bytes.begin() + start, bytes.begin() + stop);
  Array array{{}, Bytes(bytes.begin() + stop, bytes.end())};
  std::istringstream shape(header.substr(header.find("'shape': (") + 10));
  for (size_t length; shape >> length; shape.ignore(1)) array.shape.push_back(length);
  return array;
}

std::map<std::string, Array> readNpz(const Bytes& zip) {
  size_t end = zip.size() - 22;
  while (little<uint32_t>(zip, end) != 0x06054b50) --end;
  size_t place = little<uint32_t>(zip, end + 16);
  std::map<std::string, Array> arrays;
  for (int left = little<uint16_t>(zip, end + 10); left > 0; --left) {
    const size_t named = little<uint16_t>(zip, place + 28), header = little<uint32_t>(zip, place + 42);
    const size_t packed = little<uint32_t>(zip, place + 20), unpacked = little<uint32_t>(zip, place + 24);
    const size_t start = header + 30 + little<uint16_t>(zip, header + 26) + little<uint16_t>(zip, header + 28);
    const std::string name(zip.begin() + place + 46, zip.begin() + place + 46 + named - 4);  // without ".npy"
    const bool deflated = little<uint16_t>(zip, place + 10) == 8;
    const Bytes stored(zip.begin() + start, zip.begin() + start + packed);
    arrays[name] = readNpy(deflated ? inflateRaw(stored.data(), packed, unpacked) : stored);
    place += 46 + named + little<uint16_t>(zip, place + 30) + little<uint16_t>(zip, place + 32);
  }
  return arrays;
}

// ---- pictures: JPEG and PNG, EXIF orientation applied, alpha over white --------------------------------------------

struct JpegErrors : jpeg_error_mgr {
  std::jmp_buf back;
};

[[noreturn]] void jpegFailed(j_common_ptr info) { std::longjmp(static_cast<JpegErrors*>(info->err)->back, 1); }

void jpegComplains(j_common_ptr info, int level) {
  if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF) jpegFailed(info);  // libjpeg would go on with grey
}

bool tooLarge(const Image& image) { return 1.0 * image.width * image.height > kMostPixels; }

// The orientation, 1 to 8, of a block that begins with a TIFF header.
int orientationOf(const uint8_t* tiff, size_t size) {
  if (size < 8) return 1;
  const bool big = tiff[0] == 'M';
  const auto two = [&](size_t at) { return at + 2 > size ? 0 : big ? tiff[at] << 8 | tiff[at + 1] : tiff[at + 1] << 8 | tiff[at]; };
  const auto four = [&](size_t at) { return big ? two(at) << 16 | two(at + 2) : two(at + 2) << 16 | two(at); };
  const size_t list = static_cast<uint32_t>(four(4));
  for (size_t at = list + 2, left = two(list); left > 0 && at + 12 <= size; --left, at += 12) {
    if (two(at) == 0x112 && two(at + 8) >= 1 && two(at + 8) <= 8) return two(at + 8);
  }
  return 1;
}

void readJpegInto(const Bytes& bytes, Image& image, int& orientation, JpegErrors& errors) {
  jpeg_decompress_struct info{};
  info.err = jpeg_std_error(&errors);
  errors.error_exit = jpegFailed;
  errors.emit_message = jpegComplains;
  if (setjmp(errors.back)) {
    char text[JMSG_LENGTH_MAX];
    errors.format_message(reinterpret_cast<j_common_ptr>(&info), text);
    jpeg_destroy_decompress(&info);
    fail(std::string("is damaged (") + text + ")");
  }
  jpeg_create_decompress(&info);
  jpeg_save_markers(&info, JPEG_APP0 + 1, 0xffff);
  jpeg_mem_src(&info, bytes.data(), bytes.size());
  jpeg_read_header(&info, TRUE);
  info.out_color_space = JCS_RGB;
  for (auto* marker = info.marker_list; marker; marker = marker->next) {
    if (marker->data_length > 6 && !std::memcmp(marker->data, "Exif\0", 6)) {
      orientation = orientationOf(marker->data + 6, marker->data_length - 6);
    }
  }
  image.width = info.image_width;
  image.height = info.image_height;
  if (!tooLarge(image)) {
    image.data.resize(3ul * image.width * image.height);
    jpeg_start_decompress(&info);
    while (info.output_scanline < info.output_height) {
      uint8_t* row = &image.data[3ul * image.width * info.output_scanline];
      jpeg_read_scanlines(&info, &row, 1);
    }
    jpeg_finish_decompress(&info);
  }
  jpeg_destroy_decompress(&info);
}

Image overWhite(const Bytes& rgba, int width, int height) {
  Image image{width, height, Bytes(3ul * width * height)};
  for (size_t pixel = 0; pixel < 1ul * width * height; ++pixel) {
    const int alpha = rgba[4 * pixel + 3];
    for (int channel = 0; channel < 3; ++channel) {  // as Pillow's alpha_composite rounds
      const int sum = (rgba[4 * pixel + channel] * alpha + 255 * (255 - alpha)) * 128 + 128 * 128;
      image.data[3 * pixel + channel] = ((sum >> 8) + sum) >> 8 >> 7;
    }
  }
  return image;
}

struct PngState {
  const Bytes* bytes;
  size_t place;
};

void pngRead(png_structp png, png_bytep into, size_t count) {
  auto* state = static_cast<PngState*>(png_get_io_ptr(png));
  if (state->place + count > state->bytes->size()) png_error(png, "truncated");
  std::memcpy(into, state->bytes->data() + state->place, count);
  state->place += count;
}

void readPngInto(const Bytes& bytes, Bytes& rgba, std::vector<png_bytep>& rows, Image& size, int& orientation) {
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, nullptr, [](png_structp p, png_const_charp) { png_longjmp(p, 1); },
                                           [](png_structp, png_const_charp) {});
  png_infop info = png_create_info_struct(png);
  PngState state{&bytes, 0};
  if (setjmp(png_jmpbuf(png))) {
    png_destroy_read_struct(&png, &info, nullptr);
    fail("is truncated or damaged");
  }
  png_set_read_fn(png, &state, pngRead);
  png_read_info(png, info);
  size.width = png_get_image_width(png, info);
  size.height = png_get_image_height(png, info);
  if (tooLarge(size)) return png_destroy_read_struct(&png, &info, nullptr);
  png_set_expand(png);
  png_set_strip_16(png);
  png_set_gray_to_rgb(png);
  png_set_add_alpha(png, 255, PNG_FILLER_AFTER);
  png_set_interlace_handling(png);
  png_read_update_info(png, info);
  rgba.resize(4ul * size.width * size.height);
  for (int y = 0; y < size.height; ++y) rows.push_back(&rgba[4ul * size.width * y]);
  png_read_image(png, rows.data());
  png_read_end(png, info);
  png_uint_32 length = 0;
  png_bytep exif = nullptr;
  if (png_get_eXIf_1(png, info, &length, &exif)) orientation = orientationOf(exif, length);
  png_destroy_read_struct(&png, &info, nullptr);
}

Image turned(const Image& image, int orientation) {
  if (orientation == 1) return image;
  const bool swapped = orientation >= 5;
  Image out{swapped ? image.height : image.width, swapped ? image.width : image.height, Bytes(image.data.size())};
  for (int y = 0; y < out.height; ++y) {
    for (int x = 0; x < out.width; ++x) {
      int u = swapped ? y : x, v = swapped ? x : y;
      if (orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8) u = image.width - 1 - u;
      if (orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7) v = image.height - 1 - v;
      std::memcpy(&out.data[3ul * (1ul * y * out.width + x)], &image.data[3ul * (1ul * v * image.width + u)], 3);
    }
  }
  return out;
}

Image decode(const std::string& path) {
  const Bytes bytes = readFile(path);
  Image image;
  int orientation = 1;
  if (bytes.size() > 3 && bytes[0] == 0xff && bytes[1] == 0xd8) {
    JpegErrors errors;
    readJpegInto(bytes, image, orientation, errors);
  } else if (bytes.size() > 8 && !png_sig_cmp(bytes.data(), 0, 8)) {
    Bytes rgba;
    std::vector<png_bytep> rows;
    readPngInto(bytes, rgba, rows, image, orientation);
    if (!tooLarge(image)) image = overWhite(rgba, image.width, image.height);
  } else {
    fail("is no JPEG and no PNG");
  }
  if (tooLarge(image)) fail("has more than 64 megapixels");
  return turned(image, orientation);
}

// ---- the resize: Pillow's, in its fixed point ------------------------------------------------------------------------

constexpr int kBits = 32 - 8 - 2;

double bilinear(double x) { return std::max(0.0, 1 - std::abs(x)); }

double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

struct Window {
  int start;
  std::vector<int> weights;
};

std::vector<Window> windows(int source, int result, bool cubic) {
  const double scale = 1.0 * source / result, stretch = std::max(scale, 1.0), support = (cubic ? 2 : 1) * stretch;
  std::vector<Window> found;
  for (int place = 0; place < result; ++place) {
    const double middle = (place + 0.5) * scale, inverse = 1 / stretch;
    const int start = std::max(0, static_cast<int>(middle - support + 0.5));
    const int stop = std::min(source, static_cast<int>(middle + support + 0.5));
    std::vector<double> weights;
    for (int x = start; x < stop; ++x) {
      const double away = (x - middle + 0.5) * inverse;
      weights.push_back(cubic ? bicubic(away) : bilinear(away));
    }
    const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
    Window window{start, {}};
    for (double weight : weights) {
      if (total != 0) weight /= total;
      window.weights.push_back(static_cast<int>((weight < 0 ? -0.5 : 0.5) + weight * (1 << kBits)));
    }
    found.push_back(std::move(window));
  }
  return found;
}

void weigh(const uint8_t* from, size_t step, const std::vector<int>& weights, uint8_t* into) {
  for (int channel = 0; channel < 3; ++channel) {
    int sum = 1 << (kBits - 1);
    for (size_t i = 0; i < weights.size(); ++i) sum += from[i * step + channel] * weights[i];
    into[channel] = std::clamp(sum >> kBits, 0, 255);
  }
}

Image alongRows(const Image& image, int width, bool cubic) {
  if (width == image.width) return image;
  const auto all = windows(image.width, width, cubic);
  Image out{width, image.height, Bytes(3ul * width * image.height)};
  uint8_t* into = out.data.data();
  for (int y = 0; y < image.height; ++y) {
    for (const auto& [start, weights] : all) weigh(&image.data[3ul * (1ul * y * image.width + start)], 3, weights, into), into += 3;
  }
  return out;
}

Image alongColumns(const Image& image, int height, bool cubic) {
  if (height == image.height) return image;
  Image out{image.width, height, Bytes(3ul * image.width * height)};
  uint8_t* into = out.data.data();
  for (const auto& [start, weights] : windows(image.height, height, cubic)) {
    for (int x = 0; x < image.width; ++x, into += 3) {
      weigh(&image.data[3ul * (1ul * start * image.width + x)], 3ul * image.width, weights, into);
    }
  }
  return out;
}

Image nearest(const Image& image, int height, int width) {
  const auto places = [](int source, int result) {  // steps are added up, as Pillow adds them
    std::vector<int> found;
    for (double step = 1.0 * source / result, place = step * 0.5; result > 0; --result, place += step) {
      found.push_back(std::min(source - 1, static_cast<int>(place)));
    }
    return found;
  };
  Image out{width, height, {}};
  for (int y : places(image.height, height)) {
    for (int x : places(image.width, width)) {
      const auto* pixel = &image.data[3ul * (1ul * y * image.width + x)];
      out.data.insert(out.data.end(), pixel, pixel + 3);
    }
  }
  return out;
}

Image resize(const Image& image, int height, int width, const std::string& interpolation) {
  if (image.height == height && image.width == width) return image;
  if (interpolation == "nearest") return nearest(image, height, width);
  const bool cubic = interpolation == "bicubic";
  // Across first, then down, as zoo.runtime.pixels does: the order shows, as each pass clips.
  return alongColumns(alongRows(image, width, cubic), height, cubic);
}

void copyInto(const Image& from, Image& into, int top, int left) {
  const int first = std::max(0, -left), last = std::min(from.width, into.width - left);
  for (int y = std::max(0, -top); y < std::min(from.height, into.height - top); ++y) {
    std::memcpy(&into.data[3ul * (1ul * (y + top) * into.width + first + left)],
                &from.data[3ul * (1ul * y * from.width + first)], 3ul * (last - first));
  }
}

// What zoo_runtime/pixels.py calls `prepare`; std::nearbyint rounds halves to even, as Python does.
Image prepare(const Image& image, const json& view) {
  const int height = view["size"][0], width = view["size"][1];
  const std::string crop = view["crop"], interpolation = view["interpolation"];
  if (crop == "squash") return resize(image, height, width, interpolation);
  Image out{width, height, Bytes(3ul * width * height)};
  if (crop == "center") {
    const double fraction = view["crop_fraction"];
    long tall = std::floor(height / fraction), wide = std::floor(width / fraction);
    if (tall * image.width >= wide * image.height) {
      wide = 1.0 * tall * image.width / image.height;
    } else {
      tall = 1.0 * wide * image.height / image.width;
    }
    const int top = std::nearbyint((tall - height) / 2.0), left = std::nearbyint((wide - width) / 2.0);
    copyInto(resize(image, tall, wide, interpolation), out, -top, -left);
  } else if (crop == "border") {
    const double scale = std::min(1.0 * height / image.height, 1.0 * width / image.width);
    const int tall = std::max(1.0, std::nearbyint(image.height * scale));
    const int wide = std::max(1.0, std::nearbyint(image.width * scale));
    copyInto(resize(image, tall, wide, interpolation), out, (height - tall) / 2, (width - wide) / 2);
  } else {
    fail("unknown crop " + crop);
  }
  return out;
}

// ---- the model -----------------------------------------------------------------------------------------------------

class Model {
 public:
  explicit Model(const std::string& folder) : files_(folder) {
    const Bytes text = files_.read("artifact.json");
    manifest_ = json::parse(text.begin(), text.end());
    if (manifest_["schema"] > kSchema) fail("artifact.json is newer than this program");
    classes_ = manifest_["classes"].get<std::vector<std::string>>();
    Ort::SessionOptions options;
    options.SetIntraOpNumThreads(manifest_["report"]["threads"]);
    const auto asked = manifest_.value("session", json::object());
    const char* obeyed = "session.disable_quant_qdq";  // a stranger's file must not choose libraries or memory
    if (asked.contains(obeyed)) options.AddConfigEntry(obeyed, asked[obeyed].get<std::string>() == "1" ? "1" : "0");
    const Bytes model = files_.read(manifest_["model_file"]);
    session_ = Ort::Session(env_, model.data(), model.size(), options);
  }

  // The probability of each class, of an image as the network takes it.
  std::vector<float> ask(const uint8_t* pixels, int64_t height, int64_t width) {
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtDeviceAllocator, OrtMemTypeCPU);
    const std::array<int64_t, 4> shape{1, height, width, 3};
    const size_t size = 3ul * height * width;
    auto input = Ort::Value::CreateTensor<uint8_t>(memory, const_cast<uint8_t*>(pixels), size, shape.data(), shape.size());
    const std::string taken = manifest_["input"]["name"], given = manifest_["output"]["name"];
    const char *in = taken.c_str(), *out = given.c_str();
    auto answers = session_.Run(Ort::RunOptions{}, &in, &input, 1, &out, 1);
    const float* values = answers[0].GetTensorData<float>();
    return {values, values + answers[0].GetTensorTypeAndShapeInfo().GetElementCount()};
  }

  std::string classify(const std::string& path) {
    Image image = decode(path);
    const auto resizes = manifest_.find("resize_in_graph");
    if (resizes == manifest_.end() || *resizes != true) image = prepare(image, manifest_["preprocess"]);
    const auto found = ask(image.data.data(), image.height, image.width);
    std::vector<size_t> order(found.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return found[a] > found[b]; });
    std::string text;
    char percent[16];
    for (size_t i = 0; i < std::min<size_t>(5, order.size()); ++i) {
      std::snprintf(percent, sizeof percent, " %.2f %%", 100 * found[order[i]]);
      text += (i ? ", " : "") + classes_[order[i]] + percent;
    }
    return text;
  }

  bool selfTest() {
    const auto golden = readNpz(files_.read("golden.npz"));
    const Array &images = golden.at("images"), &wanted = golden.at("artifact");
    const size_t count = images.shape.at(0), height = images.shape.at(1), width = images.shape.at(2), classes = wanted.shape.at(1);
    size_t same = 0;
    float difference = 0;
    for (size_t i = 0; i < count; ++i) {
      const auto found = ask(&images.data[i * height * width * 3], height, width);
      std::vector<float> expected(classes);
      std::memcpy(expected.data(), &wanted.data[i * classes * sizeof(float)], classes * sizeof(float));
      if (found.size() != classes) fail("golden.npz is of another model");
      for (size_t k = 0; k < classes; ++k) {
        const float away = std::abs(found[k] - expected[k]);
        difference = away <= difference ? difference : away;  // keeps what is not a number
      }
      same += said(found) == said(expected);
    }
    const bool ok = difference <= limit() && same == count;
    std::printf("%s: %zu of %zu golden images keep their class, largest difference %.2g (limit %g)\n",
                ok ? "the same answers as in the proof" : "NOT the answers of the proof", same, count, difference, limit());
    return ok;
  }

 private:
  double limit() const {  // zoo_runtime/golden.py
    const std::map<std::string, double> limits{{"fp32", 1e-4}, {"fp16", 1e-2}, {"int8-weights", 1e-3}, {"int4-weights", 1e-3}};
    const auto found = limits.find(manifest_["precision"].get<std::string>());
    return found == limits.end() ? 5e-2 : found->second;
  }

  std::vector<bool> said(const std::vector<float>& probabilities) const {
    std::vector<bool> words(probabilities.size());
    const size_t best = std::max_element(probabilities.begin(), probabilities.end()) - probabilities.begin();
    const auto own = manifest_.find("thresholds");
    for (size_t i = 0; i < words.size(); ++i) {
      const bool has = own != manifest_.end() && own->is_object() && own->contains(classes_[i]);
      const float threshold = has ? (*own)[classes_[i]].get<float>() : 0.5f;
      words[i] = manifest_.value("multi_label", false) ? probabilities[i] >= threshold : i == best;
    }
    return words;
  }

  Files files_;
  json manifest_;
  std::vector<std::string> classes_;
  Ort::Env env_{ORT_LOGGING_LEVEL_ERROR, "classify"};
  Ort::Session session_{nullptr};
};

int main(int count, char** arguments) {
  setenv("ORT_DISABLE_TELEMETRY", "1", 1);
  if (count < 3) {
    std::fprintf(stderr, "usage: %s BUNDLE --selftest | IMAGE...\n", arguments[0]);
    return 2;
  }
  int code = 0;
  try {
    Model model(arguments[1]);
    if (!std::strcmp(arguments[2], "--selftest")) return model.selfTest() ? 0 : 3;
    for (int i = 2; i < count; ++i) {
      try {
        std::printf("%s: %s\n", arguments[i], model.classify(arguments[i]).c_str());
      } catch (const std::runtime_error& error) {
        std::fprintf(stderr, "%s %s\n", arguments[i], error.what());
        code = 1;
      }
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "classify: %s\n", error.what());
    return 1;
  }
  return code;
}
