"""Decides how many tokens a prefill may compute while rows in flight wait for it. No torch."""

_LEAST = 16
"""Tokens: smaller prefills would hardly get on."""
_NEWEST_WEIGHT = 0.3
"""Weight of the newest prefill in the moving average of the time of a token, if it was faster."""
_AIM = 0.8
"""Share of the gap that is aimed at: the later tokens of a prompt take longer, as they attend to
more."""


class PrefillBudget:
    """Learns from the time of each prefill how many tokens fit into the gap between two steps.

    A prefill and the step beside it should take almost `gap`, or three steps if that is longer:
    where steps are slow, a shorter prefill would spend most of its time on reading the weights.
    That is an aim, as the time of a prefill is only known afterwards. While no row is in flight
    nobody waits, and a prefill takes `most` tokens.
    """

    def __init__(self, gap: float, most: int) -> None:
        """gap: seconds. most: tokens whose activations fit into memory and caches."""
        self._gap = gap
        self._most = most
        self._seconds_per_token = 0.0

    def tokens(self, mean_step: float, in_flight: bool) -> int:
        """How many tokens the next prefill may compute. mean_step: seconds of a decode step."""
        if not in_flight or not self._seconds_per_token:
            return self._most
        seconds = max(_AIM * self._gap - mean_step, 2 * mean_step)
        return min(max(_LEAST, int(seconds / self._seconds_per_token)), self._most)

    def record(self, tokens: int, seconds: float) -> None:
        """Take the time of a prefill into account. Small ones say little about large ones.

        A slower one counts at once: the next one of a long prompt will be slower still.
        """
        if tokens < _LEAST and self._seconds_per_token:
            return
        newest = seconds / tokens
        if newest < self._seconds_per_token:
            newest = _NEWEST_WEIGHT * newest + (1 - _NEWEST_WEIGHT) * self._seconds_per_token
        self._seconds_per_token = newest
