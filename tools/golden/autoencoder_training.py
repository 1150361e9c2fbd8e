"""Writes tests/golden/train/autoencoder_training.safetensors: ten steps of a small AutoencoderKL of diffusers and
taming-transformers' discriminator with the losses of latent diffusion, LPIPS by the package lpips among them; and
vq_training.safetensors: the same with a VQModel whose quantiser is taming-transformers' VectorQuantizer2.

"vae.*" and "discriminator.*" are the parameters at the start (float16), "pictures" [step,N,H,W,3], "noise" [step,N,h,w,C];
"<case>.<loss>" [step], "<case>.norm" and "<case>.discriminator_norm" of the parameters in the end; "lpips" is the distance
of pictures[0] and pictures[1]. The second file has its own "vae.*" and losses; the rest is the first one's. VGG16 has the weights of vgg16_weight() below. One difference to latent-diffusion: the
discriminator learns from the reconstruction that the autoencoder was trained on.

With a codebook nothing may depend on rounding by much, or ten steps could not be compared: each latent is further from the
plane between its two nearest entries than CLEAR of its length, no error is so small that its sign is in doubt, and LPIPS has a
small part, for its gradient jumps where another of four features becomes the largest in its pool.
"""

import json
import pathlib

import lpips
import numpy
import torch
from diffusers import AutoencoderKL, VQModel
from manifest import note
from models import nearest
from safetensors.torch import save_file
from taming.modules.discriminator.model import NLayerDiscriminator
from taming.modules.vqvae.quantize import VectorQuantizer2

TARGET = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/train/autoencoder_training.safetensors"
VQ_TARGET = TARGET.with_name("vq_training.safetensors")
SEED, VQ_SEED, STEPS, BATCH, SIZE = 3, 3, 10, 2, 32
VAE = dict(block_out_channels=(8, 16, 16), norm_num_groups=4, layers_per_block=1, latent_channels=3, sample_size=SIZE,
           down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3)
VQ = dict(VAE, block_out_channels=(8, 8, 8), num_vq_embeddings=24)
DISCRIMINATOR = dict(input_nc=3, ndf=8, n_layers=2)
CASES = {
    "latent_diffusion": dict(l1=1.0, l2=0.0, perceptual=1.0, feature_matching=0.0, logvar=0.3, kl=1e-3, adversarial=0.5, start=4),
    "without_vgg": dict(l1=0.5, l2=2.0, perceptual=0.0, feature_matching=3.0, logvar=0.0, kl=1e-4, adversarial=0.2, start=7),
}
VQ_CASES = {
    "vq": dict(l1=1.0, l2=0.0, perceptual=0.02, feature_matching=0.0, logvar=0.0, codebook=1.0, beta=0.25, legacy=True,
               adversarial=0.75, start=4),
    "vq_without_vgg": dict(l1=0.5, l2=2.0, perceptual=0.0, feature_matching=3.0, logvar=0.2, codebook=0.7, beta=0.4, legacy=False,
                           adversarial=0.2, start=7),
}
RATE, CLEAR, SMALLEST_ERROR = 1e-4, 1e-4, 3e-6


def vgg16_weight(index, shape):
    """Of parameter `index`, weights and biases counted in turns: uniform within sqrt(6 / fan_in), or 0.05, by a hash."""
    h = numpy.arange(numpy.prod(shape), dtype=numpy.uint32) * numpy.uint32(2654435761) + numpy.uint32(index * 40503)
    h = (h ^ (h >> numpy.uint32(15))) * numpy.uint32(2246822507)
    h = (h ^ (h >> numpy.uint32(13))) * numpy.uint32(3266489909)
    scale = (6 / numpy.prod(shape[1:])) ** 0.5 if len(shape) > 1 else 0.05
    values = scale * ((h ^ (h >> numpy.uint32(16))).astype(numpy.float64) * 2.0**-31 - 1)
    return torch.from_numpy(values.astype(numpy.float32)).reshape(shape)


def distance():
    model = lpips.LPIPS(net="vgg", pnet_rand=True, verbose=False)
    for index, p in enumerate(p for name, p in model.named_parameters() if name.startswith("net.")):
        p.data = vgg16_weight(index, tuple(p.shape))
    return model.eval()


def build():
    torch.manual_seed(SEED)
    vae, discriminator = AutoencoderKL(**VAE), NLayerDiscriminator(**DISCRIMINATOR)
    for p in [*vae.parameters(), *discriminator.parameters()]:
        p.data = (p.data * (1 if p.ndim == 1 else 1.5)).half().float()
    return vae.train(), discriminator.train()


def build_vq():
    torch.manual_seed(VQ_SEED)
    vae = VQModel(**VQ)
    for p in vae.parameters():
        p.data = (p.data * (1 if p.ndim == 1 else 1.5)).half().float()
    # Entries among the latents, so that most have a part.
    table = vae.quantize.embedding.weight
    table.data = (torch.randn(table.shape) * 0.6).half().float()
    return vae.train()


def sampled(vae, case, x, noise):
    posterior = vae.encode(x).latent_dist
    kl = posterior.kl().sum() / BATCH
    return posterior.mean + posterior.std * noise, case["kl"] * kl, dict(kl=kl)


def quantised(vae, case, x, noise):
    z = vae.encode(x).latents
    quantiser = VectorQuantizer2(*vae.quantize.embedding.weight.shape, beta=case["beta"], legacy=case["legacy"])
    quantiser.embedding = vae.quantize.embedding
    e, loss, (_, _, codes) = quantiser(z)
    exact, clear = nearest(vae.quantize.embedding.weight.detach(), z.detach())
    assert clear > CLEAR and torch.equal(exact.flatten(), codes), clear
    # As measure_perplexity of ldm/modules/losses/vqperceptual.py.
    share = torch.bincount(codes, minlength=VQ["num_vq_embeddings"]).double() / len(codes)
    perplexity = torch.exp(-(share * torch.log(share + 1e-10)).sum())
    return e, case["codebook"] * loss, dict(codebook=loss, perplexity=perplexity, used=(share > 0).double().mean())


def features(discriminator, x):
    result = []
    for module in discriminator.main[:-1]:
        x = module(x)
        if isinstance(module, torch.nn.LeakyReLU):
            result.append(x)
    return result


def train(case, data, perceptual, vae, bottleneck):
    discriminator = build()[1]
    for module in discriminator.modules():
        if isinstance(module, torch.nn.LeakyReLU):
            module.inplace = False
    first = torch.optim.Adam(vae.parameters(), lr=RATE, betas=(0.5, 0.9))
    second = torch.optim.Adam(discriminator.parameters(), lr=RATE, betas=(0.5, 0.9))
    history = {}
    for step in range(STEPS):
        x, noise = (data[k][step].permute(0, 3, 1, 2) for k in ("pictures", "noise"))
        latents, penalty, log = bottleneck(vae, case, x, noise)
        y = vae.decoder(vae.post_quant_conv(latents))
        assert bottleneck is sampled or (x - y).abs().min() > SMALLEST_ERROR
        each = case["l1"] * (x - y).abs() + case["l2"] * (x - y).square()
        p = perceptual(x, y) if case["perceptual"] else torch.zeros(1)
        each = each + case["perceptual"] * p
        if case["feature_matching"]:
            real, fake = features(discriminator, x), features(discriminator, y)
            each = each + case["feature_matching"] * sum((r.detach() - f).abs().mean() for r, f in zip(real, fake))
        each = each / torch.exp(torch.tensor(case["logvar"])) + case["logvar"]
        # contperceptual.py sums over a picture, vqperceptual.py does not.
        reconstruction = each.sum() / BATCH if bottleneck is sampled else each.mean()
        total, generator, balance = reconstruction + penalty, torch.zeros(()), torch.zeros(())
        if step >= case["start"]:
            generator = -discriminator(y).mean()
            last = vae.decoder.conv_out.weight
            a, b = (torch.autograd.grad(v, last, retain_graph=True)[0].norm() for v in (reconstruction, generator))
            balance = torch.clamp(a / (b + 1e-4), 0, 1e4).detach()
            total = total + case["adversarial"] * balance * generator
        first.zero_grad()
        total.backward()
        first.step()
        hinge = torch.zeros(())
        if step >= case["start"] or case["feature_matching"]:
            hinge = 0.5 * (torch.relu(1 - discriminator(x)).mean() + torch.relu(1 + discriminator(y.detach())).mean())
            second.zero_grad()
            hinge.backward()
            second.step()
        for k, v in dict(total=total, reconstruction=reconstruction, perceptual=p.mean(), generator=generator,
                         balance=balance, discriminator=hinge, **log).items():
            history.setdefault(k, []).append(v.item())
    norm = {k: sum(p.double().square().sum() for p in m.parameters()).sqrt().detach().reshape(1)
            for k, m in (("norm", vae), ("discriminator_norm", discriminator))}
    return {k: torch.tensor(v, dtype=torch.float64) for k, v in history.items()} | norm


def main():
    vae, discriminator = build()
    g = torch.Generator().manual_seed(SEED)
    coarse = torch.randn(STEPS * BATCH, 3, 5, 5, generator=g)
    pictures = torch.nn.functional.interpolate(coarse, SIZE, mode="bicubic").tanh().permute(0, 2, 3, 1)
    data = {"pictures": pictures.reshape(STEPS, BATCH, SIZE, SIZE, 3).half().float().contiguous(),
            "noise": torch.randn(STEPS, BATCH, SIZE // 4, SIZE // 4, 3, generator=g)}
    perceptual = distance()
    tensors = data | {"vae." + k: v.half() for k, v in vae.state_dict().items()}
    tensors |= {"discriminator." + k: v.half() for k, v in discriminator.named_parameters()}
    a, b = (data["pictures"][i].permute(0, 3, 1, 2) for i in (0, 1))
    tensors["lpips"] = perceptual(a, b).detach().flatten()
    for name, case in CASES.items():
        tensors |= {f"{name}.{k}": v for k, v in train(case, data, perceptual, build()[0], sampled).items()}
    tensors["pictures"] = data["pictures"].half()
    save_file({k: v.contiguous() for k, v in tensors.items()}, TARGET,
              metadata={"vae": vae.to_json_string(), "cases": json.dumps(CASES), "discriminator": json.dumps(DISCRIMINATOR)})
    packages, tolerance = ["diffusers", "lpips", "taming-transformers-rom1504", "torch"], "losses 1e-4 relative, norms 1e-6"
    note(TARGET, "autoencoder_training.py", packages, SEED, tolerance)

    tensors = {"vae." + k: v.half() for k, v in build_vq().state_dict().items()}
    for name, case in VQ_CASES.items():
        tensors |= {f"{name}.{k}": v for k, v in train(case, data, perceptual, build_vq(), quantised).items()}
    save_file({k: v.contiguous() for k, v in tensors.items()}, VQ_TARGET,
              metadata={"vae": build_vq().to_json_string(), "cases": json.dumps(VQ_CASES)})
    note(VQ_TARGET, "autoencoder_training.py", packages, [SEED, VQ_SEED], tolerance)


if __name__ == "__main__":
    main()
