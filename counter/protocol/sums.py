"""The sums of runs with many visits in a batch, added up in steps.

Pure: no I/O, no clock.
"""

from collections.abc import Callable, Iterator

from counter.crdt.hashes import PRIME
from counter.crdt.tally import Tally
from counter.protocol.batch import Batch
from counter.protocol.checks import encode_sum, sum_name
from counter.protocol.pending import Pending


def sum_up(
    batch: Batch, pending: Pending, tally: Tally, is_known: Callable[[str], bool]
) -> Iterator[None]:
    """Put them into the batch, where they are "" before, some counts in each step.

    `is_known` says whether the store will have all that the tally has of a run.
    """
    for run, counts in batch.own.items():
        name = sum_name(run)
        many = len(counts) > pending.a_step
        if not (many and name in batch.sums and run in batch.counts and is_known(run)):
            continue
        held = total, digest = tally.total(run), tally.digest(run)
        for page in pending.pages(counts):
            more = tally.sum_with(run, page)
            total, digest = total + more[0] - held[0], digest + more[1] - held[1]
            yield
            if not is_known(run):
                # It grew meanwhile by what others hold of it, which the batch has not got.
                break
        else:
            batch.sums[name] = encode_sum(total, digest % PRIME)
