import unittest

from durations import parse


class TestParse(unittest.TestCase):
    def test_one_part(self) -> None:
        self.assertEqual(parse("45s"), 45)

    def test_parts_add_up(self) -> None:
        self.assertEqual(parse("1h 30m"), 5400)

    def test_an_unknown_unit_is_refused(self) -> None:
        with self.assertRaises(ValueError):
            parse("3x")
