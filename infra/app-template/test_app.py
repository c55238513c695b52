import json
import threading
import unittest
from urllib.error import HTTPError
from urllib.request import urlopen

from app import make_server


class TestApp(unittest.TestCase):
    def setUp(self) -> None:
        self.server = make_server("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)

    def test_health(self) -> None:
        with urlopen(f"{self.url}/health") as answer:
            self.assertEqual(json.load(answer), {"status": "ok"})

    def test_first_page(self) -> None:
        with urlopen(self.url) as answer:
            self.assertEqual(answer.headers.get_content_type(), "text/html")
            self.assertIn("<h1>", answer.read().decode())

    def test_a_page_that_is_not_there(self) -> None:
        with self.assertRaises(HTTPError) as caught:
            urlopen(f"{self.url}/missing")
        self.addCleanup(caught.exception.close)
        self.assertEqual(caught.exception.code, 404)
