import numpy as np
import pytest
import torch

from interp.planning.drc import Drc, DrcConfig, clear_state, hook_names
from interp.planning.resnet import ResNet, ResNetConfig

CONFIG = DrcConfig(depth=2, ticks=3, channels=4, size=(5, 6), d_hidden=8, forget_bias=1.0)


def convolve(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """A zero-padded 3x3 convolution by its definition: (channel, y, x) in and out."""
    height, width = x.shape[1:]
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
    out = np.repeat(bias, height * width).reshape(-1, height, width)
    for dy in range(3):
        for dx in range(3):
            patch = padded[:, dy : dy + height, dx : dx + width]
            out = out + np.einsum("oi,iyx->oyx", weight[:, :, dy, dx], patch)
    return out


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def plain_forward(agent: Drc, observation: np.ndarray, state: np.ndarray) -> tuple[np.ndarray, ...]:
    """One step of one game as the paper states it: [encoding, below, hidden, pool] in one map."""
    w = {name: p.detach().double().numpy() for name, p in agent.state_dict().items()}
    config = agent.config
    encoding = convolve(observation, w["encoder.weight"], w["encoder.bias"])
    hidden, cell = list(state[0]), list(state[1])
    for _ in range(config.ticks):
        below = hidden[-1]
        for d in range(config.depth):
            mean, peak = hidden[d].mean((1, 2)), hidden[d].max((1, 2))
            mix = w[f"layers.{d}.pool_weight"]
            pool = mix[0] * mean + mix[1] * peak + w[f"layers.{d}.pool_bias"]
            pool = np.broadcast_to(pool[:, None, None], hidden[d].shape)
            inputs = np.concatenate([encoding, below, hidden[d], pool])
            gates = convolve(inputs, w[f"layers.{d}.conv.weight"], w[f"layers.{d}.conv.bias"])
            i, f, o, g = np.split(gates, 4)
            cell[d] = sigmoid(f) * cell[d] + sigmoid(i) * np.tanh(g)
            show = sigmoid(o) if config.output_gate == "sigmoid" else np.tanh(o)
            hidden[d] = below = show * np.tanh(cell[d])
    features = np.concatenate([encoding, hidden[-1]]).ravel()
    features = np.maximum(w["head.weight"] @ features + w["head.bias"], 0)
    logits = w["policy.weight"] @ features + w["policy.bias"]
    value = w["value.weight"] @ features + w["value.bias"]
    return logits, value, np.stack([hidden, cell])


def random_boards(n_boards: int, config: DrcConfig = CONFIG, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n_boards, config.n_planes, *config.size, generator=generator)


@pytest.mark.parametrize("output_gate", ["sigmoid", "tanh"])
def test_forward_agrees_with_a_plain_reimplementation(output_gate: str) -> None:
    config = DrcConfig(depth=2, channels=4, size=(5, 6), d_hidden=8, output_gate=output_gate)
    agent = Drc(config, seed=1)
    with torch.no_grad():
        for layer in agent.layers:
            layer.pool_weight.normal_(generator=torch.Generator().manual_seed(2))
            layer.pool_bias.normal_(generator=torch.Generator().manual_seed(3))
    state = agent.initial_state(2)
    expected = state.double().numpy()
    for step in range(3):
        boards = random_boards(2, config, step)
        output = agent(boards, state)
        state = output.state
        for game in range(2):
            logits, value, expected[:, :, game] = plain_forward(
                agent, boards[game].double().numpy(), expected[:, :, game]
            )
            np.testing.assert_allclose(output.logits[game].detach(), logits, atol=1e-5)
            np.testing.assert_allclose(output.value[game].detach(), value[0], atol=1e-5)
        np.testing.assert_allclose(state.detach(), expected, atol=1e-5)


def test_every_layer_tick_and_gate_has_a_hook() -> None:
    agent = Drc(CONFIG)
    _, cache = agent.run_with_cache(random_boards(2), agent.initial_state(2))
    for kind in ("pool", "input_gate", "forget_gate", "output_gate", "candidate", "cell", "hidden"):
        for name in hook_names(CONFIG, kind):
            shape = (2, 4) if kind == "pool" else (2, 4, 5, 6)
            assert cache[name].shape == shape, name
    for layer in range(2):
        for tick in range(3):
            at = f"layers.{layer}.ticks.{tick}.hook_"
            shown = cache[at + "output_gate"] * torch.tanh(cache[at + "cell"])
            assert torch.allclose(cache[at + "hidden"], shown, atol=1e-6)


def test_the_cached_cells_of_the_last_tick_are_the_state() -> None:
    agent = Drc(CONFIG)
    output, cache = agent.run_with_cache(random_boards(3), agent.initial_state(3))
    for layer in range(2):
        at = f"layers.{layer}.ticks.2.hook_"
        assert torch.equal(cache[at + "hidden"], output.state[0, layer])
        assert torch.equal(cache[at + "cell"], output.state[1, layer])


def test_an_edited_cell_reaches_the_output_gate_and_the_next_tick() -> None:
    agent = Drc(CONFIG)
    boards, state = random_boards(2), agent.initial_state(2)
    clean, clean_cache = agent.run_with_cache(boards, state)

    def edit(cell: torch.Tensor, hook: object) -> torch.Tensor:
        return cell + 1.0

    name = "layers.1.ticks.1.hook_cell"
    with agent.hooks(fwd_hooks=[(name, edit)]):
        edited, cache = agent.run_with_cache(boards, state)
    expected = cache["layers.1.ticks.1.hook_output_gate"] * torch.tanh(clean_cache[name] + 1)
    assert torch.allclose(cache["layers.1.ticks.1.hook_hidden"], expected, atol=1e-6)
    assert not torch.allclose(edited.logits, clean.logits)
    assert torch.equal(agent(boards, state).logits, clean.logits)


def test_a_cleared_state_is_that_of_a_new_episode() -> None:
    agent = Drc(CONFIG)
    boards = random_boards(2)
    state = clear_state(agent(boards, agent.initial_state(2)).state, torch.tensor([True, False]))
    again = agent(boards, state).logits
    fresh = agent(boards, agent.initial_state(2)).logits
    assert torch.allclose(again[0], fresh[0])
    assert not torch.allclose(again[1], fresh[1])


def test_weights_depend_on_the_seed_and_not_on_the_global_generator() -> None:
    one, two, other = Drc(CONFIG, seed=1), Drc(CONFIG, seed=1), Drc(CONFIG, seed=2)
    assert torch.equal(one.head.weight, two.head.weight)
    assert not torch.equal(one.head.weight, other.head.weight)


def test_the_published_size_has_the_published_parameters() -> None:
    agent = Drc(DrcConfig())
    # 1,606,150 in the published code, less its fifth gate, which is not used
    fifth = 3 * (4 * 32 * 32 * 9 + 32)
    assert sum(p.numel() for p in agent.parameters()) == 1_606_150 - fifth


def test_boards_of_another_size_are_refused() -> None:
    agent = Drc(CONFIG)
    with pytest.raises(ValueError, match=r"\(7, 8, 8\), but this agent was made for \(7, 5, 6\)"):
        agent(torch.zeros(1, 7, 8, 8), Drc(DrcConfig(channels=4)).initial_state(1))
    with pytest.raises(ValueError, match="ticks is 0"):
        DrcConfig(ticks=0)


def test_the_residual_baseline_answers_like_a_drc() -> None:
    agent = ResNet(ResNetConfig(n_blocks=2, channels=4, size=(5, 6), d_hidden=8))
    state = clear_state(agent.initial_state(3), torch.tensor([True, False, True]))
    output, cache = agent.run_with_cache(random_boards(3), state)
    assert output.logits.shape == (3, 5)
    assert output.state.shape == state.shape
    assert cache["blocks.1.hook_out"].shape == (3, 4, 5, 6)
