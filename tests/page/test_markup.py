"""Whatever stands in a text comes out as text."""

from budwood.page.markup import LONGEST, clipped, marked, signed, text


def test_markup() -> None:
    assert text('<a b="c">') == "&lt;a b=&quot;c&quot;&gt;"
    assert text("\x1b\x9b\ufeff") == "␛⟨U+009B⟩⟨U+FEFF⟩"
    assert text("naïve 👩‍🚀 中文\n") == "naïve 👩‍🚀 中文\n"
    assert clipped("") == '<span class="more">(empty)</span>'
    assert clipped("x" * (LONGEST + 1200)).endswith("… 1,200 more characters</span>")
    assert marked("a <b> c", "a <b> d", "wrong") == 'a &lt;b&gt; <mark class="wrong">c</mark>'
    assert marked("same", "same", "wrong") == "same"
    assert signed(-0.25) == "\u22120.250"
    assert signed(-0.0001) == "0.000"
