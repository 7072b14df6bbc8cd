"""Knows which Latin letters Cyrillic ones are taken for by a reader that knows only Latin ones."""

_PAIRS = (
    "а=aA б=6b в=BbBe г=rTzsn2 д=AaDgd е=eE ё=eE ж=xXK з=3z и=uNnU й=uNnU к=kK л=nJAlN м=mM "
    "н=HhN о=oO0 п=nNIlm р=pP с=cC т=TmtI у=yY ф=pPOo х=xX ц=uUy ч=4yqY ш=wWmu щ=wWmu ъ=bB "
    "ы=bl ь=bB э=3e ю=10IKo я=Rrg 1=ilI1 0=0O 3=3 4=4"
)
_SHAPES = {pair[0]: pair[2:] for pair in _PAIRS.split()}
"""What the letters of each kind of type look like, upright and italic, small and capital."""
_SHARED = frozenset("ABCEHKMOPTXYaceopxy")
"""Latin letters that Cyrillic has, too, by their look."""


def has_own(latin: str) -> bool:
    """Whether there are letters that only the Latin alphabet has."""
    return any(letter.isascii() and letter.isalpha() for letter in set(latin) - _SHARED)


def is_shape_of(latin: str, cyrillic: str) -> bool:
    """Whether a Latin word is what a Cyrillic one looks like."""
    return len(latin) == len(cyrillic) and all(
        ours == theirs or ours in _SHAPES.get(theirs.lower(), "")
        for ours, theirs in zip(latin, cyrillic, strict=True)
    )
