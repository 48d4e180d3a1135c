"""DPO: the formula, what it teaches a small model, and runs that are interrupted."""

import copy
import importlib.util
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from interp import HookedModel
from interp.training import DpoConfig, Preference, dpo_loss, sequence_logprobs, train_dpo

WORDS = ["<end>", "one", "two", "red", "blue", "green", "is", "not"]
PREFERENCES = [
    Preference(prompt=f"{start} is", chosen="blue", rejected="not red")
    for start in ("one", "two", "one two", "two one two")
]


def tiny() -> HookedModel:
    """A random Llama with a token for each word."""
    words = models.WordLevel({word: k for k, word in enumerate(WORDS)}, unk_token="<end>")
    tokenizer = Tokenizer(words)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = LlamaForCausalLM(config).eval()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")
    return HookedModel(module, tokenizer=fast, name="tiny")


@pytest.fixture(scope="module")
def model() -> HookedModel:
    """Tests leave it as they found it."""
    return tiny()


def test_the_loss_is_the_formula() -> None:
    values = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    found = dpo_loss(*values, beta=0.3)
    margin = (values[0] - values[2]) - (values[1] - values[3])
    np.testing.assert_allclose(found, -np.log(1 / (1 + np.exp(-0.3 * margin.numpy()))), rtol=1e-5)
    equal = dpo_loss(values[0], values[1], values[0], values[1], beta=0.3)
    np.testing.assert_allclose(equal, math.log(2), rtol=1e-6)


def test_logprobs_are_sums_over_the_continuation(model: HookedModel) -> None:
    ids = torch.tensor([[1, 6, 4, 0], [2, 6, 7, 3]])
    mask = torch.tensor([[True, True, True, False], [True] * 4])
    counted = torch.tensor([[False, False, True, False], [False, False, True, True]])
    with torch.no_grad():
        found = sequence_logprobs(model.module, ids, mask, counted)
        rows = [model.module(row[None]).logits[0].log_softmax(-1) for row in (ids[0, :3], ids[1])]
    expected = [rows[0][1, 4], rows[1][1, 7] + rows[1][2, 3]]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_training_begins_at_log_2_and_teaches_the_preference(model: HookedModel) -> None:
    before = {name: p.clone() for name, p in model.module.named_parameters()}
    config = DpoConfig(learning_rate=1e-2, n_steps=15, warmup=3, batch_size=4)
    trained = train_dpo(model, PREFERENCES, config=config)
    assert trained.loss[0] == pytest.approx(math.log(2), abs=1e-6)
    assert trained.margin[0] == pytest.approx(0, abs=1e-5)
    assert trained.loss[-1] < 0.5 < trained.loss[0]
    assert trained.accuracy[-1] == 1
    for name, parameter in model.module.named_parameters():
        assert torch.equal(parameter, before[name])
    flipped = [
        Preference(prompt=p.prompt, chosen=p.rejected, rejected=p.chosen) for p in PREFERENCES
    ]
    other = train_dpo(model, flipped, config=config)
    batch = model.tokenize(["one is"]).batch([0])["input_ids"]
    with torch.no_grad():
        p_blue = [
            float(m.module(batch).logits[0, -1].log_softmax(-1)[4])
            for m in (other.model, model, trained.model)
        ]
    assert p_blue[0] < p_blue[1] < p_blue[2]
    assert len(trained.to_frame()) == 15


def test_a_resumed_run_equals_an_uninterrupted_one(model: HookedModel, tmp_path: Path) -> None:
    config = DpoConfig(learning_rate=1e-3, n_steps=6, batch_size=3, checkpoint_every=2, warmup=4)
    whole = train_dpo(model, PREFERENCES, config=config, seed=1)
    file = tmp_path / "run.pt"

    def stop(step: int, numbers: dict[str, float]) -> None:
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_dpo(model, PREFERENCES, config=config, seed=1, checkpoint=file, on_step=stop)
    steps: list[int] = []
    resumed = train_dpo(
        model, PREFERENCES, config=config, seed=1, checkpoint=file,
        on_step=lambda step, numbers: steps.append(step),
    )  # fmt: skip
    assert steps == [4, 5]
    np.testing.assert_array_equal(resumed.loss, whole.loss)
    for one, other in zip(
        resumed.model.module.parameters(), whole.model.module.parameters(), strict=True
    ):
        assert torch.equal(one, other)
    with pytest.raises(ValueError, match="checkpoint of a run with another model"):
        train_dpo(model, PREFERENCES, config=config, seed=2, checkpoint=file)


@pytest.mark.skipif(
    importlib.util.find_spec("peft") is None,
    reason="peft is not installed: pip install -c constraints.txt peft",
)
def test_adapters_teach_the_preference_too(model: HookedModel) -> None:
    config = DpoConfig(learning_rate=2e-2, n_steps=15, warmup=3, lora_rank=4)
    trained = train_dpo(model, PREFERENCES, config=config)
    assert trained.loss[0] == pytest.approx(math.log(2), abs=1e-6)
    assert trained.loss[-1] < 0.5
    names = {name for name, _ in model.module.named_parameters()}
    assert {name for name, _ in trained.model.module.named_parameters()} == names
    changed = {
        name
        for (name, a), b in zip(
            model.module.named_parameters(), trained.model.module.parameters(), strict=True
        )
        if not torch.equal(a, b)
    }
    assert changed
    assert all("proj" in name for name in changed)
    few = replace(config, n_steps=2, lora_targets=("up_proj",))
    part = train_dpo(model, PREFERENCES, config=few).model.module
    for (name, old), new in zip(model.module.named_parameters(), part.parameters(), strict=True):
        assert torch.equal(old, new) == ("up_proj" not in name)


@pytest.mark.skipif(
    importlib.util.find_spec("trl") is None,
    reason="trl is not installed: pip install -c constraints.txt trl",
)
@pytest.mark.filterwarnings("ignore")  # of trl and of what it imports
def test_the_loss_of_a_batch_is_that_of_trl(model: HookedModel, tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import DPOConfig as TrlConfig
    from trl import DPOTrainer

    config = DpoConfig(learning_rate=1e-2, n_steps=2, warmup=0, beta=0.3)
    ours = train_dpo(model, PREFERENCES, config=config).loss[1]
    policy = train_dpo(model, PREFERENCES, config=replace(config, n_steps=1)).model
    rows = [
        {"prompt": p.prompt, "chosen": f" {p.chosen}", "rejected": f" {p.rejected}"}
        for p in PREFERENCES
    ]
    settings = TrlConfig(
        output_dir=str(tmp_path),
        beta=0.3,
        per_device_train_batch_size=len(rows),
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        save_strategy="no",
        dataset_num_proc=None,
    )
    trainer = DPOTrainer(
        model=policy.module,
        ref_model=copy.deepcopy(model.module),
        args=settings,
        train_dataset=Dataset.from_list(rows),
        processing_class=copy.deepcopy(model.tokenizer),
    )
    batch = next(iter(trainer.get_train_dataloader()))
    theirs = float(trainer.compute_loss(trainer.model, batch).detach())
    assert ours == pytest.approx(theirs, abs=1e-5)
    assert abs(ours - math.log(2)) > 0.01


def test_bad_input_is_refused(model: HookedModel) -> None:
    with pytest.raises(ValueError, match="no preferences"):
        train_dpo(model, [])
    with pytest.raises(ValueError, match=r"beta is 0.0: needed more than 0"):
        DpoConfig(beta=0.0)
    with pytest.raises(ValueError, match="lora_rank is 0"):
        DpoConfig(lora_rank=0)
    with pytest.raises(
        ValueError, match=r"lora_targets is \('up_proj',\), but there is no lora_rank"
    ):
        DpoConfig(lora_targets=("up_proj",))
    long = Preference(prompt="one " * 3000, chosen="red", rejected="blue")
    with pytest.raises(ValueError, match=r"longer than the context|preference 0 has"):
        train_dpo(model, [long])
