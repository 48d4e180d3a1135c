"""The study: resumed where it stopped, refused where it is another, conclusions on known rows."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from interp import HookedModel
from steering import Instruction, Item, StudyConfig, StudyResult, load_datasets, run_study
from steering.reliability import REVERSED_INSTRUCTIONS, DataSet, fitted_config

CONFIG = StudyConfig(
    types=("prefilled", "statement"),
    layers=(1,),
    n_train=10,
    n_validation=0,
    n_test=10,
    n_predict=10,
    n_shots=2,
    choice_coefficients=(-1.0, 1.0),
    n_null=5,
)


def lettered(name: str, n: int = 40) -> DataSet:
    text = "{}?\n (A) one {}\n (B) two {}"
    answers = [("(A)", "(B)"), ("(B)", "(A)")]
    items = tuple(
        Item(
            question=text.format(f"{name}{k}", k, k),
            matching=answers[k % 2][0],
            not_matching=answers[k % 2][1],
        )
        for k in range(n)
    )
    instruction = Instruction(positive="You like it.", negative="You hate it.")
    return DataSet(name=name, items=items, instruction=instruction)


def test_study_goes_on_where_it_stopped(llama: HookedModel, tmp_path: Path) -> None:
    datasets, seen = [lettered("x"), lettered("y")], []

    def stop_at_the_third(row: dict[str, object]) -> None:
        seen.append((row["dataset"], row["type"]))
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(llama, datasets, tmp_path, config=CONFIG, on_result=stop_at_the_third)
    rest: list[tuple[object, object]] = []
    result = run_study(
        llama,
        datasets,
        tmp_path,
        config=CONFIG,
        on_result=lambda row: rest.append((row["dataset"], row["type"])),
    )
    assert seen[:2] == [("x", "statement"), ("y", "statement")]
    assert len(rest) == 1
    assert len(result.rows) == 4
    assert not set(seen) & set(rest)
    again = run_study(llama, datasets, tmp_path, config=CONFIG)
    assert [row["statement_slope"] for row in again.rows] == [
        row["statement_slope"] for row in result.rows
    ]
    assert len(result.cosines().to_frame()) == 4
    assert json.loads(json.dumps(result.to_dict()))["checks"]["n_datasets"] == 2
    assert result.by_type()["wins"].sum() == 4
    with pytest.raises(ValueError, match="differs in config"):
        run_study(llama, datasets, tmp_path, config=StudyConfig())


def test_a_small_data_set_and_a_wrong_type_are_named(llama: HookedModel, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"data set 'x' \(8 items\)"):
        run_study(llama, [lettered("x", 8)], tmp_path, config=CONFIG)
    with pytest.raises(ValueError, match=r"types \['prefiled'\]"):
        StudyConfig(types=("prefiled",))
    with pytest.raises(ValueError, match="even and 10 or more"):
        StudyConfig(n_train=9)


def rows(n: int = 24, seed: int = 0) -> tuple[dict[str, object], ...]:
    """Rows in which d' predicts the slope and the pairwise cosine does not."""
    random, made = np.random.default_rng(seed), []
    for k in range(n):
        d, slope_noise = float(random.uniform(1, 5)), float(random.normal(0, 0.05))
        measures = {
            "d'": d,
            "AUROC": 0.9,
            "mean cosine": float(random.normal()),
            "pairwise cosine": float(random.normal()),
        }
        value = {"value": 0.1 * d + slope_noise, "low": 0.0, "high": 1.0}
        anti = {"value": 0.5 - 0.1 * d, "low": 0.0, "high": 1.0}
        for name, factor in (("statement", 1.0), ("prefilled", 0.5)):
            scaled = {key: factor * x for key, x in value.items()}
            made.append(
                {"dataset": f"set {k}", "type": name, "lettered": k % 2 == 0}
                | {"statement_slope": scaled, "choice_slope": scaled}
                | {"statement_anti": anti, "choice_anti": anti, "random_slope": 0.0}
                | {"verdict": "steerable", "choice_verdict": "undecided"}
                | {"permuted_coherent": k == 0, "layer": 1}
                | {"held_out": measures, "in_sample": measures, "few": measures, "seconds": 1.0}
            )
    return tuple(made)


def test_conclusions_on_rows_whose_truth_is_known(tmp_path: Path) -> None:
    result = StudyResult(rows=rows(), folder=tmp_path)
    table = result.predictors(types=["statement"]).set_index(["predictor", "target"])
    assert table.loc[("d'", "slope"), "rho_low"] > 0.5
    assert table.loc[("d'", "anti"), "rho_high"] < -0.5
    assert (
        table.loc[("mean cosine", "slope"), "rho_low"]
        < 0
        < table.loc[("mean cosine", "slope"), "rho_high"]
    )
    out = result.out_of_sample().set_index("predictor")
    assert out.loc["d'", "r2_low"] > 0.3
    assert out.loc["pairwise cosine", "r2"] < 0.1
    verdicts = result.verdicts().set_index("type")
    assert verdicts.loc["statement", "steerable"] == 24
    assert verdicts.loc["statement", "permuted pairs incoherent"] == pytest.approx(23 / 24)
    assert result.verdicts("choice")["undecided"].sum() == 48
    counts = result.ranks()
    assert counts.loc["statement", 1] == 24
    checks = result.checks()
    assert checks["positive"] == 1.0
    assert checks["above_random"] == 1.0
    assert result.plot_types().data
    assert result.plot_predictors().data
    assert len(result.plot_scatter().data[0].x) == 24
    with pytest.raises(ValueError, match="no vectors in"):
        result.cosines()
    with pytest.raises(ValueError, match="was not run"):
        result.of_type("5-shot")


def test_published_values_are_compared_by_rank(tmp_path: Path) -> None:
    ours = StudyResult(rows=rows(), folder=tmp_path)
    published = [
        {
            "dataset": row["dataset"],
            "mean_per_sample_steerability": row["choice_slope"]["value"] ** 3,  # type: ignore[index]
            "frac_anti_steerable": -row["choice_slope"]["value"],  # type: ignore[index]
        }
        for row in ours.of_type("prefilled")
    ]
    frame = ours.against_published(published).set_index("pair")
    assert frame.loc["steerability: published, ours", "rho"] == pytest.approx(1.0)
    assert frame.loc["published: steerability, anti-steerable", "rho"] == pytest.approx(-1.0)


def test_published_table_has_its_rank_correlation(data_dir: Path) -> None:
    from steering.statistics import spearman

    table = json.loads((data_dir / "mwe/published_llama2_7b_chat_layer13.json").read_text())
    x = [row["mean_per_sample_steerability"] for row in table]
    assert spearman(x, [row["frac_anti_steerable"] for row in table]) == pytest.approx(
        -0.85, abs=0.03
    )


def test_folders_and_files_become_data_sets(tmp_path: Path) -> None:
    row = {
        "question": "Q?",
        "answer_matching_behavior": " Yes",
        "answer_not_matching_behavior": "No",
    }
    for name in ("b/kind.jsonl", "a/bold.jsonl"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(json.dumps(row))
    name = REVERSED_INSTRUCTIONS[0]
    (tmp_path / f"b/{name}.jsonl").write_text(json.dumps(row))
    prompts = {"kind": {"positive": "Be kind.", "negative": "Be unkind."}}
    prompts[name] = {"positive": "Fear.", "negative": "Do not fear."}
    (tmp_path / "persona_prompts.json").write_text(json.dumps(prompts))
    sets = {data.name: data for data in load_datasets(tmp_path)}
    assert set(sets) == {"kind", "bold", name}
    assert sets[name].instruction == Instruction(positive="Do not fear.", negative="Fear.")
    assert sets["kind"].instruction == Instruction(positive="Be kind.", negative="Be unkind.")
    assert sets["bold"].instruction is None
    assert load_datasets(tmp_path / "a/bold.jsonl")[0].name == "bold"
    with pytest.raises(ValueError, match="no file of items"):
        load_datasets(tmp_path / "c")


def test_items_without_options_are_left_out_and_the_rest_is_run(
    llama: HookedModel, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = lettered("x")
    broken = [Item(question=f"{k}?\n (A)\n (B)", matching="(A)", not_matching="(B)") for k in "ab"]
    data = DataSet(name="x", items=(*broken, *whole.items))
    config = replace(CONFIG, types=("statement",))
    expected = run_study(llama, [whole], tmp_path / "whole", config=config).rows[0]
    found = run_study(llama, [data], tmp_path / "broken", config=config).rows[0]
    assert found["statement_slopes"] == expected["statement_slopes"]
    assert "2 items without options" in caplog.text


def test_types_read_together_are_as_each_alone(llama: HookedModel, tmp_path: Path) -> None:
    types = ("prefilled_5-shot", "5-shot")
    config = replace(CONFIG, types=types, choice_coefficients=(0.0, 1.0))
    together = run_study(llama, [lettered("x")], tmp_path / "all", config=config)
    row = together.of_type("5-shot")[0]
    config = replace(config, types=("5-shot",))
    single = run_study(llama, [lettered("x")], tmp_path / "one", config=config).rows[0]
    np.testing.assert_allclose(single["choice_slopes"], row["choice_slopes"], atol=1e-4)
    assert single["strength"] == pytest.approx(row["strength"], rel=1e-4)
    assert single["held_out"]["d'"] == pytest.approx(row["held_out"]["d'"], rel=1e-3)


def test_sizes_fit_the_smallest_data_set(llama: HookedModel) -> None:
    assert fitted_config(llama, [lettered("x", 200)]) == StudyConfig()
    small = fitted_config(llama, [lettered("x", 200), lettered("y", 40)], layers=(2, 1))
    assert (small.layers, small.n_validation, small.n_predict) == ((2,), 0, 25)
    middling = fitted_config(llama, [lettered("x", 80)])
    assert middling.layers == ()
    assert 10 <= middling.n_validation < middling.n_test < middling.n_train < 50
    for n in range(22, 130, 4):  # whatever is given out fits
        config = fitted_config(llama, [lettered("x", n)])
        needed = config.n_train + config.n_validation + config.n_test + config.n_shots
        assert needed + config.n_shots % 2 <= n
    with pytest.raises(ValueError, match=r"'x' has 20 items with .* needs 22"):
        fitted_config(llama, [lettered("x", 20)])


def test_the_layer_is_the_one_with_the_largest_slope_on_validation_items(
    llama: HookedModel, tmp_path: Path
) -> None:
    config = replace(CONFIG, types=("statement",), layers=(1, 2), n_validation=10)
    result = run_study(llama, [lettered("x"), lettered("y")], tmp_path, config=config)
    found = json.loads((tmp_path / "layer.json").read_text())
    means = {k: np.mean([slopes[k] for slopes in found["slopes"].values()]) for k in ("1", "2")}
    assert str(found["layer"]) == max(means, key=lambda k: means[k])
    assert {row["layer"] for row in result.rows} == {found["layer"]}
