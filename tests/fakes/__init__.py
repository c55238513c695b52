"""In-memory stand-ins for the ports, held to the same contracts as the adapters."""

from tests.fakes.blobs import FakeBlobs
from tests.fakes.counters import FakeCounters
from tests.fakes.documents import FakeDocuments
from tests.fakes.event_log import FakeEventLog
from tests.fakes.queues import FakeQueues
from tests.fakes.realtime import FakeRealtime
from tests.fakes.secrets import FakeSecrets

__all__ = [
    "FakeBlobs",
    "FakeCounters",
    "FakeDocuments",
    "FakeEventLog",
    "FakeQueues",
    "FakeRealtime",
    "FakeSecrets",
]
