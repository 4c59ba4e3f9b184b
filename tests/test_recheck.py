"""The recheck: what luck looks like is not called a find, what helps everywhere is, and a killed one continues."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from interruptions import cut_in_epoch
from test_distributed import Meeting

import lmsearch
from lmsearch.cli import main
from lmsearch.config import compose_settings
from lmsearch.engine.checkpoint import ModelSpec, load_checkpoint
from lmsearch.engine.digest import digest_of
from lmsearch.engine.distributed import World
from lmsearch.search.trust.recheck import SUPERNETS, fresh_advantage, recheck_recipe
from lmsearch.settings.tasks import Search
from lmsearch.tasks.parts.build import build_recipe
from lmsearch.tasks.parts.recheck import read_alike, stored_supernets

QUICK = ["search=darts", "data=planted", "data.grid=4", "model.d_state=2", "epochs=2", "search.health_every=0"]
TINY = [*QUICK, "data.steps_per_epoch=2", "batch_size=256", "model.embed_dim=8"]
PLANTED = [  # few but large steps, after which alphas have left uniform and the choice beats random ones
    *QUICK, "data.direction=w2", "data.steps_per_epoch=5", "batch_size=128", "optim.lr=0.02", "search.alpha_lr=0.2", "seed=1",
    "search.recheck=0.15",
]  # fmt: skip
CHOICES, SAMPLES = 16, 256


def losses(effect: float, luck: float, *, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw losses in which the derived choice is better by `effect`, and the luck of weights moves every choice by `luck`."""
    rng = torch.Generator().manual_seed(seed)
    standing = luck * torch.randn(SUPERNETS, CHOICES + 1, 1, generator=rng)
    drawn = 1 + standing + 0.1 * torch.randn(SUPERNETS, CHOICES + 1, SAMPLES, generator=rng)
    return drawn[:, 0] - effect, drawn[:, 1:]


def test_z_is_standard_normal_where_nothing_but_luck_differs() -> None:
    z = torch.tensor([fresh_advantage(*losses(0.0, 0.3, seed=s))[1] for s in range(400)])
    assert abs(z.mean()) < 0.2 and 0.9 < z.std() < 1.2


def test_the_luck_of_few_weights_is_no_advantage_however_many_samples_there_are() -> None:
    """Every sample of one supernet may agree that a choice is better; only another supernet can say that it was luck."""
    derived, random = losses(0.0, 1.0, seed=3)
    within = (random.mean(1) - derived)[0]
    assert abs(within.mean() / (within.std() / SAMPLES**0.5)) > 10
    assert abs(fresh_advantage(derived, random)[1]) < 3


def test_an_advantage_in_every_supernet_is_one() -> None:
    advantage, z = fresh_advantage(*losses(0.5, 0.1, seed=0))
    assert advantage == pytest.approx(0.5, abs=0.2) and z > 4


def test_random_choices_that_differ_by_what_directions_are_worth_are_but_a_sample() -> None:
    """Nothing but luck decides how good 16 choices are on average, so an average choice may not look better than they."""
    z = []
    for seed in range(400):
        rng = torch.Generator().manual_seed(seed)
        worth = torch.randn(CHOICES, 1, generator=rng)
        random = worth + 0.01 * torch.randn(SUPERNETS, CHOICES, SAMPLES, generator=rng)
        z.append(fresh_advantage(0.01 * torch.randn(SUPERNETS, SAMPLES, generator=rng), random)[1])
    assert abs(torch.tensor(z).mean()) < 0.2 and 0.85 < torch.tensor(z).std() < 1.2


def test_equal_choices_have_no_advantage() -> None:
    assert fresh_advantage(torch.ones(2, 8), torch.ones(2, CHOICES, 8)) == (0.0, 0.0)


@pytest.mark.parametrize(("share", "keep", "epochs"), [(0.25, 8, 3), (0.25, 4, 6), (0.25, 1, 24), (0.001, 4, 1)])
def test_every_direction_trains_in_the_asked_share_of_steps(share: float, keep: int, epochs: int) -> None:
    recipe = build_recipe(compose_settings(Search, []))  # 12 epochs, 2 of them warm-up
    found = recheck_recipe(recipe, share, candidates=8, keep=keep)
    assert found.epochs == epochs
    assert found.warmup_epochs == pytest.approx(epochs / 6)


def test_a_search_without_recheck_is_never_called_ok_and_leaves_no_supernets(tmp_path: Path) -> None:
    assert main(["search", *TINY, "search.recheck=0", f"run_dir={tmp_path}"]) == 0
    health = lmsearch.load_genotype(tmp_path).health
    assert health["status"] in ("indeterminate", "unconfirmed") and "recheck_z" not in health
    assert not list(tmp_path.glob("recheck*"))


@pytest.fixture(scope="module")
def rechecked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search that passed all tests inside its own supernet, and was rechecked."""
    run_dir = tmp_path_factory.mktemp("recheck") / "run"
    assert main(["search", *PLANTED, f"run_dir={run_dir}"]) == 0
    assert "recheck_z" in lmsearch.load_genotype(run_dir).health
    return run_dir


def test_a_search_that_failed_before_is_not_rechecked(tmp_path: Path) -> None:
    assert main(["search", *TINY, f"run_dir={tmp_path}"]) == 0
    assert lmsearch.load_genotype(tmp_path).health["status"] == "indeterminate"
    assert not list(tmp_path.glob("recheck*"))


def test_an_interrupted_recheck_continues_to_the_same_genotype(rechecked: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "cut"
    shutil.copytree(rechecked, run_dir, ignore=shutil.ignore_patterns("recheck*", "genotype*"))
    epochs = load_checkpoint(rechecked / "recheck0.pt")["epoch"]
    with cut_in_epoch(epochs + 2):
        main(["search", *PLANTED, f"run_dir={run_dir}"])
    assert not (run_dir / "genotype.json").exists()
    assert [load_checkpoint(run_dir / f"recheck{n}.pt")["epoch"] for n in (0, 1)] == [epochs, 1]
    assert main(["search", *PLANTED, f"run_dir={run_dir}"]) == 0
    assert (run_dir / "genotype.json").read_bytes() == (rechecked / "genotype.json").read_bytes()


def test_a_supernet_that_cannot_be_read_is_trained_again(
    rechecked: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(rechecked, run_dir, ignore=shutil.ignore_patterns("genotype*", "recheck1-*"))
    for name in ("recheck0.pt", "recheck1.pt"):
        (run_dir / name).write_bytes((run_dir / name).read_bytes()[:-9])
    with cut_in_epoch(None) as epochs:
        assert main(["search", *PLANTED, f"run_dir={run_dir}"]) == 0
    last = load_checkpoint(rechecked / "recheck1.pt")["epochs"] - 1
    assert epochs == [last, *range(last + 1)], "the first goes on from an older state, of the second there is none"
    assert "recheck1.pt: not a readable checkpoint" in caplog.text and "of the recheck is trained again" in caplog.text
    for name in ("genotype.json", "recheck0.pt", "recheck1.pt"):
        assert same(run_dir / name, rechecked / name)


def same(one: Path, other: Path) -> bool:
    """Tell whether two files hold the same but for times."""
    if one.suffix != ".pt":
        return one.read_bytes() == other.read_bytes()
    return digest_of(load_checkpoint(one) | {"train_s": 0.0}) == digest_of(load_checkpoint(other) | {"train_s": 0.0})


def test_supernets_of_another_search_are_not_taken_for_ones_own(rechecked: Path, tmp_path: Path) -> None:
    run_dir, other = tmp_path / "run", [*PLANTED, "optim.lr=0.015"]
    shutil.copytree(rechecked, run_dir, ignore=shutil.ignore_patterns("checkpoint*.pt", "genotype*"))
    assert main(["search", *other, f"run_dir={run_dir}"]) == 0
    assert main(["search", *other, f"run_dir={tmp_path / 'alone'}"]) == 0
    assert "recheck_z" in lmsearch.load_genotype(run_dir).health
    assert (run_dir / "genotype.json").read_bytes() == (tmp_path / "alone" / "genotype.json").read_bytes()


def test_a_search_that_was_not_rechecked_can_be_later(rechecked: Path, tmp_path: Path) -> None:
    words = ["search", *PLANTED, f"run_dir={tmp_path}"]
    assert main([*words, "search.recheck=0"]) == 0
    trained = (tmp_path / "checkpoint.pt").stat().st_mtime_ns
    assert lmsearch.load_genotype(tmp_path).health["status"] == "unconfirmed"
    assert main(words) == 0
    assert (tmp_path / "checkpoint.pt").stat().st_mtime_ns == trained
    assert (tmp_path / "genotype.json").read_bytes() == (rechecked / "genotype.json").read_bytes()
    assert main([*words, "search.recheck=0"]) == 0, "what the recheck told stays known"
    assert (tmp_path / "genotype.json").read_bytes() == (rechecked / "genotype.json").read_bytes()


def test_derive_rechecks_with_the_supernets_that_the_search_left(rechecked: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(rechecked, run_dir)
    derive = ["derive", f"checkpoint={run_dir}", "health=true"]
    assert main([*derive, f"run_dir={tmp_path / 'again'}"]) == 0
    first, again = (lmsearch.load_genotype(folder).health for folder in (run_dir, tmp_path / "again"))
    assert first["status"] == again["status"]
    assert first["recheck_z"] == pytest.approx(again["recheck_z"], rel=1e-3)
    longer = load_checkpoint(run_dir / "recheck1.pt") | {"epoch": 99, "epochs": 99}
    torch.save(longer, run_dir / "recheck1.pt")  # as if a longer recheck had been interrupted
    assert main([*derive, f"run_dir={tmp_path / 'mixed'}"]) == 0
    assert lmsearch.load_genotype(tmp_path / "mixed").health["status"] == "unconfirmed"
    (run_dir / "recheck1.pt").write_bytes(b"damaged")  # of one supernet alone nothing can be told
    assert main([*derive, f"run_dir={tmp_path / 'half'}"]) == 0
    assert lmsearch.load_genotype(tmp_path / "half").health["status"] == "unconfirmed"


def test_the_first_supernet_of_a_longer_recheck_counts_beside_the_second_of_a_shorter(rechecked: Path, tmp_path: Path) -> None:
    """So it is where the longer one ended early."""

    def found() -> int:
        search = load_checkpoint(rechecked / "checkpoint.pt")
        spec = ModelSpec.from_dict(search["spec"], source="checkpoint.pt")
        device = torch.device("cpu")
        return len(list(stored_supernets(tmp_path, spec, search["digest"], backend="auto", device=device)))

    for number in range(SUPERNETS):
        shutil.copy(rechecked / f"recheck{number}.pt", tmp_path)
    assert found() == SUPERNETS
    first = load_checkpoint(tmp_path / "recheck0.pt")
    torch.save(first | {"epoch": 99, "epochs": 99}, tmp_path / "recheck0.pt")
    assert found() == 1
    torch.save(first | {"epoch": 98, "epochs": 99}, tmp_path / "recheck0.pt")
    assert found() == 0


def test_supernets_that_not_all_processes_can_read_are_one_line() -> None:
    def read(world: World) -> list[torch.nn.Module]:
        return list(read_alike(iter([torch.nn.Identity()] + [torch.nn.LayerNorm(1)] * (1 - world.rank)), world))

    for error in Meeting(2).run(read):
        assert str(error).startswith("a supernet of the recheck of process ")


def test_overwriting_a_search_leaves_no_supernets_of_another_behind(rechecked: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    shutil.copytree(rechecked, run_dir)
    assert main(["search", *TINY, f"run_dir={run_dir}", "overwrite=true"]) == 0
    assert not list(run_dir.glob("recheck*"))
