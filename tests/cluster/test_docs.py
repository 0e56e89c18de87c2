"""Every command of docs/cluster.md is run, in a shell."""

import re
import subprocess
import sys
from pathlib import Path

from tests.cluster.conftest import Lab
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "cluster.md").read_text()


def test_every_command_of_the_page(lab: Lab) -> None:
    (profile,) = re.findall(r"```yaml\n(.*?)```", PAGE, flags=re.DOTALL)
    place = lab.folder / "profiles" / "cluster"
    place.mkdir(parents=True)
    third = lab.name  # in the database, which other tests use
    (place / "lab.yaml").write_text(profile)
    commands = re.findall(r"```sh\n(.*?)\n```", PAGE, flags=re.DOTALL)
    assert len(commands) == 5
    lab.environment["PGPASSWORD"] = "s3cret"
    lab.environment["PATH"] = f"{Path(sys.executable).parent}:{lab.environment['PATH']}"
    for command in commands:
        typed = command.replace("sweep.name=third", f"sweep.name={third}")
        done = subprocess.run(
            ["bash", "-c", typed], cwd=lab.folder, env=lab.environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert "node net  reaches both" in done.stdout
    assert (lab.folder / "outputs" / "sweeps" / third / "table.md").exists()
