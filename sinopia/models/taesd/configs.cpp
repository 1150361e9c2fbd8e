#include <algorithm>

#include "sinopia/models/config_reader.h"
#include "sinopia/models/taesd/tiny_decoder.h"

namespace sinopia {

TinyDecoderConfig tiny_decoder_config_from_json(std::string_view json) {
  ConfigReader in(json, "taesd config");
  in.expect("_class_name", {"AutoencoderTiny"});
  in.expect("act_fn", {"relu"});
  in.expect("upsample_fn", {"nearest"});
  in.expect("upsampling_scaling_factor", {2});
  in.ignore({"in_channels", "encoder_block_out_channels", "num_encoder_blocks", "block_out_channels",
             "latent_magnitude", "latent_shift", "force_upcast"});
  TinyDecoderConfig c;
  c.latent_channels = in.integer("latent_channels", 4);
  c.out_channels = in.integer("out_channels", 3);
  c.blocks = in.integers("num_decoder_blocks", c.blocks);
  const std::vector<int64_t> channels = in.integers("decoder_block_out_channels", c.blocks.size(), 64);
  if (channels.empty() ||
      std::any_of(channels.begin(), channels.end(), [&](int64_t n) { return n != channels[0]; }))
    in.unsupported("decoder_block_out_channels");
  c.channels = channels[0];
  c.scaling_factor = in.number("scaling_factor", 1);
  c.shift_factor = in.number("shift_factor", 0);
  in.finish();
  return c;
}

}  // namespace sinopia
