"""What is there already: the snapshot of this very recipe, the release that is live, what training goes on from."""

from pathlib import Path

from budwood.errors import DataError, TrainingError
from budwood.identity import Digest, digest_file, short
from budwood.pipeline.approving import rule_in_force
from budwood.pipeline.job import Job


def prepare_key(job: Job, onto: Digest | None) -> str:
    """Ask by what prepare reads: sources as declared, their and benchmarks' bytes, [prepare], how the base counts tokens."""
    from budwood.prepare.run import VERSION

    recipe = job.recipe
    read = [*(source.path for source in recipe.source), *(benchmark.path for benchmark in recipe.prepare.benchmarks)]
    files = {path: _digest(recipe.path(path)) for path in read}
    absent = [f"absent: {path}" for path, digest in files.items() if digest is None]
    inputs = absent or [digest for digest in files.values() if digest is not None]
    beside = (_digest(recipe.path(name)) for name in recipe.prepare.files)
    inputs += [digest for digest in beside if digest is not None]
    slice_read = {
        "name": recipe.name,
        "source": [source.model_dump(mode="json") for source in recipe.source],
        "prepare": recipe.prepare.as_values(),
        "onto": onto,
        "tokenizer": job.base.identity.tokenizer_digest,
        "template": job.base.template.digest,
        "context": job.base.identity.context,
    }
    if job.embedder is not None:
        slice_read["embedder"] = dict(job.embedder.identity)
    return job.store.action("prepare", VERSION, slice_read, inputs, 0)


def _digest(path: Path) -> Digest | None:
    """Hash a file; None where it cannot be read, which is the stage's own to say: it opens the file again."""
    try:
        return digest_file(path) if path.is_file() else None
    except (OSError, ValueError):
        return None


def given_snapshot(job: Job) -> Digest | None:
    """The snapshot that the job was given to work on instead of preparing one; any reference that `find_snapshot` takes.

    Raises:
        StoreError: nothing fits, or what fits was made from no snapshot.
        DataError: it was prepared for another recipe.
    """
    if not job.snapshot:
        return None
    from budwood.data.find import find_snapshot

    digest = find_snapshot(job.store, job.snapshot)
    name = job.store.manifest(digest).body.get("name", job.recipe.name)
    if name != job.recipe.name:
        raise DataError(
            f"Snapshot {short(digest)}… was prepared for {name!r}, the recipe is {job.recipe.name!r}.",
            where="--snapshot",
            mend="Use its recipe: what is held out there is not held out here.",
        )
    return digest


def prepared(job: Job) -> Digest | None:
    """The snapshot to work on, if there is one: given, or made of this very recipe and files, fresh or onto an earlier one."""
    given = given_snapshot(job)
    if given is not None:
        return given
    for onto in (None, *_snapshots(job)):
        done = job.store.done(prepare_key(job, onto))
        if done is not None:
            return done
    return None


def earlier_snapshots(job: Job) -> list[Digest | None]:
    """Snapshots that releases of this name were made from, oldest first, after None for "from scratch".

    One that lost rows on request is what took its place, and it is said that its sources may bring them back. Removed ones
    are left out, and said: a new snapshot can no longer keep its rows on the sides that they had there.
    """
    lost = "removed: splits are no longer inherited from there"
    for row in job.store.releases(job.recipe.name):
        # One that was replaced, to lose a golden probe, is there under another number.
        if job.store.tombstone_of(job.store.current(row.digest)) is not None:
            job.say("prepare", f"Release {row.name}@{row.version} was {lost}")
    found: list[Digest | None] = [None]
    for snapshot in _snapshots(job):
        current = job.store.current(snapshot)
        if job.store.tombstone_of(current) is not None:
            job.say("prepare", f"Snapshot {short(snapshot)} was {lost}")
        elif current not in found:
            found.append(current)
            gone = int(job.store.manifest(current).body.get("counts", {}).get("forgotten", 0))
            if gone:
                rows = "1 row was" if gone == 1 else f"{gone:,} rows were"
                job.say(
                    "prepare",
                    f"{rows} removed from snapshot {short(snapshot)} on request: sources that hold them bring them back",
                )
    return found


def _snapshots(job: Job) -> list[Digest]:
    """Snapshots of this name's releases, removed ones too, then those that took the place of removed ones.

    What was prepared onto either is found by its digest.
    """
    rows = [row for row in job.store.releases(job.recipe.name) if job.store.tombstone_of(row.digest) is None]
    named = [job.store.manifest(row.digest).body["snapshot"] for row in rows]
    bound = [Digest(snapshot) for snapshot in named if snapshot is not None]
    return list(dict.fromkeys((*bound, *map(job.store.current, bound))))


def start_of(job: Job) -> Digest | None:
    """The adapter or model of the release that training goes on from."""
    wanted = job.recipe.train.continue_from
    if not wanted:
        return None
    row = job.store.find_release(wanted)
    result = job.store.manifest(row.digest).body["result"]
    if result["digest"] is None:
        raise TrainingError(f"{wanted} is a plain base: there is nothing to go on from.", where="[train] continue_from")
    job.say("train", f"Going on from {row.name}@{row.version} ({short(row.digest)})")
    return Digest(result["digest"])


def live_release(job: Job) -> Digest | None:
    rows = job.store.aliases(job.recipe.name)
    return next((row.digest for row in rows if row.alias == job.recipe.release.alias), None)


def alias_line(job: Job) -> str:
    rows = [row for row in job.store.aliases(job.recipe.name) if row.alias == job.recipe.release.alias]
    name = f"{job.recipe.name}@{job.recipe.release.alias}"
    asked = rule_in_force(job)
    rule = f"; it asks for {asked}" if asked.approvals else ""
    return (f"{name} points to version {rows[0].version}" if rows else f"{name} points to nothing yet") + rule
