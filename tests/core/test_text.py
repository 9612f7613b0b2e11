import pytest

from emotion import text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (text.percent(0.934), "93%"),
        (text.percent(0.009), "<1%"),
        (text.percent(0.9901), ">99%"),
        (text.percent(1.0), ">99%"),
        (text.share(None), text.NOTHING),
        (text.share(0.0), "0%"),
        (text.share(1.0), "100%"),
        (text.share(0.0004), "<1%"),
        (text.share(0.9996, digits=1), ">99.9%"),
        (text.share(0.123, digits=1), "12.3%"),
        (text.decimal(None), text.NOTHING),
        (text.decimal(0.12345), "0.123"),
        (text.points(0.0123), "+1.2"),
        (text.points(-0.0123), "−1.2"),
        (text.points(0.0001), "±0.0"),
        (text.counted(1, "face"), "1 face"),
        (text.counted(1200, "face"), "1,200 faces"),
        (text.counted(2, "person", "people"), "2 people"),
        (text.listed(["sad"]), "sad"),
        (text.listed(["angry", "fear", "sad"], "or"), "angry, fear or sad"),
        (text.clock(65.2), "1:05"),
        (text.clock(3661), "1:01:01"),
        (text.length(0.25), "0.25 s"),
        (text.length(12.54), "12.5 s"),
        (text.length(59.97), "1:00"),
        (text.size(850), "850 bytes"),
        (text.size(12_400), "12 kB"),
        (text.size(4_413_134), "4.4 MB"),
        (text.sentence("expected a photo"), "Expected a photo."),
        (text.sentence("Really?"), "Really?"),
        (text.sentence(""), ""),
        (text.first_line("one\x1b[2J\ntwo"), "one?[2J"),
        (text.first_line(ValueError()), "ValueError"),
        (text.printable("a\nb", " "), "a b"),
        (text.table(("day", "faces"), [("Monday", "1,200")]), ["day     faces", "Monday  1,200"]),
        (text.table(("a", "b"), [("Sunday", "1")]), ["a       b", "Sunday  1"]),
    ],
)
def test_words(words, expected):
    assert words == expected
