"""The training loop: language modelling on conversations, and a contrastive loss on what will be captured.

Everything drawn by chance follows from the seed and the number of the step, so a run that was stopped goes on from its
checkpoint as if it had not been.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from tokenizers import Tokenizer
from torch import Tensor

from . import vocabulary
from .batches import Batch, Coder, Pairs, Source
from .network import RecallTiny, Shape

TEMPERATURE = 0.07
LOG_EVERY = 50
# what Muon does not take: the embedding and the norms
_ADAM_RATE = 3e-3


@dataclass(frozen=True)
class Plan:
    """A training run."""

    steps: int = 10000
    tokens: int = 4096
    pairs: int = 64
    contrast_weight: float = 0.5
    contrast_every: int = 4
    rate: float = 4e-3
    warmup: int = 150
    seed: int = 1
    easy_until: float = 0.1125
    full_from: float = 0.3375

    def ease(self, step: int) -> float:
        """1.0 at first, 0.0 from `full_from` of the run on."""
        done = step / self.steps
        return min(1.0, max(0.0, (self.full_from - done) / (self.full_from - self.easy_until)))

    def factor(self, step: int) -> float:
        """Of the learning rate: a warm-up, then a cosine down to a hundredth."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


class Training:
    """A run in a directory: vocabulary, checkpoint and log lie there.

    Raises:
        ValueError: the directory holds a run of another plan or shape.
    """

    def __init__(self, directory: Path, plan: Plan, shape: Shape, tokenizer: Tokenizer, device: str) -> None:
        self.directory = directory
        self.plan = plan
        self.device = device
        torch.manual_seed(plan.seed)
        self.model = RecallTiny(shape).to(device)
        hidden = [p for name, p in self.model.named_parameters() if p.ndim == 2 and name != "token_embd.weight"]
        others = [p for name, p in self.model.named_parameters() if p.ndim != 2 or name == "token_embd.weight"]
        muon = torch.optim.Muon(hidden, lr=plan.rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
        adam = torch.optim.AdamW(others, lr=_ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.0)
        self.optimizers: tuple[torch.optim.Optimizer, ...] = (muon, adam)
        self._rates = (plan.rate, _ADAM_RATE)
        pieces = vocabulary.pieces(tokenizer)
        self.source = Source(Coder(tokenizer), pieces, plan.seed, plan.tokens, plan.pairs, shape.n_ctx)
        self.step = 0
        self.pool, self.pool_began = 0, 0
        self.seconds = 0.0

    # -- the loop

    def run(self, console: Console, until: int | None = None, save_every: float = 120.0) -> None:
        """Train up to the last step, or up to `until`; the checkpoint is written every `save_every` seconds."""
        last = min(self.plan.steps, until or self.plan.steps)
        started, saved = time.monotonic() - self.seconds, time.monotonic()
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
                   TimeElapsedColumn(), TimeRemainingColumn())  # fmt: skip
        losses: list[tuple[float, float, float]] = []
        with Progress(*columns, console=console, speed_estimate_period=600) as progress:
            bar = progress.add_task("training", total=last, completed=self.step)
            while self.step < last:
                for batch in self._rest_of_pool():
                    losses.append(self._one(batch))
                    self.step += 1
                    self.seconds = time.monotonic() - started
                    progress.update(bar, completed=self.step, description=f"loss {losses[-1][0]:.4f}")
                    if self.step % LOG_EVERY == 0:
                        self._log(losses)
                        losses = []
                    if self.step == last:
                        break
                    if time.monotonic() - saved > save_every:
                        self.save()
                        saved = time.monotonic()
                else:
                    self.pool, self.pool_began = self.pool + 1, self.step
        self.save()

    def _rest_of_pool(self) -> Iterator[Batch]:
        batches = self.source.batches(self.pool, self.plan.ease(self.pool_began))
        return itertools.islice(batches, self.step - self.pool_began, None)

    def _one(self, batch: Batch) -> tuple[float, float, float]:
        factor = self.plan.factor(self.step)
        for optimizer, rate in zip(self.optimizers, self._rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
        self.model.train()
        ids, weights = batch.ids.to(self.device), batch.weights.to(self.device)
        with torch.autocast(self.device, dtype=torch.bfloat16):
            logits = self.model(ids[:, :-1])
        each = F.cross_entropy(logits.float().flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        flat = weights.flatten()
        loss = (each * flat).sum() / flat.sum()
        answers = flat == 1.0
        answer_loss = float((each.detach() * answers).sum() / answers.sum().clamp(min=1))
        contrast = 0.0
        if self.plan.contrast_weight and self.step % self.plan.contrast_every == 0:
            contrastive = self._contrastive(self.source.contrast(self.step))
            contrast = float(contrastive.detach())
            loss = loss + self.plan.contrast_weight * contrastive
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return answer_loss, float((each.detach() * flat).sum() / flat.sum()), contrast

    def _contrastive(self, pairs: Pairs) -> Tensor:
        """InfoNCE both ways; another memory of the same key is no negative."""
        with torch.autocast(self.device, dtype=torch.bfloat16):
            questions = self.model.encode(pairs.questions.to(self.device), pairs.question_mask.to(self.device))
            memories = self.model.encode(pairs.memories.to(self.device), pairs.memory_mask.to(self.device))
        scores = questions.float() @ memories.float().T / TEMPERATURE
        own = torch.eye(len(scores), dtype=torch.bool, device=self.device)
        scores = scores.masked_fill(pairs.same.to(self.device) & ~own, -1e4)
        target = torch.arange(len(scores), device=self.device)
        return (F.cross_entropy(scores, target) + F.cross_entropy(scores.T, target)) / 2

    def _log(self, losses: list[tuple[float, float, float]]) -> None:
        answer, weighted, contrast = (sum(column) / len(losses) for column in zip(*losses, strict=True))
        contrast *= self.plan.contrast_every
        row = {"step": self.step, "seconds": round(self.seconds), "ease": round(self.plan.ease(self.step), 3),
               "answer_loss": round(answer, 5), "loss": round(weighted, 5), "contrast": round(contrast, 4)}  # fmt: skip
        with (self.directory / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")

    # -- checkpoints: plain arrays, nothing that runs when it is read

    def save(self) -> None:
        arrays = {f"model/{name}": tensor for name, tensor in self.model.state_dict().items()}
        arrays |= dict(self._optimizer_tensors())
        path = self.directory / "checkpoint.npz"
        partial = path.with_suffix(".part.npz")
        state: dict[str, object] = {"step": self.step, "seconds": self.seconds, "pool": self.pool}
        state["pool_began"] = self.pool_began
        state |= self._identity()
        described = np.frombuffer(json.dumps(state).encode(), np.uint8)
        np.savez(partial, state=described, **{name: t.detach().cpu().numpy() for name, t in arrays.items()})
        partial.replace(path)

    def resume(self) -> bool:
        """Go on from the directory's checkpoint; False where there is none."""
        path = self.directory / "checkpoint.npz"
        if not path.exists():
            return False
        with np.load(path, allow_pickle=False) as arrays:
            state = json.loads(arrays["state"].tobytes())
            if {name: state[name] for name in self._identity()} != self._identity():
                raise ValueError(f"{path} belongs to a run with other settings; give another --directory")
            self.model.load_state_dict({n[6:]: torch.from_numpy(arrays[n]) for n in arrays.files if n[:6] == "model/"})
            self._restore_optimizers(
                {n: torch.from_numpy(arrays[n]) for n in arrays.files if n.startswith("optimizer")}
            )
        self.step, self.seconds = state["step"], state["seconds"]
        self.pool, self.pool_began = state["pool"], state["pool_began"]
        return True

    def _identity(self) -> dict[str, object]:
        return {"plan": asdict(self.plan), "shape": asdict(self.model.shape)}

    def _optimizer_tensors(self) -> Iterator[tuple[str, Tensor]]:
        for number, optimizer in enumerate(self.optimizers):
            for parameter, values in optimizer.state_dict()["state"].items():
                for name, value in values.items():
                    yield f"optimizer{number}/{parameter}/{name}", value

    def _restore_optimizers(self, tensors: dict[str, Tensor]) -> None:
        for number, optimizer in enumerate(self.optimizers):
            state = optimizer.state_dict()
            for key, value in tensors.items():
                which, parameter, name = key.split("/")
                if which == f"optimizer{number}":
                    state["state"].setdefault(int(parameter), {})[name] = value
            optimizer.load_state_dict(state)
