"""Compilers, firmware under the emulator, the model on this computer, flashing: on a hand-made package."""
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace

import dummy_package as dummy
import numpy as np
import pytest

from edgec import board, doctor, elf, emulator, flash, host, package, paths, toolchain
from edgec.errors import BudgetError, DeviceError, ToolchainError, UsageError, ValidationError

EMULATED = [n for n in board.names() if board.load(n).emulator]
M4 = board.load("cortex-m4")
needs_arm = pytest.mark.skipif(shutil.which(toolchain.ARM_GCC) is None, reason="needs arm-none-eabi-gcc")
needs_qemu = pytest.mark.skipif(None in map(shutil.which, (toolchain.ARM_GCC, "qemu-system-arm")),
                                reason="needs arm-none-eabi-gcc and qemu-system-arm")


@pytest.fixture(scope="module")
def m4(tmp_path_factory):
    """The package for cortex-m4, built."""
    folder = dummy.write(tmp_path_factory.mktemp("m4") / "p", M4)
    return toolchain.build_firmware(folder, M4)


def build(tmp_path, name="cortex-m4", **options):
    b = board.load(name)
    return toolchain.build_firmware(dummy.write(tmp_path / "p", b, **options), b), b


def run_command(b, image, arguments=""):
    command = [c.replace("{elf}", str(image)).replace("{arguments}", arguments) for c in b.emulator]
    return subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)


# --- the same bits everywhere ------------------------------------------------------------------


@needs_qemu
@pytest.mark.qemu
@pytest.mark.parametrize("name", EMULATED)
def test_target_equals_host(tmp_path, name):
    firmware, b = build(tmp_path, name)
    assert firmware.warnings == ""
    model = host.load(firmware.elf.parent)
    data = dummy.samples(3)
    wanted = [model.trace_bytes(dummy.raw(s)) for s in data]
    got = emulator.run(firmware.elf, b, [dummy.raw(s) for s in data], trace=True, timeout=60)
    assert got.outputs == [w[0] for w in wanted]
    assert got.traces == [w[1] for w in wanted] and sorted(got.traces[0]) == [0, 1, 2]
    assert [np.frombuffer(o[0], np.int8).tolist() for o in got.outputs] == [dummy.columns(s[0]).tolist() for s in data]
    assert max(firmware.stack.values()) <= got.stack < b.stack
    assert emulator.run(firmware.elf, b, [dummy.raw(s) for s in data], timeout=60).outputs == got.outputs


@needs_qemu
@pytest.mark.qemu
def test_without_arguments_it_prints_the_hash_of_a_fixed_pattern(m4):
    state = 1

    def random():
        nonlocal state
        state = (state * 1664525 + 1013904223) % 2**32
        return state >> 24

    image = np.array([random() for _ in range(24)], np.uint8).view(np.int8)
    floats = np.array([(random() - 128) / 64 for _ in range(6)], np.float32)
    value = 2166136261
    for byte in b"".join(host.load(m4.elf.parent).run_bytes(dummy.raw([image, floats]))):
        value = (value ^ byte) * 16777619 % 2**32
    done = run_command(M4, m4.elf)
    assert (done.stdout, done.stderr, done.returncode) == (f"dummy: {value:08x}\n", "", 0)


@needs_qemu
@pytest.mark.qemu
def test_the_name_model_does_not_collide_with_the_firmware(tmp_path):
    firmware, b = build(tmp_path, name="cortex-m3")
    other = dummy.write(tmp_path / "model", b, name="model")
    data = [dummy.raw(s) for s in dummy.samples(1)]
    renamed = emulator.run(toolchain.build_firmware(other, b).elf, b, data)
    assert renamed.outputs == emulator.run(firmware.elf, b, data).outputs == [host.load(other).run_bytes(data[0])]


@needs_qemu
@pytest.mark.qemu
@pytest.mark.parametrize("name", ["cortex-m0", "cortex-m33", "cortex-m55"])
def test_variables_have_their_initial_values(tmp_path, name):
    firmware, b = build(tmp_path, name, edit=("dummy_hook(m, 0u);", """{
        static volatile int8_t set = 42, zero;
        y[0] = (int8_t)(set++ + zero);
    }"""))
    assert firmware.sections[".data"] == 4
    outputs = emulator.run(firmware.elf, b, [dummy.raw(s) for s in dummy.samples(3)]).outputs
    assert [o[0][0] for o in outputs] == [42, 43, 44]


@needs_qemu
@pytest.mark.qemu
@pytest.mark.parametrize("name", [n for n in EMULATED if "dsp" in board.load(n).isa])
def test_boards_with_isa_dsp_have_simd_instructions(tmp_path, name):
    firmware, b = build(tmp_path, name, edit=("dummy_hook(m, 0u);", """{
        int32_t sum;
        __asm__("smlad %0, %1, %2, %3" : "=r"(sum) : "r"(0x00020003), "r"(0x00050007), "r"(-40));
        y[0] = (int8_t)sum;
    }"""))
    outputs = emulator.run(firmware.elf, b, [dummy.raw(s) for s in dummy.samples(1)]).outputs
    assert outputs[0][0][0] == 256 + 2 * 5 + 3 * 7 - 40


@needs_qemu
@pytest.mark.slow
@pytest.mark.parametrize("name", EMULATED)
def test_zig_gives_the_same_bits(tmp_path, name):
    pytest.importorskip("ziglang")
    b = board.load(name)
    firmware = toolchain.build_firmware(dummy.write(tmp_path / "p", b), b, toolchain.zig())
    data = [dummy.raw(s) for s in dummy.samples(3)]
    model = host.load(firmware.elf.parent)
    assert emulator.run(firmware.elf, b, data).outputs == [model.run_bytes(d) for d in data]
    assert firmware.warnings == "" and "dummy_run" in {s.name for s in firmware.symbols}
    assert b"/" + b"ziglang" not in firmware.elf.read_bytes()


# --- building ------------------------------------------------------------------------------------


@needs_arm
def test_sizes_and_symbols(m4):
    assert m4.sections[".arena"] == 128 and m4.sections[".stack"] == 8192 and m4.sections[".vectors"] == 64
    loaded = sum(m4.sections[s] for s in (".vectors", ".text", ".rodata"))
    assert m4.flash_used == loaded + m4.sections.get(".data", 0)
    assert m4.ram_used == m4.sections[".arena"] + m4.sections[".bss"] + m4.sections.get(".data", 0)
    sizes = {s.name: (s.size, s.section) for s in m4.symbols}
    assert sizes["dummy_weights"] == (24, ".rodata") and sizes["arena"] == (128, ".arena")
    listed = subprocess.run(["arm-none-eabi-nm", "-S", m4.elf], capture_output=True, text=True, check=True).stdout
    assert sizes["dummy_run"][0] == int(re.search(r"^\w+ (\w+) T dummy_run$", listed, re.MULTILINE)[1], 16)
    assert m4.stack["dummy_run"] > 0 and "arm-none-eabi" in m4.compiler.version


@needs_arm
def test_images_equal_those_of_objcopy(m4, tmp_path):
    subprocess.run(["arm-none-eabi-objcopy", "-O", "binary", m4.elf, tmp_path / "bin"], check=True)
    subprocess.run(["arm-none-eabi-objcopy", "-I", "ihex", "-O", "binary", m4.hex, tmp_path / "hex"], check=True)
    assert m4.bin.read_bytes() == (tmp_path / "bin").read_bytes() == (tmp_path / "hex").read_bytes()


def test_hex_crosses_64_kilobytes():
    text = elf.intel_hex(elf.Elf((), (), ((0x0800FFF8, bytes(range(16))),)))
    assert text.splitlines() == [":020000040800F2", ":08FFF8000001020304050607E5", ":020000040801F1",
                                 ":0800000008090A0B0C0D0E0F9C", ":00000001FF"]


@needs_arm
def test_no_flat_image_across_a_hole(tmp_path):
    firmware, _ = build(tmp_path, "cortex-m55")
    assert firmware.bin is None and not list(firmware.elf.parent.glob("*.bin")) and firmware.hex.exists()


@needs_arm
@pytest.mark.parametrize("name", ["cortex-m4", "cortex-m55"])
def test_the_makefile_gives_the_same_bytes_elsewhere(tmp_path, name):
    firmware, b = build(tmp_path, name)
    other = dummy.write(tmp_path / "some where", b)
    subprocess.run(["make", "-s", "-C", other, "libdummy.a", "firmware"], check=True, capture_output=True)
    assert (other / "dummy.elf").read_bytes() == firmware.elf.read_bytes()
    assert (other / "dummy.bin").exists() == (firmware.bin is not None)
    members = subprocess.run(["arm-none-eabi-ar", "t", other / "libdummy.a"], capture_output=True, text=True)
    assert members.stdout.split() == ["dummy.o", "dummy_weights.o"]
    subprocess.run(["make", "-s", "-C", other, "clean"], check=True)
    assert not (other / "dummy.elf").exists()


@needs_qemu
@pytest.mark.qemu
@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake")
def test_cmake_firmware(tmp_path):
    folder = dummy.write(tmp_path / "some where", M4)
    for step in (["-S", folder, "-B", folder / "build"], ["--build", folder / "build"]):
        subprocess.run(["cmake", *step], check=True, capture_output=True)
    assert (folder / "build" / "libdummy.a").exists()
    shutil.copy(folder / "build" / "dummy.elf", folder)
    data = [dummy.raw(s) for s in dummy.samples(1)]
    assert emulator.run(folder / "dummy.elf", M4, data).outputs == [host.load(folder).run_bytes(data[0])]


@pytest.mark.skipif(shutil.which("cmake") is None, reason="needs cmake")
def test_cmake_library_in_a_project(tmp_path):
    dummy.write(tmp_path / "model", M4)
    (tmp_path / "CMakeLists.txt").write_text("cmake_minimum_required(VERSION 3.16)\nproject(p C)\n"
                                             "add_subdirectory(model)\nadd_executable(app app.c)\n"
                                             "target_link_libraries(app dummy)\n")
    (tmp_path / "app.c").write_text('#include "dummy.h"\nint main(void) { return dummy_info.n_steps; }\n')
    for step in (["-S", tmp_path, "-B", tmp_path / "build"], ["--build", tmp_path / "build"]):
        subprocess.run(["cmake", *step], check=True, capture_output=True)
    assert subprocess.run([tmp_path / "build" / "app"]).returncode == 3


def test_the_host_makefile(tmp_path):
    folder = dummy.write(tmp_path / "p", board.load("host"))
    subprocess.run(["make", "-s", "-C", folder, "CFLAGS=-Werror"], check=True, capture_output=True)
    assert (folder / "libdummy.a").exists()


@needs_arm
@pytest.mark.parametrize(("memory", "size", "largest"), [("flash", 0x400, "__udivmoddi4"), ("ram", 0x2080, "arena")])
def test_over_budget_names_the_memory_and_what_is_large(tmp_path, memory, size, largest):
    memories = tuple(replace(m, size=size) if m.name == memory else m for m in M4.memories)
    small = replace(M4, memories=memories)
    with pytest.raises(BudgetError) as e:
        toolchain.build_firmware(dummy.write(tmp_path / "p", small), small)
    assert re.search(rf"{memory} \({size} bytes\) is exceeded by \d+ bytes; largest: .*{largest} \d+", e.value.what)
    assert not list((tmp_path / "p").glob("*.elf"))


@needs_arm
def test_a_broken_source_names_the_file(tmp_path):
    with pytest.raises(ToolchainError, match=r"compiling dummy.c failed: (.|\n)*dummy\.c:\d+"):
        build(tmp_path, edit=("return EC_OK;", "return EC_NONSENSE;"))


@needs_arm
def test_a_missing_function_is_a_link_error(tmp_path):
    with pytest.raises(ToolchainError, match=r"linking failed: (.|\n)*undefined reference to `elsewhere'"):
        build(tmp_path, edit=("dummy_hook(m, 0u);", "{ extern void elsewhere(void); elsewhere(); }"))


def test_no_firmware_for_the_host(tmp_path):
    with pytest.raises(UsageError, match="no firmware"):
        build(tmp_path, "host")


def test_not_a_package(tmp_path):
    with pytest.raises(UsageError, match="not an emitted package"):
        package.read(tmp_path)


# --- finding tools -------------------------------------------------------------------------------


def test_missing_compilers(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("EDGEC_ARM_GCC", raising=False)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(toolchain, "zig", lambda: None)
    for find, apt in ((toolchain.find_arm, "gcc-arm-none-eabi"), (toolchain.find_host, "gcc")):
        with pytest.raises(ToolchainError) as e:
            find()
        assert f"apt-get install {apt}" in e.value.fix and "edgec[zig]" in e.value.fix


def test_a_wrong_choice_of_compiler(monkeypatch):
    monkeypatch.setenv("EDGEC_ARM_GCC", "no-such-gcc")
    with pytest.raises(ToolchainError, match="EDGEC_ARM_GCC names 'no-such-gcc'"):
        toolchain.find_arm()
    with pytest.raises(ToolchainError, match="no-such-cc"):
        toolchain.find_host("no-such-cc")


@needs_arm
def test_the_choice_of_compiler(monkeypatch):
    path = shutil.which(toolchain.ARM_GCC)
    monkeypatch.setenv("EDGEC_ARM_GCC", path)
    monkeypatch.setenv("CC", "gcc -m64")
    assert toolchain.find_arm().command == (path,)
    assert toolchain.find_host().command == (shutil.which("gcc"), "-m64")


def test_doctor():
    tools = {t.name: t for t in doctor.doctor()}
    assert tools["host C compiler"].version and all(t.purpose and t.install for t in tools.values())
    assert bool(tools["qemu-system-arm"].version) == bool(shutil.which("qemu-system-arm"))
    assert {"arm-none-eabi-gcc", "ziglang", "onnxruntime", "openocd", "pyocd", "st-flash"} < set(tools)


def test_doctor_without_anything(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(toolchain, "zig", lambda: None)
    tools = {t.name: t for t in doctor.doctor()}
    assert tools["host C compiler"].version is tools["qemu-system-arm"].version is tools["openocd"].version is None


# --- what can go wrong on the target ----------------------------------------------------------------


@needs_qemu
@pytest.mark.qemu
@pytest.mark.parametrize(("old", "new", "said"), [
    ("dummy_hook(m, 0u);", "*(volatile int *)0xF0000000u = 1;", r"fault: fault at 0x\w{8} called from 0x\w{8}"),
    ("dummy_hook(m, 0u);", "volatile char big[9000]; big[0] = 1;", "fault: fault: stack overflow"),
    ("dummy_hook(m, 0u);", "return EC_ERR_NULL;", "run failed"),
    ("if (m == NULL ||", "if (m != NULL ||", "init failed"),
    ("dummy_hook(m, 0u);", "for (;;) { dummy_hook(m, 0u); }", "did not end within 0.5 s"),
])
def test_failures_on_the_target(tmp_path, old, new, said):
    firmware, b = build(tmp_path, edit=(old, new))
    with pytest.raises(DeviceError, match=said):
        emulator.run(firmware.elf, b, [dummy.raw(s) for s in dummy.samples(1)], timeout=0.5 if "0.5" in said else 60)


@needs_qemu
@pytest.mark.qemu
def test_an_m0_does_not_forgive_unaligned_access(tmp_path):
    edit = ("dummy_hook(m, 0u);", '__asm__ volatile("ldr r3, [%0]" : : "r"(m->arena + 1) : "r3");')
    data = [dummy.raw(s) for s in dummy.samples(1)]
    firmware, b = build(tmp_path / "m0", "cortex-m0", edit=edit)
    with pytest.raises(DeviceError, match="fault at"):
        emulator.run(firmware.elf, b, data)
    firmware, b = build(tmp_path / "m4", "cortex-m4", edit=edit)
    assert len(emulator.run(firmware.elf, b, data).outputs) == 1


@needs_qemu
@pytest.mark.qemu
@pytest.mark.parametrize(("arguments", "code"), [
    (",arg=x,arg=run", 2), (",arg=x,arg=run,arg=a,arg=b,arg=c", 2), (",arg=x,arg=run,arg=/nowhere,arg=out", 4),
    (",arg=x,arg=run,arg=short,arg=out", 4), (",arg=x,arg=run,arg=whole,arg=/nowhere/out", 5),
])
def test_exit_codes(m4, tmp_path, monkeypatch, arguments, code):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short").write_bytes(bytes(50))  # a sample has 48 bytes
    (tmp_path / "whole").write_bytes(bytes(48))
    assert run_command(M4, m4.elf, arguments).returncode == code


@needs_qemu
@pytest.mark.qemu
@pytest.mark.parametrize("name", ["cortex-m0", "cortex-m33"])
def test_without_a_debugger_it_runs_to_the_end(tmp_path, name):
    firmware, b = build(tmp_path, name)
    command = [*b.emulator[:3], "-display", "none", "-serial", "none", "-monitor", "stdio", "-kernel", firmware.elf]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as qemu:
        time.sleep(0.5)
        said, _ = qemu.communicate("info registers\nquit\n", timeout=60)
    at = int(re.search(r"R15=(\w{8})", said)[1], 16)
    listed = subprocess.run(["arm-none-eabi-nm", "-S", firmware.elf], capture_output=True, text=True, check=True).stdout
    start, size = (int(x, 16) for x in re.search(r"^(\w+) (\w+) T semihost_exit$", listed, re.MULTILINE).groups())
    assert start <= at < start + size


def test_no_emulator(m4, monkeypatch):
    data = [dummy.raw(s) for s in dummy.samples(1)]
    with pytest.raises(DeviceError, match="nucleo-f446re has no emulator"):
        emulator.run(m4.elf, board.load("nucleo-f446re"), data)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DeviceError, match="apt-get install qemu-system-arm") as e:
        emulator.run(m4.elf, M4, data)
    assert "not installed" in e.value.what


def test_samples_that_do_not_fit(m4):
    with pytest.raises(UsageError, match=r"sample 1 has inputs of \(24,\) bytes"):
        emulator.run(m4.elf, M4, [dummy.raw(dummy.samples(1)[0]), [bytes(24)]])


# --- the model on this computer ---------------------------------------------------------------------


@pytest.fixture
def on_host(tmp_path):
    return dummy.write(tmp_path / "h", board.load("host"))


@pytest.mark.parametrize("cc", ["gcc", "clang"])
def test_host_model(on_host, cc):
    if shutil.which(cc) is None:
        pytest.skip(f"needs {cc}")
    model = host.load(on_host, cc=cc)
    assert (model.name, model.hash, model.arena_bytes) == ("dummy", "0123", 128)
    assert model.inputs[0] == host.TensorInfo("image", "int8", (3, 8), 24, 0.125, 3)
    columns, mixed = model.outputs
    assert (columns.dtype, columns.shape, mixed.dtype, mixed.shape) == ("int8", (8,), "float32", (7,))
    sample = dummy.samples(1)[0]
    outputs = model.run(sample)
    assert outputs[0].tolist() == dummy.columns(sample[0]).tolist() and outputs[1].dtype == np.float32
    again, trace = model.trace_bytes(dummy.raw(sample))
    assert again == [o.tobytes() for o in outputs]
    assert [s.name for s in model.steps] == ["columns", "mix", "last"]
    assert trace == {0: again[0], 1: again[1][:24], 2: again[1][24:]}
    model.reset()


def test_inputs_that_do_not_fit(on_host):
    model = host.load(on_host)
    image, floats = dummy.samples(1)[0]
    for wrong in ([image], [image.astype(np.int16), floats], [image[:2], floats], [floats, image]):
        with pytest.raises(UsageError):
            model.run(wrong)
    with pytest.raises(UsageError, match="23 bytes"):
        model.run_bytes([bytes(23), bytes(24)])


def test_two_models_of_one_name_and_two_instances_of_one(tmp_path, on_host):
    other = dummy.write(tmp_path / "o", board.load("host"), edit=("1 << 30", "1 << 29"))
    sample = dummy.samples(1)[0]
    first, second, third = host.load(on_host), host.load(other), host.load(on_host)
    wanted = first.run(sample)[0].tolist()
    assert wanted == third.run(sample)[0].tolist() != second.run(sample)[0].tolist()
    assert first._lib is third._lib is not second._lib
    assert sorted(second.trace_bytes(dummy.raw(sample))[1]) == [0, 1, 2]


@pytest.mark.parametrize("byte", ["-1", "DUMMY_ARENA_BYTES"])
def test_a_write_outside_the_arena_is_noticed(tmp_path, byte):
    folder = dummy.write(tmp_path / "p", board.load("host"),
                         edit=("dummy_hook(m, 1u);", f"(&m->arena[0] + (int)({byte}))[0] = 7u;"))
    with pytest.raises(ValidationError, match="outside its arena"):
        host.load(folder).run(dummy.samples(1)[0])


def test_status_of_the_model(tmp_path):
    folder = dummy.write(tmp_path / "p", board.load("host"), edit=("dummy_hook(m, 1u);", "return EC_ERR_NULL;"))
    with pytest.raises(ValidationError, match="dummy_run returned 1"):
        host.load(folder).run(dummy.samples(1)[0])


def test_a_warning_is_an_error(tmp_path):
    folder = dummy.write(tmp_path / "p", board.load("host"), edit=("dummy_hook(m, 1u);", "int unused;"))
    with pytest.raises(ToolchainError, match="unused"):
        host.load(folder)


def test_flags(on_host):
    model = host.load(on_host, flags=("-fsanitize=undefined", "-fno-sanitize-recover=all"))
    sample = dummy.samples(1)[0]
    assert model.run(sample)[0].tolist() == dummy.columns(sample[0]).tolist()


def test_simd_on_host(on_host, tmp_path, monkeypatch):
    """The package's own SIMD header does not compile here; the one for the host takes its place."""
    (on_host / "runtime" / "ec_simd.h").write_text("#error needs an ARM core\n")
    stand_in = tmp_path / "simd" / "dsp_on_host"
    stand_in.mkdir(parents=True)
    (stand_in / "ec_simd.h").write_text("#define EC_SIMD 2\n")
    (stand_in / "unused.h").write_text("#error not a header of this package\n")
    real = paths.data
    monkeypatch.setattr(paths, "data", lambda kind: tmp_path if kind == "runtime_c" else real(kind))
    with pytest.raises(ToolchainError, match="needs an ARM core"):
        host.load(on_host)
    sample = dummy.samples(1)[0]
    assert host.load(on_host, simd_on_host=True).run(sample)[0].tolist() == dummy.columns(sample[0]).tolist()


# --- flashing ----------------------------------------------------------------------------------------

NUCLEO = board.load("nucleo-f446re")


@pytest.fixture
def built(tmp_path):
    folder = dummy.write(tmp_path / "b", NUCLEO)
    (folder / "dummy.elf").write_bytes(b"")
    return folder


def test_flash_command_lines(built):
    image = str(built / "dummy.elf")
    assert flash.flash(built, NUCLEO, "openocd", dry_run=True) == [
        "openocd", "-f", "board/st_nucleo_f4.cfg", "-c", f"program {{{image}}} verify reset exit"]
    assert flash.flash(built, NUCLEO, "pyocd", dry_run=True) == [
        "pyocd", "flash", "--target", "stm32f446retx", image]
    assert flash.flash(built, NUCLEO, "st-flash", dry_run=True) == [
        "st-flash", "--reset", "write", str(built / "dummy.bin"), "0x08000000"]


def test_flash_picks_an_installed_tool_and_runs_it(built, tmp_path, monkeypatch):
    tool = tmp_path / "bin" / "pyocd"
    tool.parent.mkdir()
    log = str(tmp_path / "log")
    tool.write_text(f'#!{sys.executable}\nimport sys\nopen({log!r}, "w").write(" ".join(sys.argv[1:]))\n'
                    'sys.exit("boom" in sys.argv[-1])\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tool.parent))
    assert flash.flash(built, NUCLEO)[0] == "pyocd"
    assert (tmp_path / "log").read_text() == f"flash --target stm32f446retx {built / 'dummy.elf'}"
    with pytest.raises(DeviceError, match="pyocd failed with exit code 1"):
        flash.flash(built, replace(NUCLEO, flash={"pyocd": ("pyocd", "boom")}))


def test_flash_refuses(built, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DeviceError, match="no flash tool is installed") as e:
        flash.flash(built, NUCLEO)
    assert all(t in e.value.fix for t in ("openocd", "edgec[flash]", "stlink-tools"))
    assert flash.flash(built, NUCLEO, dry_run=True)[0] == "openocd"
    with pytest.raises(UsageError, match="cannot be flashed with 'jlink'"):
        flash.flash(built, NUCLEO, "jlink")
    with pytest.raises(UsageError, match="not a board that can be flashed"):
        flash.flash(built, M4)
    (built / "dummy.elf").unlink()
    with pytest.raises(UsageError, match="no firmware"):
        flash.flash(built, NUCLEO)
