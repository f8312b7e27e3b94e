"""Stack bounds: against what the emulator sees, against what gcc reports, and what must be refused."""
import re
import shutil
import subprocess
from pathlib import Path

import dummy_package as dummy
import numpy as np
import pytest

from edgec import api, board, emulator, package, stack, toolchain
from edgec.errors import ToolchainError

ROOT = Path(__file__).parent.parent
BOARDS = ["cortex-m0", "cortex-m3", "cortex-m4", "cortex-m33", "cortex-m7"]
needs_arm = pytest.mark.skipif(shutil.which(toolchain.ARM_GCC) is None, reason="needs arm-none-eabi-gcc")
needs_qemu = pytest.mark.skipif(None in map(shutil.which, (toolchain.ARM_GCC, "qemu-system-arm")),
                                reason="needs arm-none-eabi-gcc and qemu-system-arm")

# Paints the stack below itself, runs the model, and leaves in run_stack how much of the paint that has spoilt.
PAINTED_RUN = """
uint32_t run_stack;
__attribute__((naked, noinline)) static int32_t painted_run(const fw_model_t *m)
{
    (void)m;
    __asm__ volatile(".syntax unified\\n push {r4, lr}\\n ldr r1, =link_stack_bottom\\n ldr r2, =0xC5C5C5C5\\n mov r3, sp\\n"
                     "1: str r2, [r1]\\n adds r1, #4\\n cmp r1, r3\\n blo 1b\\n"
                     "bl NAME_run\\n"
                     "ldr r1, =link_stack_bottom\\n ldr r2, =0xC5C5C5C5\\n"
                     "2: ldr r3, [r1]\\n adds r1, #4\\n cmp r3, r2\\n beq 2b\\n"
                     "subs r1, #4\\n mov r2, sp\\n subs r2, r2, r1\\n"
                     "ldr r3, =run_stack\\n ldr r1, [r3]\\n cmp r1, r2\\n bhs 3f\\n str r2, [r3]\\n"
                     "3: pop {r4, pc}\\n .ltorg\\n");
}
"""


def paint_around_run(folder: Path) -> None:
    """Makes the package's firmware report as its stack what <name>_run used."""
    main = folder / "firmware" / "main.c"
    text = main.read_text()
    for old, new in (("static int run_samples(", PAINTED_RUN.replace("NAME", package.read(folder).c_name) +
                      "\nstatic int run_samples("),
                     ("code = fw_model_run(&model)", "code = painted_run(&model)"),
                     ("print_number(stack_used()", "print_number(run_stack")):
        assert text.count(old) == 1
        text = text.replace(old, new)
    main.write_text(text)


def emit(tmp_path, model, name, **options):
    """The package without its firmware compiled, the board, and two samples of random bytes."""
    folder = tmp_path / name
    api.build(model, board=name, out=folder, compile=False, **options)
    rng = np.random.default_rng(1)
    return folder, board.load(name), [[rng.bytes(n) for n in package.read(folder).inputs] for _ in range(2)]


def check_painted(folder, b, samples):
    """Prints the figures of one board: pytest -s shows them."""
    firmware = toolchain.build_firmware(folder, b)
    run, whole = (firmware.stack_bounds[f] for f in (f"{firmware.elf.stem}_run", "reset_handler"))
    assert run.reason is whole.reason is None
    seen = emulator.run(firmware.elf, b, samples, timeout=120).stack
    paint_around_run(folder)
    painted = toolchain.build_firmware(folder, b)
    assert painted.stack_bounds[run.path[0]] == run
    seen_run = emulator.run(painted.elf, b, samples, timeout=120).stack
    print(f"\n{folder.name} {run.path[0]}: painted {seen_run}, bound {run.bytes}; whole firmware: painted {seen}, "
          f"bound {whole.bytes}; {' > '.join(run.path)}")
    return run.bytes, seen_run, whole.bytes, seen


@needs_qemu
@pytest.mark.qemu
@pytest.mark.parametrize("name", BOARDS)
def test_kws(tmp_path, models, name):
    print(check_painted(*emit(tmp_path, models / "kws_int8.onnx", name)))


@needs_qemu
@pytest.mark.qemu
@pytest.mark.parametrize("name", BOARDS)
def test_example(tmp_path, name):
    print(check_painted(*emit(tmp_path, ROOT / "examples" / "digits_cnn.onnx", name, data=ROOT / "examples" / "digits_calib.npz")))
