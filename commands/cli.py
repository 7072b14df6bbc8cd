"""Reads the arguments of `chatvlm-server`."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from commands.doctor import doctor
from commands.manifests import write_manifests
from commands.pull import pull
from common.catalog import CATALOG, current_id
from common.failures import Refusal
from settings import settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command. Returns its exit code: 0, or 1 if something is to be mended."""
    settings()  # adds the models of CHATVLM_CATALOG
    parser = argparse.ArgumentParser(prog="chatvlm-server", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    pulls = commands.add_parser("pull", help="fetch the weights of models, and check them")
    pulls.add_argument(
        "models",
        nargs="+",
        type=current_id,
        choices=[entry.id for entry in CATALOG.values() if entry.repository],
        metavar="MODEL",
        help="the id of a model, or its name on the Hugging Face hub",
    )
    pulls.add_argument(
        "--to",
        type=Path,
        metavar="FOLDER",
        help="put them into FOLDER/<model id>, as CHATVLM_WEIGHTS expects them, instead of the "
        "hub's cache",
    )
    commands.add_parser("doctor", help="say what runs on this machine, and what to mend")
    manifests = commands.add_parser(
        "kubernetes", help="write manifests of the models that CHATVLM_CATALOG adds"
    )
    manifests.add_argument("folder", type=Path, help="where kustomization.yaml is written")
    given = parser.parse_args(arguments)
    match given.command:
        case "pull":
            return _pull_all(given.models, given.to)
        case "kubernetes":
            if (catalog := settings().catalog) is None:
                parser.error("CHATVLM_CATALOG names no file, so that there are no further models")
            try:
                write_manifests(catalog, given.folder)
            except OSError as error:
                parser.error(f"'{given.folder}' cannot be written to ({error.strerror})")
            return 0
    return doctor(settings(), os.environ)


def _pull_all(models: Sequence[str], to: Path | None) -> int:
    try:
        for model in models:
            pull(CATALOG[model], to)
    except Refusal as refusal:
        print(refusal.failure.detail, file=sys.stderr)
        return 1
    return 0
