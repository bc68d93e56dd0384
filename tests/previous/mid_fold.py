"""Leaves a store of format 3 in the middle of a fold, by the code of the version of then.

`mid_fold.py DATA_DIR` or `mid_fold.py REDIS_URI`. Prints what the store holds, by member and video.
"""

import json
import os
import sys
from pathlib import Path

from counter.crdt.ids import encode_id, mint_run
from counter.crdt.tally import Tally
from counter.protocol.replica import Replica
from counter.store.redis import RedisStore
from counter.store.sqlite import SqliteStore

ID = encode_id(7, 13)
OTHER = f"other~{encode_id(5, 13)}"
RUNS = [mint_run(1000 * number, "", number) for number in range(1, 5)]

uri = sys.argv[1]
store = RedisStore(uri, "node") if "://" in uri else SqliteStore(Path(uri))
store.open("a writer", lambda: ID)
replica = Replica(
    f"node~{ID}.{mint_run(9000, '', 9)}",
    Tally(),
    0.0,
    sync_interval=1.0,
    join_timeout=5.0,
    message_ttl=30.0,
    fold_after=86_400.0,
    has_peers=False,
)
replica.recovery.opened(*store.known())
store.begin(replica.id, replica.recovery.own_fact())
replica.recovery.all_loaded()


def flush(limit, times=1000):
    while times and replica.unsaved():
        batch = replica.batch(limit)
        store.write(batch.counts, facts=batch.kept(), drop=batch.drop)
        replica.stored(batch)
        times -= 1


for number in range(3):
    replica.visit(f"own-{number}")
for at, run in enumerate(RUNS):
    counts = {f"video-{video}": 10 * at + video + 1 for video in range(3 * at, 3 * at + 9)}
    replica.backlog.merge(f"{OTHER}.{run}", counts)
flush(1000)
# The first two runs are folded, then the third one is, but for some rows.
replica.backlog.follow(OTHER, RUNS[1])
flush(1000)
replica.backlog.follow(OTHER, RUNS[2])
flush(4, 2)
assert replica.folding.under_way is not None
videos = [f"video-{number}" for number in range(18)] + [f"own-{number}" for number in range(3)]
print(json.dumps({video: replica.counter(video) for video in videos}))
sys.stdout.flush()
os._exit(0)
