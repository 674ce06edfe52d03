"""What a site's administrator needs once.

python -m secureagg.adapters.nvflare identity WORKSPACE SITE     # prints the site's line of the roster
python -m secureagg.adapters.nvflare allow-list WORKSPACE        # lets jobs without custom code build our classes
python -m secureagg.adapters.nvflare allow-list                  # prints that list, and changes nothing
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from secureagg.adapters.nvflare.allow_list import allow_components, allow_list
from secureagg.adapters.nvflare.home import Home
from secureagg.errors import ParameterError


def main(arguments: list[str] | None = None) -> None:
    """Print what was asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m secureagg.adapters.nvflare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    identity = commands.add_parser("identity", help="print this site's public identity, made if it has none")
    identity.add_argument("workspace")
    identity.add_argument("site")
    allow = commands.add_parser("allow-list", help="put our classes on the site's class_allow_list, or print that list")
    allow.add_argument("workspace", nargs="?", help="whose local/resources.json to change; without it, print")
    asked = parser.parse_args(arguments)
    try:
        if asked.command == "identity":
            if not (Path(asked.workspace) / "local").is_dir():
                raise ParameterError(f"{asked.workspace} has no directory local: it is no workspace of NVFlare")
            print(json.dumps({asked.site: Home(asked.workspace, asked.site).identity().public.hex()}))
        elif asked.workspace is None:
            print(json.dumps({"class_allow_list": allow_list()}, indent=2))
        else:
            print(f"{allow_components(asked.workspace)} allows secureagg's classes")
    except ParameterError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
