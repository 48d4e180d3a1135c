"""Patching: equal to hooks written by hand, and it finds what was planted."""

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from interp import HookedModel, HookNotFoundError, ModelMismatchError, Span, add
from interp.attribution import (
    Cell,
    Metric,
    Pairs,
    answer_probability,
    continuation_logprob,
    grid,
    kl_from_clean,
    logit_diff,
    make_pairs,
    patch_cells,
    patch_groups,
    patch_sweep,
    same_texts,
    token_mass,
)

CLEAN = [f"the capital of land{k} is" for k in range(8)]
CORRUPTED = [f"the capital of land{(k + 3) % 8} is" for k in range(8)]
MODELS = pytest.mark.parametrize("name", ["gpt2", "llama"])


def country_pairs(model: HookedModel, n: int = 8) -> Pairs:
    return make_pairs(
        model,
        CLEAN[:n],
        CORRUPTED[:n],
        answers=[f"city{k}" for k in range(n)],
        wrong_answers=[f"city{(k + 3) % 8}" for k in range(n)],
    )


def by_hand(model: HookedModel, pairs: Pairs, path: str, io: str, put: Callable) -> np.ndarray:
    """The logit difference with a torch hook that edits a module's input or output."""
    module = model.module.get_submodule(path)
    seen: list[Tensor] = []

    def on_input(mod: object, args: tuple) -> tuple | None:
        seen.append(args[0])
        return (put(args[0], seen[0]), *args[1:]) if len(seen) > 1 else None

    def on_output(mod: object, args: tuple, output: object) -> object:
        first = output[0] if isinstance(output, tuple) else output
        seen.append(first)
        if len(seen) == 1:
            return None
        new = put(first, seen[0])
        return (new, *output[1:]) if isinstance(output, tuple) else new

    handle = (
        module.register_forward_pre_hook(on_input)
        if io == "in"
        else module.register_forward_hook(on_output)
    )
    with torch.no_grad():
        ids = [
            torch.from_numpy(side.ids).reshape(len(pairs), -1)
            for side in (pairs.clean, pairs.corrupted)
        ]
        model.module(ids[0])
        logits = model.module(ids[1]).logits[:, -1]
    handle.remove()
    rows = torch.arange(len(pairs))
    return (
        logits[rows, torch.from_numpy(pairs.answers)]
        - logits[rows, torch.from_numpy(pairs.wrong_answers)]
    ).numpy()


@MODELS
@pytest.mark.parametrize(
    "site", ["resid_pre", "z", "attn_out", "resid_mid", "mlp_post", "mlp_out", "resid_post"]
)
def test_every_cell_equals_a_hook_written_by_hand(
    name: str, site: str, request: pytest.FixtureRequest
) -> None:
    model: HookedModel = request.getfixturevalue(name)
    pairs = country_pairs(model, 3)
    found = patch_sweep(model, pairs, logit_diff(pairs), site, batch_tokens=40)
    assert len(found.cells) == 3 * 5
    for cell, values in zip(found.cells, found.values.T, strict=True):
        location = model.sites[model.sites.at(site, cell.layer)[0]]

        def put(value: Tensor, clean: Tensor, column: int | None = cell.column) -> Tensor:
            value = value.clone()
            value[:, column] = clean[:, column]
            return value

        expected = by_hand(model, pairs, location.path, location.io, put)
        np.testing.assert_allclose(values, expected, atol=1e-5)


@MODELS
def test_heads_and_neurons_are_patched_alone(name: str, request: pytest.FixtureRequest) -> None:
    model: HookedModel = request.getfixturevalue(name)
    pairs = country_pairs(model, 3)
    cells = [
        Cell(site="z", layer=1, column=4, units=(2,)),
        Cell(site="mlp_post", layer=1, units=(3, 7)),
    ]
    found = patch_cells(model, pairs, logit_diff(pairs), cells)

    def put_head(value: Tensor, clean: Tensor) -> Tensor:
        value = value.clone()
        value[:, 4, 16:24] = clean[:, 4, 16:24]  # heads have 8 dimensions
        return value

    def put_neurons(value: Tensor, clean: Tensor) -> Tensor:
        value = value.clone()
        value[:, :, [3, 7]] = clean[:, :, [3, 7]]
        return value

    for column, (cell, put) in enumerate(zip(cells, (put_head, put_neurons), strict=True)):
        path = model.sites[model.sites.at(cell.site, 1)[0]].path
        expected = by_hand(model, pairs, path, "in", put)
        np.testing.assert_allclose(found.values[:, column], expected, atol=1e-5)


@MODELS
def test_everything_restores_all_and_nothing_restores_none(
    name: str, request: pytest.FixtureRequest
) -> None:
    model: HookedModel = request.getfixturevalue(name)
    pairs = country_pairs(model)
    whole = patch_cells(model, pairs, logit_diff(pairs), grid(model, "resid_pre"))
    np.testing.assert_allclose(whole.effects, 1, atol=1e-4)  # clean into all of the corrupted run
    sweep = patch_sweep(model, pairs, logit_diff(pairs), "resid_post")
    effects = sweep.effects.reshape(3, 5)
    assert effects[-1, -1] == pytest.approx(1, abs=1e-4)  # the logits come from there alone
    np.testing.assert_array_equal(effects[:, :3], 0)  # both runs are the same up to there
    np.testing.assert_allclose(effects[-1, :-1], 0, atol=1e-4)


@MODELS
def test_a_run_patched_with_itself_stays_as_it_is(
    name: str, request: pytest.FixtureRequest
) -> None:
    """Clean into clean is 1 on the scale of the two runs, and corrupted into corrupted is 0."""
    model: HookedModel = request.getfixturevalue(name)
    pairs = country_pairs(model)
    metric = logit_diff(pairs)
    reference = patch_cells(model, pairs, metric, grid(model, "z", layers=0))
    gap = reference.clean.mean() - reference.corrupted.mean()
    sites = ("resid_pre", "z", "mlp_post", "resid_post")
    groups = {site: grid(model, site) for site in sites}
    for texts, share in ((CLEAN, 1), (CORRUPTED, 0)):
        itself = patch_groups(model, make_pairs(model, texts, texts), metric, groups)
        found = (itself.values.mean(0) - reference.corrupted.mean()) / gap
        np.testing.assert_allclose(found, share, atol=1e-4)


def test_a_sweep_does_not_depend_on_the_batches(llama: HookedModel) -> None:
    pairs = country_pairs(llama)
    results = [
        patch_sweep(llama, pairs, logit_diff(pairs), "mlp_out", batch_tokens=n).values
        for n in (12, 64, 4096)
    ]
    np.testing.assert_allclose(results[0], results[2], atol=1e-5)
    np.testing.assert_allclose(results[1], results[2], atol=1e-5)


def test_noising_is_denoising_of_swapped_pairs(gpt2: HookedModel) -> None:
    pairs = country_pairs(gpt2)
    swapped = make_pairs(gpt2, CORRUPTED, CLEAN)
    metric = logit_diff(pairs)
    noised = patch_sweep(gpt2, pairs, metric, "attn_out", source="corrupted")
    np.testing.assert_allclose(
        noised.values, patch_sweep(gpt2, swapped, metric, "attn_out").values, atol=1e-5
    )
    whole = patch_cells(gpt2, pairs, metric, grid(gpt2, "resid_pre"), source="corrupted")
    np.testing.assert_allclose(whole.effects, 1, atol=1e-4)


def test_ablation_puts_in_zeros_means_or_another_pair(gpt2: HookedModel) -> None:
    pairs = country_pairs(gpt2)
    ids = torch.from_numpy(pairs.clean.ids).reshape(8, -1)
    mlp = gpt2.module.get_submodule("transformer.h.1.mlp")
    seen: list[Tensor] = []
    handle = mlp.register_forward_hook(lambda mod, args, output: seen.append(output))
    with torch.no_grad():
        gpt2.module(ids)
    handle.remove()
    cell = grid(gpt2, "mlp_out", layers=1)
    for source, value in (("zero", torch.zeros(32)), ("mean", seen[0].mean((0, 1)))):
        handle = mlp.register_forward_hook(
            lambda mod, args, output, v=value: v.expand_as(output).clone()
        )
        with torch.no_grad():
            logits = gpt2.module(ids).logits[:, -1]
        handle.remove()
        rows = torch.arange(8)
        expected = logits[rows, pairs.answers] - logits[rows, pairs.wrong_answers]
        found = patch_cells(gpt2, pairs, logit_diff(pairs), cell, source=source)
        np.testing.assert_allclose(found.values[:, 0], expected, atol=1e-5)
    whole = patch_cells(
        gpt2, pairs, logit_diff(pairs), grid(gpt2, "resid_pre", layers=0), source="resample"
    )
    unpatched = patch_cells(gpt2, pairs, logit_diff(pairs), cell).clean
    assert (np.abs(whole.values[:, 0] - unpatched) > 1e-3).all()  # now it is another text


def test_the_planted_head_is_found_and_shuffled_answers_are_not(head_model: HookedModel) -> None:
    pairs = make_pairs(
        head_model,
        CLEAN[:4],
        CLEAN[4:],
        answers=[f"city{k}" for k in range(4)],
        wrong_answers=[f"city{k}" for k in range(4, 8)],
    )
    cells = grid(head_model, "z", units=range(4))
    found = patch_cells(head_model, pairs, logit_diff(pairs), cells)
    best = found.top(1)[0]
    assert (best.layer, best.units) == (1, (2,))
    effects = np.sort(found.effects)
    assert effects[-1] > 0.9
    assert effects[-2] < 0.05
    low, high = found.intervals()[int(found.effects.argmax())]
    assert 0.9 < low <= effects[-1] <= high < 1.1
    shuffled = pairs.shuffled()
    control = patch_cells(head_model, shuffled, logit_diff(shuffled), cells)
    assert np.abs(control.changes).max() < 0.1 * found.changes.max()


def test_the_planted_neuron_is_found(neuron_model: HookedModel) -> None:
    texts = [f"the capital of land{k} is" for k in (0, 1)]
    pairs = make_pairs(
        neuron_model, texts[:1], texts[1:], answers=["city0"], wrong_answers=["city1"]
    )
    metric = logit_diff(pairs)
    neurons = patch_cells(
        neuron_model, pairs, metric, grid(neuron_model, "mlp_post", units=range(128))
    )
    best = neurons.top(1)[0]
    assert (best.layer, best.units) == (2, (5,))
    assert np.sort(neurons.effects)[-1] > 0.9
    assert np.sort(neurons.effects)[-2] < 0.05
    sweep = patch_sweep(neuron_model, pairs, metric, "resid_pre").effects.reshape(3, 5)
    assert sweep[0].argmax() == 3  # the subject, before the head
    assert sweep[2].argmax() == 4  # the last token, behind it


def test_spans_of_texts_of_unequal_length(head_model: HookedModel) -> None:
    clean = ["the old capital of land0 is", "the capital of land1 is"]
    corrupted = ["the old capital of land4 is", "the capital of land5 is"]
    pairs = make_pairs(
        head_model, clean, corrupted, answers=["city0", "city1"], wrong_answers=["city4", "city5"]
    )
    metric = logit_diff(pairs)
    with pytest.raises(ValueError, match=r"5 to 6 tokens.*spans="):
        patch_sweep(head_model, pairs, metric)
    spans = {"capital": Span(text="capital"), "subject": Span(text="land")}
    found = patch_sweep(head_model, pairs, metric, spans=spans, layers=[0, 1])
    np.testing.assert_allclose(found.effects.reshape(2, 2)[:, 0], 0, atol=0.01)
    assert (found.effects.reshape(2, 2)[:, 1] > 0.9).all()
    alone = [
        patch_cells(
            head_model, pairs.take([k]), logit_diff(pairs.take([k])), found.cells, spans=spans
        )
        for k in (0, 1)
    ]
    np.testing.assert_allclose(
        found.values, np.concatenate([one.values for one in alone]), atol=1e-5
    )


def test_aligned_texts_of_unequal_length(head_model: HookedModel) -> None:
    pairs = make_pairs(
        head_model, ["the old capital of land0 is"], ["the capital of land4 is"],
        answers=["city0"], wrong_answers=["city4"], align=True,
    )  # fmt: skip
    effects = patch_sweep(head_model, pairs, logit_diff(pairs), layers=0).effects
    assert effects.argmax() == 3
    assert effects[3] > 0.9


def test_two_models_are_compared_on_the_same_texts(gpt2: HookedModel) -> None:
    other = copy.deepcopy(gpt2.module)
    torch.nn.init.zeros_(other.transformer.h[1].mlp.c_proj.weight)
    tuned = HookedModel(other, tokenizer=gpt2.tokenizer)
    pairs = country_pairs(gpt2)
    metric = kl_from_clean(tuned, same_texts(gpt2, CLEAN))
    both = same_texts(gpt2, CLEAN)
    cells = [*grid(gpt2, "mlp_out"), *grid(gpt2, "attn_out", layers=0)]
    found = patch_cells(gpt2, both, metric, cells, source_model=tuned)
    np.testing.assert_allclose(found.clean, 0, atol=1e-5)
    np.testing.assert_allclose(found.effects, [0, 1, found.effects[2], 0], atol=1e-4)
    assert found.effects[2] != pytest.approx(1, abs=1e-2)
    itself = patch_cells(gpt2, pairs, logit_diff(pairs), cells, source_model=gpt2)
    alone = patch_cells(gpt2, pairs, logit_diff(pairs), cells)
    np.testing.assert_array_equal(itself.values, alone.values)


def test_two_models_have_to_fit(
    gpt2: HookedModel, llama: HookedModel, head_model: HookedModel
) -> None:
    pairs = country_pairs(gpt2)
    cells = grid(gpt2, "mlp_post")
    with pytest.raises(ModelMismatchError, match=r"shape \(128,\) in the model and \(48,\)"):
        patch_cells(gpt2, pairs, logit_diff(pairs), cells, source_model=llama)
    tokenizer = copy.deepcopy(gpt2.tokenizer)
    tokenizer.add_tokens(["new"])
    other = HookedModel(head_model.module, tokenizer=tokenizer)
    with pytest.raises(ModelMismatchError, match="different tokenizers"):
        patch_cells(gpt2, pairs, logit_diff(pairs), cells, source_model=other)


def test_metrics_equal_their_formulas(gpt2: HookedModel) -> None:
    pairs = country_pairs(gpt2)
    with torch.no_grad():
        clean, corrupted = (
            gpt2.module(torch.from_numpy(side.ids).reshape(8, -1)).logits
            for side in (pairs.clean, pairs.corrupted)
        )
    rows, cells = torch.arange(8), grid(gpt2, "resid_pre", layers=0)
    p = clean[:, -1].softmax(-1)
    found = patch_cells(gpt2, pairs, answer_probability(pairs), cells)
    np.testing.assert_allclose(found.clean, p[rows, pairs.answers], atol=1e-6)
    found = patch_cells(gpt2, pairs, kl_from_clean(gpt2, pairs), cells)
    q = corrupted[:, -1].log_softmax(-1)
    expected = torch.nn.functional.kl_div(q, p, reduction="none").sum(-1)
    np.testing.assert_allclose(found.corrupted, expected, atol=1e-5)
    np.testing.assert_allclose(found.values, 0, atol=1e-5)
    found = patch_cells(gpt2, pairs, continuation_logprob(pairs, 1), cells)
    expected = clean[:, -2].log_softmax(-1)[rows, torch.full((8,), int(pairs.clean.ids[-1]))]
    np.testing.assert_allclose(found.clean, expected, atol=1e-5)
    with pytest.raises(ValueError, match="do not end in the same 2 tokens"):
        continuation_logprob(pairs, 2)


def test_other_interventions_act_once(llama: HookedModel) -> None:
    pairs = country_pairs(llama)
    metric = logit_diff(pairs)
    cells = [Cell(site=s, layer=2, column=4) for s in ("mlp_out", "resid_post", "resid_pre")]
    groups = {str(k): [cell] for k, cell in enumerate(cells)}  # these run from the first layer on
    plain = patch_cells(llama, pairs, metric, cells).values
    with llama.intervene(add(torch.ones(32), layers=[0, 1, 2], coefficient=0.5)):
        found = patch_cells(llama, pairs, metric, cells).values
        expected = patch_groups(llama, pairs, metric, groups).values
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.abs(found - plain).max() > 0.01


def test_bad_metrics_are_refused(gpt2: HookedModel) -> None:
    pairs = country_pairs(gpt2)
    cells = grid(gpt2, "resid_pre")
    bad = Metric(name="bad", score=lambda logits, rows: logits[:, -1, 0] * torch.nan)
    with pytest.raises(ValueError, match="metric 'bad' is NaN or infinite for pair 0"):
        patch_cells(gpt2, pairs, bad, cells)
    flat = Metric(name="flat", score=lambda logits, rows: logits.sum())
    with pytest.raises(ValueError, match="needed one number for each run"):
        patch_cells(gpt2, pairs, flat, cells)
    constant = Metric(name="constant", score=lambda logits, rows: 0 * logits[:, -1, 0])
    with pytest.raises(ValueError, match="have the same constant"):
        _ = patch_cells(gpt2, pairs, constant, cells).effects
    with pytest.raises(ValueError, match="no answers: pass answers="):
        logit_diff(same_texts(gpt2, CLEAN))


def test_bad_cells_are_refused(gpt2: HookedModel) -> None:
    pairs = country_pairs(gpt2)
    metric = logit_diff(pairs)
    with pytest.raises(HookNotFoundError, match="resid_pots"):
        patch_sweep(gpt2, pairs, metric, "resid_pots")
    with pytest.raises(ValueError, match="column 9, but there are 5"):
        patch_cells(gpt2, pairs, metric, [Cell(site="z", layer=0, column=9)])
    with pytest.raises(ValueError, match="no units: heads are at 'z'"):
        grid(gpt2, "mlp_out", units=[1])
    with pytest.raises(ValueError, match="no cells"):
        patch_cells(gpt2, pairs, metric, [])


def test_the_model_comes_back_as_it_was_when_a_sweep_fails(gpt2: HookedModel) -> None:
    pairs = country_pairs(gpt2)
    calls: list[int] = []

    def score(logits: Tensor, rows: Tensor) -> Tensor:
        calls.append(len(rows))
        if len(calls) > 2:
            raise RuntimeError("the metric failed")
        return logits[:, -1, 0]

    ids = torch.from_numpy(pairs.clean.ids).reshape(8, -1)
    with torch.no_grad():
        before = gpt2.module(ids).logits
        with pytest.raises(RuntimeError, match="the metric failed"):
            patch_sweep(gpt2, pairs, Metric(name="m", score=score), layers=2)
        after = gpt2.module(ids).logits
    assert len(calls) == 3
    torch.testing.assert_close(before, after, rtol=0, atol=0)
    assert gpt2.hooks.active == ()


def test_frames_and_figures_say_what_was_patched(head_model: HookedModel) -> None:
    pairs = country_pairs(head_model)
    sweep = patch_sweep(head_model, pairs, logit_diff(pairs))
    frame = sweep.to_frame()
    assert len(frame) == sweep.effects.size
    assert frame["token"][:5].tolist() == ["the", "capital", "of", "land3/…", "is"]
    assert (
        (frame["low"] <= frame["effect"] + 1e-9) & (frame["effect"] <= frame["high"] + 1e-9)
    ).all()
    figure = sweep.plot()
    assert np.asarray(figure.data[0].z).shape == (3, 5)
    assert "over 8 pairs" in figure.data[0].customdata[0][3]
    heads = patch_cells(head_model, pairs, logit_diff(pairs), grid(head_model, "z", units=range(4)))
    assert np.asarray(heads.plot().data[0].z).shape == (3, 4)
    mixed = patch_cells(
        head_model, pairs, logit_diff(pairs), [*grid(head_model, "z"), *grid(head_model, "mlp_out")]
    )
    with pytest.raises(ValueError, match="do not fill one matrix"):
        mixed.plot()


def test_the_mass_of_tokens_is_the_sum_of_their_probabilities() -> None:
    logits = torch.randn(3, 2, 7, generator=torch.Generator().manual_seed(0))
    found = token_mass(np.array([1, 4])).score(logits, torch.arange(3))
    expected = logits[:, -1].softmax(-1)
    np.testing.assert_allclose(found, expected[:, 1] + expected[:, 4], rtol=1e-6)
    whole = token_mass(np.arange(7)).score(logits, torch.arange(3))
    np.testing.assert_allclose(whole, 1, rtol=1e-6)
