"""Send what runs have kept while their store was away."""

import sys
from pathlib import Path

from ccsweep.errors import UserError
from ccsweep.tracking.away.spool import send_kept


def main() -> None:
    """Of the folders that the command names, and of all below them."""
    try:
        for folder in map(Path, sys.argv[1:]):
            for run in send_kept(folder):
                print(f"{run}: sent")
    except UserError as error:
        sys.exit(f"ccsweep: {error}")


if __name__ == "__main__":
    main()
