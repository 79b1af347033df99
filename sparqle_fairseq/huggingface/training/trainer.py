"""transformers' `Trainer` that takes the steps of fairseq's.

What differs from the usual one, all of it fairseq's: the loss is summed, and the gradient is divided, once, by how much
was counted in all batches of an update and in all processes; dropout is drawn anew by (seed, update), so that a resumed
run draws what it would have drawn; weight decay holds for every parameter; rows come in the order of `batches`.
Validation adds up counts over batches and processes, and gives the scores of the plugin.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback
from transformers.trainer_utils import EvalLoopOutput
from transformers.training_args import OptimizerNames

from sparqle_fairseq.data.dataset import SpeechDataset
from sparqle_fairseq.errors import SparqleError
from sparqle_fairseq.gather import sum_over_ranks, world_size
from sparqle_fairseq.huggingface.training.arguments import Run
from sparqle_fairseq.huggingface.training.batches import EpochBatches, EpochLoader, WithStandIns
from sparqle_fairseq.huggingface.training.optimizer import UncorrectedEpsilonAdamW
from sparqle_fairseq.huggingface.training.stage import Stage
from sparqle_fairseq.scoring.metrics import BLEU_METRIC
from sparqle_fairseq.scoring.running import TextScores

_ADAMW = (OptimizerNames.ADAMW_TORCH, OptimizerNames.ADAMW_TORCH_FUSED)


class _DrawByUpdate(TrainerCallback):
    """Random numbers of an update depend on the seed and its number alone."""

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        torch.manual_seed(args.seed + state.global_step)


class SparqleTrainer(Trainer):
    """Trains a `Stage`.

    Args:
        stage: model, loss and data.
        run: the options.
        callbacks: more of them.
    """

    def __init__(self, stage: Stage, run: Run, callbacks: list[TrainerCallback] | None = None) -> None:
        self.stage, self.run = stage, run
        valid: dict[str, Any] = {name: WithStandIns(rows) for name, rows in stage.valid_sets.items()}
        super().__init__(
            model=stage.model,
            args=run.training,
            data_collator=stage.collate,
            train_dataset=WithStandIns(stage.train_set),
            eval_dataset=(valid if len(valid) > 1 else next(iter(valid.values()), None)),
            callbacks=[_DrawByUpdate(), *(callbacks or [])],
            optimizer_cls_and_kwargs=self._optimizer(run.training),
        )
        self._summed = self._new_sum()

    @staticmethod
    def _optimizer(args: Any) -> tuple[type[torch.optim.Optimizer], dict[str, Any]] | None:
        if not args.adam_epsilon_before_correction or args.optim not in _ADAMW:
            return None
        betas = (args.adam_beta1, args.adam_beta2)
        named = {"lr": args.learning_rate, "betas": betas, "eps": args.adam_epsilon, "weight_decay": args.weight_decay}
        return UncorrectedEpsilonAdamW, named

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        return [name for name, _ in model.named_parameters()]

    # ---- data

    def _loader(self, rows: SpeechDataset, sampler: EpochBatches) -> DataLoader[Any]:
        args = self.args
        return EpochLoader(
            WithStandIns(rows),
            batch_sampler=sampler,
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
            pin_memory=args.dataloader_pin_memory and torch.cuda.is_available(),
        )

    def _batches(self, rows: SpeechDataset, size: int, order: str) -> EpochBatches:
        return EpochBatches(
            rows,
            size,
            multiple=self.run.data.required_batch_size_multiple,
            order=order,
            seed=self.args.seed if self.args.data_seed is None else self.args.data_seed,
            accumulated=self.args.gradient_accumulation_steps,
            rank=self.args.process_index,
            world=self.args.world_size,
        )

    def get_train_dataloader(self) -> DataLoader[Any]:
        rows = self.stage.train_set
        return self._loader(rows, self._batches(rows, self._train_batch_size, self.args.train_sampling_strategy))

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        sets: Any = self.eval_dataset
        chosen: Any = sets if eval_dataset is None else eval_dataset
        if isinstance(chosen, str):
            chosen = sets[chosen]
        if chosen is None:
            raise SparqleError("there is nothing to validate on; name a manifest with valid_subset")
        return self._loader(chosen.dataset, self._batches(chosen.dataset, self.args.eval_batch_size, "fairseq"))

    # ---- a step

    def _new_sum(self) -> dict[str, Any]:
        return {"loss": 0.0, "size": 0.0, "scale": None}

    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Forward and backward of one batch; the loss of the update when its last batch comes, and before that 0."""
        model.train()
        batch = self._prepare_inputs(inputs)
        self._tell_update()
        with self.compute_loss_context_manager():
            found = self.stage.loss(model, batch)
        self.accelerator.backward(found.loss)
        self._summed["loss"] += found.loss.detach()
        self._summed["size"] += found.size
        if not self.accelerator.gradient_state.sync_gradients:
            return torch.zeros((), device=self.args.device)
        size = torch.as_tensor(self._summed["size"], dtype=torch.float32, device=self.args.device)
        total = sum_over_ranks(size)
        # DDP has divided the gradient by the number of processes; the log takes the mean over them.
        scale = world_size() / torch.where(total == 0, torch.ones_like(total), total)
        loss = (self._summed["loss"] * scale).detach()
        self._summed = {**self._new_sum(), "scale": scale}
        return loss

    def _divide_gradients(self, model: nn.Module) -> None:
        scale = self._summed["scale"]
        assert scale is not None
        torch._foreach_mul_([p.grad for p in model.parameters() if p.grad is not None], scale)
        self._summed["scale"] = None

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        self._divide_gradients(model)
        return super()._clip_grad_norm(model)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        if grad_norm is None:
            self._divide_gradients(model)
        norm = super()._get_grad_norm(model, grad_norm)
        if self.accelerator.scaler is None and not torch.isfinite(torch.as_tensor(norm)):
            raise SparqleError(
                f"update {self.state.global_step + 1}: the gradient is not finite; lower learning_rate, or look at the "
                "data of the batches before"
            )
        return norm

    def _tell_update(self) -> None:
        """The model's masks and negatives are drawn by the number of updates."""
        self.stage.model.num_updates = self.state.global_step

    def floating_point_ops(self, inputs: Any) -> int:
        return 0  # not counted: most of them are of frozen parts

    # ---- validation

    @torch.no_grad()
    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Loss, accuracies and scores of a whole split, whatever its batches and processes."""
        model = self.stage.model
        self._tell_update()
        model.eval()
        sums: dict[str, float] = {}
        for inputs in dataloader:
            batch = self._prepare_inputs(inputs)
            with self.compute_loss_context_manager():
                log = {name: float(value) for name, value in self.stage.loss(model, batch).log.items()}
            if self.run.data.eval_generate and batch["active"]:
                log |= self._text_scores(self.stage.texts(batch), batch).as_log()
            for name, value in log.items():
                sums[name] = sums.get(name, 0.0) + value
        sums = _added_over_processes(sums)
        found = self.stage.metrics(sums)
        if self.run.data.eval_generate:
            found |= text_metrics(TextScores.added([sums]))
        named = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        rows: Any = dataloader.dataset
        nothing: Any = None
        return EvalLoopOutput(predictions=nothing, label_ids=None, metrics=named, num_samples=len(rows))

    def _text_scores(self, texts: list[str], batch: Mapping[str, Any]) -> TextScores:
        tasks = batch["task"] if self.stage.answers else ["transcription"] * len(texts)
        return TextScores.of(texts, batch["reference"], tasks, batch["language"], self.run.data.bleu_tokenizer)

    # ---- checkpoints

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """The adapter and what goes with it; the options are in a file of their own, and not in a pickle."""
        super()._save(output_dir, state_dict)
        folder = output_dir or str(self.args.output_dir)
        if self.args.should_save:
            self.stage.save(folder)
            os.unlink(os.path.join(folder, "training_args.bin"))

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        missing = [name for name in load_result.missing_keys if name.startswith("adapter.")]
        if found := [*missing, *load_result.unexpected_keys]:
            raise SparqleError(
                f"the checkpoint is not one of this model: {found[0]} is {'missing' if missing else 'unknown'}; give "
                "the options that it was trained with"
            )


def text_metrics(found: TextScores) -> dict[str, float]:
    """`wer`, `cer` and `bleu` (in percent), of what there is text to score."""
    metrics = {name: 100 * wrong / length for name, (wrong, length) in found.errors.items() if length}
    if found.translated_tokens:
        metrics["bleu"] = BLEU_METRIC.value(torch.tensor(found.bleu).numpy())
    if found.without_reference:
        metrics["without_reference"] = found.without_reference
    return metrics


def _added_over_processes(sums: dict[str, float]) -> dict[str, float]:
    if world_size() == 1:
        return sums
    gathered: list[Any] = [None] * world_size()
    dist.all_gather_object(gathered, sums)
    names = dict.fromkeys(name for part in gathered for name in part)
    return {name: sum(part.get(name, 0.0) for part in gathered) for name in names}
