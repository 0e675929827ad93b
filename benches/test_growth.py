"""The lines and the drawing of benches/growth.py."""

import unittest
import xml.etree.ElementTree as xml

import growth

POINTS = [
    {"shows": "384x384", "kind": "picture", "kept": 100, "seconds": 1.5},
    {"shows": "768x768", "kind": "picture", "kept": 300, "seconds": 2.5},
    {"shows": "8 frames", "kind": "video", "kept": 100, "seconds": 3.0},
    {"shows": "16 frames", "kind": "video", "kept": 200, "seconds": 5.0},
]


class Growth(unittest.TestCase):
    def test_pictures_and_videos_have_a_line_each(self):
        found = growth.lines(POINTS)
        for kind, wanted in (("picture", (1.0, 0.005)), ("video", (1.0, 0.02))):
            for value, want in zip(found[kind], wanted, strict=True):
                self.assertAlmostEqual(value, want)

    def test_every_point_is_drawn_and_named(self):
        drawn = xml.fromstring(growth.svg(POINTS))
        words = [element.text for element in drawn.iter() if element.tag.endswith("text")]
        self.assertEqual(sum(element.tag.endswith("circle") for element in drawn.iter()), len(POINTS))
        self.assertLessEqual({point["shows"] for point in POINTS}, set(words))

    def test_axes_have_round_numbers(self):
        for most, wanted in ((44.04, [0, 10, 20, 30, 40, 50]), (4123, [0, 1000, 2000, 3000, 4000, 5000]), (5, [0, 1, 2, 3, 4, 5])):
            self.assertEqual(growth.steps(most), wanted)


if __name__ == "__main__":
    unittest.main()
