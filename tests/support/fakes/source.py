"""A stream of outcomes, as a runner's, that knows whether it was closed."""

from common.failures import Failure, Refusal
from common.messages import Answer, Piece, Stream


class Source:
    def __init__(self, *outcomes: Piece | Answer | Failure) -> None:
        """A failure is raised as a refusal."""
        self.outcomes = outcomes
        self.closed = False

    async def stream(self) -> Stream:
        try:
            for outcome in self.outcomes:
                if isinstance(outcome, Failure):
                    raise Refusal.of(outcome)
                yield outcome
        finally:
            self.closed = True
