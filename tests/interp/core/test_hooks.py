"""Hooks: their order, what they are told, and that none is left behind."""

import threading

import pytest
import torch
from torch import nn

from interp import Call, HookedModel, HookNotFoundError, Site, add, edit, extract, generate
from interp.core.hooks import Stop

MIDDLE = Site("resid_post", 1)


def test_edits_come_before_reads_whatever_the_nesting(tiny) -> None:
    batch = tiny.tokenize(["a fire"]).batch([0])
    double = edit(lambda value, call: 2 * value, layers=1)
    plus = edit(lambda value, call: value + 1, layers=1)
    with torch.no_grad():
        with tiny.capture([MIDDLE]) as clean:
            tiny.module(**batch)
        with tiny.capture([MIDDLE]) as outside, tiny.intervene(double), tiny.intervene(plus):
            tiny.module(**batch)
        with tiny.intervene(double, plus), tiny.capture([MIDDLE]) as inside:
            tiny.module(**batch)
        with tiny.intervene(plus), tiny.intervene(double), tiny.capture([MIDDLE]) as other:
            tiny.module(**batch)
    value = clean[MIDDLE][0]
    assert torch.equal(outside[MIDDLE][0], 2 * value + 1)
    assert torch.equal(inside[MIDDLE][0], 2 * value + 1)
    assert torch.equal(other[MIDDLE][0], 2 * (value + 1))


def test_what_is_read_is_what_the_model_goes_on_with(tiny) -> None:
    batch = tiny.tokenize(["a fire"]).batch([0])
    following = Site("resid_pre", 2)
    with torch.no_grad(), tiny.capture([MIDDLE, following]) as found:
        with tiny.intervene(edit(lambda value, call: value + 1, layers=1)):
            tiny.module(**batch)
    assert torch.equal(found[MIDDLE][0], found[following][0])


def test_the_same_intervention_twice_acts_twice_and_ends_in_its_own_order(tiny) -> None:
    batch = tiny.tokenize(["a fire"]).batch([0])
    double = edit(lambda value, call: 2 * value, layers=1)
    plus = edit(lambda value, call: value + 1, layers=1)

    def run() -> torch.Tensor:
        with torch.no_grad(), tiny.capture([MIDDLE]) as found:
            tiny.module(**batch)
        return found[MIDDLE][0]

    clean = run()
    with tiny.intervene(double, plus):
        with tiny.intervene(double):
            assert torch.equal(run(), 2 * (2 * clean + 1))
        assert torch.equal(run(), 2 * clean + 1)
    assert torch.equal(run(), clean)


def test_blocks_that_end_in_another_order_leave_nothing(tiny, count_hooks) -> None:
    first = tiny.hooks.attached(edits=[(MIDDLE, lambda value, call: value)])
    second = tiny.hooks.attached(reads=[(Site("z", 0), lambda value, call: None)])
    first.__enter__()
    second.__enter__()
    assert count_hooks(tiny) == 3  # two sites and the entry
    first.__exit__(None, None, None)
    assert tiny.hooks.active == (Site("z", 0),)
    second.__exit__(None, None, None)
    assert count_hooks(tiny) == 0


@pytest.mark.parametrize("failing", ["edit", "read", "body", "stop"])
def test_no_hook_is_left_after_an_exception(tiny, count_hooks, failing: str) -> None:
    def fail(*_: object) -> None:
        raise Stop if failing == "stop" else ZeroDivisionError

    edits = [(MIDDLE, fail)] if failing in ("edit", "stop") else [(MIDDLE, lambda v, c: v)]
    reads = [(MIDDLE, fail)] if failing == "read" else []
    batch = tiny.tokenize(["a fire"]).batch([0])

    def run_attached() -> None:
        with tiny.hooks.attached(edits=edits, reads=reads):
            tiny.module(**batch)
            fail()

    with pytest.raises((ZeroDivisionError, Stop)), torch.no_grad():
        run_attached()
    assert count_hooks(tiny) == 0
    assert tiny.hooks._lock.acquire(blocking=False)
    tiny.hooks._lock.release()


def test_an_unknown_site_attaches_nothing(tiny, count_hooks) -> None:
    pairs = [(MIDDLE, lambda v, c: v), (Site("resid_post", 9), lambda v, c: v)]
    with pytest.raises(HookNotFoundError, match=r"blocks\.9\.hook_resid_post"):
        with tiny.hooks.attached(edits=pairs):
            pass
    assert count_hooks(tiny) == 0


def calls_of(model: HookedModel, **inputs: object) -> Call:
    seen: list[Call] = []
    with torch.no_grad(), model.hooks.attached(reads=[(MIDDLE, lambda v, c: seen.append(c))]):
        model.module(**inputs)
    return seen[-1]


def test_positions_count_in_each_text_on_either_side_of_the_padding(tiny) -> None:
    tokens = tiny.tokenize(["abcd", "xy"])
    left = calls_of(tiny, **tokens.batch([0, 1], side="left"))
    right = calls_of(tiny, **tokens.batch([0, 1], side="right"))
    assert left.mask.tolist() == [[True] * 4, [False, False, True, True]]
    assert right.mask.tolist() == [[True] * 4, [True, True, False, False]]
    assert left.positions[left.mask].tolist() == right.positions[right.mask].tolist()
    assert left.positions[left.mask].tolist() == [0, 1, 2, 3, 0, 1]
    bare = calls_of(tiny, input_ids=tokens.batch([0])["input_ids"])
    assert bare.positions.tolist() == [[0, 1, 2, 3]]
    assert bare.mask.all()


def test_positions_are_found_from_the_mask_where_none_are_given(tiny) -> None:
    batch = tiny.tokenize(["abcd", "xy"]).batch([0, 1], side="left")
    del batch["position_ids"]
    call = calls_of(tiny, **batch)
    assert call.positions[call.mask].tolist() == [0, 1, 2, 3, 0, 1]


def test_a_cached_generation_of_hugging_face_tells_where_the_prompt_ends(tiny) -> None:
    seen: list[Call] = []
    batch = tiny.tokenize(["abcd", "xy"]).batch([0, 1], side="left")
    del batch["position_ids"]
    with tiny.hooks.attached(reads=[(MIDDLE, lambda v, c: seen.append(c))]):
        tiny.module.generate(**batch, max_new_tokens=3, do_sample=False, eos_token_id=None)
    assert [call.prompt_lengths.tolist() for call in seen[:1]] == [[4, 2]]
    assert [call.positions[:, -1].tolist() for call in seen] == [[3, 1], [4, 2], [5, 3]]


def test_beams_know_their_texts(tiny) -> None:
    seen: list[Call] = []
    tokens = tiny.tokenize(["abcd", "xy"])
    batch = tokens.batch([0, 1], side="left")
    del batch["position_ids"]
    lengths = torch.from_numpy(tokens.lengths)
    reads = [(MIDDLE, lambda v, c: seen.append(c))]
    with tiny.hooks.attached(reads=reads), tiny.hooks.prompts(lengths):
        tiny.module.generate(**batch, max_new_tokens=2, num_beams=3, do_sample=False)
    assert seen[-1].prompt_lengths.tolist() == [4, 4, 4, 2, 2, 2]
    assert seen[-1].rows.tolist() == [0, 0, 0, 1, 1, 1]


def test_a_batch_that_does_not_fit_the_prompts_is_refused(tiny) -> None:
    batch = tiny.tokenize(["abc", "abd", "abe"]).batch(range(3))
    reads = [(MIDDLE, lambda v, c: None)]
    with pytest.raises(ValueError, match="batch has 3 rows, but hooks were told of 2"):
        with tiny.hooks.attached(reads=reads), tiny.hooks.prompts(torch.tensor([3, 3])):
            tiny.module(**batch)


def test_a_module_that_is_no_language_model_has_no_positions() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.Linear(2, 2)

        def forward(self, board: torch.Tensor) -> torch.Tensor:
            hidden = board.float()
            for _ in range(3):
                hidden = self.cell(hidden)
            return hidden

    model = HookedModel(Net(), sites={"cell": "cell"})
    seen: list[Call] = []
    board = torch.ones(5, 4, 3, 2, dtype=torch.int64)  # integers, but no token ids
    with model.hooks.attached(reads=[(Site("cell"), lambda v, c: seen.append(c))]):
        model.module(board)
        model.module(board)
    assert [call.index for call in seen] == [0, 1, 2, 0, 1, 2]
    assert all(call.positions is None and call.mask is None for call in seen)
    with model.intervene(edit(lambda value, call: 0 * value, site="cell")):
        assert not model.module(board).any()
    with model.intervene(add(torch.ones(2), site="cell")), model.capture("cell") as found:
        model.module(board)
    assert len(found[Site("cell")]) == 3


def test_sites_that_are_tuples_are_edited_in_place_of_their_item() -> None:
    net = nn.LSTM(3, 4, batch_first=True)
    model = HookedModel(net, sites={"hidden": ""})
    with torch.no_grad():
        _, state = net(torch.ones(2, 5, 3))
        with model.intervene(edit(lambda value, call: value + 1, site="hidden")):
            edited, same_state = net(torch.ones(2, 5, 3))
        plain, _ = net(torch.ones(2, 5, 3))
    assert torch.equal(edited, plain + 1)
    assert torch.equal(state[0], same_state[0])


def test_two_threads_with_different_interventions_do_not_mix(tiny) -> None:
    prompts = ["a fire", "tea"]
    vectors = {name: torch.full((16,), size) for name, size in (("up", 9.0), ("down", -9.0))}

    def run(name: str) -> tuple[str, torch.Tensor]:
        with tiny.intervene(add(vectors[name], layers=1)):
            values = extract(tiny, prompts, layers=2).values
            return generate(tiny, prompts, max_new_tokens=4).tokens, values

    expected = {name: run(name) for name in vectors}
    results: dict[str, list] = {name: [] for name in vectors}
    threads = [
        threading.Thread(target=lambda n=name: [results[n].append(run(n)) for _ in range(5)])
        for name in vectors
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert expected["up"][0] != expected["down"][0]
    for name, found in results.items():
        assert len(found) == 5
        for tokens, values in found:
            assert tokens == expected[name][0]
            assert torch.equal(values, expected[name][1])


def test_capture_keeps_copies_and_reduces_on_request(tiny) -> None:
    batch = tiny.tokenize(["a fire"]).batch([0])
    with torch.no_grad(), tiny.capture("blocks.1.hook_resid_post") as found:
        tiny.module(**batch)
        tiny.module(**batch)
    first, second = found[MIDDLE]
    assert torch.equal(first, second)
    first.zero_()
    assert second.any()
    with torch.no_grad(), tiny.capture([MIDDLE], keep=lambda value: value.sum()) as sums:
        tiny.module(**batch)
    torch.testing.assert_close(sums[MIDDLE][0], second.sum())
