#include "sinopia/models/checkpoint/variants.h"

#include <algorithm>
#include <array>
#include <vector>

namespace sinopia {
namespace {

constexpr TextVariant kClipL[] = {{"cond_stage_model.transformer.", "text_encoder", TextLayout::Transformers,
                                   Activation::QuickGelu, 0, true, false, 49407}};
constexpr TextVariant kOpenClipH[] = {
    {"cond_stage_model.model.", "text_encoder", TextLayout::OpenClip, Activation::Gelu, 1, true, true, 0}};
constexpr TextVariant kBoth[] = {{"conditioner.embedders.0.transformer.", "text_encoder",
                                  TextLayout::Transformers, Activation::QuickGelu, 1, false, false, 49407},
                                 {"conditioner.embedders.1.model.", "text_encoder_2", TextLayout::OpenClip,
                                  Activation::Gelu, 1, false, false, 0}};
constexpr TextVariant kOpenClipG[] = {{"conditioner.embedders.0.model.", "text_encoder_2",
                                       TextLayout::OpenClip, Activation::Gelu, 1, false, false, 0}};

constexpr auto kNoClass = UNetClassEmbedding::None;
constexpr auto kTable = UNetClassEmbedding::Table;
constexpr auto kVector = UNetClassEmbedding::Projection;
constexpr auto kCross = UNetAttention::Cross;
constexpr auto kNone = UNetAttention::None;

const std::vector<Variant>& rows() {
  static const std::vector<Variant> kRows = [] {
    const ScheduleInfo eps{};
    ScheduleInfo v2;
    v2.prediction = "v_prediction";
    v2.scheduler = "DDIMScheduler";
    ScheduleInfo eps2 = v2;
    eps2.prediction = "epsilon";
    ScheduleInfo x4 = v2;
    x4.beta_start = 0.0001;
    x4.beta_end = 0.02;
    ScheduleInfo xl;
    xl.scheduler = "EulerDiscreteScheduler";
    return std::vector<Variant>{
        {Family::StableDiffusion1, "sd1", "Stable Diffusion 1", false, kNoClass, kCross, kNone, 4, true, 8,
         64, 0, "sd", eps, "StableDiffusionPipeline", kClipL},
        {Family::StableDiffusion1, "sd1-inpaint", "Stable Diffusion 1, inpainting", false, kNoClass, kCross,
         kNone, 9, true, 8, 64, 0, "sd", eps, "StableDiffusionInpaintPipeline", kClipL},
        {Family::StableDiffusion1, "sd1-edit", "Stable Diffusion 1, edits by instruction (InstructPix2Pix)",
         false, kNoClass, kCross, kNone, 8, true, 8, 32, 0, "sd", eps,
         "StableDiffusionInstructPix2PixPipeline", kClipL},
        {Family::StableDiffusion1, "sd1-class", "Stable Diffusion 1 with classes", false, kTable, kCross,
         kNone, 4, true, 8, 64, 0, "sd", eps, "StableDiffusionPipeline", kClipL},
        {Family::StableDiffusion1, "sd1-coarse", "Stable Diffusion 1 without attention at full resolution",
         false, kNoClass, kNone, kNone, 4, true, 8, 64, 0, "sd", eps, "StableDiffusionPipeline", kClipL},
        {Family::StableDiffusion2, "sd2", "Stable Diffusion 2", true, kNoClass, kCross, kNone, 4, true, 0, 96,
         0, "sd", v2, "StableDiffusionPipeline", kOpenClipH},
        {Family::StableDiffusion2, "sd2-inpaint", "Stable Diffusion 2, inpainting", true, kNoClass, kCross,
         kNone, 9, true, 0, 64, 0, "sd", eps2, "StableDiffusionInpaintPipeline", kOpenClipH},
        {Family::StableDiffusion2, "sd2-depth", "Stable Diffusion 2, guided by depth", true, kNoClass, kCross,
         kNone, 5, false, 0, 64, 0, "sd", eps2, "StableDiffusionDepth2ImgPipeline", kOpenClipH},
        {Family::StableDiffusion2, "sd2-unclip", "Stable Diffusion 2, guided by a picture (unCLIP)", true,
         kVector, kCross, kNone, 4, false, 0, 96, 0, "sd", v2, "StableUnCLIPImg2ImgPipeline", kOpenClipH},
        {Family::X4Upscaler, "x4-upscaler", "Stable Diffusion x4 upscaler", true, kTable, kNone, kCross, 7,
         true, 8, 128, 0, "x4-upscaler", x4, "StableDiffusionUpscalePipeline", kOpenClipH},
        {Family::Sdxl, "sdxl", "Stable Diffusion XL", true, kVector, kNone, kCross, 4, true, 0, 128, 256,
         "sdxl", xl, "StableDiffusionXLPipeline", kBoth},
        {Family::Sdxl, "sdxl-inpaint", "Stable Diffusion XL, inpainting", true, kVector, kNone, kCross, 9,
         true, 0, 128, 256, "sdxl", xl, "StableDiffusionXLInpaintPipeline", kBoth},
        {Family::SdxlRefiner, "sdxl-refiner", "Stable Diffusion XL refiner", true, kVector, kNone, kNone, 4,
         true, 0, 128, 256, "sdxl", xl, "StableDiffusionXLImg2ImgPipeline", kOpenClipG},
    };
  }();
  return kRows;
}

UNetClassEmbedding class_of(const UNetConfig& c) {
  return c.addition == UNetAddition::TextTime ? kVector : c.class_embedding;
}

bool fits(const Variant& v, const UNetConfig& c) {
  return v.linear_projection == c.use_linear_projection && v.class_embedding == class_of(c) &&
         v.first == c.attention.front() && v.last == c.attention.back() &&
         unet_in_channels(v, c.out_channels) + c.semantic_classes == c.in_channels;
}

}  // namespace

std::span<const Variant> variants() { return rows(); }

int64_t unet_in_channels(const Variant& variant, int64_t latent_channels) {
  return variant.in_channels / 4 * latent_channels + variant.in_channels % 4;
}

const Variant& variant_of(const UNetConfig& c) {
  check(c);
  for (const Variant& v : rows()) {
    if (!fits(v, c)) continue;
    SINOPIA_CHECK(v.supported, Unsupported, "[checkpoint] {} is not supported", v.title);
    return v;
  }
  fail(ErrorKind::Unsupported,
       "[checkpoint] no known model has such a UNet: {} input channels for {} of latents, {} levels, text "
       "width {}, {} projections",
       c.in_channels, c.out_channels, c.levels(), c.cross_attention_dim,
       c.use_linear_projection ? "linear" : "convolution");
}

const Variant& variant_named(std::string_view name) {
  std::string known;
  for (const Variant& v : rows()) {
    if (name == v.name) return v;
    known += std::string(known.empty() ? "" : ", ") + v.name;
  }
  fail(ErrorKind::NotFound, "[checkpoint] no variant '{}'; known: {}", name, known);
}

void apply(const Variant& v, UNetConfig& c) {
  for (size_t i = 0; i < c.heads.size(); ++i) {
    c.heads[i] = v.heads > 0 ? v.heads : std::max<int64_t>(1, c.channels[i] / 64);
  }
  c.sample_size = v.sample_size;
  if (v.addition_time_embed_dim > 0) {
    c.addition = UNetAddition::TextTime;
    c.class_embedding = UNetClassEmbedding::None;
    c.addition_time_embed_dim = v.addition_time_embed_dim;
  }
  // diffusers' own files of this family say so; it changes nothing here.
  c.upcast_attention = v.family == Family::StableDiffusion2;
  check(c);
}

}  // namespace sinopia
