"""Fine-tuning a sentence encoder, beside sentence-transformers: same weights, batches, losses and optimizer."""

import tempfile
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import numpy as np

from .harness import peak, run_process
from .report import Table, megabytes
from .sentences import BATCH, banking, encoder, folder, make_job, missing, without_dropout

__all__ = ["build", "measure", "tables"]

THEIRS, OURS, GROUPS = "sentence-transformers", "finetuner", "length_groups=4"
CONTENDERS = [THEIRS, OURS, GROUPS]
JOBS = {
    "classes": ("BatchHardSoftMarginTripletLoss", "TripletLoss"),
    "pairs": ("MultipleNegativesSymmetricRankingLoss", "CLIPLoss"),
    "scores": ("CosineSimilarityLoss", "CosineSimilarityLoss"),
}
NAMES = {"classes": "Banking77, classes", "pairs": "Banking77, pairs", "scores": "STS 2014, scores"}
TEXTS = 512
LENGTHS = [32, 64]  # tokens
STEPS, ROUNDS = 4, 3  # the first step of a training is not measured
SAME = 1e-4  # the largest difference of losses and embeddings
GOALS = {OURS: 1.0, GROUPS: 0.6}
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

NOTE = (
    f"CPU time of a step of MiniLM with 6 layers on the same {BATCH} texts or pairs, in one thread, without dropout. "
    "Tokens: the longest that a text may have. Both use AdamW with weight decay, a linear schedule and a clipped "
    f"gradient. The losses of all steps differ by less than {SAME:g}. They are "
    f"{', '.join(f'{other} and {own}' for other, own in JOBS.values())}. sentence-transformers pads the two sides of "
    f"pairs separately, and finetuner together. A batch has the time of the fastest of {ROUNDS} rounds, since other "
    "load only adds to it. The columns are medians of the batches. Goals: a ratio of at most "
    f"{GOALS[OURS]:g}, and of {GOALS[GROUPS]:g} with `length_groups=4`."
)
MEMORY_NOTE = "The peak of two training steps above the memory before them, in a new process."
EMBED_NOTE = (
    f"CPU time to tokenize and embed {TEXTS} texts of Banking77 in batches of {BATCH}, in one thread. Both sort them "
    f"by length. The embeddings differ by less than {SAME:g}. Goal: a ratio of at most {GOALS[OURS]:g}."
)


Record = list[tuple[float, float]]  # for each step, its loss and the CPU time of the process at its end
Training = Callable[[], Record]


def ours(job: str, length: int, steps: int, groups: int) -> Training:
    """A training by ``finetuner.fit``."""
    import finetuner

    model, collate = encoder(length)
    columns, labels, plan = make_job(job, steps)
    if job == "classes":
        data: Any = finetuner.ClassDataset(columns[0], labels)
        batches = plan
    else:
        data = finetuner.PairDataset(*columns, score=labels)
        batches = [np.stack([2 * batch, 2 * batch + 1], axis=1).reshape(-1) for batch in plan]
    options: dict[str, Any] = {
        "classes": {"distance": "euclidean", "margin": None},
        "pairs": {"temperature": 0.05},
        "scores": {"low": 0, "high": 5},
    }
    record: Record = []

    class Recorder(finetuner.Callback):
        def on_batch_end(self, state: Any) -> None:
            record.append((float(state.device_losses[-1]), time.process_time()))

    def train() -> Record:
        finetuner.fit(
            model,
            data,
            loss=JOBS[job][1],
            loss_options=options[job],
            miner="TripletEasyHardMiner" if job == "classes" else None,  # hard and hard
            optimizer="AdamW",
            learning_rate=2e-5,
            weight_decay=0.01,
            schedule="linear",
            clip_norm=1.0,
            epochs=1,
            sampler=batches,
            length_groups=groups,
            collate_fn=collate,
            callbacks=[Recorder()],
            device="cpu",
        )
        return record

    return train


def theirs(job: str, length: int, steps: int) -> Training:
    """A training by sentence-transformers' own trainer, with its own optimizer and clipping."""
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from sentence_transformers.sentence_transformer import losses
    from transformers import TrainerCallback

    model = without_dropout(SentenceTransformer(folder(), device="cpu"))
    model.max_seq_length = length
    columns, labels, plan = make_job(job, steps)
    table: dict[str, Any] = {f"text{number}": column for number, column in enumerate(columns)}
    if labels is not None:
        table["label"] = [label / 5 for label in labels] if job == "scores" else labels
    loss = getattr(losses, JOBS[job][0])(model)
    record: Record = []
    values: list[float] = []
    loss.register_forward_hook(lambda module, inputs, output: values.append(output.item()))

    class Planned(DefaultBatchSampler):
        def __iter__(self) -> Iterator[list[int]]:
            return iter([batch.tolist() for batch in plan])

        def __len__(self) -> int:
            return len(plan)

    class Recorder(TrainerCallback):
        def on_step_end(self, *arguments: Any, **options: Any) -> None:
            record.append((values[-1], time.process_time()))

    def batch_sampler(dataset: Any, batch_size: int, drop_last: bool, **options: Any) -> Any:
        return Planned(range(len(dataset)), batch_size, drop_last)

    arguments = SentenceTransformerTrainingArguments(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        learning_rate=2e-5,
        weight_decay=0.01,
        batch_sampler=batch_sampler,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = SentenceTransformerTrainer(
        model, arguments, train_dataset=Dataset.from_dict(table), loss=loss, callbacks=[Recorder()]
    )

    def train() -> Record:
        trainer.train()
        return record

    return train


def build(contender: str, job: str, length: int, steps: int = STEPS) -> Any:
    """A training of ``steps`` steps, or for the job ``"embed"`` a function that embeds :data:`TEXTS` texts."""
    if job == "embed":
        texts = banking("test")[0][:TEXTS]
        if contender == THEIRS:
            from sentence_transformers import SentenceTransformer

            model = SentenceTransformer(folder(), device="cpu")
            model.max_seq_length = length
            return lambda: model.encode(texts, batch_size=BATCH, show_progress_bar=False)
        from finetuner.tuner import tuner_class

        model, collate = encoder(length)
        own = tuner_class(model)(model, callbacks=[], device="cpu").encoder
        return lambda: own.embed(texts, collate_fn=collate, batch_size=BATCH)
    if contender == THEIRS:
        return theirs(job, length, steps)
    return ours(job, length, steps, 4 if contender == GROUPS else 1)


def measure(contenders: list[str], job: str, length: int, rounds: int) -> dict[str, Any]:
    """CPU seconds of each step, or of the embedding, in the fastest of all rounds, by contender.

    All take turns, and their results must agree.
    """
    seconds: dict[str, list[Any]] = {name: [] for name in contenders}
    results: dict[str, Any] = {}
    for turn in range(rounds):
        for name in contenders[turn % len(contenders) :] + contenders[: turn % len(contenders)]:
            call = build(name, job, length)
            if job == "embed":
                call()  # to warm up
                start = time.process_time()
                results[name] = call()
                seconds[name].append([time.process_time() - start])
            else:
                losses, ends = zip(*call(), strict=True)
                results[name] = np.array(losses)
                seconds[name].append(np.diff(ends))
    for name in contenders[1:]:
        difference = float(np.abs(results[name] - results[contenders[0]]).max())
        assert difference < SAME, f"{name} differs from {contenders[0]} by {difference:.2g} in {job}"
    return {name: np.min(values, axis=0).tolist() for name, values in seconds.items()}


def row(job: str, length: int, contenders: list[str], quick: bool) -> list[Any]:
    """CPU seconds, ratios and goals of a job."""
    case = {"job": job, "length": length, "rounds": 1 if quick else ROUNDS}
    timed = run_process("measure", "text", contenders, case, ENVIRONMENT, 0)
    cells = [f"{median(timed[name]):.2f} s" for name in contenders]
    for name in contenders[1:]:
        value = median(own / other for own, other in zip(timed[name], timed[THEIRS], strict=True))  # of the same batch
        cells.append(f"{value:.2f}, {'reached' if round(value, 2) <= GOALS[name] else 'missed'}")
    return cells


def tables(quick: bool) -> Iterator[Table]:
    """Training and embedding."""
    reason = missing()
    if reason:
        yield Table("Beside sentence-transformers", ["not measured"], [[reason]])
        return
    lengths = LENGTHS[:1] if quick else LENGTHS
    rows, peaks = [], []
    for job, name in NAMES.items():
        for length in lengths:
            rows.append([name, length, *row(job, length, CONTENDERS, quick)])
            if length != lengths[-1]:
                continue
            memory = [peak("text", c, ENVIRONMENT, job=job, length=length, steps=2) for c in CONTENDERS]
            peaks.append([name, length, *map(megabytes, memory)])
    ratios = [f"{OURS}, ratio", f"{GROUPS}, ratio"]
    yield Table("Beside sentence-transformers: a training step", ["data", "tokens", *CONTENDERS, *ratios], rows, NOTE)
    yield Table("Beside sentence-transformers: peak memory", ["data", "tokens", *CONTENDERS], peaks, MEMORY_NOTE)
    embedded = [[length, *row("embed", length, CONTENDERS[:2], quick)] for length in lengths]
    yield Table("Beside sentence-transformers: embedding", ["tokens", *CONTENDERS[:2], "ratio"], embedded, EMBED_NOTE)
