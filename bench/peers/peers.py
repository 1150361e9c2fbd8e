"""The programs that are compared: how each is started for one picture, and what its report means."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]


@dataclasses.dataclass
class Work:
    """One picture: Euler on even timesteps, classifier-free guidance, noise of torch's CPU generator."""

    file: str  # the checkpoint as a single file, for the programs that read one
    folder: str  # the same as a diffusers folder
    prompt: str
    negative_prompt: str
    size: int
    steps: int
    cfg_scale: float
    seed: int
    threads: int
    device: str = "cpu"  # or "cuda"
    precision: str = "f32"  # of what is computed there: f32, f16, bf16


@dataclasses.dataclass
class Run:
    """What one process took. Seconds, and bytes for `memory`.

    Processor time is that of all threads together. It is given beside the wall time because other work on the machine
    moves it far less.
    """

    version: str
    steps: list
    steps_cpu: list
    decode: float
    decode_cpu: float
    wall: float
    cpu: float
    memory: int  # the most that was resident at once, mapped files included; on a GPU the most of its own memory
    start: float | None  # from the start of the process until its first step began; None: not comparable
    compile: float | None
    picture: str
    load: tuple  # the machine's load average when the run began and ended


class Failed(RuntimeError):
    pass


def execute(command, threads, log, on_line=None):
    """Runs a process to its end; on_line gets its id, the seconds since it began and each line of its standard error.

    Returns (when it began, seconds, processor seconds, most bytes resident).
    """
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error",
        "TORCHINDUCTOR_CACHE_DIR": str(ROOT / "build/peers/inductor")}
    begin = time.monotonic()
    with open(log, "w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, text=True, env=environment)

        def listen():
            for line in process.stderr:
                if on_line:
                    on_line(process.pid, time.monotonic() - begin, line)
                out.write(line)

        listener = threading.Thread(target=listen)
        listener.start()
        # The maximum of this child alone, which the kernel reports to the one who waits for it.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        listener.join()
    if process.returncode != 0:
        tail = "\n".join(pathlib.Path(log).read_text().strip().splitlines()[-15:])
        raise Failed(f"{command[0]} ended with {process.returncode}:\n{tail}")
    return begin, seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def processor_seconds(process):
    """Of all threads of a running process so far."""
    fields = pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def differences(values):
    return [b - a for a, b in zip(values, values[1:])]


class PythonPeer:
    """A script beside this file, in an interpreter of its own."""

    def __init__(self, name, script, *flags):
        self.name, self.script, self.flags = name, script, flags

    def prepare(self, work, folder):
        """What its users have done once before the picture; not timed."""

    def reads(self, work):
        """The files and folders that a run reads weights from."""
        return [work.folder]

    def command(self, work, folder):
        work_file = folder / "work.json"
        work_file.write_text(json.dumps(dataclasses.asdict(work)))
        return [sys.executable, "-W", "ignore", str(HERE / self.script), "--work", str(work_file), *self.flags]

    def run(self, work, folder):
        report_file, picture = folder / f"{self.name}.json", folder / f"{self.name}.png"
        command = [*self.command(work, folder), "--report", str(report_file), "--picture", str(picture)]
        before = os.getloadavg()[0]
        begin, wall, cpu, memory = execute(command, work.threads, folder / f"{self.name}.log")
        report = json.loads(report_file.read_text())
        first = report["first_step_begin"]
        memory = report.get("device_bytes") or memory
        return Run(report["version"], report["steps"], report["steps_cpu"], report["decode"], report["decode_cpu"],
                   wall, cpu, memory, first - begin if first else None, report.get("compile_seconds"), str(picture),
                   (before, os.getloadavg()[0]))


class SdCpp(PythonPeer):
    """Reads the single file."""

    def reads(self, work):
        return [work.file]


class OpenVino(PythonPeer):
    """Converts the checkpoint to its own files once for each size of a picture."""

    def __init__(self, name, models):
        super().__init__(name, "openvino_peer.py", "--models", str(models))
        self.models = models

    def reads(self, work):
        return [self.models / str(work.size)]

    def prepare(self, work, folder):
        execute([*self.command(work, folder), "--prepare"], work.threads, folder / f"{self.name}-prepare.log")


class Sinopia:
    """The command line program; when its first step begins is seen from its progress lines."""

    name = "sinopia"

    def __init__(self, binary, *flags):
        self.binary, self.flags = binary, flags

    def reads(self, work):
        return [work.file]

    def prepare(self, work, folder):
        """Nothing: it reads the checkpoint as it is."""

    def run(self, work, folder):
        report_file, picture = folder / "sinopia.json", folder / "sinopia.png"
        marks = []  # (seconds, processor seconds) at the beginning of each step, of decoding and at its end

        def on_line(process, seconds, line):
            if line.startswith(("step ", "decoding", "done")):
                marks.append((seconds, processor_seconds(process)))

        command = [str(self.binary), "generate", "-m", work.file, "-p", work.prompt, "-n", work.negative_prompt,
                   "-W", str(work.size), "-H", str(work.size), "--steps", str(work.steps),
                   "--cfg-scale", str(work.cfg_scale), "-s", str(work.seed), "--sampling-method", "euler",
                   "--scheduler", "discrete", "--rng", "cpu", "-t", str(work.threads), "-o", str(picture),
                   "--device", work.device, "--precision", work.precision, "--json", str(report_file), *self.flags]
        before = os.getloadavg()[0]
        _, wall, cpu, memory = execute(command, work.threads, folder / "sinopia.log", on_line)
        report = json.loads(report_file.read_text())
        seconds = report["seconds"]
        memory = report["peak_bytes"]["device"] or memory
        if len(marks) != work.steps + 3:
            raise Failed(f"sinopia reported {len(marks)} stages and steps, not {work.steps + 3}")
        marks_cpu = differences([cpu_mark for _, cpu_mark in marks])
        return Run(f"sinopia {report['version']}", seconds["steps"], marks_cpu[: work.steps], seconds["decode"],
                   marks_cpu[-1], wall, cpu, memory, marks[0][0], None, str(picture), (before, os.getloadavg()[0]))


def all_peers(binary, device="cpu"):
    if device == "cuda":
        return [
            PythonPeer("pytorch", "diffusers_peer.py"),
            PythonPeer("pytorch-channels-last", "diffusers_peer.py", "--channels-last"),
            PythonPeer("torch-compile", "diffusers_peer.py", "--channels-last", "--compile"),
            Sinopia(binary),
        ]
    return [
        PythonPeer("pytorch", "diffusers_peer.py"),
        PythonPeer("pytorch-channels-last", "diffusers_peer.py", "--channels-last"),
        PythonPeer("torch-compile", "diffusers_peer.py", "--channels-last", "--compile"),
        OpenVino("openvino", ROOT / "build/peers/openvino"),
        SdCpp("stable-diffusion.cpp", "sdcpp_peer.py"),
        SdCpp("stable-diffusion.cpp-flash", "sdcpp_peer.py", "--flash"),
        Sinopia(binary),
    ]
