"""The study: resumed where it stopped, refused where it is another, conclusions on known rows."""

import json
from pathlib import Path

import numpy as np
import pytest

from interp import HookedModel
from steering import Instruction, Item, StudyConfig, StudyResult, load_datasets, run_study
from steering.reliability import DataSet

CONFIG = StudyConfig(
    types=("prefilled", "instruction", "statement"),
    layers=(1, 2),
    n_train=10,
    n_validation=10,
    n_test=10,
    n_predict=10,
    n_shots=2,
    choice_coefficients=(-1.0, 1.0),
    n_null=5,
)


def lettered(name: str, n: int = 40) -> DataSet:
    text = "Which {}?\n\nChoices:\n (A) one {}\n (B) two {}"
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


def test_study_is_resumed_where_it_stopped(llama: HookedModel, tmp_path: Path) -> None:
    datasets, seen = [lettered("x"), lettered("y")], []

    def stop_at_the_fourth(row: dict[str, object]) -> None:
        seen.append((row["dataset"], row["type"]))
        if len(seen) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(llama, datasets, tmp_path, config=CONFIG, on_result=stop_at_the_fourth)
    rest: list[tuple[object, object]] = []
    result = run_study(
        llama,
        datasets,
        tmp_path,
        config=CONFIG,
        on_result=lambda row: rest.append((row["dataset"], row["type"])),
    )
    assert len(rest) == 2
    assert len(result.rows) == 6
    assert not set(seen) & set(rest)
    again = run_study(llama, datasets, tmp_path, config=CONFIG)
    assert [row["statement_slope"] for row in again.rows] == [
        row["statement_slope"] for row in result.rows
    ]
    assert len(result.cosines().to_frame()) == 9
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
    counts = result.ranks()
    assert counts.loc["statement", 1] == 24
    checks = result.checks()
    assert checks["positive"] == 1.0
    assert checks["above_random"] == 1.0
    assert result.plot_types().data
    assert result.plot_predictors().data
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
    prompts = {"kind": {"positive": "Be kind.", "negative": "Be unkind."}}
    (tmp_path / "persona_prompts.json").write_text(json.dumps(prompts))
    sets = {data.name: data for data in load_datasets(tmp_path)}
    assert set(sets) == {"kind", "bold"}
    assert sets["kind"].instruction == Instruction(positive="Be kind.", negative="Be unkind.")
    assert sets["bold"].instruction is None
    assert load_datasets(tmp_path / "a/bold.jsonl")[0].name == "bold"
    with pytest.raises(ValueError, match="no file of items"):
        load_datasets(tmp_path / "c")
