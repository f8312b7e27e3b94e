import itertools

import pytest

from edgec import board, firmware
from edgec.errors import UsageError

EMULATED = ["cortex-m0", "cortex-m0plus", "cortex-m3", "cortex-m33", "cortex-m4", "cortex-m55", "cortex-m7", "cortex-m7-tcm"]
GOOD = """
name = "mine"
description = "a board"
cpu = "cortex-m3"
isa = ["c99"]
flags = ["-mcpu=cortex-m3"]
code = "rom"
data = "ram"
stack = 1024
[memories.rom]
kind = "flash"
origin = 0x0
size = 0x1000
[memories.ram]
kind = "ram"
origin = 0x20000000
size = 0x800
"""


def write(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return str(path)


def test_names():
    assert board.names() == ["host", *EMULATED, "nucleo-f446re"]


@pytest.mark.parametrize("name", board.names())
def test_every_board_is_complete(name):
    b = board.load(name)
    assert b.name == name and b.description and b.isa[-1] == "c99"
    assert ("dsp" in b.isa) == (b.cpu in ("cortex-m4", "cortex-m7", "cortex-m33"))
    assert ("mve" in b.isa) == (b.cpu == "cortex-m55")
    if b.is_host:
        assert b.memories == () and b.emulator == () and b.flash_bytes == b.ram_bytes == 0
        return
    assert any(f.startswith(f"-mcpu={b.cpu}") for f in b.flags) and "-mthumb" in b.flags
    assert ("hf" in b.zig_flags[1]) == ("-mfloat-abi=hard" in b.flags)
    assert b.memory(b.code).kind == b.memory(b.vectors).kind == "flash"
    assert b.memory(b.data).kind == b.memory(b.arena).kind == "ram"
    for m, n in itertools.combinations(b.memories, 2):
        assert m.origin + m.size <= n.origin or n.origin + n.size <= m.origin
    assert 0 < b.stack < b.ram_bytes
    if name in EMULATED:
        assert "{elf}" in b.emulator and any("{arguments}" in word for word in b.emulator)


def test_nucleo_is_the_real_chip():
    b = board.load("nucleo-f446re")
    assert (b.flash_bytes, b.ram_bytes, b.memory("flash").origin) == (512 * 1024, 128 * 1024, 0x08000000)
    assert list(b.flash) == ["openocd", "pyocd", "st-flash"] and b.probe == "stm32f446retx" and not b.emulator


def test_a_file_of_ones_own(tmp_path):
    b = board.load(write(tmp_path, GOOD))
    assert (b.name, b.arena, b.vectors, b.flash_bytes, b.ram_bytes) == ("mine", "ram", "rom", 0x1000, 0x800)


def test_unknown_board_gets_a_suggestion():
    with pytest.raises(UsageError, match="unknown board 'cortex-m5'") as e:
        board.load("cortex-m5")
    assert "did you mean 'cortex-m" in e.value.fix and "nucleo-f446re" in e.value.fix


@pytest.mark.parametrize(("old", "new", "what", "fix"), [
    ('cpu = ', 'cpuu = ', "unknown key 'cpuu'", "did you mean 'cpu'"),
    ('origin = 0x0', 'orign = 0x0', "unknown key 'orign'", "did you mean 'origin'"),
    ('stack = 1024', 'stack = "1k"', "'stack' must be a whole number", "correct"),
    ('stack = 1024', 'stack = 1023', "not a multiple of 8", "round"),
    ('stack = 1024', '', "'stack' is missing", "add stack"),
    ('size = 0x800', '', "'size' is missing", "add size"),
    ('kind = "ram"', 'kind = "rams"', "kind = 'rams' does not exist", "did you mean 'ram'"),
    ('data = "ram"', 'data = "ran"', "data = 'ran' does not exist", "did you mean 'ram'"),
    ('isa = ["c99"]', 'isa = ["dsq", "c99"]', "isa = 'dsq' does not exist", "did you mean 'dsp'"),
    ('isa = ["c99"]', 'isa = ["dsp"]', "must end with 'c99'", "c99"),
    ('isa = ["c99"]', 'isa = "c99"', "'isa' must be a list", "correct"),
    ('stack = 1024', 'stack = 1024\nflash = 3', "'flash' must be a table", "correct"),
    ('[memories.rom]', '[flash]\nopenocd = "x"\n[memories.rom]', "'openocd' must be a list", "correct"),
    ('[memories.rom]', '[memories', "cannot read the board file", "valid TOML"),
])
def test_a_wrong_file_is_refused(tmp_path, old, new, what, fix):
    assert old in GOOD
    with pytest.raises(UsageError) as e:
        board.load(write(tmp_path, GOOD.replace(old, new)))
    assert what in e.value.what and fix in e.value.fix and "mine.toml" in e.value.where


def test_a_missing_file():
    with pytest.raises(UsageError, match="cannot read"):
        board.load("/nowhere/board.toml")


def test_files_of_a_package(tmp_path):
    files = firmware.files(board.load(write(tmp_path, GOOD)), "my model", "my_model")
    assert sorted(files) == ["CMakeLists.txt", "Makefile", "firmware/link.ld", "firmware/main.c", "firmware/memory.c",
                             "firmware/model.h", "firmware/semihost.c", "firmware/semihost.h", "firmware/startup.c"]
    assert "ROM (rx) : ORIGIN = 0x00000000, LENGTH = 0x00001000" in files["firmware/link.ld"]
    assert "RAM (rwx) : ORIGIN = 0x20000000, LENGTH = 0x00000800" in files["firmware/link.ld"]
    assert "MY_MODEL_ARENA_BYTES" in files["firmware/model.h"]


def test_files_of_a_host_package():
    files = firmware.files(board.load("host"), "my model", "my_model")
    assert sorted(files) == ["CMakeLists.txt", "Makefile"]
    assert "arm" not in files["Makefile"] and "arm" not in files["CMakeLists.txt"]
