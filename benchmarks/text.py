"""Fine-tuning a sentence encoder, beside sentence-transformers: same weights, batches, losses and optimizer."""

import tempfile
import threading
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
STEPS = 8  # the first one is not measured
SAME = 1e-4  # the largest difference of losses and embeddings
GOALS = {OURS: 1.0, GROUPS: 0.6}
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
ENVIRONMENT["MALLOC_ARENA_MAX"] = "1"  # else threads would not get their memory as a program with one thread does

NOTE = (
    f"CPU time of a step of MiniLM with 6 layers on the same {BATCH} texts or pairs, in one thread, without dropout. "
    "Tokens: the longest that a text may have. Both use AdamW with weight decay, a linear schedule and a clipped "
    f"gradient. The losses of all steps differ by less than {SAME:g}. They are "
    f"{', '.join(f'{other} and {own}' for other, own in JOBS.values())}. sentence-transformers pads the two sides of "
    "pairs separately, and finetuner together. The contenders take turns after each step. Times are medians of "
    f"{STEPS - 1} steps, and ratios are medians over the same batches. Goals: a ratio of at most "
    f"{GOALS[OURS]:g}, and of {GOALS[GROUPS]:g} with `length_groups=4`."
)
MEMORY_NOTE = "The peak of two training steps above the memory before them, in a new process."
EMBED_NOTE = (
    f"CPU time to tokenize and embed {TEXTS} texts of Banking77 in batches of {BATCH}, in one thread. Both sort them "
    f"by length. The embeddings differ by less than {SAME:g}. Goal: a ratio of at most {GOALS[OURS]:g}."
)


Report = Callable[[float], None]  # called with the loss at the end of each step
Training = Callable[[Report], None]


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

    def train(report: Report = print) -> None:
        class Recorder(finetuner.Callback):
            def on_batch_end(self, state: Any) -> None:
                report(float(state.device_losses[-1]))

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
    values: list[float] = []
    loss.register_forward_hook(lambda module, inputs, output: values.append(output.item()))

    class Planned(DefaultBatchSampler):
        def __iter__(self) -> Iterator[list[int]]:
            return iter([batch.tolist() for batch in plan])

        def __len__(self) -> int:
            return len(plan)

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
    trainer = SentenceTransformerTrainer(model, arguments, train_dataset=Dataset.from_dict(table), loss=loss)

    def train(report: Report = print) -> None:
        class Recorder(TrainerCallback):
            def on_step_end(self, *arguments: Any, **options: Any) -> None:
                report(values[-1])

        trainer.add_callback(Recorder())
        trainer.train()

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


def measure(contenders: list[str], job: str, length: int, steps: int) -> dict[str, Any]:
    """CPU seconds of each step, or of each embedding, by contender.

    All take turns after each step, so that other load affects all of them, and their results must agree.
    """
    calls = {name: build(name, job, length, steps) for name in contenders}
    if job == "embed":
        results: dict[str, Any] = {name: call() for name, call in calls.items()}  # to warm up
        turns: dict[str, Callable[[], Any]] = calls
    else:
        results = {name: [] for name in contenders}
        turns = {name: in_turns(call, results[name]) for name, call in calls.items()}
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    order = contenders
    for _ in range(steps):
        for name in order:
            start = time.process_time()
            turns[name]()
            seconds[name].append(time.process_time() - start)
        order = [*order[1:], order[0]]
    for name in contenders[1:]:
        difference = float(np.abs(np.array(results[name]) - np.array(results[contenders[0]])).max())
        assert difference < SAME, f"{name} differs from {contenders[0]} by {difference:.2g} in {job}"
    return seconds


def in_turns(train: Training, losses: list[float]) -> Callable[[], None]:
    """Start a training in a thread. The function that is returned runs it to the end of its next step."""
    resume, paused = threading.Semaphore(0), threading.Semaphore(0)
    errors: list[BaseException] = []

    def report(loss: float) -> None:
        losses.append(loss)
        paused.release()
        resume.acquire()

    def run() -> None:
        resume.acquire()
        try:
            train(report)
        except BaseException as error:
            errors.append(error)
        paused.release()

    threading.Thread(target=run, daemon=True).start()

    def step() -> None:
        resume.release()
        paused.acquire()
        if errors:
            raise errors[0]

    return step


def row(job: str, length: int, contenders: list[str], quick: bool) -> list[Any]:
    """CPU seconds, ratios and goals of a job."""
    case = {"job": job, "length": length, "steps": 3 if quick else STEPS}
    timed = run_process("measure", "text", contenders, case, ENVIRONMENT, 0)
    timed = {name: values[1:] for name, values in timed.items()}
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
