"""What a site's administrator needs once.

python -m secureagg.adapters.nvflare identity WORKSPACE SITE     # prints the site's line of the roster
python -m secureagg.adapters.nvflare allow-list                  # prints the entry for local/resources.json
"""

from __future__ import annotations

import argparse
import json

from secureagg.adapters.nvflare.allow_list import allow_list
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
    commands.add_parser("allow-list", help="print class_allow_list with NVFlare's own defaults and our components")
    asked = parser.parse_args(arguments)
    if asked.command == "allow-list":
        print(json.dumps({"class_allow_list": allow_list()}, indent=2))
        return
    try:
        public = Home(asked.workspace, asked.site).identity().public
    except ParameterError as error:
        raise SystemExit(f"error: {error}") from error
    print(json.dumps({asked.site: public.hex()}))


if __name__ == "__main__":
    main()
