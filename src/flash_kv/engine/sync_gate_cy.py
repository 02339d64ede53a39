"""Group commit: of all who wait for their commits to be durable, one syncs and the others are served by it.

The first to come leads. Where the last sync served several, the leader gives the others a moment to commit
first, less than a sync takes, so that one sync serves them all again. Compiled, because no exception
(KeyboardInterrupt) can then come between becoming the leader and ceasing to be it.

Python runs finalisers anywhere, and one may write to the store in the middle of the sync, or of something that the sync
has to wait for. Nobody else would serve it, so it syncs once more, inside.
"""

import cython
from cython.cimports.flash_kv.engine.sync_gate_cy import (
    pthread_cond_broadcast,
    pthread_cond_destroy,
    pthread_cond_init,
    pthread_cond_wait,
    pthread_self,
)
from cython.cimports.flash_kv.intrinsics import load_acquire64, store_release64
from cython.cimports.flash_kv.io.mutex import (
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_lock,
    pthread_mutex_unlock,
)
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.posix.unistd import usleep

# The leader looks this often, this many times, whether those whom the last sync served are back.
PAUSE_US = cython.declare(cython.int, 10)
PAUSES_MAX = cython.declare(cython.int, 8)


@cython.final
@cython.cclass
class SyncGate:
    """`sync` makes everything committed durable and returns the LSN up to which that holds; it may raise."""

    def __cinit__(self, synced: int):
        pthread_mutex_init(cython.address(self.mutex), cython.NULL)
        pthread_cond_init(cython.address(self.changed), cython.NULL)
        self.synced = synced

    def __dealloc__(self):
        pthread_cond_destroy(cython.address(self.changed))
        pthread_mutex_destroy(cython.address(self.mutex))

    @property
    def synced_lsn(self) -> int:
        """Everything up to here is durable."""
        return load_acquire64(cython.address(self.synced))

    def wait_for(self, lsn: int, sync: object, is_inside: bool = False) -> bool:
        """True: everything up to `lsn` is durable. False: a sync has failed. What `sync` raises is passed on.

        `is_inside`: a leader may be waiting for this thread.
        """
        wanted: uint64_t = lsn
        reached: uint64_t = 0
        leads: cython.bint
        nested: cython.bint
        inside: cython.bint = is_inside
        with cython.nogil:
            nested = inside or self.is_leader()
            leads = nested or self.enter(wanted)
        if not leads:
            return load_acquire64(cython.address(self.synced)) >= wanted
        failed: cython.bint = True
        try:
            reached = sync()
            failed = False
        except OSError:
            raise
        except BaseException:
            # Interrupted, not refused by the disk: the next one tries again.
            failed = False
            raise
        finally:
            with cython.nogil:
                if nested:
                    self.publish(reached, failed)
                else:
                    self.leave(reached, failed)
        return True

    def is_leader(self):
        leads: cython.bint
        pthread_mutex_lock(cython.address(self.mutex))
        leads = self.is_syncing and self.leader == pthread_self()
        pthread_mutex_unlock(cython.address(self.mutex))
        return leads

    def enter(self, lsn):
        """True: lead. False: durable, or a sync has failed."""
        leads: cython.bint = False
        pthread_mutex_lock(cython.address(self.mutex))
        self.waiting += 1
        while self.synced < lsn and not self.has_failed and self.is_syncing:
            pthread_cond_wait(cython.address(self.changed), cython.address(self.mutex))
        if self.synced < lsn and not self.has_failed:
            self.is_syncing = True
            self.leader = pthread_self()
            leads = True
        else:
            self.waiting -= 1
        pthread_mutex_unlock(cython.address(self.mutex))
        if leads and self.company > 1:
            self.gather()
        return leads

    def gather(self):
        """Wait until as many are here as the last sync served, for a moment at most."""
        i: cython.int
        arrived: cython.bint
        for i in range(PAUSES_MAX):
            pthread_mutex_lock(cython.address(self.mutex))
            arrived = self.waiting >= self.company
            pthread_mutex_unlock(cython.address(self.mutex))
            if arrived:
                return
            usleep(PAUSE_US)

    def leave(self, reached, failed):
        pthread_mutex_lock(cython.address(self.mutex))
        self.company = self.waiting
        self.waiting -= 1
        self.is_syncing = False
        self.publish_locked(reached, failed)
        pthread_mutex_unlock(cython.address(self.mutex))

    def publish(self, reached, failed):
        """What a sync has come to; who leads goes on leading."""
        pthread_mutex_lock(cython.address(self.mutex))
        self.publish_locked(reached, failed)
        pthread_mutex_unlock(cython.address(self.mutex))

    def publish_locked(self, reached, failed):
        self.has_failed = self.has_failed or failed
        if reached > self.synced:
            store_release64(cython.address(self.synced), reached)
        pthread_cond_broadcast(cython.address(self.changed))
