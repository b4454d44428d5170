"""Engines that cannot run tasks are refused by name, before any task goes there."""

import shutil
import subprocess
import sys

import ipyparallel
import pytest
from traitlets.config import Config

import scopekit as sk

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

HERE = sys.version_info[:2]
OTHERS = [f"python3.{minor}" for minor in range(11, 16) if (3, minor) != HERE]


def other_python():
    """Finds an interpreter of another minor version that runs, None if there is none."""
    for name in OTHERS:
        path = shutil.which(name)
        if (
            path
            and not subprocess.run([path, "--version"], capture_output=True, check=False).returncode
        ):
            return path
    return None


def environment(python, folder, *packages):
    subprocess.run([python, "-m", "venv", folder], check=True, capture_output=True)
    command = [folder / "bin" / "python", "-m", "pip", "install", "-q", "ipyparallel", *packages]
    subprocess.run(command, check=True, capture_output=True, timeout=500)
    return str(folder / "bin" / "python")


@pytest.fixture
def engines(request):
    """Starts one engine of another interpreter."""
    clusters = []

    def start(python):
        config = Config()
        config.LocalEngineSetLauncher.engine_cmd = [python, "-m", "ipyparallel.engine"]
        cluster = ipyparallel.Cluster(
            n=1, delay=0, config=config, controller_args=["--HeartMonitor.period=200"]
        )
        clusters.append(cluster)
        cluster.start_cluster_sync()
        with cluster.connect_client_sync() as client:
            client.wait_for_engines(1, timeout=60)
        return cluster

    yield start
    for cluster in clusters:
        cluster.stop_cluster_sync()


def test_an_engine_without_cloudpickle_is_refused_with_the_command_to_install_it(engines, tmp_path):
    cluster = engines(environment(sys.executable, tmp_path / "bare"))

    with pytest.raises(sk.ScopekitError, match=r"worker 0 .* has no cloudpickle.*pip install"):
        sk.connect(cluster)


def test_an_engine_of_another_python_is_refused_with_both_versions(engines, tmp_path):
    python = other_python()
    if python is None:
        pytest.skip(f"needs another Python beside {HERE[0]}.{HERE[1]}, one of {', '.join(OTHERS)}")
    cluster = engines(environment(python, tmp_path / "other", "cloudpickle"))

    with pytest.raises(sk.ScopekitError, match=rf"worker 0 runs Python 3\.\d+ .*3\.{HERE[1]}"):
        sk.connect(cluster)
