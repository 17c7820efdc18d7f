"""`asecalc-ml models`: what the registry holds."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="List, inspect and share registered models.")

Name = Annotated[str, typer.Argument(help="Name of a registered model, name@hash, or a file.")]
