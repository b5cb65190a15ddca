"""Make the seedling: tokenizer, network, weights. Seeded, by step counts, on CPU or CUDA, from local files only.

    apt-get download wordnet-base python3.11-doc dict-jargon dict-devil
    for p in *.deb; do dpkg -x $p prose/${p%%_*}; done
    python -m tools.pretrain_seedling --prose prose --work build/seedling --out src/budwood/seedling \
        --steps 1200 --decay-steps 350

The stable phase may be stopped at any checkpoint; `--resume --steps HERE --decay-steps N` then decays from there.
`--collect DIR` and `--overlap DIR` compare the text with a held-out benchmark (CSV files, first column), `--probe`
measures what came out. Each does only that and stops.
"""

from __future__ import annotations

import argparse
import os
import random
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer
from tools.seedling import blocklist, contamination, probes, vocabulary
from tools.seedling.corpus import TOKENIZER_MIX, Corpus
from tools.seedling.crew import Crew
from tools.seedling.network import Network, Shape
from tools.seedling.schedule import Schedule
from tools.seedling.training import Trainer


def main() -> None:
    args = arguments()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    torch.set_num_threads(args.threads)
    if args.collect:
        collect(args.collect)
    elif args.probe:
        print(probes.report(args.out, args.prose, count=args.probe, device=torch.device(args.device)))
    elif args.overlap:
        overlap(open_trainer(args), args.overlap, args.steps + args.decay_steps)
    else:
        train(open_trainer(args), args)


def open_trainer(args: argparse.Namespace) -> Trainer:
    args.work.mkdir(parents=True, exist_ok=True)
    corpus = Corpus.open(args.prose)
    shape = Shape()
    tokenizer = open_tokenizer(args.work / "tokenizer.json", corpus, shape.vocab_size, args.seed)
    device = torch.device(args.device)
    network = Network(shape, generator=torch.Generator().manual_seed(args.seed)).to(device, torch.bfloat16)
    schedule = Schedule(decay_from=args.steps, decay_steps=args.decay_steps) if args.decay_steps else Schedule()
    return Trainer(network, tokenizer, corpus, schedule, args.seed, args.work, args.out, device, crew=Crew.join())


def open_tokenizer(path: Path, corpus: Corpus, size: int, seed: int) -> Tokenizer:
    """The run's tokenizer; trained on 60,000 documents when there is none."""
    if not path.exists():
        documents = corpus.documents(random.Random(f"{seed}:tokenizer"), TOKENIZER_MIX)
        vocabulary.train(islice(documents, 60_000), size).save(str(path))
    return Tokenizer.from_file(str(path))


def train(trainer: Trainer, args: argparse.Namespace) -> None:
    if args.resume:
        trainer.resume()
        trainer.check_resumed()
    if args.compile:
        trainer.compile()
    if not args.resume:
        trainer.export()  # others can build against the final tokenizer and config from the first minute
    trainer.run(args.steps + args.decay_steps, save_every=args.save_every, export_every=args.export_every)


def collect(benchmark: Path) -> None:
    """Write the fingerprints of the benchmark's rows: no document that holds one is drawn afterwards."""
    rows = contamination.read_rows(benchmark)
    if not rows:
        raise SystemExit(f"{benchmark} has no CSV file with rows: {blocklist.FILE.name} stays as it is")
    print(f"{blocklist.write(blocklist.build(rows), blocklist.FILE)} rows in {blocklist.FILE.name}")


def overlap(trainer: Trainer, benchmark: Path, steps: int) -> None:
    """Walk all rows that training draws, and count what the benchmark holds too."""
    if not benchmark.is_dir():
        print(f"{benchmark} is not here: overlap not measured")
        return
    documents = (
        text
        for step in range(steps)
        for text in trainer.tokenizer.decode_batch(trainer.rows(step).tolist(), skip_special_tokens=False)
    )
    print(contamination.measure(documents, contamination.read_rows(benchmark)).line())


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prose", type=Path, default=Path("build/prose"), help="folder of unpacked packages")
    parser.add_argument("--work", type=Path, default=Path("build/seedling"), help="checkpoint, log and tokenizer of this run")
    parser.add_argument("--out", type=Path, default=Path("src/budwood/seedling"), help="where the transformers form is written")
    parser.add_argument("--steps", type=int, default=1200, help="where the stable phase stops")
    parser.add_argument("--decay-steps", type=int, default=0, help="steps of decay after the stable phase")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --work")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--save-every", type=int, default=50)
    parser.add_argument("--export-every", type=int, default=200)
    parser.add_argument("--collect", type=Path, metavar="DIR", help="renew blocked.txt from the CSV files in DIR")
    parser.add_argument("--overlap", type=Path, metavar="DIR", help="count what the CSV files in DIR share with the text")
    parser.add_argument("--probe", type=int, metavar="N", default=0, help="measure --out on N tasks of each kind")
    return parser.parse_args()


if __name__ == "__main__":
    main()
