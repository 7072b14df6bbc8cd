"""The comparison with vLLM, as far as it goes without vLLM."""

import ast
import sys
from pathlib import Path

import pytest

from benchmarks import vllm
from benchmarks.support import sides
from benchmarks.support.random_qwen import make_requests
from benchmarks.support.sides import Run

REQUESTS = make_requests(16, (16, 128), (30, 60))


def test_without_its_environment_it_says_how_to_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sides, "PEERS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["vllm"])
    with pytest.raises(SystemExit, match="run `make peers` first"):
        vllm.main()


def test_an_environment_that_was_not_finished_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sides, "PEERS", tmp_path)
    (tmp_path / "bin").mkdir()
    with pytest.raises(sides.PeerMissing):
        sides.require_vllm()
    (tmp_path / "ready").touch()
    sides.require_vllm()


def test_the_batches_ask_for_the_tokens_that_the_figures_reckon_with() -> None:
    tokens = [[asked.new_tokens for asked in batch] for batch in vllm.plain_batches(REQUESTS)]
    few, many = vllm.FEW, vllm.MANY
    own = [asked.new_tokens for asked in REQUESTS]
    assert tokens == [[few] * 16, own, [1] * 16, [few] * 16, [many] * 16, [few], [many]]


def test_only_the_questions_about_the_image_share_it() -> None:
    warm_up, first, others = vllm.again_batches(REQUESTS)
    assert {id(asked.image) for asked in others} == {id(first[0].image)}
    assert id(first[0].image) not in {id(asked.image) for asked in warm_up}
    assert len({asked.prompt for asked in (*first, *others)}) == 1 + vllm.QUESTIONS


def test_a_step_is_the_difference_of_runs_by_their_tokens() -> None:
    steps = vllm.MANY - vllm.FEW
    plain = [9.0, 8.0, 1.0, 2.0, 2.0 + steps * 0.03, 0.5, 0.5 + steps * 0.02]
    figures = vllm.figures(REQUESTS, plain, [9.0, 9.0, 2.0])
    tokens = sum(asked.new_tokens for asked in REQUESTS)
    assert figures.rate == pytest.approx(tokens / 8)
    assert figures.prefills == 1.0
    assert figures.step_of_16 == pytest.approx(30)
    assert figures.step_of_1 == pytest.approx(20)
    assert figures.rate_again == pytest.approx(vllm.QUESTIONS * vllm.QUESTION_TOKENS / 2)


def test_of_the_rounds_each_batch_counts_at_its_fastest() -> None:
    rounds = [[Run(3.0), Run(1.0)], [Run(2.0), Run(4.0)]]
    assert vllm.fastest(rounds) == [2.0, 1.0]


def test_the_table_has_the_ratios_of_ours_to_vllm() -> None:
    ours = vllm.Figures(100.0, 2.0, 60.0, 30.0, 300.0)
    other = vllm.Figures(80.0, 1.0, 40.0, 30.0, 200.0)
    assert vllm.table("In process", ours, other).splitlines() == [
        "In process",
        "",
        "| | ours | vLLM | ours / vLLM |",
        "|---|---|---|---|",
        "| tokens/s | 100.0 | 80.0 | x1.25 |",
        "| 16 prefills, s | 2.00 | 1.00 | x2.00 |",
        "| a step of 16 rows, ms | 60.0 | 40.0 | x1.50 |",
        "| a step of 1 row, ms | 30.0 | 30.0 | x1.00 |",
        "| asked again, tokens/s | 300.0 | 200.0 | x1.50 |",
    ]


def test_both_sides_get_the_same_batches_with_the_same_caches(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: dict[str, list[tuple[int, bool]]] = {"ours": [], "vllm": []}

    def side(name: str, slower: float) -> sides.Side:
        def answer(batches: list[sides.Batch], caches: bool) -> list[Run]:
            asked[name].append((len(batches), caches))
            return [
                Run(slower * sum(one.new_tokens for one in batch), (7,) * len(batch))
                for batch in batches
            ]

        return answer

    vllm.compare("Title", side("ours", 2.0), side("vllm", 1.0), REQUESTS, rounds=2)
    assert asked["ours"] == asked["vllm"] == [(7, False), (3, True)] * 2
    printed = capsys.readouterr().out
    assert "x0.50" in printed
    assert "x2.00" in printed


def test_prompts_of_other_lengths_are_no_comparison() -> None:
    with pytest.raises(RuntimeError, match="288"):
        vllm.check_prompts([Run(1.0, (288, 242))], [Run(1.0, (288, 256))])


def test_answers_of_other_lengths_are_no_comparison() -> None:
    with pytest.raises(RuntimeError, match="3 tokens"):
        sides.exactly(REQUESTS[0], 3)


def test_the_last_line_that_the_program_prints_is_its_runs() -> None:
    printed = 'a warning\n[{"seconds": 1.5, "prompt_tokens": [288]}]\n'
    assert sides.parsed(printed) == [Run(1.5, (288,))]


def test_the_program_for_its_environment_imports_nothing_of_the_project() -> None:
    tree = ast.parse(sides.PROGRAM.read_text("utf-8"))
    names = {
        name
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert names <= {*sys.stdlib_module_names, "vllm"}
