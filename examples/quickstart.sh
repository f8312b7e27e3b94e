#!/bin/sh
# Installs everything (Debian) and does the main job once: the digits network as int8 firmware for a Cortex-M4,
# validated on the host and in QEMU on pictures that it has not seen.
set -eu
cd "$(dirname "$0")/.."
sh tests/setup.sh ort
.venv/bin/edgec build examples/digits_cnn.onnx --data examples/digits_calib.npz --board cortex-m4
.venv/bin/edgec validate build/digits_cnn/cortex-m4 --on host,qemu --data examples/digits_test.npz
cat build/digits_cnn/cortex-m4/report.txt
