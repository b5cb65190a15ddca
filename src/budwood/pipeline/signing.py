"""What a recipe says about signatures: who signs its releases, and whose signature they need to go live."""

from budwood.identity import Digest
from budwood.pipeline.job import Job


def sign_as_asked(job: Job, release: Digest) -> None:
    """Sign a release with the recipe's key, and put the keys that it trusts on record where no rule is yet.

    A recipe never changes a rule that is there: whoever edits it would undo what protects the name.

    Raises:
        StoreError: a key cannot be read or used.
    """
    from budwood.store.signatures import SIGNATURE, read_key, require, rule_of, sign

    asked = job.recipe.release
    if asked.sign_key and not job.store.attachment(release, SIGNATURE).is_file():
        sign(job.store, release, job.recipe.folder / asked.sign_key)
        job.say("release", f"Signed with {asked.sign_key}")
    if not asked.trusted_keys:
        return
    keys = tuple(read_key(job.recipe.folder / path) for path in asked.trusted_keys)
    rule = rule_of(job.store, job.recipe.name)
    if not rule.seq:
        require(job.store, job.recipe.name, keys, who=job.who, reason="the recipe's [release] trusted_keys")
    elif set(rule.keys) != set(keys):
        job.say("release", f"The recipe trusts other keys than {job.recipe.name} does since event {rule.seq}, which stands")
