"""Small models with a word for each token: random ones, and one with a circuit planted by hand."""

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from interp import HookedModel

N_SUBJECTS = 8
SUBJECTS = [f"land{k}" for k in range(N_SUBJECTS)]
ANSWERS = [f"city{k}" for k in range(N_SUBJECTS)]
WORDS = ["<pad>", "the", "capital", "of", "is", "old", "was", *SUBJECTS, *ANSWERS]
PLANTED_LAYER, PLANTED_HEAD, NEURON_LAYER, PLANTED_NEURON = 1, 2, 2, 5


def word_tokenizer() -> PreTrainedTokenizerFast:
    """A token for each word."""
    tokenizer = Tokenizer(
        models.WordLevel({word: k for k, word in enumerate(WORDS)}, unk_token="<pad>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<pad>", unk_token="<pad>"
    )


def tiny_gpt2(seed: int = 0, scale: float = 0.3) -> HookedModel:
    """A random GPT-2: plain MLPs, biases, transposed weights."""
    config = GPT2Config(
        vocab_size=len(WORDS),
        n_embd=32,
        n_layer=3,
        n_head=4,
        n_positions=32,
        initializer_range=scale,
        bos_token_id=0,
        eos_token_id=0,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = GPT2LMHeadModel(config).eval()
    return HookedModel(module, tokenizer=word_tokenizer(), name=f"tiny-gpt2-{seed}")


def tiny_llama(seed: int = 0) -> HookedModel:
    """A random Llama: gated MLPs, shared keys, rotary positions."""
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        module = LlamaForCausalLM(config).eval()
    return HookedModel(module, tokenizer=word_tokenizer(), name=f"tiny-llama-{seed}")


def planted_head() -> HookedModel:
    """A model in which one head alone carries each subject's answer to the last token.

    Dimension 0 marks subjects, 1 the word "is", 4 to 11 say which subject it is, and 12 to 19
    which answer to give.
    """
    model = tiny_gpt2(seed=5, scale=0.02)
    module = model.module
    with torch.no_grad():
        module.transformer.wpe.weight.zero_()
        embedding = module.transformer.wte.weight
        for k, subject in enumerate(SUBJECTS):
            embedding[WORDS.index(subject), [0, 4 + k]] += 3.0
            module.lm_head.weight[WORDS.index(ANSWERS[k]), 12 + k] += 3.0
        embedding[WORDS.index("is"), 1] += 3.0
        attention = module.transformer.h[PLANTED_LAYER].attn
        first = 8 * PLANTED_HEAD
        attention.c_attn.weight[1, first] += 6.0  # query: "is"
        attention.c_attn.weight[0, 32 + first] += 6.0  # key: a subject
        for k in range(N_SUBJECTS):
            attention.c_attn.weight[4 + k, 64 + first + k] += 3.0
            attention.c_proj.weight[first + k, 12 + k] += 3.0
    return model


def planted_neuron() -> HookedModel:
    """The same, but answers are said only by one neuron, which tells subject 0 from subject 1."""
    model = planted_head()
    module = model.module
    with torch.no_grad():
        head = module.lm_head.weight
        for k in range(N_SUBJECTS):
            head[WORDS.index(ANSWERS[k]), 12 + k] -= 3.0
        head[WORDS.index(ANSWERS[0]), 24] += 3.0
        mlp = module.transformer.h[NEURON_LAYER].mlp
        mlp.c_fc.weight[12, PLANTED_NEURON] += 4.0
        mlp.c_fc.weight[13, PLANTED_NEURON] -= 4.0
        mlp.c_proj.weight[PLANTED_NEURON, 24] += 4.0
    return model


@pytest.fixture(scope="session")
def gpt2() -> HookedModel:
    """Tests leave it as they found it."""
    return tiny_gpt2()


@pytest.fixture(scope="session")
def llama() -> HookedModel:
    """Tests leave it as they found it."""
    return tiny_llama()


@pytest.fixture(scope="session")
def head_model() -> HookedModel:
    """A planted head; tests leave it as they found it."""
    return planted_head()


@pytest.fixture(scope="session")
def neuron_model() -> HookedModel:
    """A planted head and a planted neuron; tests leave it as they found it."""
    return planted_neuron()
