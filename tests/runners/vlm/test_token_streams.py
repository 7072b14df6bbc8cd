"""Tokens of streams on their way to an event loop."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from runners.vlm.token_streams import TokenStreams
from tests.support.models.batching import make_batcher, make_row, run
from tests.support.models.text_vlm import TextVlm


def test_the_loop_is_woken_once_for_all_tokens_of_a_step(monkeypatch):
    async def streamed() -> None:
        streams = TokenStreams()
        opened = [streams.open() for _ in range(3)]
        loop, woken = asyncio.get_running_loop(), []
        wake = loop.call_soon_threadsafe
        monkeypatch.setattr(
            loop, "call_soon_threadsafe", lambda *call: (woken.append(call), wake(*call))
        )

        def two_steps() -> None:
            for step in range(2):
                for number, stream in enumerate(opened):
                    stream.add(10 * step + number, row=number)
                streams.deliver()
            streams.deliver()  # nothing new

        with ThreadPoolExecutor(1) as thread:
            thread.submit(two_steps).result()
        assert len(woken) == 2
        for number, stream in enumerate(opened):
            assert [await stream.tokens.get() for _ in range(2)] == [
                (number, number),
                (number, 10 + number),
            ]
            assert stream.tokens.empty()

    asyncio.run(streamed())


def test_a_stream_has_all_tokens_of_its_row_before_the_row_ends():
    async def streamed() -> None:
        streams, rows, read = TokenStreams(), [make_row(new=7), make_row(b"other", new=12)], []
        batcher = make_batcher(TextVlm(), after_tokens=streams.deliver)

        async def until_end(row) -> list[int]:
            stream = streams.open()
            row.on_token = stream.add
            batcher.submit(row)
            result = asyncio.wrap_future(row.future)
            result.add_done_callback(lambda _: stream.end())
            tokens = []
            while (token := (await stream.tokens.get())[1]) is not None:
                tokens.append(token)
            return tokens

        reading = [asyncio.create_task(until_end(row)) for row in rows]
        await asyncio.sleep(0)
        await asyncio.to_thread(run, batcher)
        read = await asyncio.gather(*reading)
        assert read == [row.future.result().tokens for row in rows]
        assert all(read)

    asyncio.run(streamed())
