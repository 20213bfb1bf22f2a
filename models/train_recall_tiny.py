"""Train the embedded model from nothing: ``python models/train_recall_tiny.py`` writes ``models/recall-tiny.gguf``.

The text it learns from is generated here (`models/recall_tiny`), and so is the vocabulary. A run lives in one directory
and goes on from its checkpoint when started again with the same options; `--until` stops it early, for training in
pieces. With a GPU it takes minutes, on two CPU cores hours. Needs the extra `train`.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "models")]

import torch  # noqa: E402
from recall_tiny import export, reference, vocabulary  # noqa: E402
from recall_tiny.dialogues import Dialogues  # noqa: E402
from recall_tiny.network import Shape  # noqa: E402
from recall_tiny.training import Plan, Training  # noqa: E402
from recall_tiny.words import Words  # noqa: E402
from rich.console import Console  # noqa: E402

VOCABULARY_CONVERSATIONS = 20_000


def main(argv: list[str] | None = None) -> int:
    default, shape = Plan(), Shape()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--directory", type=Path, default=ROOT / "build" / "recall-tiny", help="where the run lives")
    parser.add_argument("--output", type=Path, default=ROOT / "models" / "recall-tiny.gguf")
    parser.add_argument("--steps", type=int, default=default.steps)
    parser.add_argument("--tokens", type=int, default=default.tokens, help="padded tokens a step, at most")
    parser.add_argument("--rate", type=float, default=default.rate, help="learning rate")
    parser.add_argument("--contrast-weight", type=float, default=default.contrast_weight)
    parser.add_argument("--seed", type=int, default=default.seed)
    parser.add_argument("--until", type=int, help="stop after this step; start again to go on")
    parser.add_argument("--layers", type=int, default=shape.n_layer)
    parser.add_argument("--width", type=int, default=shape.n_embd)
    parser.add_argument("--heads", type=int, default=shape.n_head)
    parser.add_argument("--ff", type=int, default=shape.n_ff)
    parser.add_argument("--vocabulary", type=int, default=shape.n_vocab)
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quantisation", choices=("f16", "q8_0", "f32"), default="f16")
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    console = Console()
    args.directory.mkdir(parents=True, exist_ok=True)
    known = args.directory / "vocabulary.json"
    if not known.exists():
        console.print(f"a vocabulary of {args.vocabulary} pieces from {VOCABULARY_CONVERSATIONS:,} conversations …")
        dialogues = Dialogues(Words(random.Random(args.seed)))
        texts = (vocabulary.chatml(dialogues.conversation()) for _ in range(VOCABULARY_CONVERSATIONS))
        vocabulary.train(texts, args.vocabulary).save(str(known))
    tokenizer = vocabulary.load(known)
    plan = Plan(
        steps=args.steps, tokens=args.tokens, rate=args.rate, seed=args.seed, contrast_weight=args.contrast_weight
    )
    shape = Shape(tokenizer.get_vocab_size(), args.layers, args.width, args.heads, args.ff)
    training = Training(args.directory, plan, shape, tokenizer, args.device)
    resumed = training.resume()
    parameters = sum(p.numel() for p in training.model.parameters())
    console.print(f"{parameters:,} parameters, {args.device}" + (f", from step {training.step}" if resumed else ""))
    training.run(console, args.until)
    written = export.write(training.model, tokenizer, args.output, args.quantisation, export.training_notes(training))
    console.print(f"{written}: {written.stat().st_size:,} bytes")
    as_kept = export.rounded(training.model, args.quantisation)
    console.print(reference.write(as_kept, tokenizer, written.with_name(f"{written.stem}-logits.json")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
