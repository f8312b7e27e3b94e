"""Stack bounds: against what the emulator sees, against what gcc reports, and what must be refused."""
import re
import shutil
import subprocess
from pathlib import Path

import dummy_package as dummy
import numpy as np
import pytest

from edgec import api, board, emulator, package, stack, thumb, toolchain
from edgec.errors import ToolchainError

ROOT = Path(__file__).parent.parent
BOARDS = ["cortex-m0", "cortex-m3", "cortex-m4", "cortex-m33", "cortex-m7"]
needs_arm = pytest.mark.skipif(shutil.which(toolchain.ARM_GCC) is None, reason="needs arm-none-eabi-gcc")
needs_qemu = pytest.mark.skipif(None in map(shutil.which, (toolchain.ARM_GCC, "qemu-system-arm")),
                                reason="needs arm-none-eabi-gcc and qemu-system-arm")

def emit(tmp_path, model, name, **options):
    """The package without its firmware compiled, the board, and two samples of random bytes."""
    folder = tmp_path / name
    api.build(model, board=name, out=folder, compile=False, **options)
    rng = np.random.default_rng(1)
    return folder, board.load(name), [[rng.bytes(n) for n in package.read(folder).inputs] for _ in range(2)]


def check_painted(folder, b, samples):
    """A bound may exceed what is seen by one word: what fills the frame up to a multiple of 8 bytes is not written.
    In the whole firmware something else than the model may need the most. The figures are printed."""
    firmware = toolchain.build_firmware(folder, b)
    run, whole = (firmware.stack_bounds[f] for f in (f"{firmware.elf.stem}_run", "reset_handler"))
    assert run.reason is whole.reason is None and run.bytes < whole.bytes < b.stack
    traced, plain = (emulator.run(firmware.elf, b, samples, trace=t, timeout=120) for t in (True, False))
    seen, seen_run = traced.stack, plain.run_stack
    assert seen_run <= traced.run_stack <= stack.bound(firmware.elf, f"{firmware.elf.stem}_run").bytes
    print(f"\n{b.name}: painted {seen_run}, bound {run.bytes}; whole firmware: painted {seen}, bound {whole.bytes}; "
          f"{' > '.join(run.path)}")
    assert run.bytes - seen_run in (0, 4)
    assert 0 <= whole.bytes - seen <= 32


@needs_qemu
@pytest.mark.qemu
@pytest.mark.parametrize("name", BOARDS)
def test_kws_under_the_emulator(tmp_path, models, name):
    check_painted(*emit(tmp_path, models / "kws_int8.onnx", name))


@needs_qemu
@pytest.mark.qemu
@pytest.mark.parametrize("name", BOARDS)
def test_an_example_under_the_emulator(tmp_path, name):
    examples = ROOT / "examples"
    check_painted(*emit(tmp_path, examples / "digits_cnn.onnx", name, data=examples / "digits_calib.npz"))


@needs_qemu
@pytest.mark.qemu
@pytest.mark.parametrize("name", ["cortex-m0", "cortex-m3"])
def test_software_floats_under_the_emulator(tmp_path, name):
    check_painted(*emit(tmp_path, ROOT / "examples" / "digits_cnn.onnx", name))


@needs_qemu
@pytest.mark.qemu
@pytest.mark.parametrize("network", ["kws", "ic", "vww"])
def test_networks_need_less_than_512_bytes(tmp_path, models, network):
    built = api.build(models / f"{network}_int8.onnx", out=tmp_path / "p", goal="ram")
    run = next(x for x in built.report["memory"]["stack"] if x["function"] == f"{network}_int8_run")
    assert run["bytes"] < 512
    seen = api.validate(tmp_path / "p", on=["qemu"], samples=1).report["run_stack"]
    assert seen["ok"] and run["bytes"] - 8 <= seen["bytes"] <= seen["bound"] < 512


@needs_qemu
@pytest.mark.qemu
def test_a_run_above_its_bound_fails_validation(tmp_path, monkeypatch):
    api.build(ROOT / "examples" / "digits_cnn.onnx", out=tmp_path / "p")
    monkeypatch.setattr(stack, "bound", lambda elf, entry: stack.StackBound(16))
    result = api.validate(tmp_path / "p", on=["qemu"], samples=1)
    assert not result.ok and any("its bound is 16" in r for r in result.reasons)


# --- the whole firmware -------------------------------------------------------------------------------


@needs_arm
@pytest.mark.parametrize("name", ["cortex-m0", "cortex-m4", "cortex-m55"])
def test_leaves_use_the_frame_that_gcc_reports(tmp_path, name):
    b = board.load(name)
    firmware = toolchain.build_firmware(dummy.write(tmp_path / "p", b), b)
    found = stack.bounds(firmware.elf, firmware.stack)
    leaves = {f: s.bytes for f, s in found.items() if s.path == (f,) and s.bytes != 0}
    assert len(leaves) >= 3 and leaves == {f: firmware.stack[f] for f in leaves}
    assert set(firmware.stack_bounds) == {"dummy_init", "dummy_run", "reset_handler"}
    run = firmware.stack_bounds["dummy_run"]
    assert run == stack.bound(firmware.elf, "dummy_run", firmware.stack, without=["dummy_hook"])
    with_hook = stack.bound(firmware.elf, "dummy_run")
    assert "semihost_write" not in run.path
    if name != "cortex-m0":  # whose division of 64 bits needs more than the hook
        assert with_hook.bytes > run.bytes and "semihost_write" in with_hook.path
    assert firmware.stack_bounds["reset_handler"].path[:2] == ("reset_handler", "main")


@needs_arm
def test_gcc_may_not_report_more(tmp_path):
    b = board.load("cortex-m4")
    firmware = toolchain.build_firmware(dummy.write(tmp_path / "p", b), b)
    got = stack.bound(firmware.elf, "reset_handler", {**firmware.stack, "transfer_all": 4000})
    assert got.bytes is None and re.match("transfer_all has a frame of 4000 bytes for the compiler, .* in its code",
                                          got.reason)


def test_not_an_elf_file(tmp_path):
    (tmp_path / "x.elf").write_bytes(b"no")
    with pytest.raises(ToolchainError, match="not a 32-bit little-endian ELF"):
        stack.bound(tmp_path / "x.elf", "f")


# --- small programs -----------------------------------------------------------------------------------

CORES = {"m0": ("-mcpu=cortex-m0", "-mfloat-abi=soft"), "m3": ("-mcpu=cortex-m3", "-mfloat-abi=soft"),
         "m4": ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"), "m55": ("-mcpu=cortex-m55",)}
ASM = """
    .syntax unified
    .thumb
    .text
    .global {name}
    .type {name}, %function
{name}:
{code}
    .size {name}, . - {name}
"""


def link(tmp_path, core, source, *flags):
    """The ELF of a C or assembler text."""
    path = tmp_path / ("p.s" if ".syntax" in source else "p.c")
    path.write_text(source)
    elf = tmp_path / "p.elf"
    subprocess.run([toolchain.ARM_GCC, *CORES[core], "-mthumb", "-O2", "-ffreestanding", "-nostdlib", "-Wl,-ef",
                    "-Wl,-Ttext=0x8000", str(path), "-o", str(elf), "-lgcc", *flags], check=True)
    return elf


def assemble(tmp_path, core, *functions):
    """functions: code of f, g, h."""
    text = "".join(ASM.format(name=n, code=c.replace(";", "\n")) for n, c in zip("fgh", functions, strict=False))
    return link(tmp_path, core, text)


EXACT = [  # core, code of f and g, the bound and its path
    ("m0", ["bx lr"], 0, "f"),
    ("m0", ["push {r4, r5, lr}; sub sp, #20; add sp, #20; pop {r4, r5, pc}"], 32, "f"),
    ("m0", ["push {lr}; bl g; pop {pc}", "push {r4-r7, lr}; pop {r4-r7, pc}"], 24, "f g"),
    ("m0", ["push {lr}; sub sp, #60; add sp, #60; bl g; pop {pc}", "sub sp, #8; add sp, #8; bx lr"], 64, "f"),
    ("m0", ["push {r4, lr}; pop {r4}; pop {r3}; mov lr, r3; b g", "push {r0-r7}; add sp, #32; bx lr"], 32, "f g"),
    ("m0", ["push {r1, lr}; bl g; pop {r2, r3}; bx r3", "bx lr"], 8, "f"),
    ("m0", ["push {lr}; ldr r3, =-1000; add sp, r3; movs r3, #250; lsls r3, r3, #2; add sp, r3; pop {pc}; .pool"],
     1004, "f"),
    ("m0", ["push {r7, lr}; sub sp, #100; add r7, sp, #0; sub sp, #8; adds r7, #100; mov sp, r7; pop {r7, pc}"],
     116, "f"),
    ("m0", ["push {lr}; bl 1f; .word 0xffffffff; 1: pop {pc}"], 4, "f"),
    ("m0", ["push {lr}; bl 1f; pop {pc}; 1: push {r0, r1}; add sp, #8; bx lr"], 12, "f"),
    ("m0", ["push {r0, r1, lr}; ldr r0, =g; str r0, [sp, #4]; ldr r0, [sp, #8]; mov lr, r0; pop {r0}; pop {r1}; "
            "add sp, #4; bx r1; .pool", "push {r0-r7}; add sp, #32; bx lr"], 32, "f g"),
    ("m0", ["push {r4, lr}; ldr r4, =g + 1; blx r4; movs r0, #1; blx r4; pop {r4, pc}; .pool",
            "push {r0-r7}; add sp, #32; bx lr"], 40, "f g"),
    ("m0", ["push {lr}; cmp r0, #1; beq 1f; push {r0-r3}; add sp, #16; 1: pop {pc}"], 20, "f"),
    ("m0", ["push {lr}; bl g; .word 0xffffffff", "1: b 1b"], 4, "f"),
    ("m0", ["push {r4, lr}; lsls r0, #2; ldr r3, =9f; ldr r3, [r3, r0]; mov pc, r3; 1: pop {r4, pc}; "
            "2: push {r0-r2}; add sp, #12; b 1b; .pool; .data; 9: .word 1b; .word 2b; .text"], 20, "f"),
    ("m3", ["push {r4, lr}; cmp r0, #2; bhi 9f; tbb [pc, r0]; 1: .byte 2, 3, 6, 0; pop {r4, pc}; "
            "sub.w sp, sp, #1024; add.w sp, sp, #1024; 9: pop {r4, pc}"], 1032, "f"),
    ("m3", ["str lr, [sp, #-8]!; cmp r0, #1; it eq; ldreq pc, [sp], #8; bl g; ldr lr, [sp], #8; bx lr",
            "strd r4, lr, [sp, #-16]!; ldrd r4, lr, [sp], #16; bx lr"], 24, "f g"),
    ("m3", ["stmdb sp!, {r4-r11, lr}; subw sp, sp, #4000; addw sp, sp, #4000; ldmia.w sp!, {r4-r11, lr}; b.w g",
            "cbz r0, 1f; push {r0}; pop {r0}; 1: bx lr"], 4036, "f"),
    ("m3", ["movw r3, #4660; movt r3, #1; sub.w sp, sp, r3; add.w sp, sp, r3; bx lr"], 70196, "f"),
    ("m4", ["vpush {d8-d15}; vpush {s0}; vpop {s0}; vpop {d8-d15}; bx lr"], 68, "f"),
    ("m4", ["push {r4, lr}; sub sp, #8; vmov r3, s0; adr r1, 2f; adds r1, #1; str r1, [sp, #4]; ldr pc, [sp, #4]; "
            "1: add sp, #8; pop {r4, pc}; .balign 4; 2: push {r0, r1}; add sp, #8; b 1b"], 24, "f"),
    ("m55", ["push {r4, lr}; dls lr, r0; 1: push {r0}; pop {r0}; le lr, 1b; pop {r4, pc}"], 12, "f"),
    ("m55", ["push {r4, lr}; vctp.8 r0; dlstp.8 lr, r0; 1: push {r0}; pop {r0}; letp lr, 1b; wlstp.16 lr, r0, 2f; "
             "1: push {r0, r1}; pop {r0, r1}; letp lr, 1b; 2: pop {r4, pc}"], 16, "f"),
    ("m55", ["push {lr}; wls lr, r0, 2f; 1: nop; le lr, 1b; 2: pop {pc}"], 4, "f"),
]


@needs_arm
@pytest.mark.parametrize(("core", "code", "most", "path"), EXACT)
def test_exact(tmp_path, core, code, most, path):
    assert stack.bound(assemble(tmp_path, core, *code), "f") == stack.StackBound(most, tuple(path.split()))


REFUSED = [
    ("m0", ["push {r4, lr}; bl f; pop {r4, pc}"], "recursion: f > f"),
    ("m0", ["push {r4, lr}; bl g; pop {r4, pc}", "push {r4, lr}; bl h; pop {r4, pc}", "push {lr}; bl g; pop {pc}"],
     "recursion: g > h > g"),
    ("m0", ["push {r4, lr}; blx r3; pop {r4, pc}"], "f calls through a pointer at 0x00008002"),
    ("m3", ["ldr r3, [r0]; bx r3"], "f calls through a pointer at"),
    ("m0", ["push {lr}; mov sp, r0; pop {pc}"], "f moves the stack pointer by an amount that is not constant at"),
    ("m3", ["push {lr}; sub.w sp, sp, r0; pop {pc}"], "f moves the stack pointer by an amount that is not constant"),
    ("m3", ["ldr sp, [r0]; bx lr"], "f moves the stack pointer by an amount that is not constant"),
    ("m0", ["1: push {r0}; subs r0, #1; bne 1b; bx lr"], "f lets the stack grow in a loop at"),
    ("m0", ["push {r0}; bx lr"], "f returns with 4 bytes left on the stack at"),
    ("m0", ["pop {r0}; bx lr"], "f takes more from the stack than it put there at"),
    ("m0", ["push {r0}; pop {pc}"], "f returns to an address that is not its caller's at"),
    ("m0", ["push {lr}; adds r3, r0; mov pc, r3; push {r4}; mov pc, r3; pop {r4}; pop {pc}"],
     "f lets the stack grow in a loop at"),  # the inner table may lead to the push
    ("m0", ["msr psp, r0; bx lr"], "f changes to another stack at"),
    ("m0", ["svc #0; bx lr"], "f makes a supervisor call at"),
    ("m0", ["push {lr}; bl g + 2; pop {pc}", "nop; bx lr"], "f calls into the middle of g at"),
    ("m0", ["nop; .word 0"], "f runs into data at"),
    ("m0", ["push {lr}; nop"], "f goes on outside the functions at"),
]


@needs_arm
@pytest.mark.parametrize(("core", "code", "reason"), REFUSED)
def test_refused(tmp_path, core, code, reason):
    got = stack.bound(assemble(tmp_path, core, *code), "f")
    assert got.bytes is None and got.path == () and got.reason.startswith(reason)


@needs_arm
def test_a_missing_function(tmp_path):
    elf = assemble(tmp_path, "m0", "bx lr")
    assert stack.bound(elf, "other").reason == "there is no function other"
    assert stack.bounds(elf, ["f", "other"])["f"].bytes == 0


@needs_arm
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("opt", ["-O2", "-Os"])
def test_c_programs(tmp_path, core, opt):
    """What compilers make of large frames, switches, and frames whose size is not known."""
    elf = link(tmp_path, core, """
        void use(void *p); void use(void *p) { __asm__ volatile("" :: "r"(p) : "memory"); }
        void big(void); void big(void) { char a[3000]; use(a); }
        void vla(int n); void vla(int n) { char a[n]; use(a); }
        int sw(int n); int sw(int n) {
            switch (n) {
            case 0: use(0); return 3;
            case 1: { char a[40]; use(a); return 7; }
            case 2: { char a[800]; use(a); use(a + 1); return 9; }
            case 3: big(); return 1;
            case 4: use(&n); return n;
            default: return 0;
            }
        }
        int f(int n); int f(int n) { big(); vla(n); return sw(n); }
    """, opt, "-fno-inline")
    found = stack.bounds(elf, ["big", "vla", "sw"])
    assert 3000 <= found["big"].bytes <= 3016 and found["big"].path == ("big",)
    assert "not constant" in found["vla"].reason
    assert found["sw"].path == ("sw", "big") and found["big"].bytes + 800 <= found["sw"].bytes <= 3900


# --- the decoder, and the compiler's arithmetic -----------------------------------------------------------


@pytest.fixture(scope="module", params=["m0", "m3", "m4"])
def libgcc(tmp_path_factory, request):
    """All of the compiler's library for a core, in one file."""
    return link(tmp_path_factory.mktemp("libgcc"), request.param, "void f(void); void f(void) {}",
                "-Wl,--whole-archive", "-lgcc", "-Wl,--no-whole-archive", "-Wl,--unresolved-symbols=ignore-all",
                "-Wl,--allow-multiple-definition")


@needs_arm
def test_all_arithmetic_has_a_bound(libgcc):
    listed = subprocess.run(["arm-none-eabi-nm", libgcc], capture_output=True, text=True, check=True).stdout
    names = re.findall(r" [TW] (__aeabi_[dfiul](?!nwind)\w+)$", listed, re.MULTILINE)
    assert len(names) > 50
    found = stack.bounds(libgcc, names)
    assert {n: s.reason for n, s in found.items() if s.reason} == {}
    assert all(s.bytes < 150 for s in found.values())


@needs_arm
def test_the_decoder_agrees_with_objdump(libgcc):
    """Of every instruction: length, where it may go, how far sp moves, and that what it writes is no longer known."""
    listed = subprocess.run(["arm-none-eabi-objdump", "-d", "--no-show-raw-insn", libgcc], capture_output=True,
                            text=True, check=True).stdout
    lines = re.findall(r"^ +([0-9a-f]+):\t(\S+)(?:\t([^@;<\n]*))?", listed, re.MULTILINE)
    program, checked = stack._read(libgcc), 0
    for (at, mnemonic, operands), (after, _, _) in zip(lines, lines[1:], strict=False):
        start, gap = int(at, 16), int(after, 16) - int(at, 16)
        if program.is_code(start) and not mnemonic.startswith((".", "udf", "svc", "blx")) and gap in (2, 4):
            assert thumb.length(program.halfword(start)) == gap, (at, mnemonic)
            check_instruction(program, start, mnemonic, operands.strip())
            checked += 1
    assert checked > 5000


NAMES = {f"r{i}": i for i in range(16)} | {"sl": 10, "fp": 11, "ip": 12, "sp": 13, "lr": 14, "pc": 15}
WRITES_NOTHING = re.compile(r"(b|bl|bx|blx|cb|cmp|cmn|tst|teq|str|stm|push|it|nop|v|msr|bkpt|pld|dmb|dsb|isb)")


def check_instruction(program, at, mnemonic, operands):
    """All registers hold a number before, different in each."""
    depth, numbers = 4000, {r: thumb.Value("number", 3 ** (r + 20) % 2**32) for r in range(15) if r != thumb.SP}
    state = thumb.State(depth, dict(numbers))
    what = f"{at:x} {mnemonic} {operands}"
    try:
        flow = thumb.execute(program.halfword, at, state)
    except thumb.Refusal as e:
        assert sp_is_written(mnemonic, operands) or "pointer" in str(e) or "address" in str(e), what
        return
    plain = mnemonic.split(".")[0]
    if not re.match(r"sp, [rfi]", operands):  # by a register: see EXACT
        assert state.depth == depth + moved(plain, operands), what
    if (target := re.search(r"(?:^|, )([0-9a-f]+)$", operands)) and plain[0] == "b" and plain not in ("bic", "bics"):
        assert flow.to == int(target[1], 16), what
        call = re.fullmatch("bl(..)?", plain) and plain not in ("blt", "ble", "bls")
        plain_jump = plain == "b" or (plain[0] == "b" and flow.go is thumb.Go.JUMP)  # beq in an IT block is a b
        assert flow.go is (thumb.Go.CALL if call else thumb.Go.JUMP if plain_jump else thumb.Go.BRANCH), what
    for register in written(plain, operands):
        if register not in (thumb.SP, thumb.PC):
            assert state.known.get(register) != numbers[register], what


def sp_is_written(mnemonic, operands):
    return operands.startswith("sp") or re.search(r"\[sp.*(!|\], #)", operands) or mnemonic in ("pop", "push")


def moved(mnemonic, operands):
    """Bytes that sp moves down, by the text of the instruction."""
    count = sum(spread(operands)) if "{" in operands else 0
    if mnemonic == "push" or (mnemonic.startswith("stmdb") and operands.startswith("sp!")):
        return 4 * count
    if mnemonic == "pop" or (mnemonic.startswith("ldmia") and operands.startswith("sp!")):
        return -4 * count
    if mnemonic in ("vpush", "vpop"):
        return (1 if mnemonic == "vpush" else -1) * (8 if "d" in operands else 4) * count
    if found := re.fullmatch(r"sp, (?:sp, )?#(-?\d+)", operands):
        return int(found[1]) * (1 if mnemonic.startswith("sub") else -1)
    found = re.search(r"\[sp(?:\], #(-?\d+)|, #(-?\d+)\]!)", operands)
    return -int(found[1] or found[2]) if found else 0


def spread(operands):
    """1 for each register of the list in braces, ranges spread out."""
    for part in re.search(r"{(.*)}", operands)[1].split(", "):
        ends = [NAMES.get(e, int(e[1:]) if e[1:].isdigit() else 0) for e in part.split("-")]
        yield ends[-1] - ends[0] + 1


def written(mnemonic, operands):
    """Core registers that an instruction writes; those of a list are left out where it is not a plain one."""
    if "{" in operands:
        return [NAMES[r] for r in re.findall(r"\w+", operands.split("{")[1]) if r in NAMES and
                mnemonic.startswith(("pop", "ldm"))]
    if mnemonic.startswith("vmov") or mnemonic.startswith("vmrs"):
        return [NAMES[r] for r in operands.split(", ")[:2] if r in NAMES and operands.startswith(("r", "ip", "lr"))]
    if (WRITES_NOTHING.match(mnemonic) and not mnemonic.startswith("bic")) or re.fullmatch(r"(\w+), (\1|#0)", operands):
        return []  # or writes what is there already: add r0, #0
    both = mnemonic.startswith(("ldrd", "umull", "smull", "umlal", "smlal"))
    return [NAMES[r] for r in operands.split(", ")[:2 if both else 1] if r in NAMES]
