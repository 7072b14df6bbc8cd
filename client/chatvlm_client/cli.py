"""The command line `chatvlm`: ocr, chat, models, load, unload."""

import argparse
import asyncio
import os
import re
import sys
from io import TextIOWrapper
from pathlib import Path

from rich.console import Console

from chatvlm_client import report
from chatvlm_client.answers import Piece
from chatvlm_client.bulk import Outcome, UsageError, plan_jobs, read_all
from chatvlm_client.calls import ChatOptions, OcrOptions
from chatvlm_client.clients import BASE_URL, AsyncChatVLMClient, ChatVLMClient, parse_address
from chatvlm_client.errors import ChatVLMError

FAILED, USAGE, INTERRUPTED = 1, 2, 130
PARALLEL = 4


def main(argv: list[str] | None = None) -> int:
    """Run one command. Returns its exit code: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    parser = _parser()
    args = parser.parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # not the console's own code page
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except UsageError as error:
        parser.error(str(error))
    except ChatVLMError as error:
        return _failed(args, str(error))
    except BrokenPipeError:  # as in `chatvlm ... | head -n 1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except OSError as error:
        return _failed(args, f"{error.strerror}: '{error.filename}'.")
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED
    return code


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--url",
        type=_address,
        default=os.environ.get("CHATVLM_URL") or BASE_URL,
        help=f"address of the service (default: CHATVLM_URL, or {BASE_URL})",
    )
    common.add_argument("--json", action="store_true", help="print JSON")
    model = argparse.ArgumentParser(add_help=False)
    model.add_argument("--model", help="id of a model (default: the service's)")
    model.add_argument("--pages", type=_page_ranges, help="pages of a document, as 1-3,7")
    model.add_argument(
        "--text-layer",
        choices=["auto", "never"],
        help="auto takes a PDF page's own text where it is sound (default: never)",
    )

    parser = argparse.ArgumentParser(
        prog="chatvlm", description="Read images and documents with a ChatVLMLLM service."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    ocr = commands.add_parser(
        "ocr", parents=[common, model], help="read images and documents", epilog=_OCR_EPILOG
    )
    ocr.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="image, document or folder"
    )
    ocr.add_argument("--language", help="name or code of the language, a hint")
    ocr.add_argument("--mode", choices=["ocr", "layout"], help="layout adds the page's blocks")
    ocr.add_argument(
        "--formatted", action="store_true", default=None, help="keep the structure as Markdown"
    )
    ocr.add_argument("--prompt", help="read with these words instead of the service's own")
    ocr.add_argument("--max-tokens", type=int, help="length limit of the answer, for each page")
    ocr.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the texts (default: print them)"
    )
    ocr.add_argument(
        "--force", action="store_true", help="read a file again even if DIR has its text"
    )
    ocr.add_argument(
        "--parallel",
        type=_positive,
        default=PARALLEL,
        help=f"requests at once (default: {PARALLEL})",
    )
    ocr.set_defaults(run=_ocr)

    chat = commands.add_parser(
        "chat", parents=[common, model], help="ask about an image or a document"
    )
    chat.add_argument("file", metavar="FILE")
    chat.add_argument("prompt", metavar="QUESTION")
    chat.add_argument("--temperature", type=float, help="0 to 1")
    chat.add_argument("--max-tokens", type=int, help="length limit of the answer")
    chat.set_defaults(run=_chat)

    models = commands.add_parser("models", parents=[common], help="list the models")
    models.set_defaults(run=_models)

    load = commands.add_parser("load", parents=[common], help="load a model")
    load.set_defaults(run=_manage, manage=lambda client, model: client.load(model))
    unload = commands.add_parser("unload", parents=[common], help="free a model's memory")
    unload.set_defaults(run=_manage, manage=lambda client, model: client.unload(model))
    for command in (load, unload):
        command.add_argument("model", metavar="MODEL", help="id of a model")
    return parser


_OCR_EPILOG = (
    "The text of a file goes to DIR/<name of the file>.txt. The files of a folder keep their "
    "subfolders below DIR. A file is skipped if DIR has its text already and the file has not "
    "changed since; for another model or language use another DIR or --force. Exit code: 0 all "
    "files were read, 1 some failed, 2 wrong usage, 130 interrupted."
)


def _ocr(args: argparse.Namespace) -> int:
    jobs = plan_jobs(args.files, args.out, args.pages)
    options = OcrOptions(
        model=args.model,
        language=args.language,
        pages=args.pages,
        text_layer=args.text_layer,
        mode=args.mode,
        formatted=args.formatted,
        prompt=args.prompt,
        max_tokens=args.max_tokens,
    )
    outcomes: list[Outcome] = []
    console = Console(stderr=True)
    prints = args.json or not args.out
    show_progress = console.is_terminal and not (prints and sys.stdout.isatty())

    try:
        with report.progress_bar(console, shown=show_progress) as bar:
            task = bar.add_task("", total=len(jobs))

            def ended(outcome: Outcome) -> None:
                outcomes.append(outcome)
                bar.advance(task)
                if args.json:
                    print(report.as_json(report.as_fields(outcome)), flush=True)

            async def read() -> None:
                async with AsyncChatVLMClient(args.url) as client:
                    await read_all(
                        client, jobs, options, ended, parallel=args.parallel, force=args.force
                    )

            asyncio.run(read())
    finally:
        order = {job: number for number, job in enumerate(jobs)}
        outcomes.sort(key=lambda outcome: order[outcome.job])
        if not args.json:
            for outcome in outcomes:
                if outcome.answer and not args.out:
                    print(outcome.answer.text)
            console.print(report.summary_table(outcomes, len(jobs)))
    return FAILED if any(outcome.status == "failed" for outcome in outcomes) else 0


def _chat(args: argparse.Namespace) -> int:
    options = ChatOptions(
        model=args.model,
        pages=args.pages,
        text_layer=args.text_layer,
        temperature=args.temperature,
        max_tokens=args.max_tokens,
    )
    with ChatVLMClient(args.url) as client:
        if args.json:
            print(report.as_json(client.ask(args.file, args.prompt, **options)))
            return 0
        for event in client.stream(args.file, args.prompt, **options):
            if isinstance(event, Piece):
                print(event.text, end="", flush=True)
            else:
                print()
                if event.warning:
                    print(event.warning, file=sys.stderr)
    return 0


def _models(args: argparse.Namespace) -> int:
    with ChatVLMClient(args.url) as client:
        answer = client.models()
    if args.json:
        print(report.as_json(answer))
    else:
        Console().print(report.model_table(answer))
    return 0


def _manage(args: argparse.Namespace) -> int:
    with ChatVLMClient(args.url) as client:
        answer = args.manage(client, args.model)
    print(report.as_json(answer) if args.json else answer.message)
    return 0


def _failed(args: argparse.Namespace, sentence: str) -> int:
    if args.json:
        print(report.as_json({"error": sentence}))
    else:
        print(sentence, file=sys.stderr)
    return FAILED


def _address(text: str) -> str:
    try:
        parse_address(text)
    except ChatVLMError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _page_ranges(text: str) -> str:
    """Check only what makes the text safe in a file name; the service checks the rest."""
    if not re.fullmatch(r"[\d,-]+", text):
        raise argparse.ArgumentTypeError("use numbers and ranges, as 1-3,7")
    return text


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("use a number from 1")
    return int(text)
