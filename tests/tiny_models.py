"""Small random models with a tokenizer, so that unit tests need neither files nor time."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from interp import HookedModel

CHAT = (
    "{% for m in messages %}<s>{{ m['role'] }}\n{{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte, and a chat template."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: k for k, token in enumerate(["<s>", "</s>", *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    fast.chat_template = CHAT
    return fast


def tiny_llama(seed: int = 0, n_layers: int = 4) -> HookedModel:
    """A random Llama with 258 tokens; its weights are large enough for texts to differ."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=258,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=n_layers,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=1024,
            initializer_range=0.15,
            bos_token_id=0,
            eos_token_id=1,
            tie_word_embeddings=True,
        )
        module = LlamaForCausalLM(config).eval()
    module.generation_config.eos_token_id = None
    return HookedModel(module, tokenizer=byte_tokenizer(), name=f"tiny-llama-{seed}")


def tiny_gpt2(seed: int = 0) -> HookedModel:
    """A random GPT-2: learned positions, biases, transposed weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = GPT2Config(
            vocab_size=258,
            n_embd=32,
            n_layer=3,
            n_head=4,
            n_positions=512,
            initializer_range=0.15,
            bos_token_id=0,
            eos_token_id=1,
        )
        module = GPT2LMHeadModel(config).eval()
    module.generation_config.eos_token_id = None
    return HookedModel(module, tokenizer=byte_tokenizer(), name="tiny-gpt2")


def save_classifier(folder: Path, **settings: object) -> Path:
    """Write a random classifier of texts with three labels, and its tokenizer."""
    labels = {0: "neutral", 1: "Toxic", 2: "insult"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=258,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=64,
            initializer_range=0.3,
            pad_token_id=1,
            id2label=labels,
            label2id={name: k for k, name in labels.items()},
            **settings,
        )
        BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer = byte_tokenizer()
    tokenizer.model_max_length = 64
    tokenizer.save_pretrained(folder)
    return folder
