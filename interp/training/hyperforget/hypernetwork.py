"""A hypernetwork that samples classifiers with the losses that it is asked for.

HyperForget (Rangel et al. 2024, arXiv 2412.00761) on the method of G.pt (Peebles et al. 2022, arXiv
2209.12892): a transformer denoises the weights of a classifier, given the losses that they should
have. Asking for a high loss on one class and a low one on the others gives a classifier that never
knew the class. Here nothing is edited: classifiers are drawn. The authors' code is not public, and
two of their choices are guesses: what distinguishes their two networks (here: two losses of a fixed
class against a loss of every class), and common first weights.
"""

import copy
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from tqdm.auto import tqdm

from interp.core.seeds import generator
from interp.training.hyperforget.bank import Prompt, RunBank, log_losses
from interp.training.hyperforget.classifiers import Mlp
from interp.training.hyperforget.diffusion import add_noise, sample, signal_share

_N_FREQUENCIES = 8


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """Size and training of a hypernetwork."""

    d_model: int = 64
    """Width of the transformer."""
    n_layers: int = 2
    """Its layers."""
    n_heads: int = 4
    """Its attention heads."""
    n_noise_steps: int = 200
    """Steps from weights to noise."""
    n_steps: int = 2000
    """Steps of training."""
    batch_size: int = 48
    """Classifiers of a batch."""
    lr: float = 2e-3
    """Step size of AdamW, which falls to 0."""
    average: float = 0.99
    """Decay of the running average of the weights, which is what samples."""

    def __post_init__(self) -> None:
        """Check the sizes."""
        for name in ("d_model", "n_layers", "n_heads", "n_noise_steps", "n_steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)!r}: needed 1 or more")
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model={self.d_model} is no multiple of n_heads={self.n_heads}")


class WeightTransformer(nn.Module):
    """Clean tokens from noisy ones, given the step of the noise and a prompt."""

    def __init__(self, mlp: Mlp, n_prompt: int, config: DiffusionConfig) -> None:
        super().__init__()
        d = config.d_model
        self._n_tokens = mlp.d_hidden + 1
        self.read, self.write = nn.Linear(mlp.d_token, d), nn.Linear(d, mlp.d_token)
        self.scalars = nn.ModuleList(
            nn.Linear(2 * _N_FREQUENCIES + 1, d) for _ in range(n_prompt + 1)
        )
        self.place = nn.Parameter(torch.zeros(self._n_tokens + n_prompt + 1, d))
        layer = nn.TransformerEncoderLayer(
            d,
            config.n_heads,
            4 * d,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerEncoder(layer, config.n_layers, enable_nested_tensor=False)

    def forward(
        self,
        noisy: Float[Tensor, "example token d_token"],
        time: Float[Tensor, " example"],
        prompt: Float[Tensor, "example prompt"],
    ) -> Float[Tensor, "example token d_token"]:
        """Predicted clean tokens; time is the share of the noise steps."""
        numbers = torch.cat([time[:, None], prompt], 1)
        said = [layer(_waves(numbers[:, k])) for k, layer in enumerate(self.scalars)]
        x = torch.cat([self.read(noisy), torch.stack(said, 1)], 1) + self.place
        return self.write(self.layers(x)[:, : self._n_tokens])


def _waves(values: Float[Tensor, " example"]) -> Float[Tensor, "example feature"]:
    angles = values[:, None] * 2.0 ** torch.arange(_N_FREQUENCIES)
    return torch.cat([values[:, None], angles.sin(), angles.cos()], 1)


@dataclass(frozen=True)
class HyperNetwork:
    """A trained hypernetwork."""

    mlp: Mlp
    """Shape of the classifiers that it samples."""
    transformer: WeightTransformer
    """The denoiser."""
    config: DiffusionConfig
    """Its settings."""
    center: Float[Tensor, " parameter"]
    """Mean weights of the bank."""
    scale: Float[Tensor, " parameter"]
    """Standard deviation of each weight in the bank; 1 where a weight does not vary."""
    prompt_center: Float[Tensor, " prompt"]
    """Mean of the logarithms of the bank's losses."""
    prompt_scale: Float[Tensor, " prompt"]
    """Their standard deviation."""
    loss: Float[Tensor, " step"]
    """Loss of each step of training: squared error per weight, 1 for a guess of the mean."""

    def sample(
        self,
        prompts: Float[Tensor, "example prompt"],
        *,
        n_sampling_steps: int = 50,
        seed: int = 0,
    ) -> Float[Tensor, "example parameter"]:
        """A classifier for each prompt.

        Args:
            prompts: Losses to aim for, in nats.
            n_sampling_steps: Steps from noise to weights.
            seed: Seed of the noise.

        Raises:
            ValueError: If prompts have the wrong length, or are negative or not finite.
        """
        if prompts.shape[1] != len(self.prompt_center):
            raise ValueError(
                f"prompts of {prompts.shape[1]} losses: this network takes "
                f"{len(self.prompt_center)}"
            )
        if not bool((prompts >= 0).all() and prompts.isfinite().all()):
            raise ValueError("prompts are losses in nats: needed finite numbers from 0")
        said = _scaled(prompts, self.prompt_center, self.prompt_scale)
        n_noise = self.config.n_noise_steps

        def denoise(noisy: Tensor, step: Int[Tensor, " example"]) -> Tensor:
            return self.transformer(noisy, step / n_noise, said)

        clean = sample(
            denoise,
            (len(prompts), self.mlp.d_hidden + 1, self.mlp.d_token),
            n_noise_steps=n_noise,
            n_sampling_steps=n_sampling_steps,
            random=generator(seed, "sample"),
        )
        return clean.flatten(1) * self.scale + self.center


def train_hypernetwork(
    bank: RunBank,
    prompt: Prompt,
    *,
    config: DiffusionConfig | None = None,
    seed: int = 0,
    progress: bool = False,
) -> HyperNetwork:
    """Learn to draw classifiers of a bank by their losses.

    Args:
        bank: Classifiers and their losses.
        prompt: What of the losses is asked for.
        config: Settings; `DiffusionConfig()` by default.
        seed: Seed of first weights, batches and noise.
        progress: Show a progress bar.

    Raises:
        ValueError: If the bank has fewer than two classifiers.
        FloatingPointError: If the loss is not finite.
    """
    config = DiffusionConfig() if config is None else config
    if len(bank) < 2:
        raise ValueError(f"the bank has {len(bank)} classifiers: needed 2 or more")
    center, scale = bank.weights.mean(0), bank.weights.std(0)
    scale = torch.where(scale > 1e-6, scale, 1.0)
    tokens = bank.mlp.tokens((bank.weights - center) / scale)
    logs = log_losses(prompt(bank.losses))
    prompt_center, prompt_scale = logs.mean(0), logs.std(0).clamp(min=1e-6)
    said = (logs - prompt_center) / prompt_scale
    with torch.random.fork_rng(devices=[]):  # torch draws first weights from the global generator
        torch.manual_seed(seed)
        model = WeightTransformer(bank.mlp, said.shape[1], config)
    average = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.n_steps)
    random, losses = generator(seed, "diffusion"), []
    bar = tqdm(range(config.n_steps), disable=not progress, desc="hypernetwork")
    for _ in bar:
        rows = torch.randint(len(bank), (config.batch_size,), generator=random)
        loss = _denoising_loss(model, tokens[rows], said[rows], config.n_noise_steps, random)
        if not bool(loss.isfinite()):
            raise FloatingPointError(f"the loss is {loss.item()}: lower the learning rate")
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        _move(average, model, config.average)
        losses.append(float(loss.detach()))
    average.eval().requires_grad_(False)
    return HyperNetwork(
        bank.mlp, average, config, center, scale, prompt_center, prompt_scale, torch.tensor(losses)
    )


def _denoising_loss(
    model: WeightTransformer, clean: Tensor, prompt: Tensor, n: int, random: torch.Generator
) -> Tensor:
    step = torch.randint(1, n + 1, (len(clean),), generator=random)
    noise = torch.randn(clean.shape, generator=random)
    noisy = add_noise(clean, noise, signal_share(step, n))
    return mse_loss(model(noisy, step / n, prompt), clean)


def _scaled(prompts: Tensor, center: Tensor, scale: Tensor) -> Tensor:
    return (log_losses(prompts) - center) / scale


@torch.no_grad()
def _move(average: nn.Module, model: nn.Module, decay: float) -> None:
    for mean, new in zip(average.parameters(), model.parameters(), strict=True):
        mean.lerp_(new, 1 - decay)
