"""In-memory stand-ins for the ports, held to the same contracts as the adapters."""

from tests.fakes.blobs import FakeBlobs
from tests.fakes.documents import FakeDocuments
from tests.fakes.event_log import FakeEventLog
from tests.fakes.ledger import FakeLedger
from tests.fakes.queues import FakeQueues
from tests.fakes.realtime import FakeRealtime
from tests.fakes.secrets import FakeSecrets

__all__ = [
    "FakeBlobs",
    "FakeDocuments",
    "FakeEventLog",
    "FakeLedger",
    "FakeQueues",
    "FakeRealtime",
    "FakeSecrets",
]
