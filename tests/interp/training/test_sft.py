"""Fine-tuning: what is counted, accumulation, averages, early stopping, interruptions."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from interp import HookedModel
from interp.training import Ema, Example, SftConfig, train_sft
from interp.training.loop import encode_all, make_batch, nll, pad, predictions
from interp.training.sft import accumulate, answer_loss
from tests.tiny_models import tiny_llama

EXAMPLES = [
    Example(prompt="one ", answer="blue"),
    Example(prompt="two two ", answer="red"),
    Example(prompt="three", answer=" very green"),
]


@pytest.fixture(scope="module")
def model() -> HookedModel:
    """Tests leave it as they found it."""
    return tiny_llama(n_layers=2)


def weights(model: HookedModel) -> list[torch.Tensor]:
    return [weight.detach() for weight in model.module.parameters()]


def test_only_answer_tokens_count_and_the_end_is_one_of_them(model: HookedModel) -> None:
    rows = encode_all(model, EXAMPLES)
    with torch.no_grad():
        singles = []
        for prompt, answer in rows:
            ids = torch.tensor([prompt + answer])
            logprobs = model.module(ids).logits[0].log_softmax(-1)
            singles += [
                -float(logprobs[len(prompt) + k - 1, token]) for k, token in enumerate(answer)
            ]
        found = float(nll(predictions(model.module, pad(rows))))
    assert rows[0][1][-1] == model.tokenizer.eos_token_id
    assert found == pytest.approx(np.mean(singles), rel=1e-5)
    assert answer_loss(model.module, rows, 2) == pytest.approx(found, rel=1e-6)
    assert int(make_batch(model, EXAMPLES).answer.sum()) == len(singles) - len(rows)


def test_what_stands_at_padding_does_not_matter(model: HookedModel) -> None:
    batch = pad(encode_all(model, EXAMPLES))
    with torch.no_grad():
        before = nll(predictions(model.module, batch))
        batch.ids[~batch.mask] = 77
        torch.testing.assert_close(nll(predictions(model.module, batch)), before)


def test_accumulated_gradients_are_those_of_one_large_batch(model: HookedModel) -> None:
    rows = encode_all(model, EXAMPLES)
    found = []
    for size in (None, 2, 1):
        model.module.zero_grad()
        loss = accumulate(model.module, rows, size)
        found.append((loss, [p.grad.clone() for p in model.module.parameters()]))
    model.module.zero_grad()
    for loss, gradients in found[1:]:
        assert loss == pytest.approx(found[0][0], rel=1e-6)
        for one, other in zip(gradients, found[0][1], strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_training_learns_the_answers_and_leaves_the_model(model: HookedModel) -> None:
    before = [weight.clone() for weight in weights(model)]
    config = SftConfig(learning_rate=1e-2, n_steps=15, batch_size=3)
    trained = train_sft(model, EXAMPLES, config=config)
    assert trained.loss[-1] < 0.2 * trained.loss[0]
    assert len(trained.to_frame()) == 15
    for one, other in zip(weights(model), before, strict=True):
        assert torch.equal(one, other)
    other = train_sft(model, EXAMPLES, config=SftConfig(
        learning_rate=1e-2, n_steps=15, batch_size=3, lora_rank=4
    ))  # fmt: skip
    assert other.loss[-1] < other.loss[0]
    assert [n for n, _ in other.model.module.named_parameters()] == [
        n for n, _ in model.module.named_parameters()
    ]


@pytest.mark.parametrize("options", [{}, {"ema_decay": 0.8}, {"patience": 9, "evaluate_every": 2}])
def test_a_resumed_run_equals_an_uninterrupted_one(
    options: dict[str, float], model: HookedModel, tmp_path: Path
) -> None:
    config = SftConfig(
        learning_rate=1e-3, n_steps=6, batch_size=2, warmup=4, checkpoint_every=2, **options
    )  # pyright: ignore[reportArgumentType]
    held = EXAMPLES[:1]
    whole = train_sft(model, EXAMPLES, config=config, held_out=held, seed=1)
    file, steps = tmp_path / "run.pt", []

    def stop(step: int, numbers: dict[str, float]) -> None:
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_sft(
            model, EXAMPLES, config=config, held_out=held, seed=1, checkpoint=file, on_step=stop
        )
    resumed = train_sft(
        model, EXAMPLES, config=config, held_out=held, seed=1, checkpoint=file,
        on_step=lambda step, numbers: steps.append(step),
    )  # fmt: skip
    assert steps == [4, 5]
    np.testing.assert_array_equal(resumed.loss, whole.loss)
    for one, other in zip(weights(resumed.model), weights(whole.model), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match="checkpoint of a run with another model"):
        train_sft(model, EXAMPLES, config=config, held_out=held, seed=2, checkpoint=file)


def test_the_average_has_its_closed_form(model: HookedModel) -> None:
    values = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ema = Ema([values[0]], decay=0.7)
    for value in values[1:]:
        ema.update([value])
    shares = [0.7**4, *(0.3 * 0.7 ** (4 - k) for k in range(1, 5))]
    expected = sum(share * value for share, value in zip(shares, values, strict=True))
    torch.testing.assert_close(ema.averages[0], expected)
    config = SftConfig(learning_rate=1e-3, n_steps=1, ema_decay=0.75)
    plain = SftConfig(learning_rate=1e-3, n_steps=1)
    averaged, last = (train_sft(model, EXAMPLES, config=c).model for c in (config, plain))
    for start, one, other in zip(weights(model), weights(averaged), weights(last), strict=True):
        torch.testing.assert_close(one, 0.75 * start + 0.25 * other)


def test_early_stopping_keeps_the_best_state(model: HookedModel) -> None:
    config = SftConfig(learning_rate=3e-2, n_steps=40, batch_size=2, evaluate_every=1, patience=3)
    held = [Example(prompt="one ", answer="green")]
    stopped = train_sft(model, EXAMPLES[:2], config=config, held_out=held)
    assert len(stopped.loss) < 40
    left = answer_loss(stopped.model.module, encode_all(model, held))
    assert left == pytest.approx(np.nanmin(stopped.held_out_loss), rel=1e-5)


def test_bad_input_is_refused(model: HookedModel) -> None:
    with pytest.raises(ValueError, match="no examples"):
        train_sft(model, [])
    with pytest.raises(ValueError, match=r"learning_rate is 0\.0: needed more than 0"):
        SftConfig(learning_rate=0.0)
    with pytest.raises(ValueError, match="ema_decay is 1"):
        SftConfig(ema_decay=1.0)
    with pytest.raises(ValueError, match="patience is 2, but held_out is empty"):
        train_sft(model, EXAMPLES, config=SftConfig(patience=2))
    with pytest.raises(ValueError, match="longer than the context"):
        train_sft(model, [Example(prompt="one " * 999, answer="red")])
    with pytest.raises(ValueError, match=r"the loss is (nan|inf) at step \d+"):
        train_sft(model, EXAMPLES, config=SftConfig(
            learning_rate=1e30, n_steps=5, max_gradient_norm=1e30
        ))  # fmt: skip


def test_weights_can_be_observed_on_the_way(model: HookedModel) -> None:
    decay, seen = 0.8, []
    average = Ema(weights(model), decay=decay)

    def observe(step: int, now: Sequence[torch.Tensor]) -> None:
        seen.append(step)
        average.update(now)

    plain = SftConfig(learning_rate=1e-2, n_steps=4, batch_size=2)
    train_sft(model, EXAMPLES, config=plain, observe=observe)
    averaged = train_sft(model, EXAMPLES, config=replace(plain, ema_decay=decay)).model
    assert seen == [0, 1, 2, 3]
    for one, other in zip(average.averages, weights(averaged), strict=True):
        torch.testing.assert_close(one, other)
