"""All stores over one database, opened together."""

from __future__ import annotations

from dataclasses import dataclass

from storage.backlogs import BacklogStore
from storage.batches import BatchStore
from storage.chunks import ChunkStore
from storage.contract.settings import Settings
from storage.counted import CounterStore
from storage.database import Database, open_database
from storage.entries import EntryStore
from storage.failures import FailureStore
from storage.files import FileStore
from storage.inputs import InputStore
from storage.invariants import InvariantStore
from storage.jobs import JobStore
from storage.keys import KeyStore
from storage.leases import LeaseStore
from storage.parts import PartStore
from storage.purges import PurgeStore
from storage.results import ResultStore
from storage.retries import RetryStore
from storage.secrets import SecretStore
from storage.services import ServiceStore
from storage.settling import SettlingStore
from storage.statuses import StatusStore
from storage.throughputs import ThroughputStore
from storage.tokenizers import TokenizerStore
from storage.uploads import UploadStore
from storage.vitals import VitalStore
from storage.wanted import WantedStore
from storage.webhooks import WebhookStore
from storage.workers import WorkerStore
from storage.workloads import WorkloadStore


@dataclass(frozen=True, slots=True)
class Stores:
    """One of each store."""

    database: Database
    jobs: JobStore
    chunks: ChunkStore
    leases: LeaseStore
    results: ResultStore
    statuses: StatusStore
    entries: EntryStore
    workers: WorkerStore
    counters: CounterStore
    parts: PartStore
    purges: PurgeStore
    invariants: InvariantStore
    tokenizers: TokenizerStore
    keys: KeyStore
    webhooks: WebhookStore
    throughputs: ThroughputStore
    workloads: WorkloadStore
    failures: FailureStore
    secrets: SecretStore
    files: FileStore
    uploads: UploadStore
    batches: BatchStore
    inputs: InputStore
    backlogs: BacklogStore
    vitals: VitalStore
    services: ServiceStore
    settling: SettlingStore
    retries: RetryStore
    wanted: WantedStore

    @classmethod
    def on(cls, database: Database, **timings: int) -> Stores:
        """Return the stores over a database.

        Args:
            database: An open database whose schema was checked.
            **timings: `lease` in milliseconds, for tests that cannot wait a minute.
        """
        return cls(
            database,
            JobStore(database),
            ChunkStore(database),
            LeaseStore(database, **timings),
            ResultStore(database),
            StatusStore(database),
            EntryStore(database),
            WorkerStore(database),
            CounterStore(database),
            PartStore(database),
            PurgeStore(database),
            InvariantStore(database),
            TokenizerStore(database),
            KeyStore(database),
            WebhookStore(database),
            ThroughputStore(database),
            WorkloadStore(database),
            FailureStore(database),
            SecretStore(database),
            FileStore(database),
            UploadStore(database),
            BatchStore(database),
            InputStore(database),
            BacklogStore(database),
            VitalStore(database),
            ServiceStore(database),
            SettlingStore(database),
            RetryStore(database),
            WantedStore(database),
        )

    @classmethod
    def open(cls, settings: Settings, **timings: int) -> Stores:
        """Open the database of the settings.

        Args:
            settings: Say where it is.
            **timings: As for `on`.

        Raises:
            StorageUnavailable: When it cannot be reached.
            SchemaMismatch: When it must be migrated, or this program upgraded.
        """
        return cls.on(open_database(settings), **timings)
