"""Ablations: every arm gets the same CPU time; one table with intervals over the seeds.

    python examples/ablations/run.py

What is there already is not made again: a broken-off run goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from arms import GROUPS, Arm  # noqa: E402
from costs import costs_of_updates  # noqa: E402
from material import CORPORA, LLMS, own_answers, seconds_of_own_answers  # noqa: E402
from pipeline import Command, CommandFailed, run_together  # noqa: E402
from recipe import Recipe  # noqa: E402
from results import read_scores, write_json  # noqa: E402
from summary import draw, summary  # noqa: E402

from sparqle_fairseq.files import read_json  # noqa: E402

ALL = "all"
OWN = "{own}"  # stands for what the LLM writes; its time counts as training of stage 2
TRAINED = "trained"  # an empty file beside a stage 1 that came to its end
# Options that stage 2 refuses without a stage 1.
USE_STAGE1 = {"--compress-queries", "--freeze-qformer", "--query-windows"}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder of everything it makes; default build/ablations/DATA")
    parser.add_argument(
        "--data",
        choices=sorted(CORPORA),
        default="demo",
        help="the demo's corpus, human recordings, or these behind a pre-trained LLM",
    )
    parser.add_argument("--group", choices=[ALL, *sorted(GROUPS)], default=ALL, help="which arms")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="each has its own data and models")
    parser.add_argument(
        "--llm", choices=sorted(LLMS), help="an ordinary LM (plain), or the demo's, which --data demo has"
    )
    parser.add_argument("--seconds", type=float, default=120, help="CPU seconds of training, both stages together")
    parser.add_argument("--stage1-share", type=float, default=1 / 3, help="share of them that stage 1 gets")
    parser.add_argument("--end-share", type=float, default=1 / 4, help="share of them that a last part of its own gets")
    parser.add_argument("--arms", nargs="+", help="only these arms of the group")
    args = parser.parse_args()
    corpus = CORPORA[args.data]
    args.llm = args.llm or corpus.llms[0]
    if args.group not in (ALL, *corpus.groups) or args.llm not in corpus.llms:
        parser.error(
            f"--data {args.data} goes with --group {'|'.join(corpus.groups)} and --llm {'|'.join(corpus.llms)}"
        )
    groups = {name: GROUPS[name] for name in (corpus.groups if args.group == ALL else (args.group,))}
    known = dict.fromkeys(arm.name for group in groups.values() for arm in group)
    unknown = [name for name in args.arms or () if name not in known]
    if unknown:
        parser.error(f"no such arm: {', '.join(unknown)}; {args.group} has {', '.join(known)}")
    if args.arms:
        groups = {name: tuple(arm for arm in group if arm.name in args.arms) for name, group in groups.items()}
    try:
        Ablations(args, {name: group for name, group in groups.items() if group}).run()
    except CommandFailed as error:
        sys.exit(f"error: {error}")


class Ablations:
    """Trains and scores the arms of `groups` on every seed as `args` say."""

    def __init__(self, args: argparse.Namespace, groups: Mapping[str, Sequence[Arm]]) -> None:
        self.args, self.groups = args, groups
        self.arms = {arm.name: arm for group in groups.values() for arm in group}.values()
        self.corpus = CORPORA[args.data]
        self.out: Path = args.out or Path("build/ablations") / args.data
        self.started = time.monotonic()

    def run(self) -> None:
        for seed in self.args.seeds:
            self.corpus.prepare(self.data(seed), seed, self.args.llm, self.started)
        costs = self.costs()
        scores: dict[str, list[dict[str, float]]] = {arm.name: [] for arm in self.arms}
        for seed in self.args.seeds:
            for arm in self.arms:
                scores[arm.name].append(self.train_and_score(arm, seed, costs))
        for name, group in self.groups.items():
            self.show(name, {arm.name: scores[arm.name] for arm in group}, costs)
        if len(self.groups) > 1:
            self.show(ALL, scores, costs)

    def show(self, name: str, scores: dict[str, list[dict[str, float]]], costs: dict[str, tuple[float, float]]) -> None:
        """A table and a picture of some arms."""
        columns, parts = self.columns()
        table = summary(scores, costs, self.args.seconds, columns, parts)
        path = self.folder / f"{name}.txt"
        path.write_text(table + "\n", encoding="utf-8")
        draw(scores, path.with_suffix(".png"), columns)
        print(f"\n{name}\n{table}\n\n{path}, {path.with_suffix('.png')}")

    def columns(self) -> tuple[dict[str, str], dict[str, str]]:
        """Titles of the scores of the main table, and of those that a mean in it is made of."""
        titles = {score: title for score, (_, _, title) in self.corpus.scores.items()}
        parts = {part: titles.pop(part) for own, _ in self.corpus.means.values() for part in own}
        means = {score: title for score, (_, title) in self.corpus.means.items()}
        errors = {score: titles.pop(score) for score in list(titles) if self.corpus.scores[score][1] == "wer"}
        return titles | means | errors, parts

    @property
    def folder(self) -> Path:
        """What was trained with this LM; arms are theirs, whatever groups they are in."""
        path = self.out / str(self.args.llm)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def data(self, seed: int) -> Path:
        return self.out / f"seed{seed}"

    def recipe(self, arm: Arm, seed: int, out: Path, updates: tuple[int, int]) -> Recipe:
        data = self.data(seed)
        llm = data / LLMS[self.args.llm]

        named = {"{llm}": llm, OWN: own_answers(self.args.llm)}

        def filled(options: Sequence[object]) -> tuple[object, ...]:
            return tuple(named.get(option, option) for option in options)

        recipe = self.corpus.recipe(data, seed)
        return replace(
            recipe,
            features=recipe.audio if arm.hears else recipe.features,
            out=out,
            llm=llm,
            stage1_updates=updates[0],
            stage2_updates=updates[1],
            threads=1,
            stage1_options=(*(() if arm.own_shape else self.corpus.shape), *arm.shape, *filled(arm.stage1 or ())),
            stage2_options=(*self.corpus.stage2, *filled(arm.stage2)),
        )

    def costs(self) -> dict[str, tuple[float, float]]:
        """CPU seconds of an update of each stage, for the arms that are asked for; measured once, on the first seed.

        An arm that goes on from another comes last: the other is trained for its updates to be measured.
        """
        path = self.folder / "costs.json"
        known: dict[str, tuple[float, float]] = read_json(path) if path.exists() else {}
        wanted = {one.name: one for arm in self.arms for one in (arm.after, arm) if one is not None}.values()
        for goes_on in (False, True):
            new = [arm for arm in wanted if (arm.after is not None) == goes_on and arm.name not in known]
            if new:
                known |= self.measured(new, known)
                write_json(path, known)
        return known

    def measured(self, new: Sequence[Arm], known: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        """Costs of arms that are new, measured beside one that is known, whose seconds are the measure.

        Stage 1 first: some arms have to train it before their stage 2 can be measured.
        """
        arms = {arm.name: arm for group in self.corpus.groups for arm in GROUPS[group]}
        beside = next((arm for arm in arms.values() if not arm.after and known.get(arm.name, (0,))[0]), None)
        both = [*new, *([beside] if beside else [])]

        def scaled(found: dict[str, float], stage: int) -> dict[str, float]:
            scale = known[beside.name][stage] / found[beside.name] if beside else 1
            return {name: scale * value for name, value in found.items()}

        place = self.folder / "cost"
        stage1 = {
            self.first_of(arm).name: self.recipe(arm, self.args.seeds[0], place, (1, 1)).stage1().words
            for arm in both
            if arm.stage1 is not None
        }
        found = costs_of_updates(stage1) if stage1 else {}
        first = scaled({arm.name: found[self.first_of(arm).name] for arm in both if arm.stage1 is not None}, 0)
        costs = {**known, **{arm.name: (first.get(arm.name, 0.0), 0.0) for arm in new}}
        second = scaled(costs_of_updates({arm.name: self.stage2_words(arm, costs) for arm in both}), 1)
        return {arm.name: (first.get(arm.name, 0.0), second[arm.name]) for arm in new}

    def stage2_words(self, arm: Arm, costs: dict[str, tuple[float, float]]) -> Sequence[object]:
        """A stage 2 of the arm on the first seed, behind what costs as much as a trained adapter."""
        seed = self.args.seeds[0]
        recipe = self.recipe(arm, seed, self.folder / "cost" / arm.name.replace(" ", "_"), (1, 1))
        if arm.after is not None:  # its updates hang on what the adapter answers by then
            self.go_on_from(arm, seed, recipe, costs)
        elif USE_STAGE1 & {*arm.shape, *arm.stage2, *self.corpus.stage2}:  # and these on what it spells
            self.train_stage1(arm, seed, replace(recipe, stage1_updates=self.updates_of_stage1(arm, costs)))
        else:  # a new adapter costs the same
            return self.recipe(replace(arm, stage1=None), seed, recipe.out, (1, 1)).stage2(pretrained=False).words
        return recipe.stage2().words

    def train_and_score(self, arm: Arm, seed: int, costs: dict[str, tuple[float, float]]) -> dict[str, float]:
        out = self.folder / arm.name.replace(" ", "_") / f"seed{seed}"
        done = out / "scores.json"
        if done.exists():
            return read_json(done)
        recipe, counts = self.train(arm, seed, out, costs)
        tested = replace(recipe, audio=self.corpus.test(self.data(seed)))
        for split, metric, _ in self.corpus.scores.values():
            command = tested.generate(split, scoring="wer" if metric == "wer" else "sacrebleu")
            self.call(replace(command, words=[*command.words, *self.corpus.generation, *arm.generation]))
        results = read_scores({split: recipe.hypotheses(split) for split, _, _ in self.corpus.scores.values()})
        found = {score: results[split][metric].value for score, (split, metric, _) in self.corpus.scores.items()}
        found |= {score: mean(found[part] for part in parts) for score, (parts, _) in self.corpus.means.items()}
        found |= counts
        write_json(done, found)
        print(f"{arm.name}, seed {seed}: {found}", flush=True)
        return found

    def train(
        self, arm: Arm, seed: int, out: Path, costs: dict[str, tuple[float, float]], cut: float = 0.0
    ) -> tuple[Recipe, dict[str, int]]:
        """Both stages of an arm into `out`, in its time less the share `cut`; how many updates of what it had."""
        out.mkdir(parents=True, exist_ok=True)
        updates = self.updates(arm, seed, costs, cut)
        recipe = self.recipe(arm, seed, out, updates)
        if arm.after is not None:
            self.go_on_from(arm, seed, recipe, costs)
            before = self.updates(arm.after, seed, costs, self.args.end_share)
            counts = {"stage1_updates": before[0], "stage2_updates": before[1], "end_updates": updates[1]}
        else:
            if arm.stage1 is not None:
                self.train_stage1(arm, seed, recipe)
            counts = {"stage1_updates": updates[0], "stage2_updates": updates[1]}
        self.call(recipe.stage2(pretrained=arm.stage1 is not None))
        return recipe, counts

    def updates(self, arm: Arm, seed: int, costs: dict[str, tuple[float, float]], cut: float) -> tuple[int, int]:
        """How many updates of each stage go into the time of an arm less the share `cut`."""
        second, seconds = costs[arm.name][1], self.args.seconds
        if arm.after is not None:
            return 0, max(1, round(seconds * self.args.end_share / second))
        share = 0.0 if arm.stage1 is None else self.args.stage1_share
        spent = seconds_of_own_answers(self.data(seed), self.args.llm) if OWN in arm.stage2 else 0.0
        if (left := seconds * (1 - share - cut) - spent) < second:
            raise CommandFailed(
                f"{arm.name}: the LLM wrote its answers for {spent:.0f} s, and no time is left; raise --seconds"
            )
        return self.updates_of_stage1(arm, costs), round(left / second)

    def updates_of_stage1(self, arm: Arm, costs: dict[str, tuple[float, float]]) -> int:
        return 0 if arm.stage1 is None else round(self.args.seconds * self.args.stage1_share / costs[arm.name][0])

    def go_on_from(self, arm: Arm, seed: int, recipe: Recipe, costs: dict[str, tuple[float, float]]) -> None:
        """What `arm.after` comes to before the last part, trained once for all arms that go on from it.

        `recipe.out` / "stage1", where stage 2 looks for its start, leads to it.
        """
        place = self.folder / f"{arm.after.name} before the end".replace(" ", "_") / f"seed{seed}"
        if not (place / "stage2" / TRAINED).exists():
            self.train(arm.after, seed, place, costs, self.args.end_share)
            (place / "stage2" / TRAINED).touch()
        _lead(recipe.out / "stage1", place / "stage2")

    def first_of(self, arm: Arm) -> Arm:
        """The first arm with the same stage 1, which is measured and trained once for all that have it."""
        arms = (other for group in self.corpus.groups for other in GROUPS[group])
        return next(other for other in arms if _stage1(other) == _stage1(arm))

    def train_stage1(self, arm: Arm, seed: int, recipe: Recipe) -> None:
        """Stage 1 of an arm, where no other arm has trained it; `recipe.out` / "stage1" holds it or leads to it."""
        place = self.folder / self.first_of(arm).name.replace(" ", "_") / f"seed{seed}"
        if not (place / "stage1" / TRAINED).exists():
            self.call(replace(recipe, out=place).stage1())
            (place / "stage1" / TRAINED).touch()
        if place != recipe.out:
            _lead(recipe.out / "stage1", place / "stage1")

    def call(self, command: Command) -> None:
        run_together([command], self.started)


def _lead(link: Path, target: Path) -> None:
    """Make `link` lead to a folder that another arm has made."""
    if not link.exists():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target.resolve())


def _stage1(arm: Arm) -> tuple[object, ...]:
    """What stage 1 of an arm is made of."""
    return arm.stage1, arm.shape, arm.own_shape, arm.hears


if __name__ == "__main__":
    main()
