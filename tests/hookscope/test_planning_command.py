import json
from pathlib import Path

import pytest

from hookscope.cli import main
from interp.planning.agents import export_agent
from interp.planning.drc import Drc, DrcConfig
from interp.planning.generation import GenerationConfig, generate_levels
from interp.planning.training import save_snapshot


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained agent and levels of its size."""
    root = tmp_path_factory.mktemp("planning")
    config = DrcConfig(depth=1, ticks=2, channels=4, size=(4, 4), d_hidden=8)
    (root / "run" / "snapshots").mkdir(parents=True)
    save_snapshot(Drc(config), root / "run" / "snapshots", 0)
    (root / "run" / "curve.jsonl").write_text("")
    export_agent(root / "run", root / "agent", config=config, snapshots=[0], training={})
    shape = GenerationConfig(size=(4, 4), distance=(3, 16), wall_share=(0.1, 0.25))
    levels = generate_levels(16, config=shape, seed=0)
    (root / "levels.txt").write_text(levels.to_text())
    (root / "train.txt").write_text(generate_levels(8, config=shape, seed=1).to_text())
    return root


def call(folder: Path, what: str, *options: str, levels: str = "levels.txt") -> tuple[int, dict]:
    result = folder / "result.json"
    result.unlink(missing_ok=True)
    paths = ["--levels", str(folder / levels), "--agent", str(folder / "agent")]
    status = main(["planning", what, *paths, "--json", str(result), "--limit", "4", *options])
    return status, json.loads(result.read_text()) if result.exists() else {}


def test_play_gives_solve_rates_with_intervals(folder, capsys) -> None:
    status, result = call(folder, "play", "--think", "0", "1", "--check", "--n-levels", "6")
    assert status == 0
    assert [row["think_steps"] for row in result["solve_rates"]] == [0, 1]
    assert len(result["solved"]) == 6
    assert "solve_rate" in capsys.readouterr().out


def test_probe_stands_beside_its_controls(folder) -> None:
    status, result = call(folder, "probe", "--train", str(folder / "train.txt"), "--n-levels", "6")
    assert status == 0
    subjects = {row["subject"] for row in result["all_episodes"]["probes"]}
    assert {"layer 0", "observation", "untrained 0", "shuffled labels"} <= subjects


def test_intervene_has_every_part_and_the_random_control(folder) -> None:
    status, result = call(folder, "intervene", "--train", str(folder / "train.txt"))
    assert status == 0
    assert result["n_with_two_ways"] > 0
    rows = result["interventions"]
    assert {row["part"] for row in rows} == {"nothing", "short", "directed", "both"}
    assert {row["vector"] for row in rows} == {"nothing", "probe", "random"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("####\n#@$#\n####\n", "line 1, column 1: the level has 1 boxes but 0 targets"),
        ("######\n#@$.@#\n######\n", "line 2, column 5: a second player"),
        ("#####\n#@$.#\n#####\n", "the agent plays (4, 4)"),
        ("######\n#@  .#\n#    #\n#   $#\n#    #\n######\n", ""),
        ("######\n#$  .#\n#   @#\n#    #\n#    #\n######\n", "level 0: no solution found"),
    ],
)
def test_bad_levels_are_named(text: str, message: str, folder, capsys) -> None:
    (folder / "bad.txt").write_text(text)
    status, _ = call(folder, "play", "--check", levels="bad.txt")
    assert status == (2 if message else 0)
    assert message in capsys.readouterr().err


def test_without_levels_new_ones_of_the_agents_size_are_made(folder) -> None:
    result = folder / "new.json"
    options = ["--agent", str(folder / "agent"), "--n-levels", "3", "--limit", "2"]
    assert main(["planning", "play", *options, "--think", "0", "--json", str(result)]) == 0
    assert json.loads(result.read_text())["n_levels"] == 3


def test_the_limit_is_the_agents_own_unless_given(folder) -> None:
    info = json.loads((folder / "agent" / "info.json").read_text())
    limited = info | {"training": {"solve_rate": {"limit": 3}}}
    (folder / "limited").mkdir()
    (folder / "limited" / "info.json").write_text(json.dumps(limited))
    weights = "000000000000.safetensors"
    (folder / "limited" / weights).write_bytes((folder / "agent" / weights).read_bytes())
    result = folder / "own.json"
    paths = ["--levels", str(folder / "levels.txt"), "--agent", str(folder / "limited")]
    assert main(["planning", "play", *paths, "--think", "0", "--json", str(result)]) == 0
    assert json.loads(result.read_text())["limit"] == 3


def test_emergence_follows_the_snapshots(folder) -> None:
    options = ("--train", str(folder / "train.txt"), "--think", "0", "1", "--n-levels", "6")
    status, result = call(folder, "emergence", *options)
    assert status == 0
    assert {row["transitions"] for row in result["emergence"]} == {0}
    assert {row["concept"] for row in result["emergence"]} == {"agent_approach", "box_push"}


def test_unseen_boards_have_solve_rates_where_the_agent_can_play(folder) -> None:
    options = ("--train", str(folder / "train.txt"), "--n-levels", "4")
    status, result = call(folder, "unseen", *options)
    assert status == 0
    assert {row["case"] for row in result["unseen"]} > set(result["solve_rates"])
    assert {row["subject"] for row in result["unseen"]} == {"layer 0", "observation"}
