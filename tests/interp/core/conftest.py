"""Tiny random models of several architectures and a byte tokenizer, all built without a network."""

from collections.abc import Callable

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn

from interp import HookedModel

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<bos>",
    "<start_of_turn>",
    "<end_of_turn>",
)
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']"
    " + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
ARCHITECTURES = ("llama", "gpt2", "gemma3", "qwen3", "gpt_neox_parallel", "gpt_neox_sequential")
N_LAYERS, D_MODEL, N_HEADS, N_CTX = 3, 16, 4, 96


def byte_tokenizer():
    """One token a byte; `<|im_end|>` is both the end and the padding, as in SmolLM2."""
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate((*SPECIAL, *alphabet))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        chat_template=CHATML,
    )


def random_module(architecture: str) -> nn.Module:
    """A random causal language model in eval mode, the same at every call."""
    import transformers as hf

    sizes = {
        "vocab_size": len(SPECIAL) + 256,
        "hidden_size": D_MODEL,
        "num_hidden_layers": N_LAYERS,
        "num_attention_heads": N_HEADS,
        "intermediate_size": 24,
        "max_position_embeddings": N_CTX,
        "initializer_range": 0.3,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 2,
    }
    grouped = {**sizes, "num_key_value_heads": 2, "head_dim": 4}
    neox = {**sizes, "rotary_pct": 0.5, "hidden_dropout": 0.1, "attention_dropout": 0.1}
    configs = {
        "llama": lambda: hf.LlamaConfig(**grouped),
        "gpt2": lambda: hf.GPT2Config(
            vocab_size=sizes["vocab_size"], n_embd=D_MODEL, n_layer=N_LAYERS, n_head=N_HEADS,
            n_positions=N_CTX, initializer_range=0.3, bos_token_id=1, eos_token_id=2,
        ),
        "gemma3": lambda: hf.Gemma3TextConfig(**grouped, sliding_window=8),
        "qwen3": lambda: hf.Qwen3Config(**grouped),
        "gpt_neox_parallel": lambda: hf.GPTNeoXConfig(**neox, use_parallel_residual=True),
        "gpt_neox_sequential": lambda: hf.GPTNeoXConfig(**neox, use_parallel_residual=False),
    }  # fmt: skip
    state = torch.get_rng_state()
    torch.manual_seed(0)
    module = hf.AutoModelForCausalLM.from_config(configs[architecture]())
    torch.set_rng_state(state)
    return module.eval()


@pytest.fixture(scope="session")
def tokenizer():
    return byte_tokenizer()


@pytest.fixture(scope="session")
def make_model() -> Callable[[str], HookedModel]:
    """A new model of an architecture, for tests that change it."""
    return lambda architecture: HookedModel(
        random_module(architecture), tokenizer=byte_tokenizer(), name=f"random-{architecture}"
    )


@pytest.fixture(scope="session")
def tiny(make_model: Callable[[str], HookedModel]) -> HookedModel:
    """A random llama, which tests leave as they found it."""
    return make_model("llama")


@pytest.fixture(scope="session", params=ARCHITECTURES)
def any_model(
    request: pytest.FixtureRequest, make_model: Callable[[str], HookedModel]
) -> HookedModel:
    """One random model of each architecture."""
    return make_model(request.param)


def our_hooks(module: nn.Module) -> list[object]:
    """The torch hooks that come from hookscope (Hugging Face leaves some of its own)."""
    hooks = [
        hook
        for part in module.modules()
        for hook in (*part._forward_hooks.values(), *part._forward_pre_hooks.values())
    ]
    functions = [getattr(hook, "func", hook) for hook in hooks]
    return [f for f in functions if getattr(f, "__module__", "").startswith("interp.")]


@pytest.fixture(scope="session")
def count_hooks() -> Callable[[HookedModel], int]:
    """How many torch hooks of ours are on a model."""
    return lambda model: len(our_hooks(model.module))


@pytest.fixture(autouse=True)
def no_hook_is_left(request: pytest.FixtureRequest):
    """Whatever a test did, the shared models have no hook afterwards."""
    yield
    for name in ("tiny", "any_model"):
        if name in request.fixturenames:
            model = request.getfixturevalue(name)
            assert model.hooks.active == ()
            assert our_hooks(model.module) == []
